"""The page of an event, and what is done there: another time, acknowledged, cancelled; two people at once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from events import present
from events.choices import BulkAction, EventStatus, OccasionKind, StageStatus, Via
from events.models import Campaign, Event, EventType
from events.services import bulk, scheduling, telling
from events.services.by import By
from portal.models import Account, ConnectionTemplate, Endpoint, Instance, MaintenanceWindow, UserProfile
from portal.services import audit
from portal.services.windows import set_window
from tests.portal.world import World, make_user

from .conftest import make_contact, make_event

HTMX = {"HX-Request": "true"}
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture
def browser(operator: User) -> Client:
    client = Client()
    client.force_login(operator)
    return client


def as_user(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def text(response: Any) -> str:
    """As it is read: without the markup's line breaks."""
    return " ".join(response.content.decode().split())


def page(browser: Client, event: Event) -> str:
    return text(browser.get(event.get_absolute_url()))


def url(event: Event, action: str) -> str:
    return f"{event.get_absolute_url()}{action}/"


@pytest.mark.parametrize(
    ("distance", "words"),
    [
        (timedelta(seconds=59), "now"),
        (timedelta(seconds=-59), "now"),
        (timedelta(minutes=1), "in 1 min"),
        (timedelta(minutes=119, seconds=59), "in 119 min"),
        (timedelta(hours=2), "in 2 h"),
        (timedelta(hours=5, minutes=10), "in 5 h 10 min"),
        (timedelta(hours=47, minutes=59), "in 47 h"),
        (timedelta(days=3), "in 3 days"),
        (timedelta(days=3, hours=4), "in 3 days 4 h"),
        (timedelta(days=30, hours=4), "in 30 days"),
        (-timedelta(minutes=12), "12 min ago"),
    ],
)
def test_when_in_words(distance: timedelta, words: str) -> None:
    now = timezone.now()
    assert present.in_words(now + distance, now) == words


def test_what_has_just_ended_is_not_to_come(instance: Instance) -> None:
    event = make_event(instance, status=EventStatus.SUCCEEDED, finished_at=timezone.now())
    assert present.EventView(event).when == "just now"


