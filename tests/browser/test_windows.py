"""Maintenance windows in the browser: set, looked at and removed, by a phone and without scripts; accessible in every state."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.support.fixtures import ServerFactory

from .conftest import NewVisitor
from .test_pages import COLOURS, DESK, PHONE, RULES, faults_of, violations


@pytest.mark.timeout(180)
def test_a_window_is_set_and_removed(visitor: NewVisitor, redis_server: ServerFactory) -> None:
    wanda = visitor("wanda", reduced_motion="reduce", java_script_enabled=False, viewport=PHONE)
    page = wanda.page
    wanda.register("windows-" * 12, redis_server("valkey-9"))
    instance = page.url.removeprefix(wanda.origin)
    card = page.locator("#maintenance-window")
    expect(card).to_contain_text("There is no maintenance window")

    # The account's general one first, with a mistake: what was entered stays.
    page.goto("/accounts/")
    page.locator("th a").first.click()
    account = page.url.removeprefix(wanda.origin)
    card.get_by_role("link", name="Set a window").click()
    page.get_by_label("Saturday").check()
    page.get_by_label("From", exact=True).fill("23:00")
    page.get_by_label("To", exact=True).fill("23:00")
    page.get_by_label("Time zone").fill("australia/lord_howe")
    with wanda.refusals():
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_text("The window ends when it begins, at 23:00.")).to_be_visible()
    expect(page.get_by_label("Saturday")).to_be_checked()
    page.get_by_label("To", exact=True).fill("03:00")
    page.get_by_role("button", name="Save").click()
    expect(card).to_contain_text("Sat 23:00–03:00 Australia/Lord_Howe")
    expect(card.locator("time")).to_have_count(6)

    page.goto(instance)
    expect(card).to_contain_text("the account’s general one")
    card.get_by_role("link", name="Set its own").click()
    expect(page.get_by_label("Saturday")).to_be_checked()
    for day in ("Tuesday", "Wednesday", "Thursday"):
        page.get_by_label(day).check()
    page.get_by_role("button", name="Save").click()
    expect(card).to_contain_text("Tue–Thu, Sat 23:00–03:00 Australia/Lord_Howe")

    # The same pages with scripts, for those who read them another way.
    reader = visitor("wanda", reduced_motion="reduce")
    faults: list[str] = []
    for path in (instance, f"{instance}window/", account, f"{account}window/"):
        faults += faults_of(reader, path)
    reader.page.set_viewport_size(DESK)
    reader.page.goto(f"{instance}window/")
    for day in ("Tuesday", "Wednesday", "Thursday", "Saturday"):
        reader.page.get_by_label(day).uncheck()
    with reader.refusals():
        reader.page.get_by_role("button", name="Save").click()
        expect(reader.page.get_by_text("Choose at least one day").last).to_be_visible()
        for options in (RULES, COLOURS):
            faults += violations(reader.page, options, "the form with an error")
    assert not faults, "\n".join(faults)

    card.get_by_role("link", name="Change").click()
    page.get_by_role("button", name="Remove the window").click()
    expect(card).to_contain_text("the account’s general one")
