"""Manual work through the pages, by staff; everybody else sees how it goes."""

from __future__ import annotations

import html
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from events.choices import EventStatus
from events.models import Event, EventRun
from events.services import execution, steps
from portal.models import Instance

from .conftest import make_event


@pytest.fixture
def event(instance: Instance) -> Event:
    """To be switched over now, by hand."""
    row = make_event(instance, switch_at=timezone.now(), preparation_seconds=0)
    assert execution.begin(row.pk) == EventStatus.RUNNING
    work(row)
    return row


@pytest.fixture
def page(staff: User, client: Client) -> Client:
    client.force_login(staff)
    return client


def work(event: Event) -> None:
    while not steps.take(event.pk, "worker").startswith("nothing"):
        pass
    event.refresh_from_db()


def text_of(client: Client, url: str) -> str:
    response = client.get(url)
    assert response.status_code == 200
    return html.unescape(response.content.decode())


def test_from_the_first_stage_to_the_end(event: Event, page: Client) -> None:
    own = event.get_absolute_url()
    url = f"{own}confirm/"
    assert f'href="{url}"' in text_of(page, own)
    shown = text_of(page, url)
    assert "Prepare everything up to the switchover" in shown
    assert "Measured impact" not in shown  # clients do not notice a preparation

    assert (
        page.post(url, {"stage": "prepare", "do": "done", "done-note": "Replica is ready"}).status_code == 302
    )
    work(event)
    assert "Measured impact" in text_of(page, url)
    wrong = page.post(url, {"stage": "switch", "do": "done", "done-impact_seconds": "soon"})
    assert wrong.status_code == 422 and "as a number" in wrong.content.decode()
    wrong = page.post(url, {"stage": "switch", "do": "done", "done-impact_seconds": "-1"})
    assert wrong.status_code == 422 and "no measured impact" in wrong.content.decode()
    assert page.post(url, {"stage": "switch", "do": "done", "done-impact_seconds": "4.5"}).status_code == 302
    work(event)
    page.post(url, {"stage": "check", "do": "done"})

    event.refresh_from_db()
    assert (event.status, event.measured_seconds) == (EventStatus.SUCCEEDED, 4.5)
    shown = text_of(page, own)
    assert "Replica is ready" in shown and "4.5 s" in shown and f'href="{url}"' not in shown
    assert "No stage of this event waits for a person" in text_of(page, url)


def test_a_stage_that_somebody_else_has_confirmed(event: Event, page: Client) -> None:
    response = page.post(
        f"{event.get_absolute_url()}confirm/", {"stage": "switch", "do": "done"}, follow=True
    )
    assert "does not wait for a confirmation any more" in html.unescape(response.content.decode())
    assert event.stages.get(code="prepare").status == "running"


def test_a_failure_needs_its_reason(event: Event, page: Client) -> None:
    url = f"{event.get_absolute_url()}confirm/"
    assert page.post(url, {"stage": "prepare", "do": "failed"}).status_code == 422
    page.post(url, {"stage": "prepare", "do": "failed", "failed-reason": "No host has room."})
    event.refresh_from_db()
    assert (event.status, event.result) == (EventStatus.FAILED, "No host has room.")
    assert "No host has room." in text_of(page, event.get_absolute_url())


def test_the_owner_sees_that_it_waits_and_cannot_confirm(
    event: Event, client: Client, operator: User
) -> None:
    client.force_login(operator)
    shown = text_of(client, event.get_absolute_url())
    assert "Waits for staff to confirm it." in shown and "/confirm/" not in shown
    assert client.get(f"{event.get_absolute_url()}confirm/").status_code == 403


def test_why_it_does_not_go_on_is_shown(event: Event, page: Client) -> None:
    Event.objects.filter(pk=event.pk).update(switch_at=timezone.now() - timedelta(hours=2))
    assert execution.remark_overdue(event.pk)
    assert "Nobody has confirmed “Prepare”" in text_of(page, event.get_absolute_url())


def test_an_event_that_has_not_begun(instance: Instance, page: Client) -> None:
    event = make_event(instance)
    assert "it has not begun" in text_of(page, f"{event.get_absolute_url()}confirm/")
    assert not EventRun.objects.filter(event=event).exists()


def test_between_the_preparation_and_the_switchover(event: Event, page: Client) -> None:
    """Confirmed early: the page says from when on it goes on."""
    switch_at = timezone.now() + timedelta(minutes=4)
    Event.objects.filter(pk=event.pk).update(switch_at=switch_at)
    url = f"{event.get_absolute_url()}confirm/"
    page.post(url, {"stage": "prepare", "do": "done"})
    shown = text_of(page, url)
    assert "waits for a person now. The switchover can be confirmed from" in shown
    assert f"{switch_at:%Y-%m-%d %H:%M}" in shown
