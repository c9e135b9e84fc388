"""Instances: list, registration, detail, changes."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from portal.choices import Edition, InstanceStatus, NodeRole, Origin
from portal.errors import NotPermitted, ServiceError
from portal.forms import EditForm, EndpointFields, RegisterForm
from portal.htmx import HtmxHttpRequest, render_page
from portal.listing import Column, Filter, Listing
from portal.models import Account, AuditEntry, Instance
from portal.navigation import instance_panels
from portal.services import instances
from portal.services.permissions import require_operator, role_in
from portal.views import contacts, windows

COLUMNS = (
    Column("name", "Instance", ("name",)),
    Column("status", "Status", ("status", "name")),
    Column("version", "Version", ("edition", "version", "name")),
    Column("role", "Role", ("role", "name")),
    Column("region", "Region", ("region", "zone", "name")),
    Column("memory", "Memory", ("memory_used", "name"), css="num"),
    Column("address", "Endpoint", ("endpoint__host", "endpoint__port", "endpoint__unix_path")),
    Column("account", "Account", ("account__name", "name")),
)
FILTERS = (
    Filter("status", "Status", "status", InstanceStatus.choices),
    Filter("edition", "Edition", "edition", Edition.choices),
    Filter("version", "Version", "compatible_version"),
    Filter("role", "Role", "role", NodeRole.choices),
    Filter("region", "Region", "region"),
)
SEARCH = ("name", "public_id", "description", "endpoint__host", "endpoint__unix_path", "account__name")


@require_safe
def instance_list(request: HtmxHttpRequest) -> HttpResponse:
    rows = Instance.objects.fleet().visible_to(request.user).select_related("account", "endpoint")
    listing = Listing(request, rows, columns=COLUMNS, filters=FILTERS, search=SEARCH, default_sort="name")
    context: dict[str, Any] = {
        "listing": listing,
        "can_register": Account.objects.operated_by(request.user).exists(),
    }
    return render_page(request, "portal/instance_list.html", "portal/_instance_table.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@sensitive_post_parameters("password")
def instance_register(request: HtmxHttpRequest) -> HttpResponse:
    if request.method != "POST":
        initial = {"account": request.GET.get("account")}
        form = RegisterForm(user=request.user, initial=initial)
        return render(request, "portal/instance_register.html", {"form": form})
    form = RegisterForm(request.POST, user=request.user)
    if "test" in request.POST:
        return _test(request, form, "portal/instance_register.html", {})
    status = 422
    if form.is_valid():
        try:
            instance = instances.register_instance(
                request.user, form.cleaned_data["account"], form.params(), **form.labels()
            )
        except ServiceError as error:
            form.add_refusal(error)
            status = error.status
        else:
            messages.success(
                request, f"{instance.name} was registered: {instance.product}, {instance.key_count} keys."
            )
            return redirect(instance)
    return render(request, "portal/instance_register.html", {"form": form}, status=status)


@require_safe
def instance_detail(request: HtmxHttpRequest, public_id: str) -> HttpResponse:
    """Of the fleet; also what is known of a server that is a side of a task only, which is changed with the task."""
    rows = Instance.objects.visible_to(request.user).select_related("account", "endpoint")
    instance = get_object_or_404(rows, public_id=public_id)
    return render(request, "portal/instance_detail.html", _detail(request, instance))


@require_POST
def instance_refresh(request: HtmxHttpRequest, public_id: str) -> HttpResponse:
    instance = instances.refresh_instance(request.user, _visible(request, public_id))
    if request.htmx:
        return render(request, "portal/_instance_facts.html", _detail(request, instance))
    if instance.status == InstanceStatus.ONLINE:
        messages.success(request, f"{instance.name} answered.")
    return redirect(instance)


@require_http_methods(["GET", "HEAD", "POST"])
@sensitive_post_parameters("password")
def instance_edit(request: HtmxHttpRequest, public_id: str) -> HttpResponse:
    instance = _visible(request, public_id)
    page = "portal/instance_edit.html"
    require_operator(request.user, instance.account)
    if request.method != "POST":
        return render(request, page, {"form": EditForm(instance=instance), "instance": instance})
    form = EditForm(request.POST, instance=instance)
    if "test" in request.POST:
        return _test(request, form, page, {"instance": instance}, instance)
    status = 422
    if form.is_valid():
        try:
            instances.update_instance(
                request.user, instance, form.params(), keep_password=form.keeps_password, **form.labels()
            )
        except ServiceError as error:
            form.add_refusal(error)
            status = error.status
        else:
            messages.success(request, f"{instance.name} was saved.")
            return redirect(instance)
    # What was entered is in the form; the headings go on naming the instance as it is stored.
    instance.refresh_from_db()
    return render(request, page, {"form": form, "instance": instance}, status=status)


@require_http_methods(["GET", "HEAD", "POST"])
def instance_delete(request: HtmxHttpRequest, public_id: str) -> HttpResponse:
    instance = _visible(request, public_id)
    require_operator(request.user, instance.account)
    if request.method != "POST":
        return render(request, "portal/instance_delete.html", {"instance": instance})
    try:
        instances.delete_instance(request.user, instance)
    except instances.InstanceInUse as error:
        return render(
            request,
            "portal/instance_delete.html",
            {"instance": instance, "error": error},
            status=error.status,
        )
    messages.success(
        request, f"{instance.name} was removed from the console. The server itself was not touched."
    )
    return redirect("instance_list")


def _visible(request: HtmxHttpRequest, public_id: str) -> Instance:
    """The instance of the fleet, or 404 whether it does not exist or belongs to others."""
    rows = Instance.objects.fleet().visible_to(request.user).select_related("account", "endpoint")
    return get_object_or_404(rows, public_id=public_id)


def _detail(request: HtmxHttpRequest, instance: Instance) -> dict[str, Any]:
    role = role_in(request.user, instance.account)
    history = AuditEntry.objects.filter(object_type="instance", object_id=instance.public_id)
    return {
        "instance": instance,
        "endpoint": instance.endpoint,
        "nodes": instance.nodes.all(),
        "history": history[:10],
        "can_operate": role is not None and role.can_operate and instance.origin == Origin.FLEET,
        **contacts.instance_context(instance),
        **windows.instance_context(instance),
        "panels": [panel(request, instance) for panel in instance_panels()],
    }


def _test(
    request: HtmxHttpRequest,
    form: EndpointFields,
    page: str,
    context: dict[str, Any],
    instance: Instance | None = None,
) -> HttpResponse:
    """Answers "Test connection": what was detected or why not, as a fragment or in the page with the form."""
    form.for_test()
    result = failure = None
    if form.is_valid():
        try:
            if instance is not None and isinstance(form, EditForm):
                result = instances.try_changed_endpoint(
                    request.user, instance, form.params(), keep_password=form.keeps_password
                )
            else:
                # Which account it will belong to does not matter yet; that the person operates one does.
                account = (
                    form.cleaned_data.get("account") or Account.objects.operated_by(request.user).first()
                )
                if account is None:
                    raise NotPermitted()
                result = instances.try_endpoint(request.user, account, form.params())
        except ServiceError as error:
            failure = error
    context = {**context, "form": form, "result": result, "failure": failure, "tested": True}
    status = 200 if result or request.htmx else 422
    return render_page(request, page, "portal/_probe_result.html", context, status=status)
