"""Events as those who own the servers meet them: the prompt after the login, the event center, another time, the history."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from playwright.sync_api import TimeoutError as NothingCame
from playwright.sync_api import expect

from .conftest import NewVisitor
from .console import BERLIN, Console, hour_of_window
from .test_pages import PHONE, faults_of
from .test_verification import DESK, look

# An account with what the pages have to show: for each person one of their own.
SEED = """
from datetime import time, timedelta
from django.utils import timezone
from events.choices import EventStatus, StageStatus
from events.models import Campaign, EventLogEntry, EventStage, EventType
from portal.models import Account, ConnectionTemplate, UserProfile
from portal.services.windows import set_window
from tests.events.conftest import make_event
from tests.portal.world import make_instance

name = {name!r}
account = Account.objects.get(name=f"Account of {{name}}")
UserProfile.objects.update_or_create(user=account.members.get(), defaults={{"time_zone": "Europe/Berlin"}})
now = timezone.now().replace(microsecond=0)
sessions = make_instance(account, "shop-sessions", host="10.20.0.4", zone="eu-central-1a")
cart = make_instance(account, "cart-of-the-customers-in-central-europe-and-beyond-the-alps", version="7.2.5")
stock = make_instance(account, "stock", region="us-east")
set_window(None, account, [0, 1, 2, 3, 4, 5, 6], time({hour}), time({hour} + 2), "Europe/Berlin")
ConnectionTemplate.objects.create(account=account, name="Sessions, direct", host="10.20.0.4")
campaign = Campaign.objects.create(name="Out of rack 14", type=EventType.objects.get(code="instance-migration"))
make_event(sessions, campaign=campaign)
make_event(sessions, "network-upgrade-zone", switch_at=now + timedelta(days=4, minutes=5), campaign=campaign)
make_event(cart, "minor-version", switch_at=None, deadline=now + timedelta(days=5), version_from="7.2.5", version_to="7.2.8", executor="simulated", preparation_seconds=2)
make_event(stock, "vulnerability-fix", switch_at=now + timedelta(hours=20), deadline=now + timedelta(hours=60), version_from="7.0.11", version_to="7.0.15", release_notes="https://example.org/notes")
make_event(stock, "configuration-change", switch_at=now + timedelta(days=6), may_cancel=True)
past = dict(status=EventStatus.SUCCEEDED, measured_seconds=4.2, finished_at=now - timedelta(days=3), started_at=now - timedelta(days=3, minutes=20))
done = make_event(sessions, "instance-migration", switch_at=now - timedelta(days=3), result="Everything answered.", **past)
for position, words in enumerate(("Request resources", "Synchronize data", "Switch over"), 1):
    EventStage.objects.create(event=done, position=position, code=str(position), name=words, phase="switch" if position == 3 else "prepare", status=StageStatus.DONE, began_at=now - timedelta(days=3, minutes=20 - position), ended_at=now - timedelta(days=3, minutes=19 - position), impact="connections are closed once" if position == 3 else "")
