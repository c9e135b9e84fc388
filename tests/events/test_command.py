"""`manage.py events …`: what it prints, with and without --json, and its exit codes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from events.choices import EventStatus, OccasionKind
from events.models import Campaign, Event, EventRun, Occasion
from events.services import execution, steps
from portal.models import Account, AuditEntry, Instance
from portal.services import windows
from tests.portal.world import make_instance

from .conftest import make_contact, make_event


@dataclass
class Answer:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def run(*words: str) -> Answer:
    out, err, code = StringIO(), StringIO(), 0
    try:
        call_command("events", *words, stdout=out, stderr=err)
    except SystemExit as end:
        code = int(end.code or 0)
    return Answer(code, out.getvalue(), err.getvalue())


def in_days(days: int) -> datetime:
    return timezone.now().replace(microsecond=0) + timedelta(days=days)


class TestPublish:
    def test_one(self, instance: Instance) -> None:
        at = in_days(5)
        words = [
            "publish",
            "--type",
            "switchover",
            "--instance",
            instance.public_id,
            "--switch-at",
            at.isoformat(),
        ]
        answer = run(
            *words, "--deadline", in_days(6).isoformat(), "--cause", "The rack is taken down.", "--json"
        )
        assert answer.code == 0, answer.err
        event = Event.objects.get()
        assert answer.json["event"]["id"] == event.public_id and answer.json["campaign"] is None
        assert (event.switch_at, event.cause, event.created_by) == (at, "The rack is taken down.", None)
        assert AuditEntry.objects.get(action="event.published").details["via"] == "a command on the server"
        assert "Primary/secondary switchover of sessions" in run(*words).out

    def test_a_dry_run_publishes_nothing_and_its_plan_holds(self, account: Account) -> None:
        windows.set_window(None, account, {0, 3}, time(2), time(4), "Europe/Berlin")
        make_contact(account)
        for name, version in (("a", "6.2.14"), ("b", "6.2.20"), ("c", "7.2.4")):
            make_instance(account, name, version=version, edition="redis")
        words = [
            "publish", "--type", "minor-version", "--filter", "edition=redis", "--filter", "version=6.2",
            "--to-version", "6.2.20", "--campaign", "Redis 6.2",
        ]  # fmt: skip
        dry = run(*words, "--dry-run", "--json")
        assert dry.code == 1 and not Event.objects.exists()
        first, second = dry.json["rows"]
        assert second["error"]["id"] == "event.version_not_newer" and first["told"][0]["contact"] == "On call"
        text = run(*words, "--dry-run").out
        assert "6.2.14 → 6.2.20; told: On call (Mail)" in text and "left out" in text
        assert first["switch_at"].endswith(":00Z")  # as the API writes it

        answer = run(*words, "--plan", dry.json["plan"], "--json")
        assert answer.code == 1  # one of both was left out
        assert answer.json["published"] == 1 and answer.json["campaign"]["name"] == "Redis 6.2"
        assert Event.objects.get().switch_at == datetime.fromisoformat(first["switch_at"])
        changed = run(*words, "--plan", "0", "--json")
        assert (changed.code, changed.json["error"]["id"]) == (2, "event.plan_changed")

    @pytest.mark.parametrize(
        ("words", "refusal"),
        [
            (["--switch-at", "2026-03-01T02:00"], "event.bad_time"),
            (["--switch-at", "tomorrow"], "event.bad_time"),
            (["--deadline", "2026-13-01T02:00Z"], "event.bad_time"),
            (["--deadline", "9999-12-31T23:59Z"], "event.bad_time"),
            (["--campaign", "x" * 121], "event.bad_name"),
            (["--switch-at", "2020-03-01T02:00Z"], "event.short_notice"),
            (["--level", "S0", "--deadline", "2199-03-01T02:00+01:00"], "event.not_urgent"),
            (["--filter", "all"], "input.invalid"),
        ],
    )
    def test_refused(self, instance: Instance, words: list[str], refusal: str) -> None:
        answer = run("publish", "--type", "switchover", "--instance", instance.public_id, *words, "--json")
        assert (answer.code, answer.json["error"]["id"]) == (2, refusal)
        assert not Event.objects.exists()

    def test_a_time_without_an_offset_is_answered_with_an_example(self, instance: Instance) -> None:
        words = ["--type", "switchover", "--instance", instance.public_id, "--switch-at", "2026-03-01T02:00"]
        answer = run("publish", *words)
        assert answer.code == 2 and "2026-03-01T02:00+01:00" in answer.err

    def test_filters(self, account: Account, instance: Instance) -> None:
        for words in (["nonsense"], ["colour=red"], ["region="], ["region=a", "--filter", "region=b"]):
            answer = run("publish", "--type", "switchover", "--filter", *words)
            assert answer.code == 2 and "NAME=VALUE" in answer.err
        assert run("publish", "--type", "switchover").code == 2
        Instance.objects.filter(pk=instance.pk).update(proxy_version="2.8")
        maybe = run("publish", "--type", "proxy-version", "--filter", "proxy=maybe")
        assert maybe.code == 2 and "proxy=yes" in maybe.err and not Event.objects.exists()
        words = ["--filter", "proxy=yes", "--campaign", "Proxies", "--description", "All of them."]
        answer = run("publish", "--type", "proxy-version", *words)
        assert answer.code == 0 and answer.out.endswith("Proxies: 1 event published\n")
        campaign = Campaign.objects.get()
        assert campaign.events.get().instance == instance and campaign.description == "All of them."


class TestWork:
    def test_confirmed_and_failed(self, instance: Instance) -> None:
        event = make_event(instance, switch_at=timezone.now() + timedelta(minutes=5), executor="manual")
        execution.begin(event.pk)
        steps.take(event.pk, "worker")
        assert (
            "  prepare: running, waits for a confirmation\n  switch: waiting\n"
            in run("work", event.public_id).out
        )
        assert run("work", event.public_id, "--json").json["waiting"] == "prepare"
        wrong = run("confirm", event.public_id, "--stage", "switch", "--json")
        assert (wrong.code, wrong.json["error"]["id"]) == (2, "event.not_waiting")
        done = run("confirm", event.public_id, "--stage", "prepare", "--note", "In sync.")
        assert done.code == 0 and "  prepare: done\n" in done.out and "In sync." in done.out
        Event.objects.update(switch_at=timezone.now())
        EventRun.objects.update(next_step_at=timezone.now())
        steps.take(event.pk, "worker")
        failed = run("fail", event.public_id, "--stage", "switch", "--reason", "It hangs.", "--json")
        assert failed.json["status"] == "failed" and Event.objects.get().result == "It hangs."


class TestOthers:
    def test_list_and_show(self, instance: Instance) -> None:
        first, second = make_event(instance), make_event(instance, "vulnerability-fix", switch_at=in_days(1))
        assert [one["id"] for one in run("list", "--json").json] == [second.public_id, first.public_id]
        assert [one["id"] for one in run("list", "--level", "S0", "--status", "open", "--json").json] == [
            second.public_id
        ]
        assert run("list", "--status", "failed").out == ""
        assert run("list", "--limit", "1").out.count("\n") == 1
        for option, refusal in ("--type", "event.no_type"), ("--campaign", "event.no_campaign"):
            lost = run("list", option, "nope", "--json")
            assert (lost.code, lost.json["error"]["id"]) == (2, refusal)
        with pytest.raises(CommandError, match="at least 1"):
            run("list", "--limit", "0")
        shown = run("show", first.public_id)
        assert shown.code == 0 and "cancel: possible" in shown.out and first.cause in shown.out
        make_event(instance, status=EventStatus.CANCELLED)
        ended = run("show", Event.objects.latest("pk").public_id).out
        assert "cancel: The event has ended (cancelled), so it cannot be changed any more.\n" in ended
        assert run("show", first.public_id, "--json").json["instance"]["name"] == "sessions"
        lost = run("show", "ev-nowhere1", "--json")
        assert (lost.code, lost.json["error"]["id"]) == (2, "event.not_found")

    def test_reschedule(self, instance: Instance) -> None:
        event, fixed = make_event(instance), make_event(instance, may_change=False)
        to = in_days(5)
        answer = run("reschedule", event.public_id, "--to", to.isoformat(), "--json")
        assert answer.code == 0 and datetime.fromisoformat(answer.json[0]["switch_at"]) == to
        both = run("reschedule", event.public_id, fixed.public_id, "--to", "now", "--json")
        assert both.code == 1 and [one["ok"] for one in both.json] == [True, False]
        assert both.json[1]["error"]["id"] == "event.fixed"
        none = run("reschedule", event.public_id, "--to", "window")
        assert none.code == 2 and "maintenance window" in none.err
        assert run("reschedule", event.public_id, "--to", "2026-03-01T02:00").code == 2

    def test_cancel_and_acknowledge(self, event: Event) -> None:
        seen = run("acknowledge", event.public_id)
        assert seen.code == 0 and event.public_id in seen.out
        assert run("cancel", event.public_id, "--reason", "not needed").code == 0
        event.refresh_from_db()
        assert (event.status, event.result, event.acknowledged_by) == (
            "cancelled",
            "not needed",
            "a command on the server",
        )
        cancelled = Occasion.objects.get(event=event, kind=OccasionKind.CANCELLED)
        assert cancelled.facts["by"] == "a command on the server"
        again = run("cancel", event.public_id, "ev-nowhere1", "--json")
        assert again.code == 2
        assert [one["error"]["id"] for one in again.json] == ["event.not_pending", "event.not_found"]
