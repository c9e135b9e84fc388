"""The calendar of the month, and of one day of it."""

from __future__ import annotations

from django.http import HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from events import month
from portal.htmx import HtmxHttpRequest


@require_safe
def event_calendar(request: HtmxHttpRequest) -> HttpResponse:
    """`?month=2026-03`, or `?day=2026-03-12` for a day with more events than the month has room for. Else the present month."""
    today = timezone.localdate()
    context = {"zone": timezone.get_current_timezone_name(), "today": today}
    if (wanted := month.day_of(request.GET.get("day", ""))) is not None:
        day = month.whole_day(request.user, wanted, today)
        return render(
            request, "events/calendar_day.html", context | {"day": day, "first": wanted.replace(day=1)}
        )
    first = month.month_of(request.GET.get("month", ""), today)
    weeks = month.weeks_of(request.user, first, today)
    before, after = month.neighbours(first)
    context |= {
        "first": first,
        "weeks": weeks,
        "before": before,
        "after": after,
        "is_empty": all(day.is_empty for week in weeks for day in week if day.in_month),
    }
    return render(request, "events/calendar.html", context)
