"""Staff publish events and look at the campaign: with scripts, without them, and on a phone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from .conftest import NewVisitor
from .console import ADMIN, Console
from .test_verification import DESK, look

SEED = """
from datetime import time, timedelta
from zoneinfo import ZoneInfo
from django.utils import timezone
from portal.models import Account
from portal.services.windows import set_window
from tests.events.conftest import make_contact
from tests.portal.world import make_instance

account = Account.objects.get(name="Account of hedda")
set_window(None, account, [0, 1, 2, 3, 4, 5, 6], time(2), time(4), "Europe/Berlin")
now = timezone.now().astimezone(ZoneInfo("Europe/Berlin"))
quiet = [(now + timedelta(hours=hours)).time().replace(second=0, microsecond=0) for hours in (-3, 3)]
make_contact(account, "On call", quiet_from=quiet[0], quiet_to=quiet[1], time_zone="Europe/Berlin")
for number in range(3):
    make_instance(account, f"orders-{number}", version=f"6.2.{number + 12}", edition="redis", region="eu-publish", zone=f"rack-{number}")
make_instance(account, "orders-by-address", version="6.2.7", edition="redis", region="eu-publish", host="10.20.0.9")
"""


@pytest.mark.timeout(240)
def test_from_the_type_to_the_campaign(
    visitor: NewVisitor, console: Console, picture: Callable[..., None]
) -> None:
    console.run(SEED)
    ada = visitor(ADMIN, viewport=DESK, reduced_motion="reduce")
    page = ada.page
    page.goto("/events/")
    page.get_by_role("link", name="Publish events").click()
    look(ada, picture, "publish-types")
    page.get_by_role("link", name="Minor engine version update").click()

    page.get_by_label("Region").select_option("eu-publish")
    page.get_by_label("Target version").fill("6.2.14")
    page.get_by_label("Name of the campaign").fill("Redis 6.2 in eu-publish")
    look(ada, picture, "publish-form")
    page.get_by_role("button", name="Preview").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Publish 3 events?")
    main = page.locator("main")
    expect(main).to_contain_text("1 instance left out")
    expect(main).to_contain_text("after quiet hours")
    expect(main).to_contain_text("Its endpoint is an IP address")
    look(ada, picture, "publish-preview")
    page.get_by_role("button", name="Left out (1)").click()
    expect(page.locator("main tbody tr")).to_have_count(1)
    expect(main).to_contain_text("6.2.14 is not later")
    page.get_by_role("button", name="Change something").click()
    expect(page.get_by_label("Target version")).to_have_value("6.2.14")
    page.get_by_role("button", name="Preview").click()
    page.get_by_role("button", name="Publish 3 events").click()

    expect(page.locator(".messages")).to_contain_text("3 events published")
    expect(page.locator("#campaign-events tbody tr")).to_have_count(3)
    look(ada, picture, "campaign")
    page.get_by_role("navigation", name="Breadcrumbs").get_by_role("link", name="Campaigns").click()
    look(ada, picture, "campaign-list")
    page.get_by_role("link", name="Redis 6.2 in eu-publish").click()
    page.locator("#campaign-events").get_by_role("link", name="orders-1").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("orders-1")


@pytest.mark.timeout(180)
def test_without_scripts(visitor: NewVisitor, console: Console) -> None:
    console.run(SEED.replace("hedda", "hugo").replace("eu-publish", "eu-plain"))
    ada = visitor(ADMIN, viewport=DESK, java_script_enabled=False)
    page = ada.page
    page.goto("/events/publish/")
    page.get_by_role("link", name="Network upgrade", exact=True).click()
    page.get_by_label("Region").select_option("eu-plain")
    page.get_by_role("button", name="Preview").click()
    page.get_by_role("button", name="Publish 4 events").click()
    expect(page.locator(".messages")).to_contain_text("4 events published")
