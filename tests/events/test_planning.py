from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from events.models import Blackout, RegionLimit
from events.services import planning, scheduling
from events.services.by import By
from portal.errors import Conflict, Invalid, NotPermitted
from portal.models import AuditEntry, Instance
from tests.portal.world import World

from .conftest import make_event


def blackout(**values: object) -> Blackout:
    now = timezone.now()
    defaults = {"starts_at": now, "ends_at": now + timedelta(days=6), "reason": "Winter sale"}
    return Blackout(**(defaults | values))


def test_a_blackout_is_kept_and_holds(instance: Instance, staff: User, operator: User) -> None:
    event = make_event(instance)
    row = planning.save_blackout(By(staff), blackout(account=instance.account))
    entry = AuditEntry.objects.get(action="blackout.created")
    assert (entry.actor, entry.account, entry.details["reason"]) == (staff, instance.account, "Winter sale")
    with pytest.raises(Invalid) as refused:
        scheduling.reschedule(By(operator), event, timezone.now() + timedelta(days=5))
    assert refused.value.id == "event.blackout" and "Winter sale" in refused.value.message

    row.ends_at = row.starts_at + timedelta(days=1)
    planning.save_blackout(By(staff), row)
    scheduling.reschedule(By(operator), event, timezone.now() + timedelta(days=5))
    planning.delete_blackout(By(staff), row)
    assert not Blackout.objects.exists()
    actions = (
        AuditEntry.objects.filter(action__startswith="blackout")
        .order_by("pk")
        .values_list("action", flat=True)
    )
    assert list(actions) == ["blackout.created", "blackout.changed", "blackout.deleted"]


def test_what_is_no_blackout(staff: User) -> None:
    now = timezone.now()
    for values, refusal in (
        ({"reason": " "}, "blackout.no_reason"),
        ({"starts_at": now, "ends_at": now}, "blackout.no_length"),
    ):
        with pytest.raises(Invalid) as refused:
            planning.save_blackout(By(staff), blackout(**values))
        assert refused.value.id == refusal
    assert not Blackout.objects.exists() and not AuditEntry.objects.exists()


def test_limits(staff: User) -> None:
    row = planning.save_limit(By(staff), RegionLimit(region="eu-central", most=2))
    row.most = 3
    planning.save_limit(By(staff), row)
    with pytest.raises(Conflict) as taken:
        planning.save_limit(By(staff), RegionLimit(region="eu-central", most=9))
    assert taken.value.id == "limit.taken"
    with pytest.raises(Invalid):
        planning.save_limit(By(staff), RegionLimit(region="", most=0))
    assert list(RegionLimit.objects.values_list("region", "most")) == [("eu-central", 3)]
    planning.delete_limit(By(staff), row)
    assert [entry.action for entry in AuditEntry.objects.order_by("pk")] == [
        "limit.created",
        "limit.changed",
        "limit.deleted",
    ]


@pytest.mark.parametrize("role", ["operator", "owner"])
def test_owners_of_instances_set_neither(world: World, role: str) -> None:
    by = By(world.user(role))
    with pytest.raises(NotPermitted):
        planning.save_blackout(by, blackout())
    with pytest.raises(NotPermitted):
        planning.save_limit(by, RegionLimit(region="", most=1))
    assert not Blackout.objects.exists() and not RegionLimit.objects.exists()
