"""Alerts of a real link between real servers, sent by real workers to a real mail server."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from migrations_app.choices import TaskStatus
from migrations_app.models import MigrationTask, TaskAlert
from migrations_app.services import alerts
from portal.choices import ChannelKind
from portal.models import Channel, Contact, Endpoint, Notification
from tests.support.fixtures import ServerFactory
from tests.support.process import descendants_of
from tests.support.proxy import FaultProxy
from tests.support.receivers import Mailbox
from tests.support.servers import Server

from .clusters import Cluster, Story, database


@pytest.fixture
def mailbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mailbox]:
    with Mailbox() as box:
        monkeypatch.setenv("EMAIL_HOST", "127.0.0.1")
        monkeypatch.setenv("EMAIL_PORT", str(box.port))
        monkeypatch.setenv("SITE_URL", "https://console.example")
        yield box


@pytest.fixture
def clusters(
    tmp_path: Path, django_db_blocker: pytest.FixtureRequest, mailbox: Mailbox
) -> Iterator[Callable[[], None]]:
    """A shared database; called, a cluster `replication` and two clusters `default`, as on two machines."""
    url = f"sqlite:///{tmp_path / 'shared.sqlite3'}"
    made: list[Cluster] = []

    def start() -> None:
        for name in ("replication", "default", "default"):
            made.append(Cluster(url, tmp_path, workers=1, name=name))
            made[-1].start()

    with django_db_blocker.unblock(), database(url):
        yield start
        for cluster in made:
            pids = [cluster.main, *descendants_of(cluster.main)]
            cluster.process.end()
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


@pytest.mark.timeout(240)
def test_from_a_stalled_target_back_to_normal_and_to_a_failure(
    mailbox: Mailbox,
    clusters: Callable[[], None],
    redis_server: ServerFactory,
    fault_proxy: Callable[[Server], FaultProxy],
) -> None:
    source = redis_server("redis-7.0", config={"repl-diskless-sync-delay": 0})
    target = redis_server("redis-7.0", password="of the target")
    story = Story(source, target)
    proxy = fault_proxy(target)
    Endpoint.objects.filter(instance=story.task.target).update(port=proxy.port)
    MigrationTask.objects.filter(pk=story.task.pk).update(
        alerts=True, alert_lag_seconds=1, alert_after_seconds=2
    )
    story.task.refresh_from_db()
    contact = Contact.objects.create(
        account=story.account, name="On call", email="oncall@example.org", categories=["tasks"]
    )
    Channel.objects.create(contact=contact, kind=ChannelKind.MAIL)
    story.task.alert_contacts.add(contact)
    clusters()
    story.start()
    story.wait_until_following()

    proxy.stall()
    with source.client() as client:
        for number in range(100):
            client.set(f"late:{number}", "x" * 1000)
    (late,) = mailbox.wait_for(1, 40)
    assert late["Subject"] == f"{story.task.name}: the target is more than 1 s behind"
    text = late.get_body(("plain",)).get_content()
    assert f"https://console.example{story.task.get_absolute_url()}" in text
    proxy.resume()
    assert mailbox.wait_for(2, 40)[1]["Subject"] == f"{story.task.name}: the delay is back to normal"

    with target.client() as client:
        client.config_set("requirepass", "another one")
    proxy.cut()
    story.wait(lambda: story.status == TaskStatus.FAILED, 60, "not failed")
    failure = mailbox.wait_for(3, 40)[2]
    assert failure["Subject"] == f"{story.task.name} has failed"
    words = failure.get_body(("plain",)).get_content()
    assert "The source was not changed" in words and "of the target" not in words.replace(
        "side of the target", ""
    )
    assert "another one" not in words
    # However often somebody looks, nobody is told again.
    for _ in range(3):
        alerts.look()
    assert TaskAlert.objects.filter(task=story.task).count() == 2
    assert Notification.objects.count() == len(mailbox.mails) == 3
    assert len({mail["Message-ID"] for mail in mailbox.mails}) == 3
