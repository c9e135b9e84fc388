"""Nobody is told twice or not at all: several workers at the same moment, and workers that are killed in the middle."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connections
from django.utils import timezone

from events.choices import OccasionKind
from events.models import Event, Occasion
from events.services import occasions, telling
from portal.choices import DeliveryStatus
from portal.models import Account, Channel, Delivery, Notification
from tests.events.conftest import make_contact, make_event
from tests.migrations_app.clusters import ROOT, Cluster, NewCluster, new_clusters, shared_database
from tests.portal.world import World, make_world
from tests.support.process import Process
from tests.support.receivers import Mailbox, mailbox_for_children
from tests.support.wait import wait_for

K = OccasionKind


@pytest.fixture
def mailbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mailbox]:
    with mailbox_for_children(monkeypatch) as box:
        yield box


@pytest.fixture(params=["sqlite", "postgresql"])
def url(
    request: pytest.FixtureRequest, tmp_path: Path, django_db_blocker: Any, django_db_setup: None
) -> Iterator[str]:
    with django_db_blocker.unblock(), shared_database(request, tmp_path) as chosen:
        yield chosen


@pytest.fixture
def shared(url: str) -> World:
    return make_world()


@pytest.fixture
def new_cluster(url: str, shared: World, tmp_path: Path) -> Iterator[NewCluster]:
    with new_clusters(url, tmp_path, workers=2) as make:
        yield make


def publish(world: World, count: int, batch: str = "") -> list[Event]:
    found = [make_event(world.instance) for _ in range(count)]
    occasions.note_many(occasions.draft(one, K.PUBLISHED, "published", batch=batch) for one in found)
    return found


def in_inboxes(world: World) -> None:
    """Two contacts whom no delivery has to reach."""
    for role in ("operator", "owner"):
        contact = make_contact(world.account, role, user=world.user(role))
        contact.channels.all().delete()
        Channel.objects.create(contact=contact, kind="inbox")


def told() -> int:
    return Occasion.objects.exclude(told_at=None).count()


def wait_until_more_are_told(before: int, cluster: Cluster) -> None:
    wait_for(lambda: told() > before, 60, lambda: cluster.log[-3000:], interval=0.005)


def tell_together(workers: int) -> None:
    barrier = threading.Barrier(workers)
    failures: list[BaseException] = []

    def run() -> None:
        try:
            barrier.wait(20)
            telling.tell_due(now=timezone.now() + timedelta(seconds=20))
        except BaseException as error:  # noqa: BLE001 - handed to the test
            failures.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert not failures


def test_workers_that_tell_at_the_same_moment_tell_each_contact_once(shared: World) -> None:
    in_inboxes(shared)
    single = publish(shared, 60)
    publish(shared, 30, batch="cp-1")
    tell_together(4)
    # What a worker left to another one that had it is told by then.
    assert not Occasion.objects.filter(told_at=None).exists()
    names = Counter(Notification.objects.values_list("contact__name", "occasion"))
    assert set(names.values()) == {1}
    for role in ("operator", "owner"):
        mine = [occasion for contact, occasion in names if contact == role]
        # One for each that stands alone, and one for the whole batch.
        assert len(mine) == 61
        assert {f"event:{one.public_id}:published" for one in single} < set(mine)
    together = Notification.objects.filter(occasion__startswith="events:cp-1:")
    assert [told.payload["count"] for told in together] == [30, 30]


@pytest.mark.parametrize("moment", ["composing", "written", "committed"])
def test_one_that_is_killed_while_it_tells_is_followed_by_another(
    url: str, shared: World, new_cluster: NewCluster, mailbox: Mailbox, tmp_path: Path, moment: str
) -> None:
    for name in ("First", "Second"):
        make_contact(shared.account, name)
    found = publish(shared, 4)
    file = tmp_path / "reached"
    child = Process(
        [sys.executable, "-m", "tests.events.held_teller", moment, str(file)],
        tmp_path / "teller.log",
        cwd=ROOT,
        env=os.environ | {"DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "portal.settings", "SECRET_KEY": settings.SECRET_KEY},
    )  # fmt: skip
    wait_for(file.exists, 60, lambda: child.log.read_text())
    os.kill(child.pid, signal.SIGKILL)
    child.end()
    # All of it or nothing.
    expected = 8 if moment == "committed" else 0
    assert Notification.objects.count() == Delivery.objects.count() == expected
    assert Occasion.objects.filter(told_at=None).count() == (0 if expected else 4)

    # The bells were lost with it: the tick rings again, for which the test need not wait.
    Delivery.objects.update(next_at=timezone.now())
    cluster = new_cluster()
    wait_for(
        lambda: Delivery.objects.filter(status=DeliveryStatus.SENT).count() == 8,
        60,
        lambda: cluster.log[-3000:],
    )
    assert Notification.objects.count() == 8
    got = Counter((mail["To"], mail["Message-ID"]) for mail in mailbox.mails)
    assert set(got.values()) == {1} and len(got) == 8
    for address in ("first@example.org", "second@example.org"):
        texts = [mail.as_string() for mail in mailbox.mails if mail["To"] == address]
        assert all(sum(one.public_id in text for text in texts) == 1 for one in found)


@pytest.mark.timeout(300)
def test_workers_of_a_real_cluster_are_killed_again_and_again(shared: World, new_cluster: NewCluster) -> None:
    in_inboxes(shared)
    found = publish(shared, 500)  # ten chunks, so that there is time to kill it before the last one
    for _ in range(3):
        before, cluster = told(), new_cluster()
        wait_until_more_are_told(before, cluster)
        cluster.kill()  # while it tells the next ones
        assert told() < len(found), "too fast to be killed in the middle"
    cluster = new_cluster()
    wait_for(lambda: told() == len(found), 60, lambda: cluster.log[-3000:])
    counted = Counter(Notification.objects.values_list("contact__name", "occasion"))
    assert set(counted.values()) == {1}
    assert len(counted) == 2 * len(found)
    assert Account.objects.get(pk=shared.account.pk).notifications.count() == 2 * len(found)
