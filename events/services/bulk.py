"""Changing many events at once: planned and previewed row by row, applied, and undone while the events still are as they were left.

    bulk = plan(by, BulkAction.TO_TIME, ids_or_queryset, {"at": moment})
    apply(by, bulk)
    undo(by, bulk)

| Action | Parameters |
|---|---|
| `to-time` | `at`: a moment |
| `to-window` | |
| `stagger` | `at`, `minutes` between two switchovers, `order`: `time` (the current switch time) or `name` (of the instance) |
| `cancel` | `reason` |
| `acknowledge` | |

A small change is carried out at once, a larger one by a job of the cluster `default` (services/bulk_running.py): look at `status` and `done` of
the row. What is refused, and why, is what one event alone would be refused (services/bulk_judging.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from django.db import transaction
from django.db.models import Count, F, QuerySet
from django.utils import timezone

from events import rules
from events.choices import BulkAction, BulkStatus, EventStatus, RowOutcome
from events.models import BulkChange, BulkRow, Event
from events.models.events import sees_all
from events.services import bulk_running
from events.services.bulk_judging import TIME_ACTIONS
from events.services.by import By
from portal.errors import Conflict, Invalid, NotFound, NotPermitted
from portal.services import audit

if TYPE_CHECKING:
    from django.contrib.auth.models import User

SMALL: Final = 300
"""So many are changed at once; more by a job."""
MOST: Final = 20_000
LONGEST_STEP: Final = 24 * 60
FORGOTTEN_AFTER: Final = timedelta(days=7)  # a preview that nobody has applied
UNDOABLE: Final = TIME_ACTIONS - {BulkAction.UNDO}
ORDERS: Final = {"time": ("switch_at", "instance_name", "pk"), "name": ("instance_name", "pk")}

Chosen = Iterable[str] | QuerySet[Event]


@dataclass(frozen=True, slots=True)
class Counts:
    """Rows of a bulk change by outcome."""

    planned: int = 0
    refused: int = 0
    done: int = 0
    lost: int = 0
    undone: int = 0

    @property
    def left_out(self) -> int:
        return self.refused + self.lost


def visible_to(user: User | None) -> QuerySet[BulkChange]:
    """A person's own; all of them for staff who look after events, and for the system."""
    rows = BulkChange.objects.select_related("actor", "undoes")
    return rows if user is None or sees_all(user) else rows.filter(actor=user)


def get_bulk(user: User | None, public_id: str) -> BulkChange:
    """Raises NotFound."""
    found = visible_to(user).filter(public_id=public_id).first()
    if found is None:
        raise NotFound(f"There is no bulk change {public_id} of yours.", id="bulk.not_found")
    return found


def plan(
    by: By, action: BulkAction, chosen: Chosen, parameters: Mapping[str, Any] | None = None
) -> BulkChange:
    """What the action would do to each of the chosen events. Changes none of them.

    Of the chosen ones, those that the person may see are taken. Raises NotPermitted, Invalid (`bulk.nothing_chosen`, `bulk.too_many`, and
    for `at`, `minutes`, `order`, `reason`: `bulk.bad_time`, `event.in_past`, `bulk.bad_minutes`, `bulk.bad_order`, `bulk.bad_reason`).
    """
    if by.contact is not None:
        raise NotPermitted(
            "A link in a message changes one event. Nothing was changed.", advice="Log in first."
        )
    if action == BulkAction.UNDO:
        raise ValueError("undo() undoes")
    kept = _parameters(action, parameters or {})
    with transaction.atomic():
        keys = _keys(by, chosen, ORDERS[kept.get("order", "time")])
        bulk = BulkChange.objects.create(
            actor=by.user, via=by.via, action=action, parameters=kept, total=len(keys), lease_until=_bell()
        )
        rows = (BulkRow(bulk=bulk, event_id=pk, position=position) for position, pk in enumerate(keys))
        BulkRow.objects.bulk_create(rows)
        _begin_later(bulk)
    return _begun(bulk)


