"""People, accounts, instances and tasks, as rows. Nothing here talks to a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection

from migrations_app import drain
from migrations_app.choices import TaskStatus
from migrations_app.models import Link, LinkProgress, MigrationTask
from portal.choices import Architecture, Edition, InstanceStatus, NodeRole, Role
from portal.models import Account, Endpoint, Instance, Membership
from tests.migrations_app.clusters import database
from tests.support.tasks import passed

TaskMaker = Callable[..., MigrationTask]


@pytest.fixture
def account(db: None) -> Account:
    return Account.objects.create(name="Payments")


@pytest.fixture
def other_account(db: None) -> Account:
    return Account.objects.create(name="Research")


def person(name: str, account: Account | None, role: Role | None, **flags: bool) -> User:
    user = User.objects.create_user(name, password="a long pass phrase", **flags)
    if account and role:
        Membership.objects.create(user=user, account=account, role=role)
    return user


@pytest.fixture
def owner(account: Account) -> User:
    return person("olga", account, Role.OWNER)


@pytest.fixture
def operator(account: Account) -> User:
    return person("omar", account, Role.OPERATOR)


@pytest.fixture
def viewer(account: Account) -> User:
    return person("vera", account, Role.VIEWER)


@pytest.fixture
def stranger(other_account: Account) -> User:
    return person("stan", other_account, Role.OWNER)


def instance(account: Account, name: str, port: int = 6379, **changes: Any) -> Instance:
    values: dict[str, Any] = {
        "status": InstanceStatus.ONLINE,
        "edition": Edition.REDIS,
        "version": "7.0.15",
        "architecture": Architecture.STANDARD,
        "role": NodeRole.MASTER,
        "run_id": f"{name:x<40}"[:40],
        "database_count": 16,
        "databases": [{"index": 0, "keys": 1200, "expires": 30}, {"index": 3, "keys": 5, "expires": 0}],
    }
    made = Instance.objects.create(account=account, name=name, **(values | changes))
    Endpoint.objects.create(instance=made, host="127.0.0.1", port=port, password="s3cret-of-" + name)
    return made


@pytest.fixture
def source(account: Account) -> Instance:
    return instance(account, "orders", 6401)


@pytest.fixture
def target(account: Account) -> Instance:
    return instance(account, "orders-new", 6402, databases=[])


@pytest.fixture
def make_task(account: Account, source: Instance, target: Instance) -> TaskMaker:
    """A task in the given status, without going through the states before it. Of a ready one the precheck has just passed."""

    def make(status: TaskStatus = TaskStatus.READY, **changes: Any) -> MigrationTask:
        sides = {"source": changes.pop("source", source), "target": changes.pop("target", target)}
        owner_account = changes.pop("account", account)
        desired = changes.pop("desired", "run" if TaskStatus(status).is_active else "stop")
        # Rows only: the checks of the service are the business of its own tests.
        task = MigrationTask.objects.create(
            name=changes.pop("name", "orders to orders-new"),
            account=owner_account,
            status=status,
            **sides,
            **changes,
        )
        link = Link.objects.create(task=task, name=task.public_id, desired=desired)
        LinkProgress.objects.create(link=link)
        return passed(task) if status == TaskStatus.READY else task

    return make


@pytest.fixture(scope="module")
def file_database(
    django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """For tests in which a keeper writes from a thread of its own: SQLite in memory fails at once where two threads meet; in a file one
    waits for the other, as in production."""
    if connection.vendor != "sqlite":
        yield
        return
    file = tmp_path_factory.mktemp("threads") / "shared.sqlite3"
    with django_db_blocker.unblock(), database(f"sqlite:///{file}"):
        yield


@pytest.fixture(autouse=True)
def no_shutdown() -> Any:
    yield
    drain.reset()


@pytest.fixture
def bell(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The links for which a worker was asked."""
    rung: list[int] = []
    monkeypatch.setattr("migrations_app.services.links.ring", rung.append)
    return rung
