"""Events over the HTTP API: what the table of rights does not show."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from events.choices import EventStatus
from events.models import Campaign, Event, EventRun
from events.services import execution, steps
from portal.models import Account, AuditEntry, Instance
from portal.services import tokens, windows
from tests.portal.world import World, make_instance

from .conftest import make_contact, make_event

Ask = Callable[..., Any]
SCOPES = ["events:publish", "events:write"]


def asker(user: User, account: Account | None = None, granted: list[str] | None = None) -> Ask:
    _, token = tokens.create_token(user, "tests", granted or SCOPES, account=account)

    def send(method: str, path: str, data: dict[str, Any] | None = None, key: str = "") -> Any:
        headers = {"Authorization": f"Bearer {token}"} | ({"Idempotency-Key": key} if key else {})
        body = "" if method == "get" else json.dumps(data or {})
        return getattr(Client(), method)(
            f"/api/v1{path}", data=body, content_type="application/json", headers=headers
        )

    return send


@pytest.fixture
def ask(operator: User) -> Ask:
    return asker(operator)


@pytest.fixture
def ask_staff(staff: User) -> Ask:
    return asker(staff)


def in_days(days: float) -> datetime:
    return timezone.now().replace(microsecond=0) + timedelta(days=days)


class TestPublishing:
    def test_one(self, ask_staff: Ask, instance: Instance) -> None:
        at = in_days(5)
        data = {"type": "switchover", "instances": [instance.public_id], "switch_at": at.isoformat()}
        answer = ask_staff("post", "/events", data)
        assert answer.status_code == 201, answer.content
        event = Event.objects.get()
        told = answer.json()
        assert (told["event"]["id"], told["campaign"], told["published"]) == (event.public_id, None, 1)
        assert datetime.fromisoformat(told["event"]["switch_at"]) == event.switch_at == at
        assert AuditEntry.objects.get(action="event.published").details["via"] == "the HTTP API"

    def test_a_dry_run_is_what_is_published_then(self, ask_staff: Ask, account: Account) -> None:
        windows.set_window(None, account, {0, 3}, time(2), time(4), "Europe/Berlin")
        make_contact(account)
        make_instance(account, "old", version="6.2.14", edition="redis")
        make_instance(account, "new", version="6.2.20", edition="redis", host="10.0.0.7")
        data = {
            "type": "minor-version",
            "filter": {"edition": "redis", "version": "6.2"},
            "version_to": "6.2.20",
            "campaign": "Redis 6.2",
        }
        dry = ask_staff("post", "/events", data | {"dry_run": True})
        assert dry.status_code == 200 and not Event.objects.exists()
        plan = dry.json()
        assert (plan["published"], plan["left_out"]) == (1, 1)
        new, old = plan["rows"]
        assert new["error"]["id"] == "event.version_not_newer"
        assert [one["id"] for one in new["warnings"]] == ["raw_address"]
        assert [one["contact"] for one in old["told"]] == ["On call"] and old["notice_seconds"] >= 72 * 3600

        told = ask_staff("post", "/events", data | {"plan": plan["plan"]}).json()
        event = Event.objects.get()
        assert event.switch_at == datetime.fromisoformat(old["switch_at"])
        assert told["campaign"]["name"] == "Redis 6.2" and told["campaign"]["by_status"] == {"pending": 1}
        assert [one["id"] for one in told["left_out"]] == ["event.version_not_newer"]
        assert [
            one["id"] for one in ask_staff("get", f"/events?campaign={told['campaign']['id']}").json()
        ] == [event.public_id]

    def test_a_plan_holds_for_what_was_shown(self, ask_staff: Ask, account: Account) -> None:
        make_instance(account, "old", version="6.2.14", edition="redis")
        data = {"type": "minor-version", "filter": {"version": "6.2"}, "version_to": "6.2.20"}
        plan = ask_staff("post", "/events", data | {"dry_run": True}).json()["plan"]
        for changes in (
            {"plan": "0" * 32},
            {"version_to": "6.2.21"},
            {"cause": "Another one."},
            {"campaign": "Another one"},
            {"deadline": in_days(10).isoformat()},
        ):
            stale = ask_staff("post", "/events", data | {"plan": plan} | changes)
            assert (stale.status_code, stale.json()["id"]) == (409, "event.plan_changed"), changes
        assert ask_staff("post", "/events", data | {"plan": plan}).status_code == 201

    def test_a_repetition_publishes_nothing(self, ask_staff: Ask, instance: Instance) -> None:
        data = {"type": "switchover", "instances": [instance.public_id]}
        first, second = (ask_staff("post", "/events", data, key="one") for _ in range(2))
        assert first.status_code == second.status_code == 201 and first.json() == second.json()
        assert Event.objects.count() == 1

    @pytest.mark.parametrize(
        ("changes", "status", "refusal"),
        [
            ({"type": "nothing"}, 404, "event.no_type"),
            ({"instances": ["r-nowhere1"]}, 404, "event.no_instance"),
            ({"instances": None}, 422, "input.invalid"),
            ({"filter": {}}, 422, "input.invalid"),
            ({"filter": {"regoin": "us-east"}, "instances": None}, 422, "input.invalid"),
            ({"dryrun": True}, 422, "input.invalid"),
            ({"switch_at": "2030-01-01T02:00:00"}, 422, "event.bad_time"),
            ({"switch_at": 1_900_000_000}, 422, "event.bad_time"),
            ({"switch_at": "9999-12-31T23:59:59-12:00"}, 422, "event.bad_time"),
            ({"deadline": "0001-01-01T00:00:00+14:00"}, 422, "event.bad_time"),
            ({"release_notes": f"https://example.org/{'a' * 300}"}, 422, "event.bad_release_notes"),
            ({"switch_at": "2020-01-01T02:00:00Z"}, 422, "event.short_notice"),
            ({"level": "S0", "deadline": in_days(4).isoformat()}, 422, "event.not_urgent"),
            ({"version_to": "7.2.5"}, 422, "event.bad_version_to"),
            ({"type": "proxy-version"}, 422, "event.no_proxy"),
        ],
    )
    def test_refusals(
        self, ask_staff: Ask, instance: Instance, changes: dict[str, Any], status: int, refusal: str
    ) -> None:
        data = {"type": "switchover", "instances": [instance.public_id]} | changes
        answer = ask_staff("post", "/events", data)
        assert (answer.status_code, answer.json()["id"]) == (status, refusal), answer.content
        assert not Event.objects.exists()

    def test_the_scope_alone_is_not_enough(self, ask: Ask, instance: Instance) -> None:
        answer = ask("post", "/events", {"type": "switchover", "instances": [instance.public_id]})
        assert (answer.status_code, answer.json()["id"]) == (403, "permission.denied")

    def test_a_token_for_one_account_reaches_no_other(self, world: World) -> None:
        ask = asker(world.user("admin"), world.account)
        answer = ask("post", "/events", {"type": "switchover", "filter": {}, "campaign": "All"})
        assert (answer.status_code, answer.json()["id"]) == (422, "event.no_condition")
        everything = {"everything": True}
        answer = ask("post", "/events", {"type": "switchover", "filter": everything, "campaign": "All"})
        assert answer.status_code == 201
        assert [event.account for event in Event.objects.all()] == [world.account]
        foreign = {"type": "switchover", "instances": [world.other_instance.public_id]}
        assert ask("post", "/events", foreign).status_code == 404
        other = asker(world.user("admin"), world.other_account)
        assert other("get", "/events").json() == [] == other("get", "/events/campaigns").json()
        campaign = Campaign.objects.get()
        assert other("get", f"/events/campaigns/{campaign.public_id}").status_code == 404
        assert ask("get", f"/events/campaigns/{campaign.public_id}").json()["events"] == 1


class TestWork:
    @pytest.fixture
    def work(self, instance: Instance) -> Event:
        """Waits until somebody confirms its preparation."""
        event = make_event(instance, switch_at=timezone.now() + timedelta(minutes=5), executor="manual")
        execution.begin(event.pk)
        steps.take(event.pk, "worker")
        return event

    def test_a_program_carries_it_out(self, ask_staff: Ask, work: Event) -> None:
        path = f"/events/{work.public_id}"
        told = ask_staff("get", f"{path}/work").json()
        assert (told["event"], told["status"], told["waiting"]) == (work.public_id, "running", "prepare")
        assert [one["code"] for one in told["stages"]] == ["prepare", "switch", "check"]
        assert told["stages"][0]["status"] == "running" and told["stages"][1]["began_at"] is None
        assert "waits for a person" in told["log"][-1]["message"]

        confirmed = ask_staff("post", f"{path}/confirm", {"stage": "prepare", "note": "Replica in sync."})
        assert (confirmed.status_code, confirmed.json()["waiting"]) == (200, None)
        assert any("Replica in sync." in line["message"] for line in confirmed.json()["log"])
        again = ask_staff("post", f"{path}/confirm", {"stage": "prepare"})
        assert (again.status_code, again.json()["id"]) == (409, "event.not_waiting")
        Event.objects.update(switch_at=timezone.now())
        EventRun.objects.update(next_step_at=timezone.now())
        steps.take(work.pk, "worker")
        for impact in (-1, 1e9):
            wrong = ask_staff("post", f"{path}/confirm", {"stage": "switch", "impact_seconds": impact})
            assert (wrong.status_code, wrong.json()["id"]) == (422, "event.bad_impact")
        done = ask_staff("post", f"{path}/confirm", {"stage": "switch", "impact_seconds": 4.2}).json()
        assert [one["impact_seconds"] for one in done["stages"]] == [None, 4.2, None]
        assert (
            AuditEntry.objects.filter(action="event.stage_confirmed", details__via="the HTTP API").count()
            == 2
        )

    def test_it_says_that_it_could_not(self, ask_staff: Ask, work: Event) -> None:
        path = f"/events/{work.public_id}/fail"
        assert (
            ask_staff("post", path, {"stage": "prepare", "reason": " "}).json()["id"] == "event.reason_needed"
        )
        failed = ask_staff("post", path, {"stage": "prepare", "reason": "No replica was in sync."}).json()
        assert (failed["status"], failed["waiting"]) == ("failed", None)
        assert Event.objects.get().result == "No replica was in sync."


class TestReading:
    def test_filters_and_pages(self, ask: Ask, world: World) -> None:
        other = make_instance(world.account, "orders", region="us-east")
        first = make_event(world.instance)
        second = make_event(other, "vulnerability-fix", switch_at=in_days(1))
        third = make_event(other, switch_at=None)
        done = make_event(other, status=EventStatus.SUCCEEDED)
        make_event(world.other_instance)

        def found(query: str) -> list[str]:
            return [one["id"] for one in ask("get", f"/events?{query}").json()]

        every = [one.public_id for one in (done, third, second, first)]
        assert found("") == every
        assert found("limit=2") == every[:2] and found(f"limit=2&before={every[1]}") == every[2:]
        assert found("status=open") == every[1:] and found("status=succeeded,waiting") == every[:2]
        assert found("level=S0") == found("type=vulnerability-fix") == [second.public_id]
        assert found("region=eu-central") == found("q=SESS") == [first.public_id]
        assert found("q=vulnerability+orders") == found(f"q={second.public_id}") == [second.public_id]
        assert found(f"q={other.public_id}") == every[:3]
        assert found(f"instance={other.public_id}") == every[:3]
        until = in_days(2).isoformat().replace("+", "%2B")
        assert found(f"switch_to={until}") == [second.public_id]
        assert ask("get", "/events?switch_from=1796900000").json()["id"] == "event.bad_time"
        lost = ask("get", "/events?status=lost").json()
        assert lost["field"] == "status" and "open, waiting" in lost["advice"]
        assert ask("get", "/events?type=lost").json()["field"] == "type"

    def test_one(self, ask: Ask, event: Event) -> None:
        told = ask("get", f"/events/{event.public_id}").json()
        assert told["instance"] == {
            "id": event.instance_public_id, "name": "sessions", "region": "eu-central", "zone": "",
        }  # fmt: skip
        assert told["actions"]["reschedule"] == {"open": True, "reason": ""}
        assert told["actions"]["cancel"]["open"] is False
        assert datetime.fromisoformat(told["latest_at"]) == event.deadline
        assert told["impacts"][0]["kind"] == "transient" and told["simulated"] is False

    def test_what_may_be_done_depends_on_who_asks(
        self, ask: Ask, ask_staff: Ask, world: World, event: Event
    ) -> None:
        def actions(ask: Ask) -> dict[str, dict[str, Any]]:
            found: dict[str, dict[str, Any]] = ask("get", f"/events/{event.public_id}").json()["actions"]
            return found

        bound = {"open": False, "reason": "This event may not be cancelled."}
        assert actions(ask) == {"reschedule": {"open": True, "reason": ""}, "cancel": bound}
        assert actions(ask_staff)["cancel"] == {"open": True, "reason": ""}
        viewer = asker(world.user("viewer"))
        assert actions(viewer)["reschedule"] == {"open": False, "reason": "Your role does not allow this."}
        assert ask("get", "/events").json()[0]["actions"] == actions(ask)

    def test_a_page_asks_a_constant_number_of_queries(self, world: World, instance: Instance) -> None:
        ask = asker(world.user("operator"))
        make_event(instance)
        ask("get", "/events/types")  # notes the first use of the token
        counts = []
        for _ in range(2):
            with CaptureQueriesContext(connection) as queries:
                assert ask("get", "/events").status_code == 200
            counts.append(len(queries))
            for _ in range(20):
                make_event(instance)
        assert counts[0] == counts[1]

    def test_types(self, ask: Ask) -> None:
        found = {one["code"]: one for one in ask("get", "/events/types").json()}
        assert found["proxy-version"]["needs_proxy"] and found["vulnerability-fix"]["level"] == "S0"


class TestChanging:
    def test_reschedule(self, ask: Ask, event: Event) -> None:
        to = in_days(5).astimezone(UTC)
        answer = ask(
            "post", f"/events/{event.public_id}/reschedule", {"switch_at": to.isoformat(), "revision": 0}
        )
        assert answer.status_code == 200 and datetime.fromisoformat(answer.json()["switch_at"]) == to
        late = ask("post", f"/events/{event.public_id}/reschedule", {"switch_at": "now", "revision": 0})
        assert (late.status_code, late.json()["id"]) == (409, "event.changed")
        for wish, status, refusal in (
            ("window", 409, "event.no_window"),
            ("soon", 422, "event.bad_time"),
            ("2030-01-01T02:00:00", 422, "event.bad_time"),
            (None, 422, "event.bad_time"),
            ("9999-12-31T23:59:59-12:00", 422, "event.bad_time"),
            ("2030-01-01T02:00:00+01:00", 422, "event.after_deadline"),
        ):
            refused = ask("post", f"/events/{event.public_id}/reschedule", {"switch_at": wish})
            assert (refused.status_code, refused.json()["id"]) == (status, refusal)
            assert refused.json()["field"] in ("", "switch_at")

    def test_a_result_per_event(self, ask: Ask, world: World) -> None:
        mine, fixed = make_event(world.instance), make_event(world.instance, may_change=False)
        foreign = make_event(world.other_instance)
        ids = [one.public_id for one in (mine, fixed, foreign)]
        results = ask("post", "/events/modify", {"ids": [*ids, ids[0]], "switch_at": "now"}).json()
        assert [one["id"] for one in results] == ids
        assert [one["ok"] for one in results] == [True, False, False]
        assert [one["error"] and one["error"]["id"] for one in results] == [
            None,
            "event.fixed",
            "event.not_found",
        ]
        assert results[0]["switch_at"] is not None and results[2]["switch_at"] is None
        foreign.refresh_from_db()
        assert foreign.revision == 0

    def test_cancel_and_acknowledge(self, ask: Ask, instance: Instance) -> None:
        free, bound = make_event(instance, may_cancel=True), make_event(instance)
        ids = [free.public_id, bound.public_id]
        seen = ask("post", "/events/acknowledge", {"ids": ids}).json()
        assert all(one["ok"] for one in seen)
        assert set(Event.objects.values_list("acknowledged_by", flat=True)) == {"operator"}
        results = ask("post", "/events/cancel", {"ids": ids, "reason": "not needed"}).json()
        assert [one["error"] and one["error"]["id"] for one in results] == [None, "event.not_cancellable"]
        free.refresh_from_db()
        assert (free.status, free.result) == ("cancelled", "not needed")

    def test_a_token_for_another_account_changes_nothing(self, world: World, event: Event) -> None:
        ask = asker(world.user("admin"), world.other_account)
        (result,) = ask("post", "/events/modify", {"ids": [event.public_id], "switch_at": "now"}).json()
        assert result["error"]["id"] == "event.not_found"
        assert ask("post", f"/events/{event.public_id}/reschedule", {"switch_at": "now"}).status_code == 404

    def test_reading_is_not_writing(self, world: World, event: Event) -> None:
        ask = asker(world.user("operator"), granted=["events:read"])
        answer = ask("post", "/events/cancel", {"ids": [event.public_id]})
        assert (answer.status_code, answer.json()["id"]) == (403, "token.scope")
