"""Presses at the same moment, on a database that several processes share: one wins, the other is told."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client

from events.models import Event, LinkUse, Occasion, RequestCount
from events.services import links
from events.services.throttle import wait_for
from portal.errors import Conflict
from portal.models import AuditEntry, Contact
from tests.portal.world import World

from .conftest import make_contact, make_event
from .test_concurrency import shared, together  # noqa: F401 - a fixture


def presser(path: str, to: datetime) -> Callable[[], Any]:
    return lambda: Client().post(path, {"do": "time", "at": to.isoformat()})


def outcome(event: Event, times: list[datetime], answers: list[Any]) -> None:
    """One press has moved the event, and the other one was told what it is now."""
    assert sorted(one.status_code for one in answers) == [200, 410]
    won = next(place for place, one in enumerate(answers) if one.status_code == 200)
    event.refresh_from_db()
    assert (event.switch_at, event.revision) == (times[won], 1)
    assert f"{times[won]:%H:%M}" in answers[1 - won].content.decode()
    assert LinkUse.objects.filter(event=event).count() == 1
    assert Occasion.objects.filter(event=event, kind="changed").count() == 1
    entries = AuditEntry.objects.filter(object_id=event.public_id)
    assert entries.filter(action="event.rescheduled").count() == 1
    assert entries.filter(action="event.link_used").count() == 1
    assert entries.filter(action="event.link_refused").count() == 1


def test_one_link_pressed_twice_at_the_same_moment(shared: World) -> None:  # noqa: F811
    contact = make_contact(shared.account)
    for _ in range(5):
        event = make_event(shared.instance)
        path = links.link_for(event, contact)
        times = [event.deadline - timedelta(hours=hours) for hours in (1, 2)]
        outcome(event, times, together(*(presser(path, to) for to in times)))


def test_two_contacts_at_the_same_moment(shared: World) -> None:  # noqa: F811
    contacts = [make_contact(shared.account, name) for name in ("First", "Second")]
    for _ in range(5):
        event = make_event(shared.instance)
        times = [event.deadline - timedelta(hours=hours) for hours in (1, 2)]
        pairs = zip(contacts, times, strict=True)
        outcome(
            event, times, together(*(presser(links.link_for(event, contact), to) for contact, to in pairs))
        )


@pytest.mark.django_db
@pytest.mark.parametrize("after", range(3))
def test_a_press_while_another_one_opens_the_link(event: Event, contact: Contact, after: int) -> None:
    """Between whichever two of its questions to the database the other press comes: what is told is the event as that one left it."""
    token = links.link_for(event, contact).rsplit("/", 2)[1]
    quicker = links.open_link(token)
    to = event.deadline - timedelta(hours=1)
    asked = 0

    def interrupt(execute: Callable[..., Any], *statement: Any) -> Any:
        nonlocal asked
        found = execute(*statement)
        asked += 1
        if asked == after + 1:
            links.move(quicker, to, links.Origin("10.0.0.1", "Phone"))
        return found

    with connection.execute_wrapper(interrupt):
        opened = links.open_link(token)
    assert asked > after and opened.event is not None
    if opened.state != links.LinkState.VALID:
        assert opened.event.switch_at == to
    else:  # it was read before; pressing it is refused
        assert opened.event.switch_at != to
        with pytest.raises(Conflict):
            links.move(opened, to, links.Origin("10.0.0.2", "Phone"))


def test_no_request_is_lost_by_the_counter(shared: World) -> None:  # noqa: F811
    def ask() -> Any:
        return [wait_for("address:10.0.0.1", 30) for _ in range(10)]

    answers = [seconds for one in together(*[ask] * 6) for seconds in one]

    assert RequestCount.objects.get(key="address:10.0.0.1").count == 60
    assert len(answers) == 60
    assert 1 <= sum(seconds == 0 for seconds in answers) <= 30
