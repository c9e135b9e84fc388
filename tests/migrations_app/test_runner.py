"""What the runner makes of the engine's calls. A function of the test stands in for the engine; the database is real."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.db.models.functions import Now

from migrations_app import drain
from migrations_app.choices import Desired, Phases, TaskStatus
from migrations_app.engine import kernel
from migrations_app.engine import link as engine
from migrations_app.engine.errors import AuthError, Fenced
from migrations_app.engine.ports import Level, Phase, Progress, Wanted
from migrations_app.models import Link, LinkProgress, MigrationTask, Sample
from migrations_app.runner import link as runner
from migrations_app.runner import sampling
from migrations_app.services import links
from tests.support.wait import wait_for

from .conftest import TaskMaker

# The keeper writes from a thread with a connection of its own, so the rows must be committed.
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("file_database")]
S = TaskStatus
Engine = Callable[[engine.LinkConfig, runner.LinkPorts], engine.LinkResult]


def run(task: MigrationTask, run_link: Engine, owner: str = "one:1:a") -> MigrationTask:
    lease = links.acquire_lease(task.link.pk, owner)
    assert lease is not None
    runner.run(lease, run_link)
    return MigrationTask.objects.select_related("link__progress").get(pk=task.pk)


def until_told_to_stop(config: engine.LinkConfig, ports: runner.LinkPorts) -> engine.LinkResult:
    wait_for(lambda: ports.wanted() is Wanted.STOP, 20)
    return engine.LinkResult(engine.Outcome.STOPPED, Progress())


def show(ports: runner.LinkPorts, progress: Progress, status: S) -> None:
    ports.progress(progress)
    wait_for(lambda: MigrationTask.objects.get().status == status, message=f"no {status}")


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "RENEW_SECONDS", 0.05)
    monkeypatch.setattr(runner, "WRITE_SECONDS", 0.05)
    monkeypatch.setattr(runner, "KEEPER_PAUSE", 0.02)


class TestConfig:
    def test_is_that_of_the_task(self, make_task: TaskMaker) -> None:
        seen: list[engine.LinkConfig] = []

        def run_link(config: engine.LinkConfig, ports: runner.LinkPorts) -> engine.LinkResult:
            seen.append(config)
            return engine.LinkResult(engine.Outcome.COMPLETED, Progress())

        task = run(make_task(S.STARTING, phases=Phases.FULL, databases=[0, 3], retry_minutes=10), run_link)
        (config,) = seen
        assert (config.name, config.epoch, config.retry_seconds) == (task.public_id, 1, 600)
        assert (config.phases, config.databases) == (engine.Phases.FULL, frozenset({0, 3}))
        assert (config.source.address, config.source.password) == ("127.0.0.1:6401", "s3cret-of-orders")
        assert config.target.address == "127.0.0.1:6402"
        assert "s3cret" not in repr(config)
        assert not config.allow_full_resync
        assert not config.patient_start

    def test_a_link_that_has_worked_is_patient(self, make_task: TaskMaker) -> None:
        task = make_task(S.STARTING, phases=Phases.FULL)
        LinkProgress.objects.update(full_syncs=1)
        seen: list[bool] = []

        def run_link(config: engine.LinkConfig, ports: runner.LinkPorts) -> engine.LinkResult:
            seen.append(config.patient_start)
            return engine.LinkResult(engine.Outcome.COMPLETED, Progress())

        run(task, run_link)
        assert seen == [True]


class TestEnds:
    def test_completed(self, make_task: TaskMaker) -> None:
        def run_link(config: engine.LinkConfig, ports: runner.LinkPorts) -> engine.LinkResult:
            return engine.LinkResult(engine.Outcome.COMPLETED, Progress())

        task = run(make_task(S.STARTING, phases=Phases.FULL), run_link)
        assert task.status == S.COMPLETED
        assert not task.link.owner

    @pytest.mark.parametrize(
        ("phase", "running", "ended"),
        [(Phase.INCREMENTAL, S.INCREMENTAL, S.COMPLETED), (Phase.FULL, S.FULL, S.STOPPED)],
    )
    def test_stopped_by_a_person(self, make_task: TaskMaker, phase: Phase, running: S, ended: S) -> None:
        def run_link(config: engine.LinkConfig, ports: runner.LinkPorts) -> engine.LinkResult:
            show(ports, Progress(phase=phase), running)
            MigrationTask.objects.update(status=S.STOPPING)
            Link.objects.update(desired=Desired.STOP)
            return until_told_to_stop(config, ports)

        assert run(make_task(S.STARTING), run_link).status == ended

    def test_shutting_down_keeps_the_status_and_gives_the_lease_back(self, make_task: TaskMaker) -> None:
        def run_link(config: engine.LinkConfig, ports: runner.LinkPorts) -> engine.LinkResult:
            show(ports, Progress(phase=Phase.INCREMENTAL), S.INCREMENTAL)
            drain.request()
            return until_told_to_stop(config, ports)

        task = run(make_task(S.STARTING), run_link)
        assert (task.status, task.link.desired, task.link.owner) == (S.INCREMENTAL, Desired.RUN, "")
        assert links.waiting() == [task.link.pk]
        assert task.log.filter(event="worker.drained").exists()

    def test_a_lost_lease_ends_the_run_and_changes_nothing(self, make_task: TaskMaker) -> None:
        def run_link(config: engine.LinkConfig, ports: runner.LinkPorts) -> engine.LinkResult:
            Link.objects.update(lease_until=Now() - timedelta(seconds=1))
            Link.objects.update(owner="two:2:b", epoch=2, lease_until=Now() + timedelta(seconds=60))
            with pytest.raises(Fenced):
                wait_for(lambda: ports.wanted() is Wanted.STOP, 5)
            raise Fenced("Another worker has taken this link over.")

        task = run(make_task(S.STARTING), run_link)
        assert (task.status, task.link.owner, task.link.desired) == (S.STARTING, "two:2:b", Desired.RUN)

    def test_a_failure_is_told_with_what_to_do(self, make_task: TaskMaker) -> None:
        def run_link(config: engine.LinkConfig, ports: runner.LinkPorts) -> engine.LinkResult:
            raise AuthError("The source refused the password.")

        task = run(make_task(S.STARTING), run_link)
        assert (task.status, task.failure_id) == (S.FAILED, "auth.refused")
        assert task.failure_message == "The source refused the password."
        assert task.failure_advice == AuthError.advice

    def test_an_unexpected_error_shows_no_traceback(
        self, make_task: TaskMaker, caplog: pytest.LogCaptureFixture
    ) -> None:
        def run_link(config: engine.LinkConfig, ports: runner.LinkPorts) -> engine.LinkResult:
            raise ZeroDivisionError("internals")

        task = run(make_task(S.STARTING), run_link)
        assert (task.status, task.failure_id) == (S.FAILED, "internal.unexpected")
        shown = task.failure_message + task.failure_advice + "".join(line.message for line in task.log.all())
        assert "Traceback" not in shown
        assert "internals" not in shown
        assert "Resume" in task.failure_advice

    def test_a_credential_that_cannot_be_decrypted_fails_the_task(
        self, make_task: TaskMaker, settings: Any
    ) -> None:
        from portal.keys import generate_credential_key

        task = make_task(S.STARTING)
        settings.CREDENTIAL_KEYS = [generate_credential_key()]
        task = run(task, until_told_to_stop)
        assert (task.status, task.failure_id) == (S.FAILED, "credential.unreadable")


class TestProgress:
    def test_counters_go_on_over_runs(self, make_task: TaskMaker) -> None:
        task = make_task(S.STARTING)
        first = Progress(
            phase=Phase.INCREMENTAL, keys_done=10, keys_total=10, percent=100.0, commands=5, full_syncs=1,
            applied_offset=77, replication_id="abc", databases={0: 10}, snapshot_bytes=3,
        )  # fmt: skip
        second = Progress(phase=Phase.INCREMENTAL, commands=2, partial_syncs=1)

        def run_with(progress: Progress) -> Engine:
            def run_link(config: engine.LinkConfig, ports: runner.LinkPorts) -> engine.LinkResult:
                ports.progress(progress)
                drain.request()
                return until_told_to_stop(config, ports)

            return run_link

        run(task, run_with(first))
        drain.reset()
        stored = run(task, run_with(second)).link.progress
        assert (stored.commands, stored.full_syncs, stored.partial_syncs) == (7, 1, 1)
        # The full phase was the first run's: its figures stand, and so does the offset until a new one is known.
        assert (stored.keys_done, stored.percent, stored.databases) == (10, 100.0, {"0": 10})
        assert (stored.applied_offset, stored.replication_id) == (77, "abc")
        assert stored.worker_pid == os.getpid()
        assert stored.worker_compiled is kernel.COMPILED
        assert stored.worker_host
        assert stored.worker_ip

    def test_what_is_known_of_spool_heartbeat_and_backlog(self, make_task: TaskMaker) -> None:
        make_task(S.STARTING)
        totals = runner.Totals(LinkProgress.objects.get())
        values = totals.add(Progress(spool_bytes=5, spool_limit=9, spool_full=True, latency_ms=12))
        assert (values["spool_bytes"], values["spool_limit"], values["spool_full"]) == (5, 9, True)
        assert values["latency_ms"] == 12
        assert "backlog_bytes" not in values, "not known just now: what was known stands"
        known = totals.add(Progress(backlog_bytes=1 << 20, written_per_second=0.0))
        assert (known["backlog_bytes"], known["written_per_second"]) == (1 << 20, 0.0)

    def test_the_keeper_writes_samples(self, make_task: TaskMaker, monkeypatch: pytest.MonkeyPatch) -> None:
        """As many as there are spans, however often progress is reported."""
        monkeypatch.setattr(sampling, "SECONDS", 1)
        task = make_task(S.STARTING)

        def run_link(config: engine.LinkConfig, ports: runner.LinkPorts) -> engine.LinkResult:
            def two_samples() -> bool:
                ports.progress(Progress(phase=Phase.INCREMENTAL, commands=7, lag_bytes=3, lag_seconds=0.5))
                return Sample.objects.count() >= 2

            wait_for(two_samples, 20)
            return engine.LinkResult(engine.Outcome.COMPLETED, Progress())

        run(task, run_link)
        sample = Sample.objects.earliest("at")
        assert (sample.link, sample.lag_bytes, sample.lag_seconds, sample.span) == (task.link, 3, 0.5, 10)

    def test_a_new_full_phase_counts_anew(self, make_task: TaskMaker) -> None:
        task = make_task(S.STARTING)
        LinkProgress.objects.update(keys_done=500, full_syncs=1, percent=90.0)
        totals = runner.Totals(LinkProgress.objects.get())
        values = totals.add(Progress(phase=Phase.FULL, keys_done=3, full_syncs=1, percent=1.0))
        assert (values["keys_done"], values["percent"], values["full_syncs"]) == (3, 1.0, 2)
        assert task.pk

    def test_every_column_exists(self) -> None:
        columns = {field.attname for field in LinkProgress._meta.get_fields() if hasattr(field, "attname")}
        values = runner.Totals(LinkProgress()).add(
            Progress(full_syncs=1, replication_id="x", applied_offset=1)
        )
        assert set(values) <= columns

    def test_log_lines_reach_the_task(self, make_task: TaskMaker) -> None:
        def run_link(config: engine.LinkConfig, ports: runner.LinkPorts) -> engine.LinkResult:
            ports.log(Level.WARNING, "connection.lost", "lost; trying again.", attempt=1, where=object)
            raise AuthError("no")

        task = run(make_task(S.STARTING), run_link)
        line = task.log.get(event="connection.lost")
        assert (line.level, line.fields["attempt"]) == ("warning", 1)
        assert isinstance(line.fields["where"], str)
        assert line.message == "Lost; trying again."


class TestDatabaseAway:
    def test_a_locked_database_does_not_hold_up_the_engine(
        self, make_task: TaskMaker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The keeper waits for the database; the engine's questions are answered from memory meanwhile."""
        locked, asked = threading.Event(), threading.Event()
        renew = links.renew_lease

        def slow(lease: links.Lease) -> Desired | None:
            locked.set()
            asked.wait(10)
            return renew(lease)

        def run_link(config: engine.LinkConfig, ports: runner.LinkPorts) -> engine.LinkResult:
            assert locked.wait(5)
            assert ports.wanted() is Wanted.RUN
            ports.progress(Progress(keys_done=1))
            ports.log(Level.INFO, "a", "b")
            asked.set()
            return engine.LinkResult(engine.Outcome.COMPLETED, Progress())

        monkeypatch.setattr(links, "renew_lease", slow)
        assert run(make_task(S.STARTING, phases=Phases.FULL), run_link).status == S.COMPLETED

    def test_how_a_run_ended_is_stored_once_the_database_is_back(
        self, make_task: TaskMaker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Else the link would be run again, from the beginning, although everything is written."""
        monkeypatch.setattr(runner, "CLOSING_PAUSE", 0.01)
        finish, away = links.finish_completed, [OperationalError("the connection is gone")] * 2

        def after_a_while(lease: links.Lease) -> bool:
            if away:
                raise away.pop()
            return finish(lease)

        def run_link(config: engine.LinkConfig, ports: runner.LinkPorts) -> engine.LinkResult:
            return engine.LinkResult(engine.Outcome.COMPLETED, Progress())

        monkeypatch.setattr(links, "finish_completed", after_a_while)
        assert run(make_task(S.STARTING, phases=Phases.FULL), run_link).status == S.COMPLETED

    def test_without_the_database_for_long_the_link_stops(
        self, make_task: TaskMaker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        task = make_task(S.STARTING)
        lease = links.acquire_lease(task.link.pk, "one:1:a")
        assert lease
        ports = runner.LinkPorts(lease, runner.Totals(LinkProgress.objects.get()), runner.log)
        assert ports.wanted() is Wanted.RUN
        monkeypatch.setattr(runner, "BLIND_SECONDS", -1.0)
        assert ports.wanted() is Wanted.STOP
        assert ports.ended is runner.Ended.DRAIN
        assert connection.vendor
