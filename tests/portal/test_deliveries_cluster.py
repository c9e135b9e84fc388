"""Deliveries by a real cluster whose workers are killed in the middle of one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from threading import Event

import pytest
from django.utils import timezone

from portal.choices import Category, ChannelKind, DeliveryStatus
from portal.models import Account, Channel, Contact, Delivery
from portal.services import notifications
from portal.services.notifications import Message
from tests.migrations_app.clusters import NewCluster, database, new_clusters
from tests.support.receivers import Mailbox, mailbox_for_children
from tests.support.wait import wait_for


@pytest.fixture
def mailbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mailbox]:
    with mailbox_for_children(monkeypatch) as box:
        yield box


@pytest.fixture
def new_cluster(tmp_path: Path, django_db_blocker: object, mailbox: Mailbox) -> Iterator[NewCluster]:
    url = f"sqlite:///{tmp_path / 'shared.sqlite3'}"
    with django_db_blocker.unblock(), database(url), new_clusters(url, tmp_path, workers=1) as make:
        yield make


@pytest.mark.parametrize("moment", ["before_address", "before_answer"])
def test_a_worker_that_is_killed_while_it_sends_is_followed_by_another(
    mailbox: Mailbox, new_cluster: NewCluster, moment: str
) -> None:
    reached, go_on = Event(), Event()

    def hold() -> None:
        reached.set()
        go_on.wait(60)

    setattr(mailbox, moment, hold)
    first = new_cluster()
    account = Account.objects.create(name="Payments")
    contact = Contact.objects.create(
        account=account, name="On call", email="oncall@example.org", categories=["tasks"]
    )
    Channel.objects.create(contact=contact, kind=ChannelKind.MAIL)
    notifications.notify([contact], "task:mt-1:failed", Category.TASKS, Message("Failed", "It failed."))
    wait_for(reached.is_set, 30, lambda: first.log[-3000:])
    first.kill()
    row = Delivery.objects.get()
    assert row.status == DeliveryStatus.PENDING and row.attempts == 1 and row.lease_until is not None

    setattr(mailbox, moment, None)
    go_on.set()
    second = new_cluster()
    # The lease keeps others away until nobody can be sending any more; the test need not wait for that.
    Delivery.objects.update(lease_until=timezone.now() - timedelta(seconds=1), next_at=timezone.now())
    wait_for(lambda: Delivery.objects.get().status == DeliveryStatus.SENT, 30, lambda: second.log[-3000:])
    assert Delivery.objects.get().attempts == 2
    if moment == "before_address":
        assert len(mailbox.mails) == 1
    else:
        # The server had all of it, and nobody was left to hear that: no sender can know. Both have the same name.
        mailbox.wait_for(2)
        assert len(mailbox.mails) == 2
        assert len({mail["Message-ID"] for mail in mailbox.mails}) == 1