EventLogEntry.objects.create(event=done, message="The new node answers.")
make_event(stock, "instance-migration", switch_at=now - timedelta(days=40), result="The replica did not come up.", **(past | dict(status=EventStatus.FAILED, finished_at=now - timedelta(days=40))))
"""


@pytest.mark.timeout(240)
def test_from_the_prompt_to_another_time_and_the_history(
    visitor: NewVisitor, console: Console, picture: Callable[..., None]
) -> None:
    console.run(SEED.format(name="elena", hour=hour_of_window()))
    elena = visitor("elena", viewport=DESK, reduced_motion="reduce")
    page = elena.page
    faults: list[str] = []

    # After the login: the question, which Escape closes and which does not come again; the banner stays.
    prompt = page.get_by_role("dialog")
    expect(prompt).to_contain_text("Choose when it happens")
    expect(prompt).to_contain_text("cart-of-the-customers")
    picture(elena, "event-prompt-light")
    page.emulate_media(color_scheme="dark")
    picture(elena, "event-prompt-dark")
    page.set_viewport_size(PHONE)
    picture(elena, "event-prompt-phone")
    page.set_viewport_size(DESK)
    page.emulate_media(color_scheme="light")
    page.keyboard.press("Escape")
    expect(prompt).to_have_count(0)
    page.reload()
    expect(page.get_by_role("complementary", name="Events that need attention")).to_contain_text(
        "2 events need attention"
    )
    expect(prompt).to_have_count(0)
    look(elena, picture, "event-home")

    page.get_by_role("link", name="2 events need attention").click()
    table = page.locator("#events")
    expect(table.locator("tbody tr")).to_have_count(2)
    page.goto("/events/")
    expect(table.locator("tbody tr")).to_have_count(5)
    look(elena, picture, "event-list")
    page.locator("#list-level").select_option(label="S0 · Risk fix")
    expect(table.locator("tbody tr")).to_have_count(1)
    with page.expect_download() as download:
        page.get_by_role("link", name="Export 1 as CSV").click()
    assert "stock" in download.value.path().read_text()

    # The urgent one, in the hand of somebody who was woken.
    page.set_viewport_size(PHONE)
    table.get_by_role("link", name="High-risk vulnerability fix").click()
    expect(page.locator("#live")).to_contain_text("a shorter notice than the usual 72 h")
    look(elena, picture, "event-urgent")
    page.set_viewport_size(PHONE)
    page.get_by_role("button", name="Acknowledge").click()
    expect(page.locator(".messages")).to_contain_text("Acknowledged by elena")
    expect(page.get_by_role("button", name="Acknowledge")).to_have_count(0)

    page.get_by_role("link", name="Reschedule").click()
    page.get_by_label("At a time of your choice").check()
    page.wait_for_load_state()  # from here on the scripts hear of what is entered
    # In between 24 and 48 hours, which is before the deadline, and not in the window at whatever hour this runs.
    tomorrow = datetime.now(BERLIN) + timedelta(days=1)
    wanted = tomorrow.replace(hour=16, minute=30)
    wanted += timedelta(days=wanted < tomorrow)
    page.get_by_label("Date and time").fill(wanted.strftime("%Y-%m-%dT%H:%M"))
    page.get_by_label("Date and time").blur()
    consequence = page.locator("#consequence")
    expect(consequence).to_contain_text(f"{wanted:%Y-%m-%d %H:%M}")
    expect(consequence).to_contain_text("outside the maintenance window")
    expect(consequence).to_contain_text("Deferral 1 of 2")
    look(elena, picture, "event-reschedule")
    page.get_by_role("button", name="Reschedule").click()
    expect(page.locator(".messages")).to_contain_text(f"{wanted:%Y-%m-%d %H:%M}")
    expect(page.locator("#timeline")).to_contain_text("New time")

    # What is refused is said beside the field, and nothing is changed.
    page.get_by_role("link", name="Reschedule").click()
    page.get_by_label("At a time of your choice").check()
    with elena.refusals():
        page.get_by_label("Date and time").fill("2036-01-01T02:00")
        page.get_by_role("button", name="Reschedule").click()
        expect(elena.error_at("switch_at")).to_contain_text("is after the deadline")

    page.set_viewport_size(DESK)
    page.goto("/events/?q=shop-sessions")
    table.get_by_role("link", name="Network upgrade across zones").click()
    expect(page.locator("#live")).to_contain_text(
        "It waits for another event of the instance: Instance migration"
    )
    expect(page.locator("main")).to_contain_text("The endpoint is an IP address")
    expect(page.locator("main")).to_contain_text("Nobody is told of this event outside the console")
    look(elena, picture, "event-page")
    page.goto("/events/?needs=time")
    table.get_by_role("link", name="Minor engine version update").click()
    expect(page.locator("main")).to_contain_text("no notes")
    expect(page.locator("main")).to_contain_text("Simulated")
    look(elena, picture, "event-waiting")

    # Now: the page shows how it is carried out, without being loaded again, and asks no more at the end.
    page.get_by_role("link", name="Choose a time").click()
    page.get_by_label("Now", exact=True).check()
    page.get_by_role("button", name="Choose this time").click()
    live = page.locator("#live")
    opened = elena.navigations
    expect(live).to_contain_text("In progress since", timeout=60_000)
    expect(live.locator(".stages")).to_be_visible()
    picture(elena, "event-running", full_page=True)
    expect(live).to_contain_text("Done: clients were affected for", timeout=90_000)
    expect(page.locator("#timeline")).to_contain_text("Stage done")
    expect(page.get_by_role("link", name="Reschedule")).to_have_count(0)
    assert elena.navigations == opened
    with pytest.raises(NothingCame), page.expect_request("**", timeout=3000):
        pass
    page.goto("/events/?q=configuration")
    table.get_by_role("link", name="Configuration change").click()
    page.get_by_role("link", name="Cancel…").click()
    faults += faults_of(elena, page.url.removeprefix(elena.origin))
    page.get_by_label("Reason").fill("Done with the last release.")
    page.get_by_role("button", name="Cancel the event").click()
    expect(page.locator("#live")).to_contain_text(
        "Cancelled: it does not happen. Done with the last release."
    )

    page.goto("/events/history/")
    expect(table.locator("tbody tr")).to_have_count(4)
    look(elena, picture, "event-history")
    page.locator("#list-when").select_option(label="in the last 7 days")
    expect(table.locator("tbody tr")).to_have_count(3)
    table.get_by_role("link", name="Instance migration").click()
    expect(page.locator("#live")).to_contain_text("clients were affected for 4.2 s")
    look(elena, picture, "event-done")
    page.goto("/instances/?q=stock")
    page.get_by_role("link", name="stock").click()
    expect(page.locator("main")).to_contain_text("High-risk vulnerability fix")
    for path in ("/events/?q=nothing-like-that", "/events/history/?q=nothing-like-that"):
        faults += faults_of(elena, path)
    assert not faults, "\n".join(faults)


@pytest.mark.timeout(180)
def test_the_same_way_without_scripts_on_a_phone(visitor: NewVisitor, console: Console) -> None:
    hour = hour_of_window()
    console.run(SEED.format(name="emil", hour=hour))
    emil = visitor("emil", java_script_enabled=False, viewport=PHONE)
    page = emil.page
    prompt = page.get_by_role("dialog")
    expect(prompt).to_contain_text("Minor engine version update")
    prompt.get_by_role("button", name="Later").click()
    expect(prompt).to_have_count(0)
    page.reload()
    expect(prompt).to_have_count(0)

    page.get_by_role("link", name="2 events need attention").click()
    page.locator("#events").get_by_role("link", name="Minor engine version update").click()
    page.get_by_role("link", name="Choose a time").click()
    expect(page.get_by_label("Next maintenance window")).to_be_checked()
    page.get_by_role("button", name="What would happen?").click()
    expect(page.locator("#consequence")).to_contain_text("Switchover in ")
    page.get_by_role("button", name="Choose this time").click()
    expect(page.locator(".messages")).to_contain_text("The switchover is planned for")
    expect(page.locator("#live")).not_to_contain_text("not chosen yet")
    expect(page.locator(".messages")).to_contain_text(f"{hour}:00 CE")

    page.goto("/events/history/")
    page.get_by_label("Search events").fill("replica did")
    page.get_by_label("Search events").fill("stock")
    page.get_by_role("button", name="Apply").click()
    expect(page.locator("#events tbody tr")).to_have_count(1)
    wide: int = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0
