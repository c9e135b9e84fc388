"""The first step of the set-up: the two sides, and the test that a worker reaches both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone

from migrations_app.choices import InspectionStatus
from migrations_app.forms.other_account import ACCOUNT
from migrations_app.forms.sides import FILE, FLEET, NameForm, SideForm
from migrations_app.models import Inspection, MigrationTask
from migrations_app.services import connectivity, inspections, sides, snapshots, tasks
from migrations_app.services.sides import Side
from migrations_app.views.common import STOP_POLLING
from migrations_app.views.setup import shell
from portal.choices import Origin
from portal.errors import ServiceError
from portal.htmx import HtmxHttpRequest, wants_fragment
from portal.keys import CredentialUnreadable
from portal.models import Instance
from portal.services import connections
from portal.uploads import ArrivedFile

STEP: Final = "sides"
TEMPLATE: Final = "migrations_app/setup_sides.html"
SIDES: Final[tuple[Side, Side]] = ("source", "target")
PATIENCE: Final = timedelta(seconds=15)  # a worker takes a test within two; then none is alive


@dataclass(frozen=True, slots=True)
class Answer:
    """What the test says of one side."""

    side: str
    instance: Instance
    told: Mapping[str, Any]
    account_id: int
    """Of the task."""

    @property
    def label(self) -> str:
        return self.side.capitalize()

    @property
    def field(self) -> str:
        """The field of the form that an error is about, as the page names it; "" for an instance of the fleet."""
        if self.instance.origin == Origin.FLEET:
            return ""
        name = {"username": "password"}.get(self.told.get("field", ""), self.told.get("field", ""))
        return f"id_{self.side}-{name}" if name else ""

    @property
    def edit_url(self) -> str:
        """Where the connection of an instance of the task's own account is changed."""
        if self.instance.origin != Origin.FLEET or self.instance.account_id != self.account_id:
            return ""
        return reverse("instance_edit", args=[self.instance.public_id])


@shell.step(STEP, done=connectivity.is_passed)
def sides_step(request: HtmxHttpRequest, task: MigrationTask) -> HttpResponse:
    if request.method != "POST":
        if wants_fragment(request):
            return _test_fragment(request, task)
        return _page(request, task, NameForm(initial=_names(task)), _forms(task))
    for button, answer in (("refresh", _refresh), ("load", _load), ("save_template", _save_template)):
        if button in request.POST:
            return answer(request, task)
    return _save(request, task)


# --- The buttons ------------------------------------------------------------------------------------------------------


def _save(request: HtmxHttpRequest, task: MigrationTask) -> HttpResponse:
    """Store both sides and ask for the test. Who leaves may leave a side empty."""
    leaves = shell.LEAVE in request.POST
    name_form = NameForm(request.POST)
    forms = {side: SideForm(request.POST, request.FILES, task=task, side=side) for side in SIDES}
    wanted = [side for side in SIDES if not (leaves and forms[side].is_empty)]
    valid = [name_form.is_valid(), *(forms[side].is_valid() for side in wanted)]
    if not all(valid):
        return _page(request, task, name_form, forms, status=422)
    status = 422
    for side in wanted:
        try:
            task = _store(request, task, side, forms[side])
        except ServiceError as error:
            error.field = forms[side].refused(error)
            forms[side].add_refusal(error)
            status = error.status
        except CredentialUnreadable:
            forms[side].add_error("password", "The stored password cannot be decrypted. Enter it again.")
    if any(forms[side].errors for side in wanted):
        return _page(request, task, name_form, forms, status=status)
    task = _name(request, task, name_form)
    if leaves:
        return shell.left(request, task)
    try:
        connectivity.request_test(request.user, task)
    except ServiceError as error:
        messages.error(request, str(error))
    return redirect(shell.address(task, STEP, "connectivity"))


def _store(request: HtmxHttpRequest, task: MigrationTask, side: Side, form: SideForm) -> MigrationTask:
    data = form.cleaned_data
    if data["origin"] == FLEET:
        return sides.choose_instance(request.user, task, side, data["instance"])
    if data["origin"] == ACCOUNT:
        return sides.choose_covered(request.user, task, side, data["covered"], form.role)
    if data["origin"] != FILE:
        return sides.enter(request.user, task, side, form.params())
    arrived = data.get("upload")
    if isinstance(arrived, ArrivedFile):
        return sides.use_upload(request.user, task, snapshots.keep(request.user, task.account, arrived))
    return sides.use_path(request.user, task, data.get("file_path") or form.stored_file)


def _name(request: HtmxHttpRequest, task: MigrationTask, form: NameForm) -> MigrationTask:
    """Without a name of the person's own, the task is called after its sides."""
    settings: dict[str, Any] = {"description": form.cleaned_data["description"], "wizard_step": STEP}
    given = " ".join(form.cleaned_data["name"].split())
    if given:
        settings["name"] = given
    elif task.source is not None and task.target is not None:
        settings["name"] = tasks.generated_name(task.source, task.target)
    return tasks.configure(request.user, task, **settings)


def _refresh(request: HtmxHttpRequest, task: MigrationTask) -> HttpResponse:
    """The same form with what was typed, for another region or search. Nothing is stored."""
    return _typed(request, task, task)


