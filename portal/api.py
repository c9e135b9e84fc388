"""The HTTP API: who may come in, how refusals look, and what it tells of the fleet. Apps add their routers in portal/urls.py.

A request carries `Authorization: Bearer <token>`. Every refusal is `{"id", "message", "advice", "field"}`, with the id and the status of
the service that refused. Times are ISO 8601 in UTC, sizes bytes, durations seconds.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Set
from datetime import datetime, time
from functools import wraps
from typing import Annotated, Any, Final, Literal

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.urls import URLPattern
from ninja import NinjaAPI, Router, Schema, Status
from ninja.errors import AuthenticationError, HttpError, ValidationError
from ninja.responses import NinjaJSONEncoder
from ninja.security import HttpBearer
from pydantic import ConfigDict, Field

from portal import scopes
from portal.errors import Invalid, NotFound, NotPermitted, ServiceError
from portal.models import Account, ApiToken, Instance, MaintenanceWindow
from portal.services import idempotency, tokens, windows

PREFIX: Final = "api/v1/"
PAGE: Final = 100


class ApiRequest(HttpRequest):
    """What an operation gets."""

    user: Any
    auth: ApiToken


class TokenAuth(HttpBearer):
    def authenticate(self, request: HttpRequest, token: str) -> ApiToken | None:
        found = tokens.token_of(token)
        if found is not None:
            request.user = found.user
        return found


class In(Schema):
    """What is sent. A name that is not known is refused: left aside, a misspelt condition would be none at all."""

    model_config = ConfigDict(extra="forbid")


class RefusalOut(Schema):
    id: str
    message: str
    advice: str = ""
    field: str = ""


api = NinjaAPI(
    title="Switchyard",
    version="1",
    description="Instances, migrations and their checks. See docs/api.md.",
    urls_namespace="api",
    auth=TokenAuth(),
    docs_url=None,  # its page would load scripts of other hosts
)

Operation = Callable[..., Any]
Limit = Annotated[int, Field(ge=1, le=PAGE)]


def scope(wanted: str) -> Callable[[Operation], Operation]:
    """The token must have this scope, or 403 `token.scope`; and the address only names that the operation knows, or 422 `input.unknown`."""

    def decorate(operation: Operation) -> Operation:
        names = inspect.signature(operation).parameters.keys() - {"request", "data"}

        @wraps(operation)
        def checked(request: ApiRequest, *args: Any, **kwargs: Any) -> Any:
            if not scopes.covers(request.auth.scopes, wanted):
                raise NotPermitted(
                    f"The token {request.auth.name} lacks the scope {wanted}. Nothing was changed.",
                    advice="Make a token with this scope in your profile.",
                    id="token.scope",
                )
            _known(request, names)
            return operation(request, *args, **kwargs)

        return _with_types_of(operation, checked)

    return decorate


def _known(request: ApiRequest, names: Set[str]) -> None:
    """As with what is sent: a condition that is not known would be none, and the answer too long."""
    path = request.resolver_match.kwargs if request.resolver_match else {}
    for name in request.GET:
        if name not in names or name in path:
            possible = ", ".join(sorted(names - path.keys())) or "nothing"
            raise Invalid(
                f"There is no {name} that could be asked for here. Nothing was changed.",
                advice=f"This address takes {possible} behind its question mark.",
                field=name,
                id="input.unknown",
            )


def once(operation: Operation) -> Operation:
    """With the header Idempotency-Key it is carried out once, and a repetition gets the first answer. The operation returns a Status with a dict."""

    @wraps(operation)
    def guarded(request: ApiRequest, *args: Any, **kwargs: Any) -> Any:
        key = request.headers.get("Idempotency-Key")
        if key is None:
            return operation(request, *args, **kwargs)
        digest = idempotency.digest_of(str(request.method), request.path, request.body)
        row = idempotency.begin(request.user, key, digest)
        if row.status is not None:
            return HttpResponse(row.body, status=row.status, content_type="application/json")
        try:
            answer: Status[Any] = operation(request, *args, **kwargs)
        except BaseException:
            idempotency.forget(row)
            raise
        body = json.dumps(answer.value, cls=NinjaJSONEncoder)  # as all other answers are written
        idempotency.store(row, answer.status_code, body)
        return HttpResponse(body, status=answer.status_code, content_type="application/json")

    return _with_types_of(operation, guarded)


def _with_types_of(operation: Operation, wrapper: Operation) -> Operation:
    """The types of the parameters as ninja reads them: their names mean something in the operation's module, not in this one."""
    wrapper.__signature__ = inspect.signature(operation, eval_str=True)  # type: ignore[attr-defined]
    return wrapper


