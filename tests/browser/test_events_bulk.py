"""Many events at once, as somebody does it in the browser: chosen in the list, previewed, carried out by a worker, taken back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import TimeoutError as NothingCame
from playwright.sync_api import expect

from .conftest import NewVisitor
from .console import Console
from .test_verification import DESK, look

# More than are changed at once in the request; one of them may not be moved.
SEED = """
from datetime import timedelta
from django.utils import timezone
from portal.models import Account, UserProfile
from tests.events.conftest import make_event
from tests.portal.world import make_instance
from tests.support.bulk_events import many_events

account = Account.objects.get(name="Account of ida")
UserProfile.objects.update_or_create(user=account.members.get(), defaults={"time_zone": "Europe/Berlin"})
many_events(account, 400)
make_event(make_instance(account, "ledger"), may_change=False, switch_at=timezone.now() + timedelta(days=3))
"""


@pytest.mark.timeout(240)
def test_many_are_moved_and_moved_back(
    visitor: NewVisitor, console: Console, picture: Callable[..., None]
) -> None:
    console.run(SEED)
    ida = visitor("ida", viewport=DESK, reduced_motion="reduce")
    page = ida.page
    page.goto("/events/?sort=when")
    page.get_by_label("With the selected events").select_option(label="Reschedule, staggered by minutes")
    page.get_by_label("all 401 that match").check()
    page.get_by_role("button", name="Go on…").click()
    expect(page.locator("main")).to_contain_text("401 events that match the list")
    look(ida, picture, "bulk-start")

    with ida.refusals():
        page.get_by_label("From", exact=True).fill("2020-01-01T02:00")
        page.get_by_role("button", name="Preview").click()
        expect(ida.error_at("at")).to_contain_text("has passed")
    at = (datetime.now(ZoneInfo("Europe/Berlin")) + timedelta(days=6)).replace(hour=9, minute=0)
    page.get_by_label("From", exact=True).fill(at.strftime("%Y-%m-%dT%H:%M"))
    page.get_by_label("Minutes from one switchover to the next").fill("2")
    page.get_by_label("the names of their instances").check()
    page.get_by_role("button", name="Preview").click()

    live = page.locator("#live")
    expect(live).to_contain_text("nothing has been changed", timeout=60_000)
    rows = page.locator("#rows tbody tr")
    expect(rows.nth(0)).to_contain_text("ledger")
    expect(rows.nth(0)).to_contain_text("The time of this event is fixed.")
    expect(rows.nth(1)).to_contain_text(f"{at:%Y-%m-%d} 09:00")
    expect(rows.nth(2)).to_contain_text(f"{at:%Y-%m-%d} 09:02")
    look(ida, picture, "bulk-preview")
    page.locator("#list-outcome").select_option(label="Left out")
    expect(rows).to_have_count(1)

    page.get_by_role("button", name="Reschedule 400 events").click()
    expect(live).not_to_contain_text("nothing has been changed")
    opened = ida.navigations
    undo = page.get_by_role("button", name="Undo for 400 events")
    expect(undo).to_be_visible(timeout=60_000)
    assert ida.navigations == opened  # the results came without the page being loaded again
    with pytest.raises(NothingCame), page.expect_request("**", timeout=2500):
        pass
    expect(rows.nth(1)).to_contain_text("Done")
    look(ida, picture, "bulk-done")

    undo.click()
    expect(page.locator("h1")).to_contain_text("Undo a change: 400 events")
    expect(rows.nth(0)).to_contain_text("Done", timeout=60_000)
    look(ida, picture, "bulk-undone")
