"""The link of a message on a phone, at night: looked at, pressed, used up. Without a login, and without scripts. And the calendar."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from playwright.sync_api import expect

from .conftest import NewVisitor
from .console import Console, hour_of_window
from .test_pages import COLOURS, DESK, PHONE, RULES, faults_of, violations

SEED = """
import json
from datetime import time, timedelta
from django.utils import timezone
from events.models import Blackout
from events.services import links
from portal.models import Account, UserProfile
from portal.services.windows import set_window
from tests.events.conftest import make_contact, make_event
from tests.portal.world import make_instance

account = Account.objects.get(name="Account of luisa")
UserProfile.objects.update_or_create(user=account.members.get(), defaults={{"time_zone": "Europe/Berlin"}})
contact = make_contact(account, "Night shift", time_zone="Europe/Berlin")
now = timezone.now().replace(microsecond=0)
sessions = make_instance(account, "shop-sessions", host="10.20.0.4", zone="eu-central-1a")
cart = make_instance(account, "cart-of-the-customers-in-central-europe-and-beyond-the-alps", version="7.2.5")
set_window(None, account, [0, 1, 2, 3, 4, 5, 6], time({hour}), time({hour} + 2), "Europe/Berlin")
made = {{
    "pending": make_event(sessions, switch_at=now + timedelta(hours=30, minutes=7)),
    "chosen": make_event(cart, "minor-version", switch_at=None, version_from="7.2.5", version_to="7.2.8"),
    "urgent": make_event(cart, "vulnerability-fix", switch_at=now + timedelta(hours=20), deadline=now + timedelta(hours=60),
        may_cancel=True, executor="simulated", release_notes="https://example.org/notes"),
    "ended": make_event(sessions, status="succeeded", switch_at=now - timedelta(days=1), finished_at=now - timedelta(days=1),
        measured_seconds=4.2, result="Everything answered."),
}}
for number in range(6):
    make_event(sessions, switch_at=now + timedelta(hours=31, minutes=number))