def in_account(request: ApiRequest) -> dict[str, Any]:
    """What rows of an account are to be filtered by, where the token is for one account only."""
    return {"account": request.auth.account} if request.auth.account_id else {}


def account_of(request: ApiRequest, public_id: str) -> Account:
    """The account of this ID; for "" the only one that the token can mean. Raises NotFound."""
    rows = Account.objects.visible_to(request.user)
    if request.auth.account_id:
        rows = rows.filter(pk=request.auth.account_id)
    found = list((rows.filter(public_id=public_id) if public_id else rows)[:2])
    if len(found) != 1:
        raise NotFound(
            f"There is no account {public_id} that this token may use."
            if public_id
            else "You are a member of several accounts, or of none: the account is not named. Nothing was changed.",
            advice="Name the ID of the account, as its page shows it.",
            field="account",
        )
    return found[0]


# --- Refusals ---------------------------------------------------------------------------------------------------------


def _refuse(request: HttpRequest, status: int, **refusal: str) -> HttpResponse:
    return api.create_response(request, RefusalOut(**refusal).model_dump(), status=status)


@api.exception_handler(ServiceError)
def _service_error(request: HttpRequest, error: ServiceError) -> HttpResponse:
    return _refuse(
        request, error.status, id=error.id, message=error.message, advice=error.advice, field=error.field
    )


@api.exception_handler(AuthenticationError)
def _not_signed_in(request: HttpRequest, error: AuthenticationError) -> HttpResponse:
    response = _refuse(
        request,
        401,
        id="token.invalid",
        message="There is no valid token in the request. Nothing was changed.",
        advice="Send `Authorization: Bearer <token>`; make a token in your profile.",
    )
    response.headers["WWW-Authenticate"] = "Bearer"
    return response


@api.exception_handler(ValidationError)
def _not_valid(request: HttpRequest, error: ValidationError) -> HttpResponse:
    first = error.errors[0] if error.errors else {}
    where = [str(part) for part in first.get("loc", ()) if part not in ("body", "query", "path")]
    # The first part is the name of the operation's parameter, which says nothing to the caller.
    field = ".".join(where[1:] or where)
    return _refuse(
        request,
        422,
        id="input.invalid",
        message=f"{field or 'The request'}: {first.get('msg', 'cannot be read')}. Nothing was changed.",
        advice="See the description of the API at /api/v1/openapi.json.",
        field=field,
    )


@api.exception_handler(HttpError)
def _http_error(request: HttpRequest, error: HttpError) -> HttpResponse:
    return _refuse(
        request, error.status_code, id="input.unreadable", message=f"{error.message}. Nothing was changed."
    )


@api.exception_handler(Http404)
def _not_found(request: HttpRequest, error: Http404) -> HttpResponse:
    return _service_error(request, NotFound())


# --- The fleet --------------------------------------------------------------------------------------------------------

fleet = Router(tags=["fleet"])


class MeOut(Schema):
    user: str
    token: str
    scopes: list[str]
    expires_at: datetime | None
    accounts: list[dict[str, str]]