def apply(by: By, bulk: BulkChange) -> BulkChange:
    """Change what is planned, each event if it still is as it was seen and the rules still allow it.

    Raises NotPermitted for somebody else than the one who planned it, Conflict (`bulk.not_planned`, `bulk.nothing_to_apply`).
    """
    if by.user != bulk.actor:
        raise NotPermitted(
            "Only the person who has asked for this preview can apply it. Nothing was changed.",
            advice="Choose the events yourself, and look at a preview of your own.",
        )
    with transaction.atomic():
        count = bulk.rows.filter(outcome=RowOutcome.PLANNED).count()
        if bulk.status == BulkStatus.PLANNED and not count:
            raise Conflict(
                "None of these events can be changed. Nothing was changed.",
                advice="The reasons are beside the events.",
                id="bulk.nothing_to_apply",
            )
        now = timezone.now()
        rows = BulkChange.objects.filter(pk=bulk.pk, status=BulkStatus.PLANNED)
        if not rows.update(status=BulkStatus.APPLYING, done=0, applied_at=now, owner="", lease_until=_bell()):
            raise Conflict(
                "This change is being applied, or was applied already. Nothing more was changed.",
                advice="Load the page again.",
                id="bulk.not_planned",
            )
        details = by.details() | {"what": BulkAction(bulk.action).label, "events": count, **bulk.parameters}
        audit.record(by.user, "bulk.applied", bulk, **details)
        _begin_later(bulk)
    return _begun(bulk)


def undo(by: By, bulk: BulkChange) -> BulkChange:
    """Give back their old times to the events that still are as this change has left them: pending, at the same revision, and if the rules
    allow the old time. The result is a bulk change of its own, which begins at once.

    Raises Conflict (`bulk.not_undoable`, `bulk.being_undone`, `bulk.nothing_to_undo`).
    """
    if bulk.action not in UNDOABLE or bulk.status not in (BulkStatus.DONE, BulkStatus.FAILED):
        raise Conflict(
            "This cannot be undone. Nothing was changed.",
            advice="Only a change of times can, once it is done.",
            id="bulk.not_undoable",
        )
    with transaction.atomic():
        # Of two who undo at the same moment one follows the other.
        BulkChange.objects.select_for_update(of=("self",)).get(pk=bulk.pk)
        if bulk.undone_by.filter(status__in=bulk_running.UNDER_WAY).exists():
            raise Conflict(
                "It is being undone already. Nothing more was changed.",
                advice="Load the page again in a moment.",
                id="bulk.being_undone",
            )
        if not undoable_rows(bulk).exists():
            raise Conflict(
                "None of its events still is as this change has left it. Nothing was changed.",
                advice="Reschedule the events instead.",
                id="bulk.nothing_to_undo",
            )
        done = list(bulk.rows.filter(outcome=RowOutcome.DONE).order_by("position"))
        back = BulkChange.objects.create(
            actor=by.user,
            via=by.via,
            action=BulkAction.UNDO,
            undoes=bulk,
            total=len(done),
            lease_until=_bell(),
        )
        rows = (
            BulkRow(
                bulk=back,
                event_id=row.event_id,
                position=position,
                seen_revision=row.applied_revision or 0,
                new_switch_at=row.old_switch_at,
            )
            for position, row in enumerate(done)
        )
        BulkRow.objects.bulk_create(rows)
        details = by.details() | {"undone_by": back.public_id, "events": len(done)}
        audit.record(by.user, "bulk.undone", bulk, **details)
        _begin_later(back)
    return _begun(back)


def undoable_rows(bulk: BulkChange) -> QuerySet[BulkRow]:
    """What undo would try: changed by it, and as it left them."""
    if bulk.action not in UNDOABLE or bulk.status not in (BulkStatus.DONE, BulkStatus.FAILED):
        return bulk.rows.none()
    return bulk.rows.filter(
        outcome=RowOutcome.DONE, event__status=EventStatus.PENDING, event__revision=F("applied_revision")
    )


def counts(bulk: BulkChange) -> Counts:
    rows = bulk.rows.order_by().values_list("outcome").annotate(Count("pk"))
    return Counts(**{str(outcome): number for outcome, number in rows})


