"""How a change of many events is shown: in words, by outcome, and what may be done with it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from django.db.models import F
from django.utils import timezone

from events import clock, rules
from events.choices import BulkAction, BulkStatus, RowOutcome
from events.models import BulkChange, BulkRow
from events.services import bulk
from events.services.bulk_judging import TIME_ACTIONS
from events.services.bulk_running import UNDER_WAY
from portal.services.windows import windows_for
from portal.windows import Window, span_at, zone_called

if TYPE_CHECKING:
    from django.contrib.auth.models import User

REASONS: Final = {
    "event.in_past": "The time has passed",
    "event.after_deadline": "After the deadline",
    "event.too_soon": "Too soon for the preparation",
    "event.not_pending": "Begun or ended",
    "event.fixed": "The time is fixed",
    "event.deferrals_used": "Put off too often",
    "event.deferred_too_far": "Put off too far",
    "event.blackout": "Blackout",
    "event.region_full": "The region is full",
    "event.no_window": "No maintenance window",
    "event.no_place": "No free time",
    "event.same_time": "Has this time already",
    "event.not_cancellable": "May not be cancelled",
    "event.acknowledged": "Acknowledged already",
    "event.ended": "Ended already",
    "event.changed": "Changed by somebody else",
    "permission.denied": "Not allowed by your role",
    "object.not_found": "Not in your accounts",
}


@dataclass(frozen=True, slots=True)
class RowView:
    """A row of a change of times, with what whoever applies it should look at."""

    row: BulkRow
    shift: str = ""
    """`3 days earlier`; "" where there was no time before, or is none now."""
    is_earlier: bool = False
    is_outside: bool = False
    """The new time is outside the maintenance window of the instance, or of its account."""


def row_views(rows: Iterable[BulkRow]) -> list[RowView]:
    """`row.event.instance` should be loaded. One query."""
    rows = list(rows)
    windows = windows_for([row.event.instance for row in rows if row.event.instance is not None])
    return [_row_view(row, windows.get(row.event.instance_id or 0)) for row in rows]


def _row_view(row: BulkRow, window: Window | None) -> RowView:
    old, new = row.old_switch_at, row.new_switch_at
    if new is None:
        return RowView(row)
    outside = window is not None and span_at(window, new) is None
    if old is None or old == new:
        return RowView(row, is_outside=outside)
    way = "earlier" if new < old else "later"
    return RowView(row, f"{rules.duration_text(abs(new - old))} {way}", new < old, outside)


class BulkView:
    def __init__(self, change: BulkChange, user: User) -> None:
        self.change = change
        self.action = BulkAction(change.action)
        self.status = BulkStatus(change.status)
        self._user = user

    @cached_property
    def counts(self) -> bulk.Counts:
        return bulk.counts(self.change)

    @cached_property
    def earlier(self) -> int:
        """How many events happen earlier than they did before: who was told of a later time may not be ready."""
        rows = self.change.rows.filter(new_switch_at__lt=F("old_switch_at"))
        return rows.filter(outcome__in=(RowOutcome.PLANNED, RowOutcome.DONE)).count()

    @property
    def is_under_way(self) -> bool:
        return self.status in UNDER_WAY

    @property
    def is_preview(self) -> bool:
        return self.status == BulkStatus.PLANNED

    @property
    def moves(self) -> bool:
        """Whether it is about times."""
        return self.action in TIME_ACTIONS

    @property
    def is_own(self) -> bool:
        return self.change.actor_id == self._user.pk

    @property
    def can_apply(self) -> bool:
        return self.is_preview and self.is_own and self.counts.planned > 0

    @cached_property
    def undoable(self) -> int:
        """Events whose old times can be asked back."""
        if self.change.undone_by.filter(status__in=UNDER_WAY).exists():
            return 0
        return bulk.undoable_rows(self.change).count()

    @property
    def heading(self) -> str:
        return {
            BulkAction.TO_TIME: "Reschedule to a time",
            BulkAction.TO_WINDOW: "Reschedule to maintenance windows",
            BulkAction.STAGGER: "Reschedule one after the other",
            BulkAction.CANCEL: "Cancel",
            BulkAction.ACKNOWLEDGE: "Acknowledge",
            BulkAction.UNDO: "Undo a change",
        }[self.action]

    @property
    def words(self) -> str:
        """What is asked for, with its parameters."""
        kept: dict[str, Any] = self.change.parameters
        if self.action == BulkAction.TO_TIME:
            return f"To {self._time(kept)}."
        if self.action == BulkAction.STAGGER:
            order = "names of their instances" if kept["order"] == "name" else "switch times they had"
            step = "every minute" if kept["minutes"] == 1 else f"every {kept['minutes']} minutes"
            return f"From {self._time(kept)}, {step}, in the order of the {order}."
        return {
            BulkAction.TO_WINDOW: "Each to the next maintenance window of its instance.",
            BulkAction.CANCEL: f"Reason: {kept['reason']}" if kept.get("reason") else "",
            BulkAction.ACKNOWLEDGE: "Somebody has seen them: of urgent ones no further contact is asked.",
            BulkAction.UNDO: "Each event that still is as it was left gets the time back that it had before.",
        }[self.action]

    def _time(self, kept: dict[str, Any]) -> str:
        moment, zone = datetime.fromisoformat(kept["at"]), zone_called(timezone.get_current_timezone_name())
        utc = clock.utc_words(moment, zone)
        return f"{clock.words(moment, zone)} ({utc})" if utc else clock.words(moment, zone)

    @property
    def button(self) -> str:
        """Without the number of events, which follows."""
        return {BulkAction.CANCEL: "Cancel", BulkAction.ACKNOWLEDGE: "Acknowledge"}.get(
            self.action, "Reschedule"
        )

    @property
    def consequence(self) -> str:
        if self.action == BulkAction.ACKNOWLEDGE:
            return "Nobody is told."
        if self.action == BulkAction.CANCEL:
            return "What is cancelled has to be announced anew. Contacts who were told of the events are told, in one message where they have many."
        return "Contacts are told of the new times, in one message where they have many. It can be undone while the events still wait."

    @property
    def stats(self) -> list[tuple[RowOutcome, int]]:
        """Outcomes that there are; of a preview always both."""
        found = self.counts
        numbers = {
            RowOutcome.PLANNED: found.planned,
            RowOutcome.DONE: found.done,
            RowOutcome.REFUSED: found.refused,
            RowOutcome.LOST: found.lost,
            RowOutcome.UNDONE: found.undone,
        }
        shown = {RowOutcome.PLANNED if self.is_preview else RowOutcome.DONE, RowOutcome.REFUSED}
        return [(outcome, number) for outcome, number in numbers.items() if number or outcome in shown]


def reasons_of(change: BulkChange) -> list[tuple[str, str]]:
    """Why rows are left out, as choices of a filter."""
    ids = (
        change.rows.exclude(refusal_id="")
        .order_by("refusal_id")
        .values_list("refusal_id", flat=True)
        .distinct()
    )
    return [(one, REASONS.get(one, one)) for one in ids]
