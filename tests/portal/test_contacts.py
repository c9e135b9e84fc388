"""Contacts of accounts and instances: services and pages."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import time
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from portal.choices import Category, ChannelKind, DeliveryStatus
from portal.errors import Invalid, NotFound, NotPermitted
from portal.models import AuditEntry, Contact, Delivery, InstanceContact, Notification, UserProfile
from portal.services import contacts, deliveries, inbox, notifications
from portal.services.contacts import Details, Reach
from portal.templatetags.portal import text_for_inbox

from .world import World

BOTH = [Category.MAINTENANCE.value, Category.TASKS.value]
SECRET_PATH = "path-that-is-a-token"
NO_CHANNEL = Reach()


def saved(world: World, reach: Reach = NO_CHANNEL, **values: Any) -> Contact:
    fields: dict[str, Any] = {"name": "On call", "email": "oncall@example.org", "categories": BOTH}
    contact, _ = contacts.save_contact(
        world.user("operator"), world.account, Details(**(fields | values)), reach
    )
    return contact


def kinds(contact: Contact) -> set[str]:
    return {channel.kind for channel in contact.channels.all()}


def page_of(browser: Client, contact: Contact, *, edit: bool = False) -> str:
    name = "account_contact_edit" if edit else "account_contact"
    return browser.get(reverse(name, args=[contact.account.public_id, contact.pk])).content.decode()


def form(**values: str | list[str]) -> dict[str, Any]:
    return {"name": "On call", "time_zone": "UTC", "order": "1"} | values


# --- services -------------------------------------------------------------------------------------------------------------


def test_channels_follow_from_what_was_entered(world: World) -> None:
    contact = saved(world, user=world.user("viewer"))
    assert kinds(contact) == {ChannelKind.MAIL, ChannelKind.INBOX}
    details = Details("On call", email="oncall@example.org", categories=BOTH)
    changed, secret = contacts.save_contact(
        world.user("owner"), world.account, details, Reach(webhook="https://hooks.internal/x"), contact
    )
    assert kinds(changed) == {ChannelKind.MAIL, ChannelKind.WEBHOOK}
    hook = changed.channels.get(kind=ChannelKind.WEBHOOK)
    assert secret.startswith("whsec_") and hook.secret.reveal() == secret
    assert contacts.rotate_secret(world.user("operator"), hook) != secret
    again, none = contacts.save_contact(
        world.user("owner"), world.account, details, Reach(removed=[hook.pk]), changed
    )
    assert kinds(again) == {ChannelKind.MAIL} and none == ""


@pytest.mark.parametrize(
    ("values", "id", "field"),
    [
        ({"name": " "}, "contact.name_needed", "name"),
        ({"email": "oncall@"}, "contact.bad_email", "email"),
        ({"email": "a@b.example, c@d.example"}, "contact.bad_email", "email"),
        ({"email": "a@b.example\nBcc: c@d.example"}, "contact.bad_email", "email"),
        ({"email": ""}, "contact.unreachable", "email"),
        ({"categories": ["nonsense"]}, "contact.bad_category", "categories"),
        ({"quiet_from": time(22)}, "contact.quiet_hours", "quiet_to"),
        ({"quiet_to": time(7)}, "contact.quiet_hours", "quiet_from"),
        ({"quiet_from": time(7), "quiet_to": time(7)}, "contact.quiet_hours", "quiet_to"),
        ({"time_zone": "Nowhere/Land"}, "contact.bad_zone", "time_zone"),
    ],
)
def test_what_is_refused(world: World, values: dict[str, Any], id: str, field: str) -> None:
    with pytest.raises(Invalid) as refused:
        saved(world, **values)
    assert (refused.value.id, refused.value.field) == (id, field)
    assert not Contact.objects.exists() and not AuditEntry.objects.filter(action="contact.created").exists()


def test_nothing_switched_on_needs_no_way_to_reach(world: World) -> None:
    assert kinds(saved(world, email="", categories=[])) == set()


def test_only_members_have_an_inbox_here(world: World) -> None:
    with pytest.raises(Invalid) as refused:
        saved(world, user=world.user("outsider"))
    assert refused.value.id == "contact.not_a_member"


def test_who_may_change_contacts(world: World) -> None:
    contact = saved(world)
    details = Details("Other", email="other@example.org")
    for role, refusal in (("viewer", NotPermitted), ("outsider", NotFound)):
        user = world.user(role)
        for attempt in (
            lambda user=user: contacts.save_contact(user, world.account, details, NO_CHANNEL),
            lambda user=user: contacts.save_contact(user, world.account, details, NO_CHANNEL, contact),
            lambda user=user: contacts.delete_contact(user, contact),
            lambda user=user: contacts.send_test(user, contact),
            lambda user=user: contacts.name_for_instance(user, world.instance, [contact]),
        ):
            with pytest.raises(refusal):
                attempt()
    assert Contact.objects.get().name == "On call"


def test_a_contact_of_another_account_cannot_be_named_or_changed(world: World) -> None:
    foreign = Contact.objects.create(account=world.other_account, name="Theirs")
    with pytest.raises(Invalid):
        contacts.name_for_instance(world.user("operator"), world.instance, [foreign])
    with pytest.raises(NotFound):
        contacts.save_contact(world.user("operator"), world.account, Details("Mine"), NO_CHANNEL, foreign)
    assert not InstanceContact.objects.exists()


def test_who_is_told_about_an_instance(world: World) -> None:
    assert contacts.told_for(world.instance) == []
    first, second = saved(world, name="First", order=2), saved(world, name="Second", order=1)
    saved(world, name="Tasks only", categories=["tasks"])
    assert contacts.told_for(world.instance) == [second, first]
    contacts.name_for_instance(world.user("operator"), world.instance, [first])
    assert contacts.told_for(world.instance) == [first]
    assert contacts.told_for(world.other_instance) == []
    contacts.delete_contact(world.user("operator"), first)
    assert contacts.told_for(world.instance) == [second]


def test_a_test_message_goes_out_at_once_and_what_was_told_stays(world: World) -> None:
    contact = saved(world, user=world.user("operator"), quiet_from=time(0), quiet_to=time(23, 59))
    told = contacts.send_test(world.user("owner"), contact)
    assert told.deliveries.get().status == DeliveryStatus.PENDING
    assert deliveries.claim(told.deliveries.get().pk) is not None
    assert inbox.unread_count(world.user("operator")) == 1
    contacts.delete_contact(world.user("owner"), contact)
    assert Notification.objects.get().contact is None and Delivery.objects.count() == 1


# --- pages ----------------------------------------------------------------------------------------------------------------


def test_from_nobody_to_a_contact(world: World, as_role: Callable[[str], Client]) -> None:
    browser = as_role("operator")
    instance_page = world.instance.get_absolute_url()
    assert "Nobody is told about faults" in browser.get(instance_page).content.decode()
    assert "Nobody is told" in browser.get(world.account.get_absolute_url()).content.decode()
    url = reverse("account_contact_create", args=[world.account.public_id])
    assert "O&amp;M" in browser.get(url).content.decode()
    refused = browser.post(url, form(categories=["maintenance"]))
    assert refused.status_code == 422 and "no way to reach" in refused.content.decode()
    malformed = browser.post(url, form(categories=["maintenance"], email="oncall@"))
    assert malformed.status_code == 422 and "no mail address" in malformed.content.decode()
    assert not Contact.objects.exists()
    browser.post(url, form(categories=["maintenance"], email="oncall@example.org"))
    assert "Nobody is told" not in browser.get(instance_page).content.decode()
    assert "On call" in browser.get(world.account.get_absolute_url()).content.decode()


def test_a_contact_that_a_program_has_made_can_be_edited(
    world: World, as_role: Callable[[str], Client]
) -> None:
    contact = saved(world)
    url = reverse("account_contact_edit", args=[world.account.public_id, contact.pk])
    found = as_role("operator").post(url, form(email="night@example.org", order=str(contact.order)))
    assert found.status_code == 302
    contact.refresh_from_db()
    assert (contact.email, contact.order) == ("night@example.org", 0)


def test_a_new_contact_is_told_of_maintenance_by_the_clock_of_who_adds_it(
    world: World, as_role: Callable[[str], Client]
) -> None:
    UserProfile.objects.create(user=world.user("operator"), time_zone="Europe/Berlin")
    url = reverse("account_contact_create", args=[world.account.public_id])
    new = as_role("operator").get(url).context["form"]
    assert (new["categories"].value(), new["time_zone"].value()) == (["maintenance"], "Europe/Berlin")
    assert as_role("owner").get(url).context["form"]["time_zone"].value() == "UTC"


def test_a_contact_that_is_told_of_nothing_is_no_success(
    world: World, as_role: Callable[[str], Client]
) -> None:
    browser = as_role("operator")
    url = reverse("account_contact_create", args=[world.account.public_id])
    for channel in ({"email": "a@example.org"}, {"webhook": "https://hooks.internal/x"}):
        found = browser.post(url, form(**channel), follow=True)
        said = [(one.level_tag, str(one)) for one in found.context["messages"]]
        assert said == [("warning", "The contact On call was saved. It is told of nothing: tick a category.")]


def test_the_page_says_by_which_clock_a_contact_is_told(
    world: World, as_role: Callable[[str], Client]
) -> None:
    contact = saved(world, time_zone="Asia/Tokyo")
    assert "Asia/Tokyo" in page_of(as_role("viewer"), contact)


def test_links_in_messages_reach_farther_than_the_role_of_a_viewer(
    world: World, as_role: Callable[[str], Client]
) -> None:
    browser = as_role("operator")
    theirs = saved(world, user=world.user("viewer"))
    assert "whatever their role" in page_of(browser, theirs, edit=True)
    warning = "viewer is a viewer of the account, but may move, start and cancel events"
    assert warning in page_of(browser, theirs) and warning in page_of(as_role("viewer"), theirs)
    for harmless in (saved(world, user=world.user("operator")), saved(world)):
        assert "is a viewer of" not in page_of(browser, harmless)
    only_tasks = saved(world, user=world.user("viewer"), categories=["tasks"])
    assert "is a viewer of" not in page_of(browser, only_tasks)


def test_webhooks_of_one_host_are_told_apart(world: World, as_role: Callable[[str], Client]) -> None:
    for address in (f"http://127.0.0.1:8099/{SECRET_PATH}", f"https://[::1]/{SECRET_PATH}?{SECRET_PATH}"):
        shown = page_of(as_role("viewer"), saved(world, Reach(webhook=address)))
        assert address.partition(SECRET_PATH)[0] + "…" in shown and SECRET_PATH not in shown


def test_secrets_of_channels_are_shown_once_or_never(
    world: World, as_role: Callable[[str], Client], caplog: pytest.LogCaptureFixture
) -> None:
    browser = as_role("operator")
    url = reverse("account_contact_create", args=[world.account.public_id])
    made = browser.post(
        url,
        form(
            email="a@example.org",
            webhook=f"https://hooks.internal/{SECRET_PATH}",
            apprise=f"gotify://push.internal/{SECRET_PATH}",
        ),
    )
    assert made.status_code == 200 and "no-store" in made.headers["Cache-Control"]
    found = re.search(r"whsec_[\w-]+", made.content.decode())
    assert found
    contact = Contact.objects.get()
    pages = [
        reverse("account_contact", args=[world.account.public_id, contact.pk]),
        reverse("account_contact_edit", args=[world.account.public_id, contact.pk]),
        world.account.get_absolute_url(),
        reverse("audit_list"),
    ]
    told = made.content.decode() + caplog.text + str(list(AuditEntry.objects.values()))
    told += "".join(browser.get(page).content.decode() for page in pages)
    assert SECRET_PATH not in told
    assert "hooks.internal" in told and told.count(found[0]) <= 3  # in the one answer: text and copy button
    assert found[0] not in browser.get(pages[0]).content.decode()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("webhook", "ftp://x"),
        ("webhook", "http://u:secret@x/"),
        ("apprise", "json://x"),
        ("apprise", "nonsense"),
    ],
)
def test_addresses_of_channels_are_checked(
    world: World, as_role: Callable[[str], Client], field: str, value: str
) -> None:
    url = reverse("account_contact_create", args=[world.account.public_id])
    answer = as_role("operator").post(url, form(email="a@example.org", **{field: value}))
    assert answer.status_code == 422
    assert not Contact.objects.exists()


def test_the_inbox(world: World, as_role: Callable[[str], Client]) -> None:
    contact = saved(world, user=world.user("viewer"))
    for number in range(3):
        message = notifications.Message(f"Trouble {number}", "It failed.", url="/migrations/")
        category = Category.TASKS if number else Category.MAINTENANCE
        notifications.notify([contact], str(number), category, message)
    browser = as_role("viewer")
    page = browser.get(reverse("inbox")).content.decode()
    assert "Inbox: 3 unread" in page and page.count('class="is-unread"') == 3
    told = inbox.messages_of(world.user("viewer")).first()
    assert told is not None
    browser.get(reverse("inbox_message", args=[told.public_id]))
    assert "Inbox: 2 unread" in browser.get(reverse("home")).content.decode()
    assert browser.get(reverse("inbox") + "?state=unread").content.decode().count('class="is-unread"') == 2
    assert "Trouble 0" not in browser.get(reverse("inbox") + "?category=tasks").content.decode()
    browser.post(reverse("inbox_mark", args=[told.public_id]), {"unread": "1"})
    assert inbox.unread_count(world.user("viewer")) == 3
    browser.post(reverse("inbox_read_all"))
    assert "unread" not in browser.get(reverse("home")).content.decode()


def test_a_message_in_the_inbox_leads_to_its_event_and_not_past_the_login(
    world: World, as_role: Callable[[str], Client]
) -> None:
    contact = saved(world, user=world.user("viewer"))
    text = (
        "Network upgrade of sessions: Sat 5 December, 02:00 UTC\n\nIt was moved by owner.\n\n"
        "Move it, without signing in:\nhttps://console.example/events/link/O-6-1.x/\n\nWhy\nThe network moves."
    )
    message = notifications.Message("Network upgrade of sessions", text, url="/events/ev-2345abcd/")
    notifications.notify([contact], "x", Category.MAINTENANCE, message)
    browser = as_role("viewer")
    row = browser.get(reverse("inbox")).content.decode()
    assert '<span class="sub">It was moved by owner.' in row
    told = inbox.messages_of(world.user("viewer")).get()
    page = browser.get(reverse("inbox_message", args=[told.public_id])).content.decode()
    assert '<a class="btn btn-primary" href="/events/ev-2345abcd/">Open the event</a>' in page
    assert "moved by owner" in page and "The network moves." in page
    assert "/events/link/" not in row + page and "without signing in" not in row + page


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("It failed.", "It failed."),
        ("The list:\nhttps://a.example/events/?q=1\n\nEnd.", "End."),
        ("orders\n  Tue\n  https://a.example/events/link/x/", "orders\n  Tue"),
        ("Notes: https://a.example/events/?q=1", "Notes: https://a.example/events/?q=1"),
        ("See\nhttps://b.example/", "See\nhttps://b.example/"),
    ],
)
def test_only_links_that_the_page_has_itself_are_left_out(text: str, shown: str) -> None:
    assert text_for_inbox(Notification(text=text, url="/events/?q=1")) == shown


def test_the_badge_costs_one_query_and_fragments_none(world: World, as_role: Callable[[str], Client]) -> None:
    contact = saved(world, user=world.user("viewer"))
    browser = as_role("viewer")

    def count(**headers: str) -> int:
        with CaptureQueriesContext(connection) as queries:
            browser.get(reverse("audit_list"), headers=headers)
        return len([one for one in queries if "portal_notification" in one["sql"]])

    assert count() == 1
    for number in range(5):
        notifications.notify(
            [contact], str(number), Category.TASKS, notifications.Message("Trouble", "It failed.")
        )
    assert count() == 1
    assert count(**{"HX-Request": "true"}) == 0


def test_the_log_of_deliveries(world: World, as_role: Callable[[str], Client]) -> None:
    contact = saved(world)
    notifications.notify([contact], "x", Category.TASKS, notifications.Message("Trouble", "It failed."))
    delivery = Delivery.objects.get()
    delivery = deliveries.claim(delivery.pk) or delivery
    deliveries.failed(delivery, "The mail server refused the address: 550 <b>no</b>", for_good=True)
    url = reverse("account_deliveries", args=[world.account.public_id])
    page = as_role("operator").get(url).content.decode()
    assert "Not sent" in page and "550 &lt;b&gt;no" in page and "Send again" in page
    assert "Send again" not in as_role("viewer").get(url).content.decode()
    again = reverse("account_redeliver", args=[world.account.public_id, delivery.pk])
    as_role("operator").post(again)
    assert Delivery.objects.get().status == DeliveryStatus.PENDING


def test_a_delivery_leads_to_what_it_is_about(world: World, as_role: Callable[[str], Client]) -> None:
    contact = saved(world, user=world.user("operator"))
    message = notifications.Message("Moved", "It was moved.", url="/events/ev-2345abcd/")
    notifications.notify([contact], "x", Category.MAINTENANCE, message)
    mine = reverse("inbox_message", args=[Notification.objects.get().public_id])
    url = reverse("account_deliveries", args=[world.account.public_id])
    for role in ("operator", "viewer"):
        page = as_role(role).get(url).content.decode()
        assert 'href="/events/ev-2345abcd/">Moved</a>' in page
        assert (mine in page) == (role == "operator")  # nobody opens what another person was told
        assert reverse("account_contact", args=[world.account.public_id, contact.pk]) in page


def test_contacts_of_an_instance(world: World, as_role: Callable[[str], Client]) -> None:
    contact = saved(world)
    browser = as_role("operator")
    url = reverse("instance_contacts", args=[world.instance.public_id])
    browser.post(url, {"contacts": [contact.pk]})
    assert InstanceContact.objects.get().contact == contact
    assert "Named for this instance" in browser.get(world.instance.get_absolute_url()).content.decode()
    foreign = Contact.objects.create(account=world.other_account, name="Theirs")
    assert browser.post(url, {"contacts": [foreign.pk]}).status_code == 422
    browser.post(url, {})
    assert not InstanceContact.objects.exists()
