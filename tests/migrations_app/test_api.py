"""Migrations over the HTTP API: what the table of rights does not show."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from migrations_app.choices import TaskStatus
from migrations_app.models import MigrationTask
from portal.choices import Origin
from portal.models import Account, AuditEntry, Instance
from portal.services import tokens
from tests.migrations_app.conftest import instance
from tests.portal.world import make_user

Ask = Callable[..., Any]


@pytest.fixture
def ask(operator: User) -> Ask:
    """`ask("post", "/migrations", {...}, key="…")` as the operator."""
    _, token = tokens.create_token(operator, "tests", ["migrations:write"])

    def send(method: str, path: str, data: dict[str, Any] | None = None, key: str = "") -> Any:
        headers = {"Authorization": f"Bearer {token}"} | ({"Idempotency-Key": key} if key else {})
        body = "" if method == "get" else json.dumps(data or {})
        return getattr(Client(), method)(
            f"/api/v1{path}", data=body, content_type="application/json", headers=headers
        )

    return send


class TestCreation:
    def test_from_an_instance_to_a_url(self, ask: Ask, source: Instance) -> None:
        answer = ask(
            "post",
            "/migrations",
            {
                "source": {"instance": source.public_id},
                "target": {"url": "redis://app:s3cret@127.0.0.1:6999"},
                "conflict": "overwrite",
                "databases": [0, 3],
                "speed_class": "small",
            },
        )
        assert answer.status_code == 201, answer.content
        task = MigrationTask.objects.get()
        told = answer.json()
        assert told["id"] == task.public_id
        assert told["status"] == "draft" and told["missing"] == []
        assert (told["conflict"], told["databases"], told["speed_class"]) == ("overwrite", [0, 3], "small")
        target = task.both_sides()[1]
        assert (target.origin, target.endpoint.username) == (Origin.SELF_HOSTED, "app")
        assert target.endpoint.password.reveal() == "s3cret"
        assert "s3cret" not in answer.content.decode()
        assert "s3cret" not in str([vars(entry) for entry in AuditEntry.objects.all()])

    def test_a_repetition_with_the_same_key_makes_one_task(self, ask: Ask, source: Instance) -> None:
        data = {"source": {"instance": source.public_id}}
        first, second = (ask("post", "/migrations", data, key="one") for _ in range(2))
        assert first.status_code == second.status_code == 201
        assert first.json() == second.json()
        assert MigrationTask.objects.count() == 1
        other = ask("post", "/migrations", data | {"name": "other"}, key="one")
        assert (other.status_code, other.json()["id"]) == (409, "idempotency.other_request")

    def test_a_refused_one_leaves_its_key_free(self, ask: Ask, source: Instance) -> None:
        assert ask("post", "/migrations", {"retry_minutes": 9}, key="one").status_code == 422
        assert ask("post", "/migrations", {"retry_minutes": 10}, key="one").status_code == 201

    @pytest.mark.parametrize(
        ("data", "field"),
        [
            ({"source": {"instance": "r-unknown"}}, "source"),
            ({"source": {"url": "redis://"}}, "source"),
            ({"source": {}}, "source"),
            ({"source": {"url": "redis://127.0.0.1", "instance": "r-x"}}, "source"),
            ({"source": {"url": "redis://8.8.8.8:6379"}}, "source"),
            ({"target": {"instance": "r-x", "role": "readers", "account": "acc-unknown"}}, ""),
            ({"retry_minutes": 9}, "retry_minutes"),
            ({"retry_minutes": 1441}, "retry_minutes"),
            ({"retry_minutes": "many"}, "retry_minutes"),
            ({"speed_class": "enormous"}, "speed_class"),
            ({"phases": "incremental"}, "phases"),
            ({"conflict": "merge"}, "conflict"),
            ({"databases": []}, "databases"),
        ],
    )
    def test_wrong_input_stores_nothing(
        self, ask: Ask, source: Instance, data: dict[str, Any], field: str
    ) -> None:
        before = Instance.objects.count()
        answer = ask("post", "/migrations", data)
        assert answer.status_code in (404, 422), answer.content
        refusal = answer.json()
        assert refusal["message"]
        if field:
            assert field in (refusal["field"], refusal["field"].partition(".")[0]) or refusal["field"] in (
                "host",
                "address",
            ), refusal
        assert not MigrationTask.objects.exists()
        assert Instance.objects.count() == before

    def test_an_instance_of_others_is_not_found(
        self, ask: Ask, source: Instance, other_account: Account
    ) -> None:
        foreign = instance(other_account, "foreign", 6500)
        answer = ask("post", "/migrations", {"source": {"instance": foreign.public_id}})
        assert (answer.status_code, answer.json()["field"]) == (404, "source")

    def test_the_account_has_to_be_named_where_there_are_several(self, ask: Ask, operator: User) -> None:
        other = Account.objects.create(name="Second")
        other.memberships.create(user=operator, role="operator")
        answer = ask("post", "/migrations", {})
        assert (answer.status_code, answer.json()["field"]) == (404, "account")
        assert ask("post", "/migrations", {"account": other.public_id}).json()["account"] == other.public_id


def test_a_running_task_keeps_its_sides(
    ask: Ask, make_task: Callable[..., MigrationTask], source: Instance
) -> None:
    task = make_task(TaskStatus.FULL)
    answer = ask("patch", f"/migrations/{task.public_id}", {"source": {"instance": source.public_id}})
    assert (answer.status_code, answer.json()["id"]) == (409, "task.cannot_configure")
    answer = ask("patch", f"/migrations/{task.public_id}", {"speed_class": "small"})
    assert (answer.status_code, answer.json()["speed_class"]) == (200, "small")


def test_the_password_of_a_side_changes_while_it_runs(
    ask: Ask, make_task: Callable[..., MigrationTask], source: Instance
) -> None:
    Instance.objects.filter(pk=source.pk).update(origin=Origin.SELF_HOSTED)
    path = f"/migrations/{make_task(TaskStatus.FULL).public_id}/connection"
    answer = ask("post", path, {"side": "source", "url": "redis://:renewed@127.0.0.1:6401"})
    assert answer.status_code == 200, answer.content
    assert Instance.objects.get(pk=source.pk).endpoint.password.reveal() == "renewed"
    assert "renewed" not in answer.content.decode()
    for url in ("redis://127.0.0.1:port", "redis://8.8.8.8:6379"):
        assert ask("post", path, {"side": "source", "url": url}).status_code == 422
    assert Instance.objects.get(pk=source.pk).endpoint.host == "127.0.0.1"


def test_actions_say_why_not(ask: Ask, make_task: Callable[..., MigrationTask]) -> None:
    actions = ask("get", f"/migrations/{make_task(TaskStatus.FULL).public_id}").json()["actions"]
    assert actions["pause"] == {"open": True, "reason": ""}
    assert not actions["start"]["open"] and "running" in actions["start"]["reason"]


def test_a_token_for_one_account_reaches_no_other_in_bulk(
    make_task: Callable[..., MigrationTask], other_account: Account
) -> None:
    admin = make_user("root", is_superuser=True)
    _, token = tokens.create_token(admin, "x", ["migrations:write"], account=other_account)
    task = make_task(TaskStatus.FULL)
    answer = Client().post(
        "/api/v1/migrations/actions/bulk",
        data=json.dumps({"action": "pause", "ids": [task.public_id, task.public_id]}),
        content_type="application/json",
        headers={"Authorization": f"Bearer {token}"},
    )
    assert [one["ok"] for one in answer.json()] == [False]
    task.refresh_from_db()
    assert task.status == TaskStatus.FULL


def test_pages_of_the_list(ask: Ask, make_task: Callable[..., MigrationTask]) -> None:
    made = [make_task(TaskStatus.READY).public_id for _ in range(3)]
    found: list[str] = []
    while page := ask("get", f"/migrations?limit=1&before={found[-1] if found else ''}").json():
        found += [one["id"] for one in page]
    assert found == made[::-1]
    assert ask("get", "/migrations?status=nonsense").status_code == 422
