"""What stands in the way of a migration is found, repaired or ignored, put back, and rehearsed; on real servers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.support.fixtures import ServerFactory
from tests.support.servers import Server
from tests.support.wait import wait_for

from .conftest import NewVisitor
from .test_pages import COLOURS, DESK, PHONE, RULES, violations
from .visitor import AT_ONCE, Visitor, option


def to_the_precheck(visitor: Visitor, source: str, target: str) -> str:
    """A draft between two instances of the fleet, as far as its precheck; returns the address of that."""
    page = visitor.page
    page.goto("/migrations/new/")
    page.get_by_role("button", name="Begin").click()
    for side, name in (("source", source), ("target", target)):
        page.locator(f"[name={side}-origin][value=fleet]").check()
        choice = page.locator(f"#id_{side}-instance")
        choice.select_option(label=option(choice, name))
    page.get_by_role("button", name="Test connectivity and continue").click()
    page.get_by_role("link", name="Continue to").click()
    page.get_by_role("button", name="Next: save and precheck").click()
    expect(page.locator(".precheck-rate")).to_be_visible()
    return page.url


def item(page: Page, title: str, *, failed: bool = False) -> Locator:
    """An item, unfolded. `failed`: the one of the sides where it has failed."""
    found = page.locator(".precheck-item").filter(has=page.get_by_text(title, exact=True))
    found = (found.filter(has=page.get_by_text("Failed", exact=True)) if failed else found).first
    if found.get_attribute("open") is None:
        found.locator("> summary").click()
    return found


def faults(visitor: Visitor, name: str) -> list[str]:
    """What somebody who reads the page another way would stumble over: axe in light and dark, the width of a phone."""
    page = visitor.page
    found = violations(page, RULES, f"{name} light")
    page.emulate_media(color_scheme="dark")
    found += violations(page, COLOURS, f"{name} dark")
    page.emulate_media(color_scheme="light")
    page.set_viewport_size(PHONE)
    if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
        found.append(f"{name}: wider than a phone")
    page.set_viewport_size(DESK)
    return found


def setting(server: Server, name: str) -> str:
    with server.client() as client:
        return str(client.config_get(name)[name])


@pytest.mark.timeout(300)
def test_trouble_is_found_repaired_and_put_back(
    visitor: NewVisitor, redis_server: ServerFactory, picture: Callable[..., None]
) -> None:
    source = redis_server("redis-6.2", config=AT_ONCE)
    target = redis_server("redis-8.0", config={"maxmemory": "200mb", "maxmemory-policy": "allkeys-lru"})
    with source.client() as client, target.client() as copy:
        client.mset({f"key:{number}": number for number in range(500)})
        copy.set("key:7", "another")
    paula = visitor("paula", viewport=DESK, reduced_motion="reduce")
    paula.register("orders", source)
    paula.register("orders-new", target)
    address = to_the_precheck(paula, "orders", "orders-new")
    page = paula.page

    # What protects data cannot be ignored; what can be repaired is, at the server.
    expect(page.locator(".precheck-words")).to_contain_text("1 item failed; the task cannot start.")
    expect(page.get_by_role("button", name="Next: confirm")).to_have_count(0)
    names = item(page, "Names on both sides")
    expect(names).to_contain_text("key:7")
    expect(names).to_contain_text("It cannot be ignored")
    picture(paula, "precheck-failed", full_page=True)
    found = faults(paula, "precheck")
    before = setting(source, "repl-timeout")
    item(page, "Replication timeout").get_by_role("button", name="Repair it").click()
    expect(item(page, "Replication timeout")).to_contain_text("Run the precheck again to see it pass.")
    assert setting(source, "repl-timeout") == "300"

    # The target is cleared by somebody who types its name, and by nobody else.
    names.get_by_role("link", name="Clear the target").click()
    typed = page.get_by_label("Name of the target")
    found += faults(paula, "clearing")
    with paula.refusals():
        typed.fill("orders")
        page.get_by_role("button", name="Clear the target").click()
        expect(paula.error_at("confirmation")).to_contain_text("is not the name of the target")
    with target.client() as copy:
        assert copy.dbsize() == 1
    typed.fill("orders-new")
    page.get_by_role("button", name="Clear the target").click()
    expect(item(page, "Names on both sides")).to_contain_text("Repaired.")
    with target.client() as copy:
        assert copy.dbsize() == 0

    # Checked again, nothing stands in the way; what was changed is listed, and can be put back at once.
    page.get_by_role("button", name="Run again").click()
    expect(page.locator(".precheck-rate")).to_contain_text("100 %")
    expect(item(page, "Eviction policy")).to_contain_text("allkeys-lru")
    changed = page.locator("section").filter(has=page.get_by_role("heading", name="Changed for this task"))
    expect(changed).to_contain_text("repl-timeout")
    picture(paula, "precheck-passed", full_page=True)
    changed.get_by_role("button", name="Put it back now").click()
    expect(changed).to_have_count(0)
    assert setting(source, "repl-timeout") == before

    # A rehearsal tells what is to come, and writes nothing.
    page.get_by_role("link", name="Rehearse").click()
    page.get_by_role("button", name="Rehearse").click()
    expect(page.locator("#rehearsal")).to_contain_text("The target can take everything that was looked at.")
    expect(page.locator("#rehearsal")).to_contain_text("500 keys were looked at")
    picture(paula, "rehearsal", full_page=True)
    found += faults(paula, "rehearsal")
    with target.client() as copy:
        assert copy.dbsize() == 0

    # Commands for one database, by what each becomes on the wire.
    page.goto(address.replace("/precheck/", "/objects/"))
    page.get_by_text("Commands of the incremental phase").click()
    page.get_by_role("button", name="Change the commands of All databases").click()
    page.get_by_label("All but those ticked below").check()
    page.get_by_text("Streams", exact=True).click()
    page.get_by_label("XADD").check()
    found += faults(paula, "commands")
    picture(paula, "commands", full_page=True)
    page.get_by_role("link", name="Leave without saving").click()
    assert not found, "\n".join(found)

    # The rest without scripts: nothing starts before the risks are acknowledged.
    plain = visitor("paula", java_script_enabled=False)
    page = plain.page
    page.goto(address)
    page.get_by_role("button", name="Next: confirm").click()
    expect(page.locator("main")).to_contain_text("500 keys, ")
    with plain.refusals():
        page.get_by_role("button", name="Start the task").click()
        expect(plain.error_at("acknowledged")).to_contain_text("The task was not started.")
    page.get_by_label("I have read what is listed above").check()
    page.get_by_role("button", name="Start the task").click()
    expect(page.locator(".messages")).to_contain_text("was started")


@pytest.mark.timeout(300)
def test_a_risk_is_taken_without_scripts(visitor: NewVisitor, redis_server: ServerFactory) -> None:
    source = redis_server("redis-7.0", config=AT_ONCE)
    target = redis_server("redis-7.0", config={"maxclients": 12})
    pia = visitor("pia", java_script_enabled=False)
    page = pia.page
    pia.register("ledger", source)
    pia.register("ledger-new", target)
    page.goto("/migrations/new/")
    page.get_by_role("button", name="Begin").click()
    for side, name in (("source", "ledger"), ("target", "ledger-new")):
        page.locator(f"[name={side}-origin][value=fleet]").check()
        choice = page.locator(f"#id_{side}-instance")
        choice.select_option(label=option(choice, name))
    page.get_by_role("button", name="Test connectivity and continue").click()
    loaded_until(page, page.get_by_role("link", name="Continue to"))
    page.get_by_role("link", name="Continue to").click()
    page.get_by_role("button", name="Next: save and precheck").click()
    loaded_until(page, page.locator(".precheck-rate"))
    free = item(page, "Free connections", failed=True)
    free.get_by_role("link", name="Ignore…").click()
    with pia.refusals():
        page.get_by_role("button", name="Ignore it").click()
        expect(pia.error_at("reason")).to_contain_text("only with a reason")
    page.get_by_label("Reason").fill("Nobody else uses the server yet.")
    page.get_by_role("button", name="Ignore it").click()
    expect(page.locator(".precheck-rate")).to_contain_text("100 %")
    ignored = page.locator(".precheck-item").filter(has_text="Nobody else uses the server yet.")
    expect(ignored).to_contain_text("by pia")
    # The same is found again, so the reason still holds.
    page.get_by_role("button", name="Run again").click()
    loaded_until(page, page.locator(".precheck-rate"))
    expect(page.locator(".precheck-rate")).to_contain_text("100 %")
    expect(page.get_by_role("button", name="Next: confirm")).to_be_visible()


def loaded_until(page: Page, wanted: Locator) -> None:
    """Without scripts a page does not change by itself: it is loaded again, as its reader would."""

    def there() -> bool:
        if wanted.count():
            return True
        page.reload()
        return False

    wait_for(there, 60)