Blackout.objects.create(account=account, reason="Stocktaking", starts_at=now + timedelta(days=3), ends_at=now + timedelta(days=5))
open({file!r}, "w").write(json.dumps({{name: links.link_for(event, contact) for name, event in made.items()}}))
"""


@pytest.fixture(scope="module")
def paths(console: Console, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    file = tmp_path_factory.mktemp("links") / "paths.json"
    console.run(SEED.format(file=str(file), hour=hour_of_window()))
    found: dict[str, str] = json.loads(Path(file).read_text())
    return found


@pytest.mark.timeout(180)
def test_two_taps_from_the_mail_to_another_time(
    visitor: NewVisitor, paths: dict[str, str], picture: Callable[..., None]
) -> None:
    phone: dict[str, Any] = {"viewport": PHONE, "java_script_enabled": False, "reduced_motion": "reduce"}
    nobody = visitor(**phone)
    page = nobody.page
    page.goto(paths["pending"])  # the first tap
    expect(page.get_by_role("heading", level=1)).to_have_text("Instance migration")
    expect(page.locator("main")).to_contain_text("shop-sessions")
    picture(nobody, "link-phone", full_page=True)
    button = page.get_by_role("button", name=re.compile("^Next window"))
    words = button.inner_text().partition("\n")[0].removeprefix("Next window: ")
    button.click()  # the second
    expect(page.get_by_role("heading", level=1)).to_have_text("The switchover is moved")
    expect(page.get_by_role("status")).to_contain_text(words)
    picture(nobody, "link-done", full_page=True)

    # Taken back, and, which takes a second tap, moved to an earlier window.
    page.get_by_role("button", name=re.compile("^Put back to")).click()
    expect(page.get_by_role("status")).to_contain_text(f"was {words}")
    page.get_by_role("link", name="Change it again").click()
    earlier = page.get_by_role("button", name=re.compile("^Yes, move it to"))
    expect(earlier).to_be_hidden()
    page.get_by_text(re.compile("^Earlier: ")).click()
    picture(nobody, "link-earlier", full_page=True)
    earlier.click()
    expect(page.get_by_role("status")).to_contain_text("earlier")

    with nobody.refusals():
        page.goto(paths["pending"])
        expect(page.get_by_role("heading", level=1)).to_have_text("This link has been used")
        picture(nobody, "link-used", full_page=True)
        page.goto(paths["ended"])
        expect(page.locator("main")).to_contain_text("Everything answered.")
        page.goto(paths["pending"][:-3] + "/")
        expect(page.get_by_role("heading", level=1)).to_have_text("This link is not valid")

    # A time by the picker.
    page.goto(paths["chosen"] + "?do=time")
    field = page.get_by_label("Switchover, by the clock of Europe/Berlin")
    latest = field.get_attribute("max") or ""
    field.fill(latest)
    page.get_by_role("button", name="Set this time").click()
    expect(page.get_by_role("status")).to_contain_text(latest[-5:])

    # At once takes a second tap; seen takes one.
    page.goto(paths["urgent"])
    expect(page.locator("main")).to_contain_text("Simulated: nothing is really done")
    expect(page.get_by_role("button", name="Yes, start now")).to_be_hidden()
    page.get_by_role("button", name=re.compile("^Acknowledge")).click()
    expect(page.get_by_role("status")).to_contain_text("noted that you have seen this")
    page.get_by_text("Start now", exact=True).click()
    picture(nobody, "link-now", full_page=True)
    page.get_by_role("button", name="Yes, start now").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("The preparation begins now")


@pytest.mark.timeout(240)
def test_the_pages_are_accessible(
    visitor: NewVisitor, console: Console, paths: dict[str, str], picture: Callable[..., None]
) -> None:
    nobody = visitor(reduced_motion="reduce")
    with nobody.refusals():
        faults = [*faults_of(nobody, paths["ended"]), *faults_of(nobody, "/events/link/forged/")]
    luisa = visitor("luisa", reduced_motion="reduce")
    for path in ("/events/calendar/", "/events/calendar/?month=2020-01", "/events/feeds/"):
        faults += faults_of(luisa, path)
    page = luisa.page
    page.set_viewport_size(DESK)
    page.emulate_media(color_scheme="light")
    page.goto("/events/calendar/")
    picture(luisa, "calendar", full_page=True)
    page.set_viewport_size(PHONE)
    faults += violations(page, RULES, "calendar, phone")
    picture(luisa, "calendar-phone", full_page=True)

    page.goto("/events/feeds/")
    page.get_by_label("Name", exact=True).fill("phone")
    page.get_by_role("button", name="Make the calendar").click()
    faults += violations(page, RULES, "feeds, made")
    picture(luisa, "feeds", full_page=True)
    found = re.search(r"/events/feed/[\w-]+\.ics", page.locator(".notice").inner_text())
    assert found
    with urlopen(console.origin + found[0], timeout=10) as answer:
        assert b"BEGIN:VCALENDAR" in answer.read()
    page.get_by_role("link", name="Revoke phone").click()
    faults += faults_of(luisa, page.url.removeprefix(luisa.origin))
    assert not faults, "\n".join(faults)


@pytest.mark.timeout(120)
def test_a_link_that_works_is_accessible(visitor: NewVisitor, console: Console, tmp_path: Path) -> None:
    file = tmp_path / "path"
    console.run(
        "from events.models import Event; from events.services import links; from portal.models import Contact\n"
        "event = Event.objects.filter(account__name='Account of luisa', status='pending', revision=0).first()\n"
        f"open({str(file)!r}, 'w').write(links.link_for(event, Contact.objects.get(name='Night shift')))"
    )
    nobody = visitor(reduced_motion="reduce")
    path = file.read_text()
    faults = faults_of(nobody, path)
    page = nobody.page
    for part in page.locator("details").all():
        part.locator("summary").click()
    faults += violations(page, RULES, "all parts open") + violations(page, COLOURS, "all parts open")
    with nobody.refusals():  # after the deadline: the field is checked by the server as well
        field = page.get_by_label("Switchover, by the clock of Europe/Berlin")
        page.locator("form", has=field).evaluate("form => { form.noValidate = true; }")
        field.fill("2099-01-01T00:00")
        page.get_by_role("button", name="Set this time").click()
        expect(page.get_by_role("alert")).to_contain_text("is after the deadline")
    faults += violations(page, RULES, "refused")
    page.get_by_role("button", name=re.compile("^Next window")).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("The switchover is moved")
    faults += violations(page, RULES, "done")
    assert not faults, "\n".join(faults)
