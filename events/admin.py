"""The administration of the events, for staff: everything to be looked at; what is changed goes through the services."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import ValidationError
from django.db.models import Model, QuerySet, URLField
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from events import executors
from events.choices import BulkAction, Via
from events.forms.bulk import FORMS
from events.models import (
    Blackout,
    BulkChange,
    CalendarFeed,
    Campaign,
    Event,
    EventRun,
    EventStage,
    EventType,
    LinkUse,
    Occasion,
    RegionLimit,
)
from events.services import bulk, planning, types
from events.services.by import By, is_event_staff, may_publish
from portal.admin import LookOnly
from portal.errors import ServiceError
from portal.templatetags.portal import badge


def by_admin(request: HttpRequest) -> By:
    return By(request.user, via=Via.ADMIN)  # type: ignore[arg-type]  # the admin lets staff in only


def _short(moment: datetime | None) -> SafeString | None:
    """For a narrow column, in which it may break before the time. The zone stands above every page."""
    if moment is None:
        return None
    local = timezone.localtime(moment)
    return format_html('<span class="nowrap">{}</span> {}', f"{local:%Y-%m-%d}", f"{local:%H:%M}")


# --- Events -----------------------------------------------------------------------------------------------------------


@admin.register(Event)
class EventAdmin(LookOnly):
    list_display = (
        "public_id",
        "shown_level",
        "shown_type",
        "shown_instance",
        "shown_switch",
        "shown_deadline",
        "shown_status",
        "account",
        "region",
        "acknowledged_by",
        "simulated",
    )
    list_filter = ("status", "level", "type", "region", "executor", "account")
    search_fields = (
        "public_id",
        "instance_name",
        "instance_public_id",
        "campaign__public_id",
        "campaign__name",
    )
    list_select_related = ("type", "account", "campaign")
    date_hierarchy = "switch_at"
    ordering = ("-pk",)
    formfield_overrides: ClassVar = {URLField: {"assume_scheme": "https"}}
    actions = ("to_time", "to_window", "stagger", "cancel_many", "acknowledge_many")

    # Short, and free to wrap: at a width of 1280 the list has room for 630 pixels.
    @admin.display(description="level", ordering="level")
    def shown_level(self, event: Event) -> SafeString:
        return badge(event.level_badge, event.level)

    @admin.display(description="type", ordering="type")
    def shown_type(self, event: Event) -> str:
        return event.type.name

    @admin.display(description="instance", ordering="instance_name")
    def shown_instance(self, event: Event) -> str:
        return event.instance_name

    @admin.display(description="status", ordering="status")
    def shown_status(self, event: Event) -> SafeString:
        return badge(event.status_badge)

    @admin.display(description="switchover", ordering="switch_at", empty_value="none yet")
    def shown_switch(self, event: Event) -> SafeString | None:
        return _short(event.switch_at)

    @admin.display(description="deadline", ordering="deadline")
    def shown_deadline(self, event: Event) -> SafeString | None:
        return _short(event.deadline)

    @admin.display(description="simulated", boolean=True)
    def simulated(self, event: Event) -> bool:
        return event.is_simulated

    def has_handle_permission(self, request: HttpRequest) -> bool:
        return is_event_staff(request.user)  # type: ignore[arg-type]  # the admin lets staff in only

    @admin.action(description="Reschedule to a time…", permissions=["handle"])
    def to_time(self, request: HttpRequest, queryset: QuerySet[Event]) -> HttpResponse | None:
        return self._many(request, BulkAction.TO_TIME, queryset)

    @admin.action(
        description="Reschedule to each instance's next maintenance window…", permissions=["handle"]
    )
    def to_window(self, request: HttpRequest, queryset: QuerySet[Event]) -> HttpResponse | None:
        return self._many(request, BulkAction.TO_WINDOW, queryset)

    @admin.action(description="Reschedule, staggered by minutes…", permissions=["handle"])
    def stagger(self, request: HttpRequest, queryset: QuerySet[Event]) -> HttpResponse | None:
        return self._many(request, BulkAction.STAGGER, queryset)

    @admin.action(description="Cancel…", permissions=["handle"])
    def cancel_many(self, request: HttpRequest, queryset: QuerySet[Event]) -> HttpResponse | None:
        return self._many(request, BulkAction.CANCEL, queryset)

    @admin.action(description="Acknowledge…", permissions=["handle"])
    def acknowledge_many(self, request: HttpRequest, queryset: QuerySet[Event]) -> HttpResponse | None:
        return self._many(request, BulkAction.ACKNOWLEDGE, queryset)

    def _many(
        self, request: HttpRequest, action: BulkAction, queryset: QuerySet[Event]
    ) -> HttpResponse | None:
        """To the preview in the console; before it to a page that asks what the action needs to know. That page sends the selection
        back as it came: all that match as one word, not as ten thousand fields."""
        form_class = FORMS.get(action)
        sent = request.POST if "planned" in request.POST else None
        form = form_class(sent) if form_class is not None else None
        if form is None or form.is_valid():
            try:
                change = bulk.plan(by_admin(request), action, queryset, form.cleaned_data if form else {})
            except ServiceError as refusal:
                if form is None or not refusal.field:
                    self.message_user(request, str(refusal), messages.ERROR)
                    return None
                form.add_refusal(refusal)
            else:
                return redirect(change)
        assert form is not None
        whole = request.POST.get("select_across") == "1"
        context = self.admin_site.each_context(request) | {
            "opts": self.opts,
            "title": action.label,
            "form": form,
            "count": queryset.count(),
            "action": request.POST["action"],
            "whole": whole,
            # The admin wants one at least, also where all are meant.
            "selected": request.POST.getlist(ACTION_CHECKBOX_NAME)[: 1 if whole else None],
        }
        return TemplateResponse(request, "admin/events/event/many.html", context)


@admin.register(Campaign)
class CampaignAdmin(LookOnly):
    list_display = ("public_id", "name", "type", "created_at", "created_by")
    list_filter = ("type",)
    search_fields = ("public_id", "name")
    list_select_related = ("type", "created_by")
    date_hierarchy = "created_at"


@admin.register(EventRun)
class EventRunAdmin(LookOnly):
    list_display = ("event", "phase", "next_step_at", "owner", "lease_until", "steps", "attempts")
    list_filter = ("phase",)
    search_fields = ("event__public_id", "event__instance_name", "owner")
    list_select_related = ("event__type",)
    ordering = ("-pk",)


@admin.register(EventStage)
class EventStageAdmin(LookOnly):
    list_display = ("event", "position", "name", "phase", "shown_status", "began_at", "ended_at")
    list_filter = ("status", "phase")
    search_fields = ("event__public_id", "event__instance_name", "name")
    list_select_related = ("event__type",)
    ordering = ("-pk",)

    @admin.display(description="status", ordering="status")
    def shown_status(self, stage: EventStage) -> SafeString:
        return badge(stage.status_badge)


@admin.register(Occasion)
class OccasionAdmin(LookOnly):
    list_display = ("event", "kind", "key", "batch", "due_at", "told_at")
    list_filter = ("kind", ("told_at", admin.EmptyFieldListFilter))
    search_fields = ("event__public_id", "event__instance_name", "batch")
    list_select_related = ("event__type",)
    date_hierarchy = "due_at"
    ordering = ("-pk",)


@admin.register(BulkChange)
class BulkChangeAdmin(LookOnly):
    list_display = ("public_id", "action", "shown_status", "total", "done", "actor", "via", "created_at")
    list_filter = ("action", "status", "via")
    search_fields = ("public_id", "actor__username")
    list_select_related = ("actor",)
    date_hierarchy = "created_at"

    @admin.display(description="status", ordering="status")
    def shown_status(self, change: BulkChange) -> SafeString:
        return badge(change.status_badge)


@admin.register(LinkUse)
class LinkUseAdmin(LookOnly):
    list_display = ("event", "contact_name", "action", "revision", "at", "address", "agent")
    list_filter = ("action",)
    search_fields = ("event__public_id", "contact_name", "address")
    list_select_related = ("event__type",)
    date_hierarchy = "at"


@admin.register(CalendarFeed)
class CalendarFeedAdmin(LookOnly):
    """Whose they are, and when they were read; the digest of the secret is nobody's business."""

    list_display = ("public_id", "name", "user", "account", "created_at", "last_used_at", "revoked_at")
    list_filter = (("revoked_at", admin.EmptyFieldListFilter),)
    search_fields = ("public_id", "name", "user__username", "account__name")
    list_select_related = ("user", "account")
    exclude = ("digest",)