class InstanceOut(Schema):
    id: str
    name: str
    account: str
    address: str
    status: str
    edition: str
    version: str
    architecture: str
    role: str
    region: str
    zone: str
    proxy_version: str = Field(description="Of the proxy in front of it; empty: there is none.")
    memory_used: int | None
    memory_max: int | None
    databases: list[dict[str, int]]
    checked_at: datetime | None


Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: Final[tuple[Day, ...]] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
Clock = Annotated[str, Field(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]


class Window(Schema):
    """Days are those on which it begins; a `to` before `from` is on the next day."""

    days: list[Day]
    starts: Clock = Field(alias="from")
    ends: Clock = Field(alias="to")
    time_zone: str


class WindowIn(Window, In):
    pass


class WindowOut(Window):
    inherited: bool
    """The general one of the account: the instance has none of its own."""


class InstanceDetailOut(InstanceOut):
    maintenance_window: WindowOut | None


@fleet.get("/me", response=MeOut, summary="Who the token is")
def me(request: ApiRequest) -> dict[str, Any]:
    accounts = Account.objects.visible_to(request.user)
    if request.auth.account_id:
        accounts = accounts.filter(pk=request.auth.account_id)
    return {
        "user": request.user.get_username(),
        "token": request.auth.public_id,
        "scopes": request.auth.scopes,
        "expires_at": request.auth.expires_at,
        "accounts": [{"id": one.public_id, "name": one.name} for one in accounts],
    }


@fleet.get("/instances", response=list[InstanceOut], summary="Instances of the fleet")
@scope("fleet:read")
def instance_list(
    request: ApiRequest,
    region: str = "",
    q: str = "",
    after: str = "",
    limit: Limit = PAGE,
) -> list[dict[str, Any]]:
    """By ID, ascending; `after` is the ID of the last one of the page before."""
    rows = Instance.objects.visible_to(request.user).fleet().filter(**in_account(request))
    if region:
        rows = rows.filter(region=region)
    if q:
        rows = rows.filter(name__icontains=q)
    rows = rows.filter(public_id__gt=after).select_related("account", "endpoint").order_by("public_id")
    return [_instance(one) for one in rows[:limit]]


@fleet.get("/instances/{instance_id}", response=InstanceDetailOut, by_alias=True, summary="One instance")
@scope("fleet:read")
def instance_get(request: ApiRequest, instance_id: str) -> dict[str, Any]:
    found = _found(request, instance_id)
    row = windows.rows_for([found]).get(found.pk)
    return _instance(found) | {"maintenance_window": _window(row) if row else None}


@fleet.put(
    "/instances/{instance_id}/maintenance-window",
    response=WindowOut,
    by_alias=True,
    summary="Give an instance a maintenance window of its own",
)
@scope("fleet:write")
def window_set(request: ApiRequest, instance_id: str, data: WindowIn) -> dict[str, Any]:
    found = _found(request, instance_id)
    starts, ends = time.fromisoformat(data.starts), time.fromisoformat(data.ends)
    days = [DAYS.index(day) for day in data.days]
    try:
        row = windows.set_window(request.user, found, days, starts, ends, data.time_zone)
    except Invalid as error:
        error.field = {"starts": "from", "ends": "to"}.get(error.field, error.field)
        raise
    return _window(row)


@fleet.delete(
    "/instances/{instance_id}/maintenance-window",
    response={204: None},
    summary="Take an instance's own maintenance window away: the general one of its account applies",
)
@scope("fleet:write")
def window_clear(request: ApiRequest, instance_id: str) -> Status[None]:
    windows.clear_window(request.user, _found(request, instance_id))
    return Status(204, None)


def _found(request: ApiRequest, instance_id: str) -> Instance:
    rows = Instance.objects.visible_to(request.user).fleet().filter(**in_account(request))
    found = rows.select_related("account", "endpoint").filter(public_id=instance_id).first()
    if found is None:
        raise NotFound(f"There is no instance {instance_id} in your accounts.")
    return found


def _window(row: MaintenanceWindow) -> dict[str, Any]:
    return {
        "days": [DAYS[day] for day in sorted(row.days)],
        "from": f"{row.starts:%H:%M}",
        "to": f"{row.ends:%H:%M}",
        "time_zone": row.time_zone,
        "inherited": row.is_general,
    }


def _instance(one: Instance) -> dict[str, Any]:
    same = (
        "name",
        "status",
        "edition",
        "version",
        "architecture",
        "role",
        "region",
        "zone",
        "proxy_version",
        "memory_used",
        "memory_max",
    )
    return {name: getattr(one, name) for name in same} | {
        "id": one.public_id,
        "account": one.account.public_id,
        "address": one.endpoint.address,
        "databases": one.databases,
        "checked_at": one.checked_at,
    }


api.add_router("", fleet)


def open_to_tokens() -> Any:
    """The API's URLs, for `path()`. The operations need no session: a token opens them; either of them opens the description."""
    patterns, app_name, namespace = api.urls
    for pattern in patterns:
        # The root is an empty page of ninja's own, for which a session is asked as before.
        if not isinstance(pattern, URLPattern) or pattern.name == "api-root":
            continue
        view = _for_either(pattern.callback) if pattern.name == "openapi-json" else pattern.callback
        pattern.callback = _in_our_words(view)
        pattern.callback.login_required = False  # type: ignore[attr-defined]  # read by LoginRequiredMiddleware
    return patterns, app_name, namespace


View = Callable[..., HttpResponse]


def _for_either(view: View) -> View:
    @wraps(view)
    def opened(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not request.user.is_authenticated and TokenAuth()(request) is None:
            return _not_signed_in(request, AuthenticationError())
        return view(request, *args, **kwargs)

    return opened


def _in_our_words(view: View) -> View:
    """A method that the address does not have is refused as everything else is."""

    @wraps(view)
    def told(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        answer = view(request, *args, **kwargs)
        if not isinstance(answer, HttpResponseNotAllowed):
            return answer
        refusal = _refuse(
            request,
            405,
            id="method.unknown",
            message=f"This address has no {request.method}. Nothing was changed.",
            advice=f"It takes {answer.headers['Allow']}.",
        )
        refusal.headers["Allow"] = answer.headers["Allow"]
        return refusal

    return told
