"""Contacts of an account, and those that an instance names for itself."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from portal.choices import Category, ChannelKind, Role
from portal.contact_forms import ContactForm, InstanceContactsForm
from portal.errors import ServiceError
from portal.htmx import HtmxHttpRequest
from portal.models import Account, AuditEntry, Channel, Contact, Delivery, Instance, Membership
from portal.services import contacts
from portal.services.permissions import require_operator, role_in


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@sensitive_post_parameters("apprise", "webhook")
def contact_create(request: HtmxHttpRequest, public_id: str) -> HttpResponse:
    account = _account(request, public_id)
    require_operator(request.user, account)
    return _edit(request, account, None)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@sensitive_post_parameters("apprise", "webhook")
def contact_edit(request: HtmxHttpRequest, public_id: str, contact_id: int) -> HttpResponse:
    account = _account(request, public_id)
    require_operator(request.user, account)
    return _edit(request, account, _contact(account, contact_id))


@require_safe
def contact(request: HtmxHttpRequest, public_id: str, contact_id: int) -> HttpResponse:
    account = _account(request, public_id)
    return _page(request, account, _contact(account, contact_id))


@require_http_methods(["GET", "HEAD", "POST"])
def contact_delete(request: HtmxHttpRequest, public_id: str, contact_id: int) -> HttpResponse:
    account = _account(request, public_id)
    require_operator(request.user, account)
    row = _contact(account, contact_id)
    if request.method != "POST":
        context = {"account": account, "contact": row, "instances": _instances(row)}
        return render(request, "portal/contact_delete.html", context)
    contacts.delete_contact(request.user, row)
    messages.success(request, f"The contact {row.name} was deleted.")
    return redirect(account)


@require_POST
def contact_test(request: HtmxHttpRequest, public_id: str, contact_id: int) -> HttpResponse:
    account = _account(request, public_id)
    row = _contact(account, contact_id)
    try:
        contacts.send_test(request.user, row)
    except ServiceError as error:
        if error.status != 422:
            raise
        messages.error(request, str(error))
    else:
        messages.success(
            request,
            f"A test message to {row.name} is on its way. What became of it is shown below in a moment.",
        )
    return redirect("account_contact", account.public_id, row.pk)


@never_cache
@require_POST
def secret_rotate(request: HtmxHttpRequest, public_id: str, contact_id: int, channel_id: int) -> HttpResponse:
    """The answer shows the new secret, this once."""
    account = _account(request, public_id)
    row = _contact(account, contact_id)
    channel = get_object_or_404(row.channels, pk=channel_id, kind=ChannelKind.WEBHOOK)
    secret = contacts.rotate_secret(request.user, channel)
    return _page(request, account, row, secret=secret)


@require_http_methods(["GET", "HEAD", "POST"])
def instance_contacts(request: HtmxHttpRequest, public_id: str) -> HttpResponse:
    rows = Instance.objects.visible_to(request.user).select_related("account")
    instance = get_object_or_404(rows, public_id=public_id)
    account = instance.account
    require_operator(request.user, account)
    named = Contact.objects.filter(instance_contacts__instance=instance)
    form = InstanceContactsForm(
        request.POST if request.method == "POST" else None,
        account=account,
        initial={"contacts": [one.pk for one in named]},
    )
    status = 200
    if request.method == "POST":
        status = 422
        if form.is_valid():
            contacts.name_for_instance(request.user, instance, form.cleaned_data["contacts"])
            messages.success(request, f"Who is told about {instance.name} was saved.")
            return redirect(instance)
    context = {
        "form": form,
        "instance": instance,
        "account": account,
        "has_contacts": Contact.objects.filter(account=account).exists(),
    }
    return render(request, "portal/instance_contacts.html", context, status=status)


def instance_context(instance: Instance) -> dict[str, Any]:
    """For the page of an instance: who is told about it, and whether it has named them itself."""
    return {
        "told": contacts.told_for(instance),
        "names_its_own": instance.instance_contacts.exists(),
        "account_has_contacts": Contact.objects.filter(account=instance.account_id).exists(),
    }


def _edit(request: HtmxHttpRequest, account: Account, row: Contact | None) -> HttpResponse:
    form = ContactForm(request.POST if request.method == "POST" else None, account=account, contact=row)
    status = 200
    if request.method == "POST":
        status = 422
        if form.is_valid():
            try:
                saved, secret = contacts.save_contact(
                    request.user, account, form.details(), form.reach(), row
                )
            except ServiceError as error:
                form.add_refusal(error)
                status = error.status
            else:
                if not saved.categories:
                    messages.warning(
                        request,
                        f"The contact {saved.name} was saved. It is told of nothing: tick a category.",
                    )
                elif not secret:
                    messages.success(request, f"The contact {saved.name} was saved.")
                if secret:
                    return _page(request, account, saved, secret=secret)
                return redirect("account_contact", account.public_id, saved.pk)
    removed = set(form["removed"].value() or ())
    others = [(one, contacts.shown_address(one), str(one.pk) in removed) for one in form.others]
    context = {"form": form, "account": account, "contact": row, "others": others}
    return render(request, "portal/contact_form.html", context, status=status)


def _page(request: HtmxHttpRequest, account: Account, row: Contact, *, secret: str = "") -> HttpResponse:
    role = role_in(request.user, account)
    told = Delivery.objects.filter(notification__contact=row).select_related("notification")
    context = {
        "account": account,
        "contact": row,
        "channels": [(one, contacts.shown_address(one)) for one in _channels(row)],
        "categories": row.categories,
        "instances": _instances(row),
        "deliveries": told.order_by("-pk")[:10],
        "history": AuditEntry.objects.filter(object_type="contact", object_id=str(row.pk), account=account)[
            :10
        ],
        "can_operate": role is not None and role.can_operate,
        "secret": secret,
        "reads_more_than_allowed": _reads_more_than_allowed(row),
    }
    return render(request, "portal/contact_detail.html", context)


def _reads_more_than_allowed(row: Contact) -> bool:
    """Whether links in its messages let a person do what their role does not."""
    told = Category.MAINTENANCE in row.categories and row.user_id is not None
    viewers = Membership.objects.filter(account=row.account_id, user=row.user_id, role=Role.VIEWER)
    return told and viewers.filter(user__is_superuser=False).exists()


def _channels(row: Contact) -> list[Channel]:
    return list(row.channels.select_related("contact__user"))


def _instances(row: Contact) -> list[Instance]:
    return list(Instance.objects.filter(instance_contacts__contact=row).order_by("name"))


def _account(request: HtmxHttpRequest, public_id: str) -> Account:
    return get_object_or_404(Account.objects.visible_to(request.user), public_id=public_id)


def _contact(account: Account, contact_id: int) -> Contact:
    rows = Contact.objects.select_related("account", "user")
    return get_object_or_404(rows, account=account, pk=contact_id)
