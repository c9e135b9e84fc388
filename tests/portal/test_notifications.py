"""One message per contact and occasion, over real mail and HTTP servers."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import connection
from django.utils import timezone
from django_q.models import OrmQ

from portal import jobs
from portal.choices import Category, ChannelKind, DeliveryStatus
from portal.delivery import other, webhook
from portal.errors import Conflict, NotFound, NotPermitted
from portal.models import AuditEntry, Channel, Contact, Delivery, Notification
from portal.services import deliveries, inbox, notifications
from portal.services.notifications import Message
from portal.services.quiet import end_of_quiet_hours
from tests.migrations_app.clusters import database
from tests.support.receivers import Mailbox, Receiver

from .world import World, make_world

S = DeliveryStatus
MESSAGE = Message("A task has failed", "orders stands still.\nNothing was changed.", url="/migrations/mt-1/")
TOKEN = "tk_very_secret_token"  # of channels: looked for in everything that is shown or logged


@pytest.fixture
def mailbox(settings: LazySettings) -> Iterator[Mailbox]:
    with Mailbox() as box:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT, settings.EMAIL_TIMEOUT = "127.0.0.1", box.port, 5
        settings.SITE_URL = "https://console.example/"
        yield box


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


def make_contact(world: World, *kinds: str, **values: Any) -> Contact:
    fields: dict[str, Any] = {"name": "On call", "email": "oncall@example.org", "categories": ["tasks"]}
    contact = Contact.objects.create(account=world.account, **(fields | values))
    for kind in kinds or (ChannelKind.MAIL,):
        Channel.objects.create(contact=contact, kind=kind)
    return contact


def tell(contact: Contact, occasion: str = "task:mt-1:failed", **options: Any) -> list[Notification]:
    return notifications.notify([contact], occasion, Category.TASKS, MESSAGE, **options)


def send_all() -> list[str]:
    """What a worker does with the messages that the broker has for it."""
    return [jobs.deliver(delivery.pk) for delivery in Delivery.objects.filter(status=S.PENDING)]


def only() -> Delivery:
    return Delivery.objects.get()


# --- mail -----------------------------------------------------------------------------------------------------------------


def test_mail_arrives_with_text_html_and_link(world: World, mailbox: Mailbox) -> None:
    tell(make_contact(world), urgent=True)
    assert send_all() == ["sent"]
    (mail,) = mailbox.mails
    told = Notification.objects.get()
    assert mail["To"] == "oncall@example.org"
    assert mail["Subject"] == "A task has failed"
    assert mail["Message-ID"] == f"<{told.public_id}.{only().pk}@localhost>"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["Importance"] == "high"
    text, html = (part.get_content() for part in mail.iter_parts())
    for body in (text, html):
        assert "Nothing was changed." in body
        assert "https://console.example/migrations/mt-1/" in body
        assert world.account.name in body
    assert only().status == S.SENT and only().sent_at is not None


def test_text_is_escaped_in_html_and_lines_cannot_leave_the_subject(world: World, mailbox: Mailbox) -> None:
    message = Message("Task <b>\r\nBcc: all@example.org", "<script>alert(1)</script>")
    notifications.notify([make_contact(world)], "x", Category.TASKS, message)
    send_all()
    (mail,) = mailbox.mails
    assert mail["Subject"] == "Task <b> Bcc: all@example.org"
    assert mail["Bcc"] is None
    text, html = (part.get_content() for part in mail.iter_parts())
    assert "<script>alert(1)</script>" in text and "<script>" not in html


def test_the_same_occasion_is_told_once(world: World, mailbox: Mailbox) -> None:
    contact = make_contact(world)
    assert len(tell(contact)) == 1
    assert tell(contact) == []
    send_all()
    assert send_all() == []
    assert tell(contact) == []
    assert len(mailbox.mails) == 1
    assert len(tell(contact, "task:mt-1:over")) == 1


def test_a_job_that_runs_again_sends_nothing(world: World, mailbox: Mailbox) -> None:
    tell(make_contact(world))
    first, second = jobs.deliver(only().pk), jobs.deliver(only().pk)
    assert first == "sent" and second.startswith("nothing to do")
    assert len(mailbox.mails) == 1


def test_only_who_wants_to_hear_of_it_is_told(world: World) -> None:
    wants = make_contact(world, name="Wants")
    other_wish = make_contact(world, name="Maintenance only", categories=["maintenance"])
    notifications.notify([wants, other_wish], "x", Category.TASKS, MESSAGE)
    assert [told.contact for told in Notification.objects.all()] == [wants]


def test_two_at_the_same_moment_make_one_message_and_one_mail(
    tmp_path: Path, django_db_blocker: Any, mailbox: Mailbox
) -> None:
    with django_db_blocker.unblock(), database(f"sqlite:///{tmp_path / 'shared.sqlite3'}"):
        contact = make_contact(make_world())
        made: list[int] = []
        said: list[str] = []
        barrier = Barrier(4)

        def run() -> None:
            try:
                barrier.wait(10)
                made.append(len(tell(contact)))
                barrier.wait(10)
                said.append(jobs.deliver(Delivery.objects.get().pk))
            finally:
                connection.close()

        threads = [Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert sorted(made) == [0, 0, 0, 1]
        assert said.count("sent") == 1 and len(said) == 4
        assert len(mailbox.mails) == 1
        assert only().attempts == 1


def test_commit_rings_a_worker(world: World, django_capture_on_commit_callbacks: Any) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        tell(make_contact(world))
    assert OrmQ.objects.get().func() == "portal.jobs.deliver"


# --- failures -------------------------------------------------------------------------------------------------------------


def test_failures_are_tried_again_with_growing_pauses_and_then_given_up(
    world: World, mailbox: Mailbox
) -> None:
    mailbox.answer_data = "451 come back later"
    tell(make_contact(world))
    pauses = []
    for attempt in range(1, deliveries.ATTEMPTS + 1):
        assert send_all() == ["not sent"]
        row = only()
        assert row.attempts == attempt
        assert "451 come back later" in row.error
        if row.next_at:
            pauses.append(round((row.next_at - timezone.now()).total_seconds() / 60))
            assert deliveries.ring_due() == 0
            # A message of the broker that comes twice does not cut the pause short.
            assert jobs.deliver(row.pk).startswith("nothing to do")
            Delivery.objects.update(next_at=timezone.now())
            assert deliveries.ring_due() == 1
            assert deliveries.ring_due() == 0
    assert pauses == [1, 5, 15, 60, 180, 720]
    assert only().status == S.FAILED and only().next_at is None
    assert len({mail["Message-ID"] for mail in mailbox.mails}) == 0 and mailbox.begun == deliveries.ATTEMPTS


def test_a_second_attempt_succeeds_under_the_same_message_id(world: World, mailbox: Mailbox) -> None:
    mailbox.answer_data = "451 come back later"
    tell(make_contact(world))
    send_all()
    mailbox.answer_data = ""
    Delivery.objects.update(next_at=timezone.now())
    deliveries.ring_due()
    assert send_all() == ["sent"]
    assert only().status == S.SENT and only().error == "" and only().attempts == 2
    assert len(mailbox.mails) == 1


@pytest.mark.parametrize(("reply", "final"), [("550 no such user", True), ("450 greylisted", False)])
def test_a_refused_address_is_final(world: World, mailbox: Mailbox, reply: str, final: bool) -> None:
    mailbox.refuse["oncall@example.org"] = reply
    tell(make_contact(world))
    assert send_all() == ["not sent"]
    assert only().status == (S.FAILED if final else S.PENDING)
    assert reply[4:] in only().error


def test_no_mail_server_is_a_failure_that_is_tried_again(world: World, settings: LazySettings) -> None:
    with Mailbox() as gone:
        port = gone.port
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", port
    tell(make_contact(world))
    assert send_all() == ["not sent"]
    assert only().status == S.PENDING and "could not be reached" in only().error


def test_workers_that_die_in_each_attempt_are_not_asked_for_ever(world: World) -> None:
    tell(make_contact(world))
    for _ in range(deliveries.ATTEMPTS):
        assert deliveries.claim(only().pk) is not None
        assert deliveries.claim(only().pk) is None  # its lease holds
        Delivery.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    assert deliveries.claim(only().pk) is None
    assert only().status == S.FAILED and "died" in only().error


def test_a_worker_that_lost_its_lease_changes_nothing(world: World) -> None:
    tell(make_contact(world))
    slow = deliveries.claim(only().pk)
    assert slow is not None
    Delivery.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    quick = deliveries.claim(only().pk)
    assert quick is not None
    assert not deliveries.failed(slow, "too late")
    assert deliveries.sent(quick)
    assert only().status == S.SENT


def test_a_deleted_or_disabled_channel_ends_its_deliveries(world: World) -> None:
    contact = make_contact(world)
    tell(contact)
    contact.channels.update(enabled=False)
    assert send_all() == ["not sent"]
    assert only().status == S.FAILED and "switched off" in only().error


def test_redeliver_sends_it_once_more(world: World, mailbox: Mailbox) -> None:
    tell(make_contact(world))
    with pytest.raises(Conflict):
        deliveries.redeliver(world.user("operator"), only())
    send_all()
    with pytest.raises(NotPermitted):
        deliveries.redeliver(world.user("viewer"), only())
    with pytest.raises(NotFound):
        deliveries.redeliver(world.user("outsider"), only())
    deliveries.redeliver(world.user("operator"), only())
    assert send_all() == ["sent"]
    assert len(mailbox.mails) == 2
    assert AuditEntry.objects.filter(action="delivery.repeated").count() == 1
    Channel.objects.all().delete()
    with pytest.raises(Conflict) as refused:
        deliveries.redeliver(world.user("operator"), only())
    assert refused.value.id == "delivery.no_channel"


# --- quiet hours ----------------------------------------------------------------------------------------------------------


def quiet(begin: str, end: str, zone: str = "Europe/Berlin") -> Contact:
    return Contact(quiet_from=time.fromisoformat(begin), quiet_to=time.fromisoformat(end), time_zone=zone)


@pytest.mark.parametrize(
    ("begin", "end", "now", "until"),
    [
        ("22:00", "07:00", "2026-01-10T20:59:59", None),
        ("22:00", "07:00", "2026-01-10T21:00:00", "2026-01-11T06:00:00"),
        ("22:00", "07:00", "2026-01-11T03:00:00", "2026-01-11T06:00:00"),
        ("22:00", "07:00", "2026-01-11T05:59:59", "2026-01-11T06:00:00"),
        ("22:00", "07:00", "2026-01-11T06:00:00", None),
        ("12:00", "13:00", "2026-01-10T11:30:00", "2026-01-10T12:00:00"),
        ("12:00", "13:00", "2026-01-10T12:00:00", None),
        ("08:00", "08:00", "2026-01-10T07:00:00", None),
        ("00:00", "06:00", "2026-01-09T23:00:00", "2026-01-10T05:00:00"),
        # The night that has 23 hours: 02:00 to 03:00 do not exist on 29 March 2026.
        ("22:00", "07:00", "2026-03-28T22:00:00", "2026-03-29T05:00:00"),
        ("22:00", "02:30", "2026-03-29T00:30:00", "2026-03-29T01:30:00"),
        ("22:00", "02:30", "2026-03-29T01:15:00", "2026-03-29T01:30:00"),
        ("22:00", "02:30", "2026-03-29T01:30:00", None),
        ("02:30", "05:00", "2026-03-29T01:15:00", None),
        ("02:30", "05:00", "2026-03-29T01:30:00", "2026-03-29T03:00:00"),
        ("02:30", "03:15", "2026-03-29T01:29:59", None),
        ("02:30", "03:15", "2026-03-29T01:30:00", "2026-03-29T02:15:00"),
        # The night that has 25: 02:00 to 03:00 come twice on 25 October 2026.
        ("22:00", "07:00", "2026-10-24T21:00:00", "2026-10-25T06:00:00"),
        ("22:00", "02:30", "2026-10-25T00:15:00", "2026-10-25T01:30:00"),
        ("22:00", "02:30", "2026-10-25T00:45:00", "2026-10-25T01:30:00"),
        ("22:00", "02:30", "2026-10-25T01:15:00", "2026-10-25T01:30:00"),
        ("22:00", "02:30", "2026-10-25T01:30:00", None),
        ("02:30", "05:00", "2026-10-25T00:30:00", "2026-10-25T04:00:00"),
        ("02:30", "05:00", "2026-10-25T01:10:00", "2026-10-25T04:00:00"),
    ],
)
def test_end_of_quiet_hours(begin: str, end: str, now: str, until: str | None) -> None:
    """Times of `now` and `until` are UTC."""
    found = end_of_quiet_hours(quiet(begin, end), datetime.fromisoformat(now).replace(tzinfo=UTC))
    assert found == (datetime.fromisoformat(until).replace(tzinfo=UTC) if until else None)


def test_an_unknown_zone_counts_as_utc() -> None:
    contact = quiet("22:00", "07:00", "Nowhere/Land")
    assert end_of_quiet_hours(contact, datetime(2026, 1, 10, 23, tzinfo=UTC)) == datetime(
        2026, 1, 11, 7, tzinfo=UTC
    )


def always_quiet(world: World, *kinds: str) -> Contact:
    """Quiet for at least an hour from now on, whenever the test runs."""
    now = timezone.now()
    return make_contact(
        world,
        *kinds,
        quiet_from=(now - timedelta(hours=1)).time(),
        quiet_to=(now + timedelta(hours=2)).time(),
        user=world.user("operator"),
    )


def test_quiet_hours_hold_all_but_the_inbox_back(world: World, mailbox: Mailbox) -> None:
    contact = always_quiet(world, ChannelKind.MAIL, ChannelKind.INBOX)
    tell(contact)
    assert only().status == S.HELD
    assert inbox.unread_count(world.user("operator")) == 1
    assert deliveries.ring_due() == 0 and send_all() == []
    # They are over:
    Contact.objects.update(quiet_from=None, quiet_to=None)
    Delivery.objects.update(next_at=timezone.now())
    assert deliveries.ring_due() == 1
    assert send_all() == ["sent"]
    assert len(mailbox.mails) == 1


def test_urgent_ones_are_not_held_back(world: World, mailbox: Mailbox) -> None:
    tell(always_quiet(world), urgent=True)
    assert send_all() == ["sent"]


def test_a_further_attempt_does_not_fall_into_quiet_hours(world: World, mailbox: Mailbox) -> None:
    contact = always_quiet(world)
    Contact.objects.update(quiet_from=None)
    mailbox.answer_data = "451 later"
    contact.refresh_from_db()
    tell(contact)
    send_all()
    mailbox.answer_data = ""
    Contact.objects.update(quiet_from=(timezone.now() - timedelta(hours=1)).time())
    Delivery.objects.update(next_at=timezone.now())
    deliveries.ring_due()
    assert send_all()[0].startswith("nothing to do")
    row = only()
    assert row.status == S.HELD and row.attempts == 1
    assert row.next_at is not None and row.next_at > timezone.now() + timedelta(hours=1)


# --- the inbox ------------------------------------------------------------------------------------------------------------


def test_only_members_with_the_channel_get_it_in_their_inbox(world: World) -> None:
    operator, outsider = world.user("operator"), world.user("outsider")
    tell(make_contact(world, ChannelKind.INBOX, name="a", user=operator))
    tell(make_contact(world, ChannelKind.MAIL, name="b", user=operator), "2")
    tell(make_contact(world, ChannelKind.INBOX, name="c", user=outsider))
    assert inbox.unread_count(operator) == 1
    assert inbox.unread_count(outsider) == 0
    told = inbox.messages_of(operator).get()
    first = inbox.mark(operator, told.public_id).read_at
    assert inbox.mark(operator, told.public_id).read_at == first
    assert inbox.unread_count(operator) == 0
    inbox.mark(operator, told.public_id, read=False)
    assert inbox.mark_all_read(operator) == 1
    with pytest.raises(NotFound):
        inbox.mark(outsider, told.public_id)


# --- webhooks -------------------------------------------------------------------------------------------------------------


def hook(world: World, url: str, secret: str = "whsec_of_the_test") -> Contact:
    contact = make_contact(world, ChannelKind.WEBHOOK)
    channel = contact.channels.get()
    channel.address, channel.secret = url, secret
    channel.save()
    return contact


def is_genuine(secret: str, header: str, body: bytes, now: float) -> bool:
    """The check of docs/notifications.md, word by word."""
    parts = dict(part.split("=", 1) for part in header.split(","))
    expected = hmac.new(secret.encode(), f"{parts['t']}.".encode() + body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected, parts["v1"]) and abs(now - int(parts["t"])) <= 300


def test_a_receiver_can_check_the_signature(world: World, receiver: Receiver) -> None:
    tell(hook(world, f"{receiver.url}/in?x=1"))
    assert send_all() == ["sent"]
    (got,) = receiver.requests
    now = timezone.now().timestamp()
    signature = got.headers["Switchyard-Signature"]
    assert is_genuine("whsec_of_the_test", signature, got.body, now)
    assert not is_genuine("whsec_of_the_test", signature, got.body + b" ", now)
    assert not is_genuine("another", signature, got.body, now)
    assert not is_genuine("whsec_of_the_test", signature, got.body, now + 301)
    told = Notification.objects.get()
    said = json.loads(got.body)
    assert said["id"] == told.public_id and said["subject"] == MESSAGE.subject and said["category"] == "tasks"
    assert got.headers["Switchyard-Delivery"] == f"{told.public_id}.{only().pk}"
    assert (got.method, got.path) == ("POST", "/in?x=1")


@pytest.mark.parametrize(("status", "final"), [(500, False), (429, False), (404, True), (410, True)])
def test_what_a_receiver_answers(world: World, receiver: Receiver, status: int, final: bool) -> None:
    receiver.status = status
    tell(hook(world, receiver.url))
    assert send_all() == ["not sent"]
    assert only().status == (S.FAILED if final else S.PENDING)
    assert str(status) in only().error


def test_redirects_are_not_followed(world: World, receiver: Receiver) -> None:
    with Receiver() as target:
        receiver.status, receiver.headers = 307, {"Location": target.url}
        tell(hook(world, receiver.url))
        send_all()
        assert target.requests == []
    assert only().status == S.FAILED and "redirect" in only().error


@pytest.mark.parametrize("name", ["public.example", "metadata.example", "both.example"])
def test_addresses_that_are_not_served_are_refused_after_the_name_is_resolved(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    addresses = {
        "public.example": ["93.184.215.14"],
        "metadata.example": ["169.254.169.254"],
        "both.example": ["93.184.215.14", "127.0.0.1"],
    }
    monkeypatch.setattr("portal.networks.resolve", lambda host, port: addresses[host])
    tell(hook(world, f"http://{name}:{receiver.port}/"))
    send_all()
    # Of several addresses the served one is used: nothing goes to the other.
    assert len(receiver.requests) == (name == "both.example")
    if name != "both.example":
        assert "not served" in only().error and only().status == S.PENDING


@pytest.mark.parametrize(
    "url", ["", "ftp://x/", "http://", "http://u:p@x/", "http://x:0/", "http://x:99999/", "http://x/a b", "http://x/\n", "http://[x/"]
)  # fmt: skip
def test_what_is_no_url_of_a_webhook(url: str) -> None:
    assert webhook.problem_of(url)


# --- apprise --------------------------------------------------------------------------------------------------------------


def service(world: World, url: str) -> Contact:
    contact = make_contact(world, ChannelKind.APPRISE)
    channel = contact.channels.get()
    channel.address = url
    channel.save()
    return contact


def test_apprise_reaches_a_service(world: World, receiver: Receiver) -> None:
    tell(service(world, f"gotify://127.0.0.1:{receiver.port}/{TOKEN}"))
    assert send_all() == ["sent"]
    (got,) = receiver.requests
    said = json.loads(got.body)
    assert said["title"] == MESSAGE.subject and "Nothing was changed." in said["message"]


TEXT = "First paragraph.\n\nSecond one, which is longer than what is left over.\n\n" + "Details. " * 60
LINK = "https://console.example/events/ev-1/"


@pytest.mark.parametrize(
    ("url", "body"),
    [
        ("ntfy://127.0.0.1/topic", f"{TEXT}\n\n{LINK}"),
        # 160 characters, of which the subject takes some.
        (f"twilio://AC{'a' * 32}:{'b' * 32}@12125551234/12125556789", f"First paragraph.\n\n{LINK}"),
    ],
)
def test_a_service_gets_what_it_takes(url: str, body: str) -> None:
    plugin = other._plugin(url)
    assert plugin is not None
    subject = "URGENT: High-risk vulnerability fix of sessions: Thu 3 December, 12:56 CET"
    assert other.fitting(subject, TEXT, LINK, plugin) == body


def test_apprise_does_not_follow_redirects(world: World, receiver: Receiver) -> None:
    with Receiver() as target:
        receiver.status, receiver.headers = 307, {"Location": f"{target.url}/message"}
        tell(service(world, f"gotify://127.0.0.1:{receiver.port}/{TOKEN}?redirect=yes"))
        assert send_all() == ["not sent"]
        assert target.requests == []


def test_apprise_refuses_the_surroundings_of_the_machine(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("portal.networks.resolve", lambda host, port: ["169.254.169.254"])
    tell(service(world, f"gotify://metadata.example/{TOKEN}"))
    assert send_all() == ["not sent"]
    assert "not served" in only().error


@pytest.mark.parametrize(
    "url", ["", "nonsense", "json://x", "syslog://", "mailto://x:y@z", "dbus://", "file:///x"]
)
def test_what_is_no_url_of_a_channel(url: str) -> None:
    assert other.problem_of(url)


@pytest.mark.parametrize("kind", [ChannelKind.APPRISE, ChannelKind.WEBHOOK])
@pytest.mark.parametrize("trouble", ["status", "gone", "no http"])
def test_the_token_of_a_channel_is_never_told(
    world: World,
    receiver: Receiver,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    kind: str,
    trouble: str,
) -> None:
    receiver.status = 503
    port = receiver.port
    if trouble == "gone":
        with Receiver() as gone:
            port = gone.port
    if trouble == "no http":
        with Mailbox() as box:
            _tell_secretly(world, kind, box.port)
    else:
        _tell_secretly(world, kind, port)
    row = only()
    assert row.error
    if trouble == "status":
        assert "503" in row.error
    told = caplog.text + "".join(capfd.readouterr()) + row.error + str(row.channel.__dict__)
    told += str(list(AuditEntry.objects.values()))
    assert TOKEN not in told and "whsec" not in told


def _tell_secretly(world: World, kind: str, port: int) -> None:
    if kind == ChannelKind.APPRISE:
        tell(service(world, f"gotify://127.0.0.1:{port}/{TOKEN}"))
    else:
        tell(hook(world, f"http://127.0.0.1:{port}/{TOKEN}"))
    assert send_all() == ["not sent"]