class TestPage:
    def test_says_what_where_when_and_why(self, browser: Client, event: Event) -> None:
        found = page(browser, event)
        for words in (
            "Instance migration of sessions",
            "eu-central",
            event.instance_public_id,
            "In 3 days 23 h",
            f"{event.deadline:%Y-%m-%d %H:%M}",
            "The machine that the instance runs on is to be taken out of service",
            "Transient connections.",
            "At the switchover all connections are closed",
            "Switch off the DNS cache",
            "Typical impact 30 s.",
            "may be put off 3 more times",
        ):
            assert words in found, words

    def test_measured_runs_stand_beside_the_estimate(self, browser: Client, instance: Instance) -> None:
        past: dict[str, Any] = {
            "status": EventStatus.SUCCEEDED,
            "finished_at": timezone.now() - timedelta(days=1),
        }
        for seconds in (10, 12, 400):
            make_event(instance, measured_seconds=seconds, **past)
        make_event(instance, measured_seconds=1, executor="simulated", **past)
        make_event(instance, **past)
        make_event(instance, measured_seconds=1, **(past | {"status": EventStatus.FAILED}))
        make_event(instance, "switchover", measured_seconds=1, **past)
        event = make_event(instance)
        assert present.EventView(event).impact_text == (
            "typical impact 30 s; measured in earlier runs: median 12 s of 3 runs"
        )
        assert "earlier runs: median 12 s of 3 runs" in page(browser, event)
        simulated = make_event(instance, executor="simulated")
        assert present.EventView(simulated).impact_text.endswith("in earlier runs: 1 s (one run)")

    def test_versions_and_release_notes(self, browser: Client, instance: Instance) -> None:
        """R13."""
        event = make_event(instance, "minor-version", version_from="7.2.5", version_to="7.2.8")
        found = page(browser, event)
        assert "7.2.5" in found and "7.2.8" in found and "Release notes: no notes" in found
        Event.objects.update(release_notes="https://example.org/notes")
        assert 'href="https://example.org/notes"' in page(browser, event)
        assert "Release notes" not in page(browser, make_event(instance, "switchover"))

    def test_raw_ip_addresses(self, browser: Client, instance: Instance, world: World) -> None:
        """R16: the endpoint, and saved connections to the same servers; not those to others, not those of others."""
        event = make_event(instance, "network-upgrade-zone")
        assert "The endpoint is an IP address" not in page(browser, event)
        Endpoint.objects.filter(instance=instance).update(host="10.1.2.3")
        instance.nodes.create(host="10.1.2.4", port=6379)
        for name, host, owner in (
            ("by address", "10.1.2.4", world.account),
            ("elsewhere", "10.9.9.9", world.account),
            ("foreign", "10.1.2.3", world.other_account),
        ):
            ConnectionTemplate.objects.create(account=owner, name=name, host=host)
        found = page(browser, event)
        assert "The endpoint is an IP address" in found and "The address can change" in found
        assert "by address" in found and "elsewhere" not in found and "foreign" not in found

    def test_a_short_notice_is_stated(self, browser: Client, instance: Instance) -> None:
        """R7."""
        now = timezone.now()
        event = make_event(instance, "vulnerability-fix", switch_at=now + timedelta(hours=29))
        found = page(browser, event)
        assert "Urgent." in found and "Announced 30 h ahead: a shorter notice than the usual 72 h" in found
        assert "Nobody has acknowledged it yet." in found
        assert "shorter notice" not in page(browser, make_event(instance))

    def test_waits_for_another_event(self, browser: Client, event: Event, instance: Instance) -> None:
        assert event.switch_at is not None
        second = make_event(instance, "switchover", switch_at=event.switch_at + timedelta(minutes=5))
        waits = f"Instance migration ({event.public_id})"
        assert f"It waits for another event of the instance:</strong> {waits}" in page(browser, second)
        assert "waits for another event" not in page(browser, event)
        assert f"after {waits}" in text(browser.get("/events/"))

    def test_who_is_told(self, browser: Client, event: Event, account: Account) -> None:
        assert "Nobody is told of this event outside the console" in page(browser, event)
        make_contact(account, "Night shift")
        found = page(browser, event)
        assert "Night shift" in found and "Nobody is told" not in found

    def test_simulated_says_so_everywhere(self, browser: Client, instance: Instance) -> None:
        event = make_event(instance, executor="simulated")
        for path in (event.get_absolute_url(), "/events/", "/", instance.get_absolute_url()):
            assert "Simulated" in text(browser.get(path)), path

    def test_what_an_event_that_is_over_says(self, browser: Client, instance: Instance) -> None:
        past: dict[str, Any] = {"finished_at": timezone.now(), "result": "The replica did not answer."}
        done = make_event(instance, status=EventStatus.SUCCEEDED, measured_seconds=4.25, **past)
        assert "clients were affected for 4.2 s" in page(browser, done)
        failed = page(browser, make_event(instance, status=EventStatus.FAILED, **past))
        assert "The event has failed." in failed and "The replica did not answer." in failed
        cancelled = page(browser, make_event(instance, status=EventStatus.CANCELLED, **past))
        for action in ("reschedule", "cancel", "acknowledge"):
            assert f"/{action}/" not in cancelled

    def test_campaign(self, browser: Client, instance: Instance, staff: User) -> None:
        campaign = Campaign.objects.create(name="Rack 14", type=EventType.objects.get(code="switchover"))
        event = make_event(instance, campaign=campaign)
        assert f'href="/events/?q={campaign.public_id}"' in page(browser, event)
        assert f'href="{campaign.get_absolute_url()}"' in page(as_user(staff), event)

    def test_viewers_look_only(self, event: Event, world: World) -> None:
        found = page(as_user(world.user("viewer")), event)
        assert "an operator of the account may change it" in found
        assert "/reschedule/" not in found and "/acknowledge/" not in found

    def test_staff_who_are_no_members_get_no_links_that_lead_nowhere(
        self, event: Event, staff: User, instance: Instance, account: Account
    ) -> None:
        found = page(as_user(staff), event)
        assert "/reschedule/" in found
        assert instance.get_absolute_url() not in found and account.get_absolute_url() not in found

    def test_the_live_part_ends_by_itself(self, browser: Client, event: Event) -> None:
        assert "hx-trigger" not in page(browser, event).split('id="live"')[1].split("</div>")[0]
        Event.objects.update(status=EventStatus.RUNNING, started_at=timezone.now())
        assert 'hx-trigger="every 2s"' in page(browser, event)
        part = browser.get(event.get_absolute_url(), headers=HTMX)
        assert part.status_code == 200 and "<html" not in text(part) and "In progress since" in text(part)
        Event.objects.update(status=EventStatus.SUCCEEDED, finished_at=timezone.now())
        last = browser.get(event.get_absolute_url(), headers=HTMX)
        assert last.status_code == 286 and "Done" in text(last)

    def test_begins_to_look_before_it_begins(self, browser: Client, instance: Instance) -> None:
        event = make_event(instance, starts_at=timezone.now() + timedelta(minutes=1))
        assert 'hx-trigger="every 2s"' in page(browser, event)

    def test_timeline(self, browser: Client, event: Event, operator: User) -> None:
        audit.record(operator, "event.rescheduled", event, to="2026-03-01T09:00:00+00:00", via="the console")
        audit.record(None, "event.cancelled", event, contact="Night shift", via="a link in a message")
        now = timezone.now()
        for kind, facts in ((OccasionKind.REMINDER, {"hours": 24}), (OccasionKind.CHANGED, {"passed": True})):
            event.occasions.create(kind=kind, key=kind, due_at=now, told_at=now, facts=facts)
        event.stages.create(
            position=1, code="a", name="Synchronize", phase="prepare", status=StageStatus.DONE, began_at=now, ended_at=now
        )  # fmt: skip
        event.log.create(message="The new node answers.")
        came = {"contact": "Night shift", "address": "192.0.2.7", "agent": "Mozilla/5.0"}
        audit.record(None, "event.link_used", event, did="cancel", **came)
        audit.record(None, "event.link_refused", event, did="time", refused="event.after_deadline", **came)
        found = page(browser, event)
        assert "Refused by a link" in found and "choose a time: after deadline" in found
        assert "Mozilla" not in found and "192.0.2.7" not in found and "Link used" not in found
        assert "New time" in found and "2026-03-01 09:00 UTC" in found and "by operator" in found
        assert "by Night shift" in found
        assert "Contacts told: reminder, 24 h before" in found
        assert "Contacts told: new time" not in found
        assert "Stage done: Synchronize" in found and "The new node answers." in found

    def test_the_timeline_tells_details_apart_and_leads_to_what_they_name(
        self, browser: Client, event: Event, operator: User, world: World
    ) -> None:
        change = bulk.plan(By(operator, via=Via.CONSOLE), BulkAction.ACKNOWLEDGE, [event.public_id])
        audit.record(None, "event.published", event, level="S1", campaign="cp-2345abcd", via="a command")
        audit.record(operator, "event.acknowledged", event, via="the console", bulk=change.public_id)
        found = page(browser, event)
        href = f'<a href="{change.get_absolute_url()}">{change.public_id}</a>'
        assert f'<span class="sub">via the console · bulk change {href}</span>' in found
        campaign = '<a href="/events/?q=cp-2345abcd">cp-2345abcd</a>'
        assert f"level S1 · campaign {campaign} · via a command</span>" in found
        others = page(as_user(world.user("viewer")), event)
        assert f"bulk change {change.public_id}</span>" in others  # it is not theirs
        assert '<a href="/events/campaigns/cp-2345abcd/">' in page(as_user(world.user("admin")), event)

    def test_the_timeline_names_who_was_told(self, browser: Client, event: Event, operator: User) -> None:
        scheduling.reschedule(By(operator), event, event.deadline - timedelta(hours=1), seen=0)
        telling.tell_due()
        assert "Nobody was there to be told: new time" in page(browser, event)
        night, day = make_contact(event.account, "Night shift"), make_contact(event.account, "Day shift")
        scheduling.reschedule(By(operator), event, event.deadline - timedelta(hours=2), seen=1)
        telling.tell_due()
        assert 'Contacts told: new time<span class="sub">Day shift, Night shift</span>' in page(
            browser, event
        )
        night.delete()
        day.delete()
        assert "a contact that was deleted since" in page(browser, event)

    def test_its_queries_do_not_grow(self, browser: Client, event: Event, instance: Instance) -> None:
        def queries() -> int:
            with CaptureQueriesContext(connection) as captured:
                assert browser.get(event.get_absolute_url()).status_code == 200
            return len(captured)

        def add() -> None:
            for number in range(20):
                audit.record(None, "event.postponed", event)
                key = f"{event.occasions.count()}"
                event.occasions.create(kind="changed", key=key, due_at=timezone.now(), told_at=timezone.now())
                event.log.create(message=f"line {number}")
                make_event(instance)
                make_contact(event.account, f"Contact {key}")

        browser.get("/")
        add()
        before = queries()
        add()
        assert queries() == before

    def test_the_instance_shows_what_is_to_come_and_what_was(
        self, browser: Client, event: Event, instance: Instance, world: World
    ) -> None:
        done = make_event(
            instance, "switchover", status=EventStatus.SUCCEEDED, finished_at=timezone.now() - timedelta(days=3)
        )  # fmt: skip
        foreign = make_event(world.other_instance)
        found = text(browser.get(instance.get_absolute_url()))
        assert event.public_id in found and done.public_id in found and foreign.public_id not in found
        assert "No work is announced for this instance" in text(
            as_user(world.user("outsider")).get(world.other_instance.get_absolute_url())
        ) or foreign.public_id in text(
            as_user(world.user("outsider")).get(world.other_instance.get_absolute_url())
        )


