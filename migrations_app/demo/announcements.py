"""The demo's O&M events: one that waits for a time, an urgent one, a campaign, one that is carried out while people look, and a history.

All of them are simulated and say so, also those on the embedded servers: nothing is ever done to a server. The instances of the
campaign are rows only, and their descriptions say that there is no server behind them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING, Final

from django.db import transaction
from django.utils import timezone

from events.choices import EventStatus, LogLevel, Phase, Via
from events.models import Blackout, Event, EventLogEntry, EventType, Occasion, RegionLimit
from events.services import execution, planning, publishing, scheduling, steps
from events.services.by import By
from events.services.drafts import Draft, type_called
from events.services.journal import note
from events.services.selection import Selection
from portal.choices import Architecture, Category, Edition
from portal.models import Account, Contact, Endpoint, Instance
from portal.services import contacts, windows

from .clients import DemoError

if TYPE_CHECKING:
    from django.contrib.auth.models import User

EXECUTOR: Final = "simulated"
REGION: Final = "sample-region"
SAMPLES: Final = ("orders", "sessions", "basket", "search", "prices", "stock")
NOTHING_BEHIND: Final = "Sample for the events of this demo: a row only, there is no server behind it."
ON_CALL: Final = "oncall@example.org"
MOST_STEPS: Final = 100


@dataclass(frozen=True, slots=True)
class Past:
    """One event of the history: its type, its instance (by place), and how many days ago it was switched over."""

    code: str
    sample: int
    days: int
    ends: EventStatus = EventStatus.SUCCEEDED


HISTORY: Final = (
    Past("certificate-update", 0, 62),
    Past("certificate-update", 1, 61),
    Past("instance-migration", 2, 47),
    Past("minor-version", 3, 33, EventStatus.FAILED),
    Past("minor-version", 3, 31),
    Past("minor-version", 4, 30),
    Past("vulnerability-fix", 5, 12),
    Past("instance-migration", 0, 9, EventStatus.CANCELLED),
)


@dataclass(frozen=True, slots=True)
class Announced:
    """What the welcome names."""

    waiting: Event
    urgent: Event
    running: Event
    campaign: int
    past: int

    @property
    def lines(self) -> list[str]:
        return [
            f"O&M events, all simulated: {self.waiting.instance_name} waits for a time, {self.urgent.instance_name} has an urgent fix,",
            f"{self.running.instance_name} is being worked on and switches over in a minute, a campaign has {self.campaign} more, the history {self.past}.",
        ]


def announce(user: User, account: Account, waits: Instance, endangered: Instance) -> Announced:
    """Who is told, when nothing may happen, and all events. The clusters that run go on with them."""
    by = By(user, via=Via.COMMAND)
    _contact(user, account)
    samples = [_sample(account, name) for name in SAMPLES]
    for instance in (*samples, endangered):
        windows.set_window(user, instance, range(7), time(2), time(4), "UTC")
    _plans(by)
    past = [_past(user, samples[one.sample], one) for one in HISTORY]
    # Without a window there is no time to propose: its owner has to choose one.
    waiting = _publish(by, "instance-migration", [waits.public_id])
    fixed = _next_patch(endangered.version)
    urgent = _publish(by, "vulnerability-fix", [endangered.public_id], fixed)
    fleet = Selection(edition=Edition.REDIS, version="6.2", region=REGION)
    campaign = publishing.publish(
        by,
        Draft(
            type_called("major-version"),
            fleet,
            version_to="7.0.15",
            executor=EXECUTOR,
            name="Redis 6.2 to 7.0",
            description="Sample: 6.2 is close to the end of its support.",
        ),
    )
    running = _publish(by, "certificate-update", [samples[0].public_id])
    # As its owner would have it: the preparation takes a minute, and then people see the switchover.
    scheduling.reschedule(by, running, "now")
    return Announced(waiting, urgent, running, Event.objects.filter(campaign=campaign.pk).count(), len(past))


def _next_patch(version: str) -> str:
    """`9.1.3` after 9.1.2; "" where the version is not known."""
    head, dot, last = version.rpartition(".")
    return f"{head}.{int(last) + 1}" if dot and last.isdigit() else ""


def _publish(by: By, code: str, instances: list[str], version_to: str = "") -> Event:
    found = publishing.publish(
        by, Draft(type_called(code), instances, version_to=version_to, executor=EXECUTOR)
    )
    if not isinstance(found, Event):
        raise DemoError(f"A campaign was published instead of an event of the type {code}.")
    return found


def _contact(user: User, account: Account) -> Contact:
    details = contacts.Details(
        name="On call", user=user, email=ON_CALL, categories=[Category.MAINTENANCE, Category.TASKS]
    )
    return contacts.save_contact(user, account, details, contacts.Reach())[0]


def _sample(account: Account, name: str) -> Instance:
    instance = Instance.objects.create(
        account=account,
        name=f"sample-{name}",
        region=REGION,
        zone="a",
        description=NOTHING_BEHIND,
        edition=Edition.REDIS,
        version="6.2.14",
        compatible_version="6.2",
        architecture=Architecture.STANDARD,
    )
    # A name that never exists, as there is nothing behind it.
    Endpoint.objects.create(instance=instance, host=f"{name}.sample.invalid", port=6379)
    return instance


def _plans(by: By) -> None:
    """A blackout of two days in three weeks, and a limit of the samples' region."""
    begins = (timezone.now() + timedelta(days=21)).replace(hour=0, minute=0, second=0, microsecond=0)
    planning.save_blackout(
        by,
        Blackout(
            region=REGION, starts_at=begins, ends_at=begins + timedelta(days=2), reason="Sample: winter sale"
        ),
    )
    planning.save_limit(by, RegionLimit(region=REGION, most=2))


