"""Connection templates of an account: list, new, change, delete."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_safe

from portal.connection_forms import TemplateForm
from portal.errors import ServiceError
from portal.htmx import HtmxHttpRequest
from portal.models import Account, ConnectionTemplate
from portal.services import connections
from portal.services.permissions import require_operator, role_in


@require_safe
def template_list(request: HtmxHttpRequest, public_id: str) -> HttpResponse:
    account = _account(request, public_id)
    role = role_in(request.user, account)
    context = {
        "account": account,
        "rows": account.connection_templates.select_related("created_by"),
        "can_operate": role is not None and role.can_operate,
    }
    return render(request, "portal/template_list.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@sensitive_post_parameters()
def template_create(request: HtmxHttpRequest, public_id: str) -> HttpResponse:
    account = _account(request, public_id)
    require_operator(request.user, account)
    if request.method != "POST":
        return _form(request, account, TemplateForm())
    form = TemplateForm(request.POST)
    status = 422
    if form.is_valid():
        try:
            template = connections.save_template(
                request.user, account, form.params(), form.cleaned_data["name"]
            )
        except ServiceError as error:
            form.add_refusal(error)
            status = error.status
        else:
            messages.success(request, f"The template {template.name} was saved.")
            return redirect("template_list", account.public_id)
    return _form(request, account, form, status=status)


@require_http_methods(["GET", "HEAD", "POST"])
@sensitive_post_parameters()
def template_edit(request: HtmxHttpRequest, public_id: str, template_id: int) -> HttpResponse:
    account = _account(request, public_id)
    require_operator(request.user, account)
    template = get_object_or_404(account.connection_templates, pk=template_id)
    if request.method != "POST":
        return _form(
            request, account, TemplateForm(stored=template, initial={"name": template.name}), template
        )
    form = TemplateForm(request.POST, stored=template)
    status = 422
    if form.is_valid():
        try:
            connections.update_template(request.user, template, form.params(), name=form.cleaned_data["name"])
        except ServiceError as error:
            form.add_refusal(error)
            status = error.status
        else:
            messages.success(
                request,
                f"The template {template.name} was saved. Tasks that were made from it keep what they have.",
            )
            return redirect("template_list", account.public_id)
    template.refresh_from_db()
    return _form(request, account, form, template, status=status)


@require_http_methods(["GET", "HEAD", "POST"])
def template_delete(request: HtmxHttpRequest, public_id: str, template_id: int) -> HttpResponse:
    account = _account(request, public_id)
    require_operator(request.user, account)
    template = get_object_or_404(account.connection_templates, pk=template_id)
    if request.method != "POST":
        return render(request, "portal/template_delete.html", {"account": account, "template": template})
    connections.delete_template(request.user, template)
    messages.success(
        request,
        f"The template {template.name} was deleted. Tasks that were made from it keep what they have.",
    )
    return redirect("template_list", account.public_id)


def _account(request: HtmxHttpRequest, public_id: str) -> Account:
    return get_object_or_404(Account.objects.visible_to(request.user), public_id=public_id)


def _form(
    request: HtmxHttpRequest,
    account: Account,
    form: TemplateForm,
    template: ConnectionTemplate | None = None,
    *,
    status: int = 200,
) -> HttpResponse:
    context = {"account": account, "form": form, "template": template}
    return render(request, "portal/template_form.html", context, status=status)
