"""Access roles: what an account has granted, and what it is trusted with."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from portal.choices import RoleState
from portal.errors import Conflict, ServiceError
from portal.forms import AccessRoleForm, NewAccessRoleForm
from portal.htmx import HtmxHttpRequest
from portal.models import AccessRole, Account, AuditEntry
from portal.services import roles
from portal.services.permissions import require_owner, role_in


@require_http_methods(["GET", "HEAD", "POST"])
def role_create(request: HtmxHttpRequest, public_id: str) -> HttpResponse:
    account = get_object_or_404(Account.objects.visible_to(request.user), public_id=public_id)
    require_owner(request.user, account)
    form = NewAccessRoleForm(request.POST if request.method == "POST" else None, account=account)
    status = 200
    if request.method == "POST":
        status = 422
        if form.is_valid():
            data = form.cleaned_data
            try:
                role = roles.create_role(
                    request.user,
                    account,
                    name=data["name"],
                    trusted_account_id=data["trusted_account"],
                    coverage=data["coverage"],
                    access=data["access"],
                    description=data["description"],
                    expires_at=data["expires_at"],
                )
            except ServiceError as error:
                form.add_refusal(error)
                status = error.status
            else:
                messages.success(
                    request,
                    f"The role {role.name} was created. Tell {role.trusted_account.name} its name and your account ID, "
                    f"{account.public_id}.",
                )
                return redirect(role)
    return render(
        request, "portal/role_form.html", {"form": form, "account": account, "role": None}, status=status
    )


@require_safe
def role_detail(request: HtmxHttpRequest, public_id: str) -> HttpResponse:
    """For members of the owning account with links; for those of the trusted account what they may know of it."""
    role = _visible(request, public_id)
    return render(request, "portal/role_detail.html", _context(request, role))


@require_http_methods(["GET", "HEAD", "POST"])
def role_edit(request: HtmxHttpRequest, public_id: str) -> HttpResponse:
    role = _granted(request, public_id)
    require_owner(request.user, role.account)
    if role.state is RoleState.REVOKED:
        raise Conflict(
            f"The role {role.name} was revoked, which is final. Nothing was changed.",
            advice="Create a new role.",
            id="role.revoked",
        )
    form = AccessRoleForm(request.POST if request.method == "POST" else None, account=role.account, role=role)
    status = 200
    if request.method == "POST":
        status = 422
        if form.is_valid():
            data = form.cleaned_data
            try:
                roles.update_role(
                    request.user,
                    role,
                    coverage=data["coverage"],
                    access=data["access"],
                    description=data["description"],
                    expires_at=data["expires_at"],
                )
            except ServiceError as error:
                form.add_refusal(error)
                status = error.status
            else:
                messages.success(request, f"The role {role.name} was saved.")
                return redirect(role)
    context = {"form": form, "account": role.account, "role": role, "running": _running(role)}
    return render(request, "portal/role_form.html", context, status=status)


@require_http_methods(["GET", "HEAD", "POST"])
def role_revoke(request: HtmxHttpRequest, public_id: str) -> HttpResponse:
    """GET asks, and names what is paused by it."""
    role = _granted(request, public_id)
    require_owner(request.user, role.account)
    if request.method != "POST":
        context = {"role": role, "account": role.account, "running": _running(role)}
        return render(request, "portal/role_revoke.html", context)
    roles.revoke_role(request.user, role)
    messages.success(request, f"The role {role.name} was revoked. What ran under it is paused.")
    return redirect(role)


def _visible(request: HtmxHttpRequest, public_id: str) -> AccessRole:
    rows = AccessRole.objects.visible_to(request.user).select_related("account", "trusted_account")
    return get_object_or_404(rows, public_id=public_id)


def _granted(request: HtmxHttpRequest, public_id: str) -> AccessRole:
    """A role of the person's own accounts: what others have granted can only be looked at."""
    rows = AccessRole.objects.granted_by(request.user).select_related("account", "trusted_account")
    return get_object_or_404(rows, public_id=public_id)


def _running(role: AccessRole) -> list[roles.Use]:
    return [use for use in roles.uses(role) if use.running]


def _context(request: HtmxHttpRequest, role: AccessRole) -> dict[str, Any]:
    own = role_in(request.user, role.account)
    seen_from = role.account if own else role.trusted_account
    history = AuditEntry.objects.filter(object_type="accessrole", object_id=role.public_id, account=seen_from)
    return {
        "role": role,
        "account": seen_from,
        "is_owner_side": own is not None,
        "can_manage": own is not None and own.can_manage and role.state is not RoleState.REVOKED,
        "coverage": role.coverage.select_related("instance").order_by("instance__name"),
        "uses": roles.uses(role),
        "history": history[:10],
    }
