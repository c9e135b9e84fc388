"""Two publications at the same moment, and one over many instances, on both databases."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.utils import timezone

from events.models import Campaign, Event, EventType, Occasion, RegionLimit
from events.services import publishing
from events.services.by import By
from events.services.drafts import Draft
from events.services.selection import Selection
from portal.errors import ServiceError
from portal.models import Endpoint, Instance
from tests.portal.world import World, make_instance

from .test_concurrency import shared, together

__all__ = ["shared"]  # a fixture


def publisher(instance: Instance, **values: Any) -> Callable[[], Event]:
    def publish() -> Event:
        kind = EventType.objects.get(code="switchover")
        made = publishing.publish(By(), Draft(kind, [instance.public_id], **values))
        assert isinstance(made, Event)
        return made

    return publish


def test_the_last_place_of_a_region_is_given_once(shared: World) -> None:
    RegionLimit.objects.create(region="eu-race", most=1)
    try:
        for number in range(5):
            pair = [make_instance(shared.account, f"race-{number}-{side}", region="eu-race") for side in "ab"]
            at = timezone.now().replace(microsecond=0) + timedelta(days=5, hours=number)
            results = together(*(publisher(one, switch_at=at) for one in pair))
            assert sorted(type(one).__name__ for one in results) == ["Event", "Invalid"]
            refused = [one.id for one in results if isinstance(one, ServiceError)]
            assert refused == ["event.region_full"]
    finally:
        RegionLimit.objects.all().delete()


def test_many_at_once(shared: World) -> None:
    made = Instance.objects.bulk_create(
        Instance(account=shared.account, name=f"many-{number:04}", region="eu-many", version="7.2.4")
        for number in range(1200)
    )
    Endpoint.objects.bulk_create(Endpoint(instance=one, host=f"{one.name}.internal") for one in made)
    at = timezone.now().replace(microsecond=0) + timedelta(days=5)
    kind = EventType.objects.get(code="minor-version")
    draft = Draft(
        kind, Selection(region="eu-many"), switch_at=at, stagger=timedelta(minutes=2), version_to="7.2.5"
    )
    campaign = publishing.publish(By(), draft)
    assert isinstance(campaign, Campaign)
    times = list(campaign.events.order_by("instance_name").values_list("switch_at", flat=True))
    assert times == [at + number * timedelta(minutes=2) for number in range(1200)]
    assert Occasion.objects.filter(batch=campaign.public_id).count() == 1200
