"""Verifications and repairs as services: who may ask, what is refused, what is stored, and what happens by itself."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import random
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from migrations_app.choices import InspectionKind, InspectionStatus, TaskStatus
from migrations_app.models import Difference, Inspection, MigrationTask
from migrations_app.services import inspections, verification_report, verifications
from migrations_app.services.verifications import Row
from portal.choices import EndpointKind, Role
from portal.errors import Conflict, Invalid, NotFound, NotPermitted, ServiceError
from portal.models import Account, AuditEntry

from .conftest import TaskMaker, instance, person

pytestmark = pytest.mark.django_db
S = TaskStatus


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspections, "ring", lambda inspection_id: None)


def ended(task: MigrationTask, **result: object) -> Inspection:
    made = Inspection.objects.create(
        task=task,
        kind=InspectionKind.VERIFICATION,
        status=InspectionStatus.DONE,
        parameters={"mode": "values"},
        result=result,
    )
    verifications.store(
        made,
        [
            Row(0, b"plain", "missing", "string", "absent", ""),
            Row(3, b"\x00\xff=1", "field", "'1'", "'2'", "field 'f'"),
        ],
    )
    return made


class TestRequest:
    def test_what_was_asked_for_is_kept(self, operator: User, make_task: TaskMaker) -> None:
        task = make_task(S.INCREMENTAL, reached_incremental=True)
        made = verifications.request_verification(operator, task, "values", percent=5, both_directions=False)
        assert made.status == InspectionStatus.QUEUED
        assert (made.parameters["mode"], made.parameters["percent"]) == ("values", 5)
        assert made.parameters["keys_per_second"] == verifications.GENTLE_KEYS
        assert AuditEntry.objects.filter(action="verification.requested", actor=operator).exists()
        with pytest.raises(Conflict) as refusal:
            verifications.request_verification(operator, task)
        assert refusal.value.id == "inspection.running"

    @pytest.mark.parametrize(
        ("settings", "refusal"),
        [
            ({"mode": "slow"}, "verification.mode"),
            ({"percent": 0}, "verification.percent"),
            ({"percent": 100.5}, "verification.percent"),
            ({"keys_per_second": 0}, "verification.rate"),
            ({"megabytes_per_second": -1}, "verification.rate"),
            ({"ttl_tolerance_ms": -1}, "verification.tolerance"),
        ],
    )
    def test_nonsense_is_refused(
        self, operator: User, make_task: TaskMaker, settings: dict[str, object], refusal: str
    ) -> None:
        with pytest.raises(Invalid) as raised:
            verifications.request_verification(operator, make_task(S.FAILED), **settings)
        assert raised.value.id == refusal
        assert raised.value.field

    def test_who_may_not(self, viewer: User, stranger: User, make_task: TaskMaker) -> None:
        task = make_task(S.FAILED)
        with pytest.raises(NotPermitted):
            verifications.request_verification(viewer, task)
        with pytest.raises(NotFound):
            verifications.request_verification(stranger, task)

    def test_not_before_the_first_copy_is_complete(self, operator: User, make_task: TaskMaker) -> None:
        for status in (S.STARTING, S.FULL, S.RETRYING):
            task = make_task(status)
            with pytest.raises(Conflict) as refusal:
                verifications.request_verification(operator, task)
            assert refusal.value.id == "verification.too_early"
            assert verifications.why_not_verify(task)
            task.delete()
        assert not verifications.why_not_verify(make_task(S.RETRYING, reached_incremental=True))

    def test_a_file_cannot_be_asked(self, operator: User, make_task: TaskMaker) -> None:
        task = make_task(S.COMPLETED)
        assert task.source is not None
        task.source.endpoint.kind = EndpointKind.FILE
        task.source.endpoint.save()
        with pytest.raises(Invalid) as refusal:
            verifications.request_verification(operator, task)
        assert refusal.value.id == "verification.file_source"

    def test_a_task_without_sides(self, operator: User, make_task: TaskMaker) -> None:
        with pytest.raises(Conflict) as refusal:
            verifications.request_verification(
                operator, make_task(S.NOT_CONFIGURED, source=None, target=None)
            )
        assert refusal.value.id == "verification.no_sides"


class TestByItself:
    def test_when_it_is_due(self, make_task: TaskMaker) -> None:
        now = timezone.now()
        task = make_task(
            S.INCREMENTAL,
            reached_incremental=True,
            verify_every_hours=2,
            verify_percent=10,
            incremental_at=now - timedelta(hours=1),
        )
        assert verifications.due_tasks() == []
        MigrationTask.objects.update(incremental_at=now - timedelta(hours=3))
        assert verifications.due_tasks() == [task.pk]

        made = verifications.verify_by_itself(task.pk)
        assert made is not None
        assert (made.requested_by, made.parameters["automatic"], made.parameters["percent"]) == (
            None,
            True,
            10,
        )
        # Another machine that has seen it due, too, asks for none.
        assert verifications.verify_by_itself(task.pk) is None
        Inspection.objects.update(status=InspectionStatus.DONE)
        assert verifications.due_tasks() == []
        Inspection.objects.update(created_at=now - timedelta(hours=2, minutes=1))
        assert verifications.due_tasks() == [task.pk]

    def test_only_while_it_follows(self, make_task: TaskMaker) -> None:
        make_task(S.PAUSED, reached_incremental=True, verify_every_hours=1)
        assert verifications.due_tasks() == []

    def test_differences_are_told(self, make_task: TaskMaker, monkeypatch: pytest.MonkeyPatch) -> None:
        told: list[Inspection] = []
        monkeypatch.setattr(verifications, "DIFFERS", [told.append])
        task = make_task(S.INCREMENTAL, reached_incremental=True)
        for automatic, passed in ((True, True), (False, False), (True, False)):
            made = verifications.request_verification(None, task, "values", automatic=automatic)
            lease = inspections.acquire(made.pk, "one:1:a", host="h", ip="127.0.0.1")
            assert lease is not None
            assert inspections.finish(lease, passed=passed, result={"keys": 5, "differences": 1})
        assert told == [made]
        assert task.log.get(level="warning", fields__inspection=made.public_id).message.endswith("1 differ.")


class TestCorrection:
    def test_asked_for(self, operator: User, make_task: TaskMaker) -> None:
        verification = ended(make_task(S.PAUSED))
        keys = [row.pk for row in verification.differences.all()]
        made = verifications.request_correction(operator, verification, keys)
        assert made.kind == InspectionKind.CORRECTION
        assert made.parameters == {"verification": verification.public_id, "keys": keys}
        assert AuditEntry.objects.get(action="keys.repair_confirmed").details["count"] == 2

    @pytest.mark.parametrize("status", [S.READY, S.FULL, S.COMPLETED, S.RELEASED, S.STOPPING])
    def test_not_in_every_status(self, operator: User, make_task: TaskMaker, status: S) -> None:
        verification = ended(make_task(status))
        with pytest.raises(Conflict) as refusal:
            verifications.request_correction(operator, verification, [1])
        assert refusal.value.id == "correction.not_now"
        assert not verifications.may_still_write(verification.task_id)

    def test_refusals(self, operator: User, viewer: User, make_task: TaskMaker) -> None:
        verification = ended(make_task(S.FAILED))
        keys = [row.pk for row in verification.differences.all()]
        assert verifications.may_still_write(verification.task_id)
        for chosen, error, name in (
            ([], Invalid, "correction.nothing_chosen"),
            ([*keys, 10**9], NotFound, "correction.unknown_key"),
            (range(10_000), Invalid, "correction.too_many"),
        ):
            with pytest.raises(error) as refusal:
                verifications.request_correction(operator, verification, chosen)
            assert isinstance(refusal.value, ServiceError)
            assert refusal.value.id == name
        with pytest.raises(NotPermitted):
            verifications.request_correction(viewer, verification, keys)
        make_task(S.INCREMENTAL)
        with pytest.raises(Conflict) as taken:
            verifications.request_correction(operator, verification, keys)
        assert taken.value.id == "correction.target_taken"


class TestReport:
    def test_the_checksum_is_that_of_the_file(self, make_task: TaskMaker) -> None:
        made = ended(make_task(S.FAILED))
        values = {"keys": 7, "notes": ["ä"], "percent": 12.5}
        made.result = values | {"sha256": verification_report.digest(made, values)}
        made.save()
        stored = Inspection.objects.get()
        text = "".join(verification_report.report(stored, stored.result))
        assert hashlib.sha256(text.encode()).hexdigest() == stored.result["sha256"]
        assert text.isascii()
        # A repair afterwards changes nothing of what was found.
        verifications.mark_repaired(Difference.objects.all()[0], None, "done", repaired=True)
        assert "".join(verification_report.report(stored, stored.result)) == text

    def test_lists(self, make_task: TaskMaker) -> None:
        made = ended(make_task(S.FAILED))
        rows = list(csv.DictReader(io.StringIO("".join(verification_report.as_csv(made)))))
        assert [row["key"] for row in rows] == ["plain", "\\x00\\xff=1"]
        lines = [json.loads(line) for line in verification_report.as_json_lines(made)]
        assert lines[1]["source"] == "'1'"
        hidden = [json.loads(line) for line in verification_report.as_json_lines(made, frozenset({"target"}))]
        assert (hidden[1]["source"], hidden[1]["target"], hidden[1]["detail"]) == (
            "(not shown)",
            "'2'",
            "(not shown)",
        )

    def test_a_formula_is_no_formula(self, make_task: TaskMaker) -> None:
        made = ended(make_task(S.FAILED))
        verifications.store(made, [Row(0, b"=cmd()", "missing", "@x", "", "")])
        text = "".join(verification_report.as_csv(made))
        assert "'=cmd()" in text
        assert ",'@x" in text

    def test_a_key_that_no_index_takes(self, make_task: TaskMaker) -> None:
        made = ended(make_task(S.FAILED))
        key = random.Random(1).randbytes(100_000)
        verifications.store(made, [Row(0, key, "missing", "", "", ""), Row(1, key, "missing", "", "", "")])
        assert [bytes(row.key) for row in made.differences.order_by("pk")[2:]] == [key, key]

    def test_the_same_key_twice_is_one_row(self, make_task: TaskMaker) -> None:
        made = ended(make_task(S.FAILED))
        verifications.store(made, [Row(0, b"plain", "missing", "", "", "")])
        assert made.differences.count() == 2
        verifications.begin_anew(made)
        assert not made.differences.exists()


def test_whose_values_are_shown(make_task: TaskMaker, account: Account, other_account: Account) -> None:
    task = make_task(S.FAILED, target=instance(other_account, "theirs", 6499))
    both = frozenset({"source", "target"})
    assert verifications.visible_sides(person("ann", account, Role.VIEWER), task) == both
    assert verifications.visible_sides(person("bob", other_account, Role.OWNER), task) == {"target"}
    assert verifications.visible_sides(person("eve", None, None), task) == frozenset()


def test_old_differences_are_forgotten(make_task: TaskMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifications, "KEPT", 2)
    task = make_task(S.FAILED)
    made = [ended(task) for _ in range(3)]
    verifications.verification_ended(made[-1])
    assert [one.differences.count() for one in made] == [0, 2, 2]