# --- History ----------------------------------------------------------------------------------------------------------


def _past(user: User, instance: Instance, past: Past) -> Event:
    """An event as if it had been announced and carried out back then, by the same services. Nobody is told of it now."""
    switch_at = (timezone.now() - timedelta(days=past.days)).replace(
        hour=2, minute=0, second=0, microsecond=0
    )
    with transaction.atomic():
        event = _announced(user, instance, type_called(past.code), switch_at)
        before = Instance.objects.filter(pk=instance.pk)
        before.update(version=event.version_from or instance.version)
        if past.ends == EventStatus.CANCELLED:
            _cancel(event, switch_at - timedelta(days=2))
        else:
            _carry_out(event, switch_at, fails=past.ends == EventStatus.FAILED)
        before.update(version=instance.version)
        Occasion.objects.filter(event=event).update(told_at=switch_at, at=switch_at)
    event.refresh_from_db()
    return event


def _announced(user: User, instance: Instance, kind: EventType, switch_at: datetime) -> Event:
    return Event.objects.create(
        type=kind,
        account=instance.account,
        instance=instance,
        instance_name=instance.name,
        instance_public_id=instance.public_id,
        region=instance.region,
        zone=instance.zone,
        level=kind.level,
        cause=kind.cause,
        impacts=kind.impacts,
        advice=kind.advice,
        version_from="6.2.13" if kind.shows_versions else "",
        version_to="6.2.14" if kind.shows_versions else "",
        created_at=switch_at - timedelta(days=7),
        created_by=user,
        starts_at=switch_at - timedelta(seconds=kind.preparation_seconds),
        switch_at=switch_at,
        proposed_at=switch_at,
        deadline=switch_at + timedelta(days=7),
        preparation_seconds=kind.preparation_seconds,
        switch_seconds=kind.switch_seconds,
        impact_seconds=kind.impact_seconds,
        executor=EXECUTOR,
        acknowledged_at=switch_at - timedelta(days=6),
        acknowledged_by=user.get_username(),
    )


def _cancel(event: Event, at: datetime) -> None:
    scheduling.set_cancelled(event, "Sample: the machine stays in service after all.", at)
    event.save()


def _carry_out(event: Event, switch_at: datetime, *, fails: bool) -> None:
    """Step by step, with the clock of back then. With `fails` it ends where the switchover would begin."""
    assert event.starts_at is not None
    now = event.starts_at
    execution.begin(event.pk, now)
    seen = 0
    for _ in range(MOST_STEPS):
        event.refresh_from_db()
        if event.status != EventStatus.RUNNING:
            return
        if fails and steps.current(event) is None and event.run.next_step_at == switch_at:
            _fail(event, switch_at)
        elif event.run.next_step_at is not None:
            now = max(now, event.run.next_step_at)
            steps.take(event.pk, "demo", now)
        seen = _date_lines(event, seen, now)
    raise DemoError(f"The sample {event.public_id} has not come to its end.")


def _fail(event: Event, now: datetime) -> None:
    stage = event.stages.filter(phase=Phase.SWITCH).first()
    locked = scheduling.locked(event)
    note(locked, "Simulated: the new replica has lost its connection.", LogLevel.WARNING)
    reason = "Simulated: the new nodes were not in step at the switch time. The old ones serve as before."
    steps.fail(locked, reason, now, stage=stage)


def _date_lines(event: Event, seen: int, now: datetime) -> int:
    """New lines of the log get the time of back then."""
    rows = EventLogEntry.objects.filter(event=event, pk__gt=seen)
    last = rows.order_by("-pk").values_list("pk", flat=True).first()
    rows.update(at=now)
    return last or seen
