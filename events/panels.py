"""What the events add to the overview and to the page of an instance."""

from __future__ import annotations

from typing import Final

from django.db.models import Case, F, QuerySet, Value, When
from django.db.models.functions import Coalesce
from django.template.loader import render_to_string

from events.choices import FINAL, UNFINISHED, EventStatus
from events.models import Event
from events.present import views_of
from events.services.attention import urgent_and_not_seen
from portal.htmx import HtmxHttpRequest
from portal.models import Instance

ROWS: Final = 6
PAST: Final = 3


def home_panel(request: HtmxHttpRequest) -> str:
    """The next ones: urgent ones that nobody has seen first."""
    rows = _next(Event.objects.visible_to(request.user).filter(status__in=UNFINISHED))
    return render_to_string("events/_home_panel.html", {"rows": views_of(rows)}, request)


def instance_panel(request: HtmxHttpRequest, instance: Instance) -> str:
    """What is to come, and what was lately."""
    of_it = Event.objects.visible_to(request.user).filter(instance=instance)
    past = of_it.filter(status__in=FINAL).select_related("type").order_by("-finished_at", "-pk")[:PAST]
    rows = views_of([*_next(of_it.filter(status__in=UNFINISHED)), *past])
    return render_to_string("events/_instance_panel.html", {"rows": rows, "instance": instance}, request)


def _next(rows: QuerySet[Event]) -> list[Event]:
    first = Case(
        When(status=EventStatus.RUNNING, then=Value(0)),
        When(urgent_and_not_seen(), then=Value(1)),
        default=Value(2),
    )
    ordered = rows.annotate(when=Coalesce("switch_at", "deadline"))
    return list(ordered.select_related("type").order_by(first, F("when"), "pk")[:ROWS])
