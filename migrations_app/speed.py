"""Which speed class is in force now, of a task that has others at other times of the day (R89). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

from migrations_app.choices import SpeedClass
from migrations_app.models import MigrationTask


@dataclass(frozen=True, slots=True)
class InForce:
    """`until` is None where no time of the day changes it."""

    speed: SpeedClass
    until: datetime | None


def in_force(task: MigrationTask, now: datetime) -> InForce:
    """Of ranges that overlap the first one counts. A range may cross midnight."""
    usual = SpeedClass(task.speed_class)
    if not task.speed_hours:
        return InForce(usual, None)
    local = now.astimezone(ZoneInfo(task.speed_time_zone or "UTC"))
    for one in task.speed_hours:
        if _covers(one, local.time()):
            return InForce(SpeedClass(one["class"]), _next(local, _clock(one["to"])))
    return InForce(usual, min(_next(local, _clock(one["from"])) for one in task.speed_hours))


def _covers(one: Mapping[str, str], at: time) -> bool:
    begin, end = _clock(one["from"]), _clock(one["to"])
    return begin <= at < end if begin < end else at >= begin or at < end


def _clock(text: str) -> time:
    return time.fromisoformat(text)


def _next(local: datetime, clock: time) -> datetime:
    """When the clocks of this zone show that time next."""
    at = local.replace(hour=clock.hour, minute=clock.minute, second=0, microsecond=0)
    return at if at > local else at + timedelta(days=1)
