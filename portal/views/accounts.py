"""Accounts and their members."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.db.models import Case, Count, Q, Value, When
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from portal.choices import Origin
from portal.errors import NotPermitted, ServiceError
from portal.forms import AccountForm, MemberForm, RoleForm
from portal.htmx import HtmxHttpRequest
from portal.models import Account, AuditEntry
from portal.services import accounts
from portal.services.permissions import role_in
from portal.views import windows


@require_safe
def account_list(request: HtmxHttpRequest) -> HttpResponse:
    rows = (
        Account.objects.filter(pk__in=Account.objects.visible_to(request.user).values("pk"))
        .annotate(
            member_count=Count("memberships", distinct=True),
            instance_count=Count("instances", filter=Q(instances__origin=Origin.FLEET), distinct=True),
        )
        .order_by("name")
    )
    roles = {membership.account_id: membership.role_badge for membership in request.user.memberships.all()}
    return render(request, "portal/account_list.html", {"rows": [(row, roles.get(row.pk)) for row in rows]})


@require_http_methods(["GET", "HEAD", "POST"])
def account_create(request: HtmxHttpRequest) -> HttpResponse:
    if not request.user.is_superuser:
        raise NotPermitted("Only an administrator may create accounts.", advice="Ask an administrator.")
    form = AccountForm(request.POST if request.method == "POST" else None)
    status = 200
    if request.method == "POST":
        status = 422
        if form.is_valid():
            try:
                account = accounts.create_account(request.user, form.cleaned_data["name"], owner=request.user)
            except ServiceError as error:
                form.add_refusal(error)
                status = error.status
            else:
                messages.success(request, f"The account {account.name} was created.")
                return redirect(account)
    return render(request, "portal/account_create.html", {"form": form}, status=status)


@require_http_methods(["GET", "HEAD", "POST"])
def account_detail(request: HtmxHttpRequest, public_id: str) -> HttpResponse:
    """The account; a POST renames it."""
    account = _visible(request, public_id)
    if request.method != "POST":
        return _page(request, account)
    form = AccountForm(request.POST)
    status = 422
    if form.is_valid():
        try:
            accounts.rename_account(request.user, account, form.cleaned_data["name"])
        except ServiceError as error:
            form.add_refusal(error)
            status = error.status
        else:
            messages.success(request, "The account was renamed.")
            return redirect(account)
    return _page(request, account, status=status, rename_form=form)


@require_POST
def member_add(request: HtmxHttpRequest, public_id: str) -> HttpResponse:
    account = _visible(request, public_id)
    form = MemberForm(request.POST)
    status = 422
    if form.is_valid():
        try:
            accounts.add_member(
                request.user, account, form.cleaned_data["username"], form.cleaned_data["role"]
            )
        except ServiceError as error:
            form.add_refusal(error)
            status = error.status
        else:
            messages.success(request, f"{form.cleaned_data['username']} was added.")
            return redirect(account)
    return _page(request, account, status=status, member_form=form)


@require_POST
def member_change(request: HtmxHttpRequest, public_id: str, membership_id: int) -> HttpResponse:
    """Changes a member's role, or takes the member out (button `remove`)."""
    account = _visible(request, public_id)
    membership = get_object_or_404(account.memberships.select_related("user", "account"), pk=membership_id)
    form = RoleForm(request.POST)
    try:
        if "remove" in request.POST:
            accounts.remove_member(request.user, membership)
            messages.success(request, f"{membership.user} is no longer a member.")
        elif form.is_valid():
            accounts.change_role(request.user, membership, form.cleaned_data["role"])
            messages.success(request, f"{membership.user} is now {membership.get_role_display().lower()}.")
        else:
            messages.error(request, "There is no such role. Nothing was changed.")
    except accounts.LastOwner as error:
        messages.error(request, str(error))
    if not Account.objects.visible_to(request.user).filter(pk=account.pk).exists():
        return redirect("account_list")  # who leaves an account cannot see its page any more
    return redirect(account)


def _visible(request: HtmxHttpRequest, public_id: str) -> Account:
    return get_object_or_404(Account.objects.visible_to(request.user), public_id=public_id)


def _page(request: HtmxHttpRequest, account: Account, *, status: int = 200, **forms: Any) -> HttpResponse:
    role = role_in(request.user, account)
    memberships = list(account.memberships.select_related("user").order_by("user__username"))
    context = {
        "account": account,
        "role": role,
        "can_manage": role is not None and role.can_manage,
        "can_operate": role is not None and role.can_operate,
        "members": [(each, RoleForm(initial={"role": each.role}, prefix=None)) for each in memberships],
        "instances": account.instances.fleet().select_related("endpoint").order_by("name")[:10],
        "instance_count": account.instances.fleet().count(),
        "history": AuditEntry.objects.filter(account=account)[:10],
        "granted": _with_coverage(account.access_roles).select_related("trusted_account"),
        "trusted": _with_coverage(account.trusted_by).select_related("account"),
        "contacts": account.contacts.prefetch_related("channels").select_related("user"),
        **windows.account_context(account),
        "rename_form": AccountForm(initial={"name": account.name}),
        "member_form": MemberForm(),
        **forms,
    }
    return render(request, "portal/account_detail.html", context, status=status)


def _with_coverage(roles: Any) -> Any:
    """What is valid first. The instances come along in two queries, whatever their number."""
    revoked_last = Case(When(revoked_at__isnull=True, then=Value(0)), default=Value(1))
    return roles.prefetch_related("coverage__instance").order_by(revoked_last, "name")
