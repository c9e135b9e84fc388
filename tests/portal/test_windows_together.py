"""Two people who set the first window at the same moment: one follows the other, on a database that several processes share."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import time
from typing import Any

import pytest
from django.db import connections

from portal.models import Account, AuditEntry, Instance, MaintenanceWindow
from portal.services import windows
from tests.migrations_app.clusters import shared_database
from tests.portal.world import World, make_world


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def shared(
    request: pytest.FixtureRequest,
    django_db_blocker: Any,
    django_db_setup: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[World]:
    with django_db_blocker.unblock(), shared_database(request, tmp_path_factory.mktemp("windows")):
        yield make_world()


@pytest.mark.parametrize("kind", ["instance", "account"])
def test_one_follows_the_other(shared: World, kind: str) -> None:
    owner: Instance | Account = getattr(shared, kind)
    user = shared.user("owner")
    for _ in range(5):
        windows.clear_window(user, owner)
        barrier = threading.Barrier(2)
        failures: list[BaseException] = []

        def set_from(hour: int, barrier: threading.Barrier, failures: list[BaseException]) -> None:
            try:
                barrier.wait(10)
                windows.set_window(user, owner, [0], time(hour), time(hour + 1), "UTC")
            except BaseException as error:  # noqa: BLE001  # shown below
                failures.append(error)
            finally:
                connections.close_all()

        threads = [threading.Thread(target=set_from, args=(hour, barrier, failures)) for hour in (1, 2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not failures
        second, first = AuditEntry.objects.order_by("-pk")[:2]
        assert first.details["old"] == "" and second.details["old"] == first.details["new"]
        assert str(MaintenanceWindow.objects.get(**{kind: owner})) == second.details["new"]