def _load(request: HtmxHttpRequest, task: MigrationTask) -> HttpResponse:
    """A copy of a template becomes the side; what was typed for the other side stays as it is."""
    side = _side(request, "load")
    chosen = SideForm(request.POST, task=task, side=side)
    template = chosen.fields["template"].queryset.filter(pk=_number(request, f"{side}-template")).first()  # type: ignore[attr-defined]
    if template is None:
        chosen = _as_typed(request, task, side)
        chosen.problem = "Choose the template to load first."
        return _typed(request, task, task, {side: chosen})
    try:
        changed = sides.load_template(request.user, task, side, template)
    except (ServiceError, CredentialUnreadable) as error:
        messages.error(
            request,
            str(error)
            if isinstance(error, ServiceError)
            else "The secrets of the template cannot be decrypted.",
        )
        return _typed(request, task, task)
    loaded = SideForm(task=changed, side=side)
    loaded.note = f"{template.name} was loaded. What you change here does not change the template."
    return _typed(request, task, changed, {side: loaded})


def _save_template(request: HtmxHttpRequest, task: MigrationTask) -> HttpResponse:
    side = _side(request, "save_template")
    form = SideForm(request.POST, task=task, side=side)
    shown = _as_typed(request, task, side)
    if not form.is_valid() or "connection" not in form.cleaned_data:
        for name, errors in form.errors.items():
            for error in errors:
                shown.add_note_at(name, str(error))
        shown.problem = "No template was saved: complete the connection first."
        return _typed(request, task, task, {side: shown}, status=422)
    try:
        template = sides.save_template(request.user, task, side, form.params(), form.cleaned_data["save_as"])
    except ServiceError as error:
        shown.add_note_at("save_as" if error.field == "name" else error.field, str(error))
        return _typed(request, task, task, {side: shown}, status=error.status)
    shown = _as_typed(request, task, side, but=("save_as",))
    shown.note = f"The template {template.name} was saved."
    if form.cleaned_data["password"] or form.cleaned_data["sentinel_password"]:
        shown.note += (
            " Passwords are not shown again: enter them once more for this task, or load the template."
        )
    return _typed(request, task, task, {side: shown})


# --- The page ---------------------------------------------------------------------------------------------------------


def _page(
    request: HtmxHttpRequest,
    task: MigrationTask,
    name_form: NameForm,
    forms: Mapping[Side, SideForm],
    *,
    status: int = 200,
) -> HttpResponse:
    context = {"name_form": name_form, "sides": [forms[side] for side in SIDES], "raw": _raw(task)}
    return shell.page(request, task, STEP, TEMPLATE, context | _test(task), status=status)


def _forms(task: MigrationTask) -> dict[Side, SideForm]:
    return {side: SideForm(task=task, side=side) for side in SIDES}


def _typed(
    request: HtmxHttpRequest,
    task: MigrationTask,
    changed: MigrationTask,
    given: Mapping[Side, SideForm] | None = None,
    *,
    status: int = 200,
) -> HttpResponse:
    """The page with what was typed, and not stored, in the fields; passwords apart, which are not sent back."""
    forms = {side: (given or {}).get(side) or _as_typed(request, changed, side) for side in SIDES}
    names = NameForm(initial={name: request.POST.get(name, "") for name in ("name", "description")})
    return _page(request, changed, names, forms, status=status)


def _as_typed(
    request: HtmxHttpRequest, task: MigrationTask, side: Side, but: tuple[str, ...] = ()
) -> SideForm:
    typed: dict[str, Any] = {}
    for name, field in SideForm.base_fields.items():
        key = f"{side}-{name}"
        if name in ("password", "sentinel_password", "upload", *but):
            continue
        typed[name] = field.widget.value_from_datadict(request.POST, {}, key)
    return SideForm(task=task, side=side, typed=typed)


def _names(task: MigrationTask) -> dict[str, str]:
    generated = {f"Task {task.public_id}"}
    if task.source is not None and task.target is not None:
        generated.add(tasks.generated_name(task.source, task.target))
    return {"name": "" if task.name in generated else task.name, "description": task.description}


def _raw(task: MigrationTask) -> list[tuple[str, str]]:
    """(side, address) of what is named by an IP address (R16)."""
    found: list[tuple[str, str]] = []
    for side in SIDES:
        instance: Instance | None = getattr(task, side)
        if instance is not None and instance.account_id == task.account_id:
            try:
                raw = connections.params_of_connection(instance.endpoint).raw_addresses
            except CredentialUnreadable:
                raw = []
            found += [(side, address) for address in raw]
    return found


def _side(request: HtmxHttpRequest, button: str) -> Side:
    return "target" if request.POST.get(button) == "target" else "source"


def _number(request: HtmxHttpRequest, name: str) -> int | None:
    value = request.POST.get(name, "")
    return int(value) if value.isdecimal() and len(value) < 19 else None


# --- The test ---------------------------------------------------------------------------------------------------------


def _test_fragment(request: HtmxHttpRequest, task: MigrationTask) -> HttpResponse:
    """The result alone, asked for each second until it has come."""
    context = _test(task)
    test: Inspection | None = context["test"]
    status = STOP_POLLING if test is None or test.status_badge.is_final else 200
    return shell.part(
        request, task, STEP, TEMPLATE, "migrations_app/_connectivity.html", context, status=status
    )


def _test(task: MigrationTask) -> dict[str, Any]:
    test = connectivity.newest(task)
    answers = []
    if test is not None and test.status == InspectionStatus.DONE:
        answers = [
            Answer(side, getattr(task, side), test.result[side], task.account_id)
            for side in SIDES
            if side in test.result
        ]
    waiting = test is not None and test.status == InspectionStatus.QUEUED
    return {
        "test": test,
        "answers": answers,
        "passed": bool(answers) and test is not None and bool(test.passed),
        "nobody": waiting and test is not None and timezone.now() - test.created_at > PATIENCE,
        "next_step": shell.ORDER[1],
        "outbound": sorted(
            {
                address
                for answer in answers
                if answer.instance.account_id == task.account_id
                for address in answer.told.get("addresses", ())
            }
        ),
        "cluster": inspections.CLUSTER,
    }
