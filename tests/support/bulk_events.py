"""Many events at once, for the tests and the benchmark of bulk changes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.utils import timezone

from events.models import Event, EventType
from portal.models import Account, Instance


def many_events(
    account: Account, count: int, *, code: str = "instance-migration", **values: Any
) -> list[Event]:
    """Each of an instance of its own, as `make_event` would make it, in few queries."""
    now = timezone.now().replace(microsecond=0)
    kind = EventType.objects.get(code=code)
    instances = Instance.objects.bulk_create(
        Instance(account=account, name=f"cache-{number:05}", region="eu-central") for number in range(count)
    )
    defaults: dict[str, Any] = {
        "type": kind,
        "account": account,
        "region": "eu-central",
        "level": kind.level,
        "cause": kind.cause,
        "impacts": kind.impacts,
        "advice": kind.advice,
        "created_at": now - timedelta(hours=1),
        "deadline": now + timedelta(days=14),
        "switch_at": now + timedelta(days=4),
        "preparation_seconds": 600,
        "switch_seconds": 600,
    }
    made = []
    for instance in instances:
        event = Event(
            instance=instance,
            instance_name=instance.name,
            instance_public_id=instance.public_id,
            **(defaults | values),
        )
        if event.switch_at is not None:
            event.starts_at = event.switch_at - event.preparation
            event.proposed_at = event.switch_at
        made.append(event)
    return Event.objects.bulk_create(made)