class TestReschedule:
    def test_offers_window_now_and_a_time(self, browser: Client, event: Event, operator: User) -> None:
        UserProfile.objects.update_or_create(user=operator, defaults={"time_zone": "Europe/Berlin"})
        found = text(browser.get(url(event, "reschedule")))
        assert "Neither the instance nor its account has a maintenance window." in found
        assert 'id="wish-window" disabled' in found
        latest = event.deadline.astimezone(BERLIN)
        assert f'max="{latest:%Y-%m-%dT%H:%M}"' in found and "By the clock of Europe/Berlin" in found
        assert f'name="seen" value="{event.revision}"' in found

    def test_to_the_next_window(self, browser: Client, event: Event, instance: Instance) -> None:
        tomorrow = timezone.now() + timedelta(days=1)
        begins = tomorrow.replace(minute=0, second=0, microsecond=0)
        set_window(
            None, instance, [begins.weekday()], begins.time(), (begins + timedelta(hours=2)).time(), "UTC"
        )  # fmt: skip
        assert f"{begins:%Y-%m-%d %H:%M}" in text(browser.get(url(event, "reschedule")))
        done = browser.post(url(event, "reschedule"), {"wish": "window", "seen": 0}, follow=True)
        event.refresh_from_db()
        assert event.switch_at == begins
        assert f"The switchover is planned for {begins:%Y-%m-%d %H:%M} UTC." in text(done)

    def test_to_a_later_window(self, browser: Client, event: Event, instance: Instance) -> None:
        assert browser.post(url(event, "reschedule"), {"wish": "later", "seen": 0}).status_code == 422
        begins = (timezone.now() + timedelta(hours=3)).replace(minute=0, second=0, microsecond=0)
        set_window(None, instance, range(7), begins.time(), (begins + timedelta(hours=2)).time(), "UTC")
        assert browser.post(url(event, "reschedule"), {"wish": "window", "seen": 0}).status_code == 302
        event.refresh_from_db()
        assert event.switch_at is not None
        later = begins + timedelta(days=1)
        found = text(browser.get(url(event, "reschedule")))
        assert "The event has this time already." in found and 'id="wish-window" disabled' in found
        assert 'id="wish-later" checked' in found and f"{later:%Y-%m-%d %H:%M}" in found
        Event.objects.filter(pk=event.pk).update(level="S0")
        assert 'id="wish-later" checked' not in text(browser.get(url(event, "reschedule")))
        Event.objects.filter(pk=event.pk).update(level="S1")
        assert browser.post(url(event, "reschedule"), {"wish": "later", "seen": 1}).status_code == 302
        event.refresh_from_db()
        assert event.switch_at == later

    def test_proposes_nothing_that_would_happen_soon(self, browser: Client, instance: Instance) -> None:
        event = make_event(instance, switch_at=None)
        found = text(browser.get(url(event, "reschedule")))
        assert 'id="wish-time" checked' in found
        assert f'name="switch_at" value="{event.deadline:%Y-%m-%dT%H:%M}"' in found

    def test_to_a_time_by_the_clock_of_the_reader(
        self, browser: Client, event: Event, operator: User
    ) -> None:
        UserProfile.objects.update_or_create(user=operator, defaults={"time_zone": "Europe/Berlin"})
        wanted = (timezone.now() + timedelta(days=2)).replace(second=0, microsecond=0)
        data = {"wish": "time", "switch_at": f"{wanted.astimezone(BERLIN):%Y-%m-%dT%H:%M}", "seen": 0}
        assert browser.post(url(event, "reschedule"), data).status_code == 302
        event.refresh_from_db()
        assert event.switch_at == wanted

    @pytest.mark.parametrize(
        ("typed", "words"),
        [
            ("2001-01-01T02:00", "has passed"),
            ("2099-01-01T02:00", "is after the deadline"),
            ("tomorrow", "That is no date and time."),
            ("", "No time was entered."),
        ],
    )
    def test_a_refusal_stands_beside_the_field(
        self, browser: Client, event: Event, typed: str, words: str
    ) -> None:
        refused = browser.post(url(event, "reschedule"), {"wish": "time", "switch_at": typed, "seen": 0})
        assert refused.status_code == 422
        beside = text(refused).split('id="id_switch_at_error"')[1].split("</div></div>")[0]
        assert words in beside and "Nothing was changed." in beside
        assert f'value="{typed}"' in text(refused) or not typed
        event.refresh_from_db()
        assert event.revision == 0

    def test_nothing_chosen(self, browser: Client, event: Event) -> None:
        refused = browser.post(url(event, "reschedule"), {"seen": 0})
        assert refused.status_code == 422 and "Choose when the switchover is to be." in text(refused)

    def test_a_time_that_comes_twice_is_asked_for(
        self, browser: Client, instance: Instance, operator: User, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        UserProfile.objects.update_or_create(user=operator, defaults={"time_zone": "Europe/Berlin"})
        days = [datetime(timezone.now().year + 1, 10, day, 2, 30, tzinfo=BERLIN) for day in range(25, 32)]
        night = next(day for day in days if day.weekday() == 6)
        event = make_event(instance, switch_at=None, deadline=night + timedelta(days=3))
        data = {"wish": "time", "switch_at": f"{night:%Y-%m-%dT%H:%M}", "seen": 0}
        asked = browser.post(url(event, "reschedule"), data)
        assert asked.status_code == 422 and "Which of both?" in text(asked)
        assert browser.post(url(event, "reschedule"), data | {"which": "1"}).status_code == 302
        event.refresh_from_db()
        assert event.switch_at is not None
        assert event.switch_at == night.replace(fold=1).astimezone(UTC)

    def test_a_preview_says_what_follows_and_changes_nothing(
        self, browser: Client, event: Event, instance: Instance
    ) -> None:
        assert event.switch_at is not None
        second = make_event(instance, "switchover", switch_at=event.switch_at + timedelta(days=1))
        MaintenanceWindow.objects.all().delete()
        wanted = event.switch_at + timedelta(minutes=5)
        data = {"wish": "time", "switch_at": wanted.isoformat(), "seen": 0, "preview": "1"}
        part = text(browser.post(url(second, "reschedule"), data, headers=HTMX))
        assert "<html" not in part
        assert (
            f"It then waits for another event of the instance: Instance migration ({event.public_id})" in part
        )
        late = {"wish": "time", "switch_at": "2099-01-01T02:00", "preview": "1"}
        assert "Not possible:" in text(browser.post(url(second, "reschedule"), late, headers=HTMX))
        later = {
            "wish": "time",
            "switch_at": f"{event.switch_at + timedelta(days=1):%Y-%m-%dT%H:%M}",
            "preview": "1",
        }
        whole = browser.post(url(event, "reschedule"), later)
        assert whole.status_code == 200 and "Deferral 1 of 3." in text(whole)
        second.refresh_from_db()
        assert second.revision == 0

    def test_who_comes_second_sees_what_the_first_one_chose(
        self, browser: Client, event: Event, world: World
    ) -> None:
        first = (event.deadline - timedelta(hours=1)).replace(second=0)
        scheduling.reschedule(By(world.user("owner")), event, first, seen=0)
        refused = browser.post(url(event, "reschedule"), {"wish": "now", "seen": 0})
        found = text(refused)
        assert refused.status_code == 409
        assert f"it is planned for {first:%Y-%m-%d %H:%M} UTC now" in found and "It was owner" in found
        # The form is as of now: what is sent then counts.
        assert 'name="seen" value="1"' in found
        assert browser.post(url(event, "reschedule"), {"wish": "now", "seen": 1}).status_code == 302

    @pytest.mark.parametrize(
        ("values", "words"),
        [
            ({"may_change": False}, "The time of this event is fixed."),
            ({"status": EventStatus.RUNNING}, "The event is in progress"),
            ({"status": EventStatus.CANCELLED}, "The event has ended (cancelled)"),
        ],
    )
    def test_what_cannot_be_changed_says_why(
        self, browser: Client, instance: Instance, values: dict[str, Any], words: str
    ) -> None:
        event = make_event(instance, **values)
        assert words in text(browser.get(url(event, "reschedule")))
        refused = browser.post(url(event, "reschedule"), {"wish": "now", "seen": 0})
        assert refused.status_code == 409 and words in text(refused)


class TestAcknowledgeAndCancel:
    def test_acknowledge(self, browser: Client, event: Event) -> None:
        assert "Acknowledged by operator" in text(browser.post(url(event, "acknowledge"), follow=True))
        assert "/acknowledge/" not in page(browser, event)

    def test_cancel_with_a_reason(self, browser: Client, instance: Instance) -> None:
        event = make_event(instance, may_cancel=True)
        assert "Cancel the event?" in text(browser.get(url(event, "cancel")))
        refused = browser.post(url(event, "cancel"), {"reason": " ", "seen": 0})
        assert refused.status_code == 422 and "Say why it is cancelled." in text(refused)
        browser.post(url(event, "cancel"), {"reason": "Done last week.", "seen": 0})
        event.refresh_from_db()
        assert (event.status, event.result) == (EventStatus.CANCELLED, "Done last week.")
        assert "Done last week." in page(browser, event)

    def test_who_cancels_second_sees_what_the_first_one_chose(
        self, browser: Client, instance: Instance, world: World
    ) -> None:
        event = make_event(instance, may_cancel=True)
        scheduling.reschedule(By(world.user("owner")), event, event.deadline, seen=0)
        refused = browser.post(url(event, "cancel"), {"reason": "Not needed.", "seen": 0})
        assert refused.status_code == 409 and "It was owner" in text(refused)
        assert "Not needed.</textarea>" in text(refused)
        event.refresh_from_db()
        assert event.status == EventStatus.PENDING

    def test_what_may_not_be_cancelled(self, browser: Client, event: Event, staff: User) -> None:
        assert "This event may not be cancelled." in text(browser.get(url(event, "cancel")))
        assert browser.post(url(event, "cancel"), {"reason": "x", "seen": 0}).status_code == 409
        # Those who announce events take their own back.
        assert "/cancel/" in page(as_user(staff), event)
        assert as_user(staff).post(url(event, "cancel"), {"reason": "x", "seen": 0}).status_code == 302

    def test_staff_who_only_look_may_not(self, event: Event) -> None:
        looks = make_user("looks", is_staff=True)
        looks.user_permissions.set(Permission.objects.filter(codename="view_event"))
        client = as_user(looks)
        assert client.get(event.get_absolute_url()).status_code == 200
        assert "/reschedule/" not in page(client, event)
        for action in ("reschedule", "cancel", "acknowledge"):
            assert client.post(url(event, action), {"wish": "now", "reason": "x"}).status_code == 403
