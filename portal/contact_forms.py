"""The forms of contacts. They check form and plausibility; what is allowed is decided by services/contacts.py."""

from __future__ import annotations

import zoneinfo
from typing import Any

from django import forms
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db.models import Q
from django.utils import timezone

from portal.choices import Category, ChannelKind
from portal.delivery import other, webhook
from portal.forms import StyledForm
from portal.models import Account, Channel, Contact
from portal.services.contacts import Details, Reach

_PLAIN = {"autocomplete": "off", "spellcheck": "false"}


class ContactForm(StyledForm):
    name = forms.CharField(
        max_length=120,
        help_text="A person or a team. Choose somebody who operates the instances, such as an operations and maintenance (O&amp;M) "
        "engineer: the messages ask for decisions about them.",
        widget=forms.TextInput(attrs={**_PLAIN, "placeholder": "Database on-call"}),
    )
    categories = forms.MultipleChoiceField(
        label="Is told about",
        required=False,
        choices=Category.choices,
        initial=[Category.MAINTENANCE.value],
        widget=forms.CheckboxSelectMultiple,
    )
    email = forms.CharField(
        label="Mail address",
        max_length=254,
        required=False,
        widget=forms.TextInput(attrs={**_PLAIN, "inputmode": "email", "placeholder": "oncall@example.org"}),
    )
    user = forms.ModelChoiceField(
        queryset=get_user_model().objects.none(),
        required=False,
        label="Inbox of",
        empty_label="Nobody's",
        help_text="A member of the account, who finds the messages in the console.",
    )
    apprise = forms.CharField(
        label="Phone, SMS, chat or paging",
        max_length=1000,
        required=False,
        help_text="A URL of apprise, for example slack://…, twilio://…, pagerduty://…. It is stored encrypted and not shown again.",
        widget=forms.TextInput(attrs=_PLAIN),
    )
    webhook = forms.CharField(
        label="Webhook",
        max_length=1000,
        required=False,
        help_text="An address that takes JSON by POST. What is sent is signed with a secret, which is shown once.",
        widget=forms.TextInput(attrs={**_PLAIN, "placeholder": "https://…"}),
    )
    removed = forms.ModelMultipleChoiceField(
        queryset=Channel.objects.none(), required=False, widget=forms.CheckboxSelectMultiple
    )
    quiet_from = forms.TimeField(
        label="Quiet from",
        required=False,
        widget=forms.TimeInput(format="%H:%M", attrs={"type": "time"}),
    )
    quiet_to = forms.TimeField(
        label="to", required=False, widget=forms.TimeInput(format="%H:%M", attrs={"type": "time"})
    )
    time_zone = forms.ChoiceField(
        label="Time zone",
        initial=lambda: str(timezone.get_current_timezone()),
        help_text="The clock of the contact: times in its messages are in this zone, with UTC beside them, and so are its quiet hours.",
    )
    order = forms.IntegerField(
        label="Order",
        min_value=0,
        max_value=99,
        initial=1,
        help_text="Who is asked first when something is urgent: 1 before 2.",
    )

    def __init__(self, *args: Any, account: Account, contact: Contact | None = None, **kwargs: Any) -> None:
        if contact is not None:
            names = ("name", "categories", "email", "user", "quiet_from", "quiet_to", "time_zone", "order")
            kwargs["initial"] = {name: getattr(contact, name) for name in names}
        super().__init__(*args, **kwargs)
        zones = sorted(
            zone for zone in zoneinfo.available_timezones() if "/" in zone and not zone.startswith("Etc/")
        )
        # That of a new contact begins as the one of whoever makes it.
        now = contact.time_zone if contact else str(timezone.get_current_timezone())
        if now not in zones and now != "UTC":
            zones.insert(0, now)
        self.fields["time_zone"].choices = [("UTC", "UTC"), *((zone, zone) for zone in zones)]  # type: ignore[attr-defined]
        keep = Q(memberships__account=account)
        if contact and contact.user_id:
            keep |= Q(pk=contact.user_id)
        users = get_user_model().objects.filter(keep, is_active=True).distinct().order_by("username")
        self.fields["user"].queryset = users  # type: ignore[attr-defined]
        self.fields["categories"].widget.attrs["class"] = "form-check-input"
        self.others = others_of(contact)
        self.fields["removed"].queryset = Channel.objects.filter(  # type: ignore[attr-defined]
            pk__in=[one.pk for one in self.others]
        )

    def clean_apprise(self) -> str:
        return _checked(self.cleaned_data["apprise"], other.problem_of)

    def clean_webhook(self) -> str:
        return _checked(self.cleaned_data["webhook"], webhook.problem_of)

    def details(self) -> Details:
        data = self.cleaned_data
        return Details(
            name=data["name"],
            user=data["user"],
            email=data["email"],
            categories=data["categories"],
            quiet_from=data["quiet_from"],
            quiet_to=data["quiet_to"],
            time_zone=data["time_zone"],
            order=data["order"],
        )

    def reach(self) -> Reach:
        data = self.cleaned_data
        return Reach(data["apprise"], data["webhook"], [one.pk for one in data["removed"]])


class InstanceContactsForm(StyledForm):
    """Who is told about one instance."""

    contacts = forms.ModelMultipleChoiceField(
        queryset=Contact.objects.none(), required=False, widget=forms.CheckboxSelectMultiple
    )

    def __init__(self, *args: Any, account: Account, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["contacts"].queryset = Contact.objects.filter(account=account)  # type: ignore[attr-defined]
        self.fields["contacts"].widget.attrs["class"] = "form-check-input"


def others_of(contact: Contact | None) -> list[Channel]:
    """The channels with an address of their own."""
    if contact is None:
        return []
    return list(contact.channels.filter(kind__in=(ChannelKind.APPRISE, ChannelKind.WEBHOOK)))


def _checked(text: str, problem_of: Any) -> str:
    text = text.strip()
    if text and (problem := problem_of(text)):
        raise ValidationError(problem)
    return text
