"""What people do with one event: choose another time, acknowledge, cancel."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST

from events import clock, present, rules
from events.forms.schedule import CancelForm, RescheduleForm
from events.models import Event
from events.services import links, scheduling
from events.services.by import By, require_handler
from events.services.surroundings import around, facts_of
from events.views.common import person, visible_event
from portal.errors import ServiceError
from portal.htmx import HtmxHttpRequest, wants_fragment
from portal.models import AuditEntry
from portal.services import windows
from portal.windows import Window, span_at

MINUTE: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Consequence:
    """What a choice would lead to: the moment, or why it is refused."""

    moment: datetime | None = None
    starts_at: datetime | None = None
    words: str = ""
    waits: str = ""
    deferral: int = 0
    most_deferrals: int | None = None
    outside_window: str = ""
    unchanged: bool = False
    refusal: ServiceError | None = None


@dataclass(frozen=True, slots=True)
class LastChange:
    """Who was quicker."""

    who: str
    via: str
    at: datetime


@require_http_methods(["GET", "HEAD", "POST"])
def event_reschedule(request: HtmxHttpRequest, public_id: str) -> HttpResponse:
    """The form; with `preview` in the POST it says what the choice would lead to, and changes nothing."""
    event, by = visible_event(request, public_id), person(request)
    require_handler(by, event)
    if request.method != "POST":
        return _form(request, event, by, _empty_form(event))
    form = RescheduleForm(request.POST, **_bounds(event))
    if "preview" in request.POST:
        return _preview(request, event, by, form)
    status = 422
    if form.is_valid():
        try:
            changed = scheduling.reschedule(by, event, form.wished, seen=form.cleaned_data["seen"])
        except ServiceError as error:
            if error.id == "event.changed":
                return _changed(request, public_id, by, error)
            form.add_refusal(error)
            status = error.status
        else:
            assert changed.switch_at is not None
            messages.success(request, f"The switchover is planned for {rules.text_of(changed.switch_at)}.")
            return redirect(event)
    return _form(request, event, by, form, status=status)


@require_POST
def event_acknowledge(request: HtmxHttpRequest, public_id: str) -> HttpResponse:
    event = scheduling.acknowledge(person(request), visible_event(request, public_id))
    more = ": nobody else is asked any more." if event.is_urgent else "."
    messages.success(request, f"Acknowledged by {event.acknowledged_by}{more}")
    return redirect(event)


@require_http_methods(["GET", "HEAD", "POST"])
def event_cancel(request: HtmxHttpRequest, public_id: str) -> HttpResponse:
    """GET asks for the confirmation and the reason."""
    event, by = visible_event(request, public_id), person(request)
    require_handler(by, event)
    form = CancelForm(request.POST if request.method == "POST" else None, initial={"seen": event.revision})
    status = 200
    context: dict[str, Any] = {}
    if request.method == "POST":
        status = 422
        if form.is_valid():
            data = form.cleaned_data
            try:
                scheduling.cancel(by, event, data["reason"], seen=data["seen"])
            except ServiceError as error:
                event = visible_event(request, public_id)
                form = CancelForm(initial={"seen": event.revision, "reason": data["reason"]})
                context, status = {"refusal": error, "last": _last_change(event)}, error.status
            else:
                messages.success(request, f"{event.type.name} of {event.instance_name} was cancelled.")
                return redirect(event)
    view = present.EventView(event, by=by)
    return render(
        request,
        "events/event_cancel.html",
        context | {"event": event, "view": view, "form": form},
        status=status,
    )


def _bounds(event: Event) -> dict[str, Any]:
    facts = facts_of(event, timezone.now())
    return {
        "earliest": facts.earliest,
        "latest": rules.latest_choice(facts),
        "later": links.offers(event).later,
    }


def _empty_form(event: Event) -> RescheduleForm:
    """What is proposed is what a link in a message offers; nothing that would happen within the hour, unless that is all there is."""
    bounds, offers = _bounds(event), links.offers(event)
    first = event.switch_at or offers.window or bounds["latest"]
    soonest = bounds["earliest"] + MINUTE
    if offers.later and not event.is_urgent:  # a risk fix should not be put off
        wish = "later"
    else:
        wish = "window" if offers.window else "time"
    initial = {
        "wish": wish,
        "switch_at": timezone.localtime(min(max(first, soonest), bounds["latest"])).strftime(
            clock.FIELD_FORMAT
        ),
        "seen": event.revision,
    }
    return RescheduleForm(initial=initial, **bounds)


def _window(event: Event) -> Window | None:
    return windows.window_for(event.instance)


def _form(
    request: HtmxHttpRequest, event: Event, by: By, form: RescheduleForm, *, status: int = 200, **more: Any
) -> HttpResponse:
    now = timezone.now()
    row = windows.rows_for([event.instance]).get(event.instance.pk) if event.instance is not None else None
    view = present.EventView(event, by=by, waits=scheduling.waits_for(event), now=now)
    context = {
        "event": event,
        "view": view,
        "form": form,
        "window": row,
        "in_window": scheduling.next_window(event, row.window if row else None, now),
        "later": form.later,
        "at_once": rules.at_once(view.facts),
        "latest": rules.latest_choice(view.facts),
        "zone": timezone.get_current_timezone_name(),
        "seen": event.revision,
    }
    return render(request, "events/event_reschedule.html", context | more, status=status)


def _preview(request: HtmxHttpRequest, event: Event, by: By, form: RescheduleForm) -> HttpResponse:
    """Without scripts the whole page again, with what was chosen."""
    found = _consequence(event, form) if form.is_valid() else None
    if wants_fragment(request):
        context = {"consequence": found, "event": event, "form": form, "is_part": True}
        return render(request, "events/_event_consequence.html", context)
    return _form(request, event, by, form, status=200 if found else 422, consequence=found)


def _consequence(event: Event, form: RescheduleForm) -> Consequence:
    now = timezone.now()
    facts = facts_of(event, now)
    try:
        moment = scheduling.moment_of(event, form.wished, now)
    except ServiceError as error:
        return Consequence(refusal=error)
    if refusal := rules.check_reschedule(facts, moment, around(event, now)):
        return Consequence(refusal=refusal)
    window = _window(event)
    return Consequence(
        moment=moment,
        starts_at=moment - event.preparation,
        words=present.in_words(moment, now),
        waits=scheduling.waits_for(event, moment),
        deferral=event.deferrals + 1 if rules.is_deferral(facts, moment) else 0,
        most_deferrals=facts.max_deferrals,
        outside_window=_outside(event, window, moment),
        unchanged=moment == event.switch_at,
    )


def _outside(event: Event, window: Window | None, moment: datetime) -> str:
    """The maintenance window, if the moment is not in it."""
    if window is None or event.instance is None or span_at(window, moment) is not None:
        return ""
    return str(windows.rows_for([event.instance])[event.instance.pk])


def _changed(request: HtmxHttpRequest, public_id: str, by: By, error: ServiceError) -> HttpResponse:
    """Somebody else was quicker: the form again, with what the event is now and who did it."""
    event = visible_event(request, public_id)
    more = {"refusal": error, "last": _last_change(event)}
    return _form(request, event, by, _empty_form(event), status=error.status, **more)


def _last_change(event: Event) -> LastChange | None:
    """Of its time or status, by somebody else or by oneself in another window."""
    actions = ("event.rescheduled", "event.postponed", "event.cancelled", "event.started")
    rows = AuditEntry.objects.filter(object_type="event", object_id=event.public_id, action__in=actions)
    row = rows.order_by("-at", "-pk").first()
    if row is None:
        return None
    who = row.actor_name or str(row.details.get("contact") or "the system")
    return LastChange(who, str(row.details.get("via", "")), row.at)