# --- What staff set ---------------------------------------------------------------------------------------------------


class EventTypeForm(forms.ModelForm):  # type: ignore[type-arg]
    executor = forms.ChoiceField(help_text="Who carries out new events of this type.")

    class Meta:
        model = EventType
        exclude: ClassVar = ["is_customised"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if (field := self.fields.get("executor")) is not None:
            known = dict(executors.known())
            now = self.instance.executor
            choices = [(now, now)] if now not in known else []
            field.choices = [*choices, *known.items()]  # type: ignore[attr-defined]  # of a ChoiceField

    def clean_impacts(self) -> Any:
        impacts = self.cleaned_data["impacts"]
        try:
            types.check_impacts(impacts)
        except ServiceError as refusal:
            raise ValidationError(str(refusal)) from refusal
        return impacts


@admin.register(EventType)
class EventTypeAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """What the product brings along may be changed, and types of one's own be added. One that is not wanted is made inactive."""

    form = EventTypeForm
    list_display = (
        "name",
        "code",
        "level",
        "notice_hours",
        "may_change",
        "may_cancel",
        "executor",
        "is_active",
        "is_customised",
    )
    list_filter = ("level", "is_active", "is_customised", "executor")
    search_fields = ("code", "name")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return ["code", "is_customised"] if obj is not None else []  # commands and the API go by the code

    def save_model(self, request: HttpRequest, obj: EventType, form: Any, change: bool) -> None:
        if form.changed_data or not change:
            types.save_type(by_admin(request), obj, form.changed_data)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class SetByStaff(admin.ModelAdmin):  # type: ignore[type-arg]
    """Django's permission for the table, and that to publish events, which the services ask for."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return super().has_add_permission(request) and _publishes(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and _publishes(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_delete_permission(request, obj) and _publishes(request)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        for row in queryset:
            self.delete_model(request, row)


def _publishes(request: HttpRequest) -> bool:
    return may_publish(request.user)  # type: ignore[arg-type]  # the admin lets staff in only


class BlackoutForm(forms.ModelForm):  # type: ignore[type-arg]
    class Meta:
        model = Blackout
        fields: ClassVar = ["account", "region", "starts_at", "ends_at", "reason"]

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or self.cleaned_data
        starts_at, ends_at = data.get("starts_at"), data.get("ends_at")
        if starts_at and ends_at and (refusal := planning.check_length(starts_at, ends_at)):
            self.add_error("ends_at", str(refusal))
        return data


@admin.register(Blackout)
class BlackoutAdmin(SetByStaff):
    form = BlackoutForm
    list_display = ("reason", "starts_at", "ends_at", "region", "account")
    list_filter = ("region", "account")
    search_fields = ("reason", "region", "account__name")
    list_select_related = ("account",)
    autocomplete_fields = ("account",)
    date_hierarchy = "starts_at"

    def save_model(self, request: HttpRequest, obj: Blackout, form: Any, change: bool) -> None:
        planning.save_blackout(by_admin(request), obj)

    def delete_model(self, request: HttpRequest, obj: Model) -> None:
        assert isinstance(obj, Blackout)
        planning.delete_blackout(by_admin(request), obj)


@admin.register(RegionLimit)
class RegionLimitAdmin(SetByStaff):
    list_display = ("shown_region", "most")
    search_fields = ("region",)

    @admin.display(description="region", ordering="region")
    def shown_region(self, row: RegionLimit) -> str:
        return row.region or "each region without a limit of its own"

    def save_model(self, request: HttpRequest, obj: RegionLimit, form: Any, change: bool) -> None:
        planning.save_limit(by_admin(request), obj)

    def delete_model(self, request: HttpRequest, obj: Model) -> None:
        assert isinstance(obj, RegionLimit)
        planning.delete_limit(by_admin(request), obj)