def sweep() -> int:
    """Forget previews that nobody has applied for a week."""
    old = BulkChange.objects.filter(
        status=BulkStatus.PLANNED, created_at__lt=timezone.now() - FORGOTTEN_AFTER
    )
    pks = list(old.values_list("pk", flat=True)[:50])
    if not pks:
        return 0
    BulkRow.objects.filter(bulk__in=pks).delete()
    return BulkChange.objects.filter(pk__in=pks, status=BulkStatus.PLANNED).delete()[0]


# --- Parts ------------------------------------------------------------------------------------------------------------


def _keys(by: By, chosen: Chosen, order: tuple[str, ...]) -> list[int]:
    """Primary keys of the chosen events that the person may see, in this order; those that wait for a time are last."""
    seen = Event.objects.all() if by.user is None else Event.objects.visible_to(by.user)
    if isinstance(chosen, QuerySet):
        rows = seen.filter(pk__in=chosen.order_by().values_list("pk", flat=True))
    else:
        ids = list(dict.fromkeys(chosen))
        _refuse_too_many(len(ids))
        rows = seen.filter(public_id__in=ids)
    ordering = [F(name).asc(nulls_last=True) if name == "switch_at" else name for name in order]
    keys = list(rows.order_by(*ordering).values_list("pk", flat=True)[: MOST + 1])
    _refuse_too_many(len(keys))
    if not keys:
        raise Invalid(
            "No event was chosen. Nothing was changed.",
            advice="Tick the events first.",
            id="bulk.nothing_chosen",
        )
    return keys


def _refuse_too_many(number: int) -> None:
    if number > MOST:
        raise Invalid(
            f"These are more than {MOST:,} events. Nothing was changed.",
            advice="Choose fewer at a time, by account or region for example.",
            id="bulk.too_many",
        )


def _parameters(action: BulkAction, given: Mapping[str, Any]) -> dict[str, Any]:
    """What the row keeps of them, as JSON."""
    kept: dict[str, Any] = {}
    if action in (BulkAction.TO_TIME, BulkAction.STAGGER):
        kept["at"] = _moment(given.get("at")).isoformat()
    if action == BulkAction.STAGGER:
        minutes, order = given.get("minutes"), given.get("order") or "time"
        if not isinstance(minutes, int) or isinstance(minutes, bool) or not 1 <= minutes <= LONGEST_STEP:
            raise _refuse(
                "minutes",
                f"There are 1 to {LONGEST_STEP} minutes between two switchovers.",
                "bulk.bad_minutes",
            )
        if order not in ORDERS:
            raise _refuse("order", f"Events have no order by “{order}”.", "bulk.bad_order")
        kept |= {"minutes": minutes, "order": order}
    if action == BulkAction.CANCEL:
        reason = str(given.get("reason") or "").strip()
        if len(reason) > 1000:
            raise _refuse("reason", "The reason is longer than 1,000 characters.", "bulk.bad_reason")
        kept["reason"] = reason
    return kept


def _moment(given: Any) -> datetime:
    if not isinstance(given, datetime) or given.tzinfo is None:
        raise _refuse("at", "Enter a date and a time.", "bulk.bad_time")
    moment = given.replace(microsecond=0)
    if moment < timezone.now():
        raise _refuse("at", f"{rules.text_of(moment)} has passed.", "event.in_past")
    return moment


def _refuse(field: str, what: str, id: str) -> Invalid:
    return Invalid(f"{what} {rules.NOTHING}", id=id, field=field)


def _bell() -> datetime:
    return timezone.now() + bulk_running.BELL


def _begin_later(bulk: BulkChange) -> None:
    if bulk.total > SMALL:
        bulk_running.ring_later(bulk.pk)


def _begun(bulk: BulkChange) -> BulkChange:
    """As it is now; carried out, if it is small."""
    if bulk.total <= SMALL:
        bulk_running.run(bulk.pk)
    return BulkChange.objects.select_related("actor", "undoes").get(pk=bulk.pk)
