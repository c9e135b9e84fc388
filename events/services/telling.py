"""Occasions become messages: exactly once per contact, event and occasion, whoever looks, however often, and whoever dies meanwhile.

An occasion is told in one transaction with its `told_at`: all of it or nothing. One that does not hold any more when it is due is passed
over, which its facts say (`passed`). Occasions of a batch (a campaign, a bulk change) and of one account are told together: a contact who
would get more than MANY messages of them gets one. So are reminders that are due together.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

import structlog
from django.db import DatabaseError, OperationalError, transaction
from django.db.models import Max, Min, Q, QuerySet
from django.utils import timezone

from events import digests, messages
from events.choices import LogLevel, OccasionKind
from events.models import Campaign, Event, EventLogEntry, EventType, Occasion
from events.services import occasions
from events.services.background import Background, contacts_of, load
from events.services.holding import is_due_still
from events.wording import Case, what
from portal.choices import Category
from portal.models import Account, Contact
from portal.patience import patient
from portal.services.notifications import RUNG_AT_ONCE, Message, Telling, tell_many
from portal.services.reach import Reached

log = structlog.get_logger(__name__)
K = OccasionKind

MANY: Final = 5
"""More messages than this of one batch and kind become one."""
LIMIT: Final = 2000
CHUNK: Final = 50
"""Occasions that are told in one transaction, but for batches, which are not torn apart."""
PROMPT: Final = 200
"""Occasions of one run for whose messages workers are asked at once; the ticks ask for the others."""
BUDGET: Final = 60.0
"""Seconds after which a job leaves the rest to the next one: the cluster ends one after 120."""
SETTLED: Final = timedelta(seconds=10)
"""So long after its last occasion a batch is complete: whoever writes one may do it in parts."""
LONGEST: Final = timedelta(minutes=2)
"""So long after its first occasion it is told, complete or not."""
NOBODY: Final = "Nobody is told of this event: the instance has no contact that is told of maintenance and can be reached."

_rung_at = float("-inf")
RING_SECONDS: Final = 5.0


def ring_due() -> None:
    """Called by each tick: ask for a worker if anything is due. Not at every tick, as one that is busy would be asked again and again."""
    global _rung_at
    if time.monotonic() - _rung_at >= RING_SECONDS and _waiting(timezone.now()).exists():
        _rung_at = time.monotonic()
        occasions.ring()


def tell_due(limit: int = LIMIT, *, now: datetime | None = None) -> int:
    """Tell what is due, up to about so many occasions at a time. Returns how many were told or passed over."""
    begun, count = time.monotonic(), 0
    failed: set[int] = set()
    while True:
        groups = [one for one in _groups(limit, now or timezone.now()) if not failed.issuperset(one)]
        before = count
        for chunk in _chunks(groups):
            count += _try(chunk, now, failed, RUNG_AT_ONCE if count < PROMPT else 0)
            if time.monotonic() - begun > BUDGET:
                occasions.ring()
                return count
        if count == before or sum(map(len, groups)) < limit:
            return count


def nobody_told(event: Event) -> bool:
    """Whether no contact hears of this event: for the warning on its page, which is for staff and the owner (R8)."""
    return not contacts_of([event])[event.pk]


# --- What is due ------------------------------------------------------------------------------------------------------


def _waiting(now: datetime) -> QuerySet[Occasion]:
    return Occasion.objects.filter(told_at__isnull=True, due_at__lte=now)


def _groups(limit: int, now: datetime) -> list[list[int]]:
    """Primary keys of what is told together, the longest due first. Batches are whole, whatever the limit."""
    growing = (
        _waiting(now)
        .exclude(batch="")
        .values("batch")
        .annotate(first=Min("at"), last=Max("at"))
        .filter(last__gt=now - SETTLED, first__gt=now - LONGEST)
    )
    due = _waiting(now).exclude(batch__in=[row["batch"] for row in growing])
    columns = ("pk", "batch", "kind", "event__account_id", "facts__hours")
    rows = list(due.order_by("due_at", "pk").values_list(*columns)[:limit])
    if len(rows) == limit:
        whole = Q(batch__in={row[1] for row in rows} - {""}) | Q(kind=K.REMINDER)
        known = {row[0] for row in rows}
        more = due.filter(whole).order_by("due_at", "pk").values_list(*columns)
        rows += [row for row in more if row[0] not in known]
    found: dict[tuple[object, ...], list[int]] = {}
    for pk, batch, kind, account, hours in rows:
        if batch and kind == K.WORK:
            name: tuple[object, ...] = (kind, batch)  # staff look after all accounts
        elif batch or kind == K.REMINDER:
            name = (account, kind, batch or hours)
        else:
            name = (pk,)
        found.setdefault(name, []).append(pk)
    return list(found.values())


def _chunks(groups: Iterable[list[int]]) -> Iterator[list[list[int]]]:
    chunk: list[list[int]] = []
    for group in groups:
        if chunk and sum(map(len, chunk)) + len(group) > CHUNK:
            yield chunk
            chunk = []
        chunk.append(group)
    if chunk:
        yield chunk


# --- Telling ----------------------------------------------------------------------------------------------------------


def _try(chunk: list[list[int]], now: datetime | None, failed: set[int], bells: int) -> int:
    """What is wrong with one occasion keeps nobody from hearing of the others."""
    try:
        return _tell(chunk, now, bells)
    except OperationalError:
        raise  # it is the database that is not well: the next tick asks again
    except Exception:
        if len(chunk) > 1:
            return sum(_try([group], now, failed, bells) for group in chunk)
        log.exception("telling.failed", occasions=chunk[0][:10])
        failed.update(chunk[0])
        return 0


@patient
@transaction.atomic
def _tell(groups: list[list[int]], now: datetime | None, bells: int) -> int:
    """In one transaction."""
    rows = _locked(groups)
    if not rows:
        return 0
    now = now or timezone.now()
    behind = load(list(rows.values()), now)
    tellings: list[Telling] = []
    holding: list[Occasion] = []
    for group in groups:
        mine = [rows[pk] for pk in group if pk in rows]
        valid = [row for row in mine if is_due_still(row, behind)]
        holding += valid
        tellings += _tellings(valid, behind)
    tell_many(tellings, Category.MAINTENANCE, bells=bells)
    _settle(list(rows.values()), holding, now)
    behind.follow_up()
    _note_nobody([row.event for row in holding], behind)
    return len(rows)


def _locked(groups: Sequence[Sequence[int]]) -> dict[int, Occasion]:
    """What nobody else is telling, and nobody has told meanwhile. On SQLite the transaction itself is the lock.

    The first of a group stands for it: two workers do not share a batch between them.
    """
    untold = Occasion.objects.filter(told_at__isnull=True)
    free = set(
        untold.select_for_update(skip_locked=True)
        .filter(pk__in=[group[0] for group in groups])
        .values_list("pk", flat=True)
    )
    wanted = [pk for group in groups if group[0] in free for pk in group]
    if not wanted:
        return {}
    found = {
        row.pk: row
        for start in range(0, len(wanted), 5000)
        for row in untold.select_for_update(of=("self",))
        .filter(pk__in=wanted[start : start + 5000])
        .select_related("event__instance__endpoint")
        .order_by("pk")
    }
    _share([row.event for row in found.values()])
    return found


def _share(events: Sequence[Event]) -> None:
    """Types, accounts and campaigns are few: the events have the same ones, which a query for each row would load again and again."""
    types = EventType.objects.in_bulk({event.type_id for event in events})
    accounts = Account.objects.in_bulk({event.account_id for event in events})
    campaigns = Campaign.objects.in_bulk({event.campaign_id for event in events} - {None})
    for event in events:
        event.type = types[event.type_id]
        event.account = accounts[event.account_id]
        event.campaign = campaigns.get(event.campaign_id)


def _settle(rows: Sequence[Occasion], holding: Sequence[Occasion], now: datetime) -> None:
    kept = {row.pk for row in holding}
    passed = [row for row in rows if row.pk not in kept]
    for row in passed:
        row.facts = row.facts | {"passed": True}
    Occasion.objects.bulk_update(passed, ["facts"], batch_size=500)
    for start in range(0, len(rows), 5000):
        Occasion.objects.filter(pk__in=[row.pk for row in rows[start : start + 5000]]).update(told_at=now)


def _tellings(rows: Sequence[Occasion], behind: Background) -> Iterator[Telling]:
    """The messages of one group."""
    by_contact: dict[int, tuple[Reached, list[Occasion]]] = {}
    for row in rows:
        for reached in behind.audience(row):
            by_contact.setdefault(reached.contact.pk, (reached, []))[1].append(row)
    for reached, told in by_contact.values():
        cases = [behind.case(row, reached.contact) for row in told]
        if len(told) > MANY:
            name = f"events:{told[0].batch or 'together'}:{told[0].kind}:{told[0].pk}"
            yield _telling(reached, name, _compose_many(cases), cases)
            behind.said(told, name)
            continue
        for row, case in zip(told, cases, strict=True):
            name = f"event:{row.event.public_id}:{row.key}"
            yield _telling(reached, name, _compose(case), [case])
            behind.said([row], name)


def _telling(reached: Reached, name: str, message: Message, cases: Sequence[Case]) -> Telling:
    urgent = any(case.urgent for case in cases)
    return Telling(reached.contact, reached.channels, name, message, urgent)


def _compose(case: Case) -> Message:
    """Nobody is left out because a text could not be made: the least that there is to say is sent instead."""
    try:
        return messages.compose(case)
    except DatabaseError:
        raise
    except Exception:
        log.exception("telling.no_text", event_id=case.event.public_id, kind=str(case.kind))
        return _least([case], case.event.get_absolute_url())


def _compose_many(cases: Sequence[Case]) -> Message:
    try:
        return digests.compose(cases)
    except DatabaseError:
        raise
    except Exception:
        log.exception("telling.no_text", events=len(cases), kind=str(cases[0].kind))
        return _least(cases, "")


def _least(cases: Sequence[Case], url: str) -> Message:
    lines = [f"{what(case.event)} ({case.event.public_id}): {case.kind.label}" for case in cases[:100]]
    return Message(lines[0], "\n".join(lines), url=url)


def _note_nobody(events: Iterable[Event], behind: Background) -> None:
    """Once for an event, however much there is to tell of it."""
    alone = {event.pk for event in events if not behind.contacts[event.pk]}
    if not alone:
        return
    noted = EventLogEntry.objects.filter(event__in=alone, message=NOBODY).values_list("event_id", flat=True)
    left = alone - set(noted)
    EventLogEntry.objects.bulk_create(
        EventLogEntry(event_id=pk, level=LogLevel.WARNING, message=NOBODY) for pk in sorted(left)
    )


def contacts_in_order(event: Event) -> list[Contact]:
    """Who is told of this event, in the order in which an urgent one is escalated."""
    return [reached.contact for reached in contacts_of([event])[event.pk]]
