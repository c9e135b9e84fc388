"""A verification as a person makes it: differences that were planted are found, repaired after a question, and gone."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import ViewportSize, expect

from tests.support.fixtures import ServerFactory

from .conftest import NewVisitor
from .visitor import AT_ONCE, Visitor

DESK: ViewportSize = {"width": 1280, "height": 900}
PHONE: ViewportSize = {"width": 360, "height": 740}
RULES: dict[str, Any] = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}


@pytest.mark.timeout(180)
def test_differences_are_found_and_repaired(
    visitor: NewVisitor, redis_server: ServerFactory, picture: Callable[..., None]
) -> None:
    source, target = redis_server("redis-7.0", config=AT_ONCE), redis_server("valkey-9")
    with source.client() as client:
        client.mset({f"key:{number}": number for number in range(2000)})
        client.hset("cart:7", mapping={"apples": 3, "pears": 1})
        client.set("session:1", "x", ex=5000)
    vera = visitor("vera", viewport=DESK)
    page = vera.page
    vera.register("orders", source)
    vera.register("orders-new", target)
    path = vera.create("orders", "orders-new")
    expect(page.get_by_text("Undelayed", exact=True)).to_be_visible()
    with target.client() as client:
        client.hset("cart:7", "apples", 4)
        client.delete("key:5")
        client.persist("session:1")
        client.set(b"only\x00here", "<script>alert(1)</script>")

    page.goto(path)
    page.get_by_role("link", name="Verify…").click()
    look(vera, picture, "verify-form")
    page.get_by_role("button", name="Verify").click()
    expect(page.locator("#live > .notice")).to_contain_text("4 of 2,003 keys differ")
    table = page.locator("#differences")
    expect(table.get_by_role("row")).to_have_count(5)
    expect(table).to_contain_text("only\\x00here")
    page.locator("#list-kind").select_option(label="Field of a hash")
    expect(table.get_by_role("row")).to_have_count(2)
    expect(table).to_contain_text("field 'apples'")
    page.get_by_role("link", name="show all").click()
    expect(table.get_by_role("row")).to_have_count(5)
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    assert "differences.csv" in download.value.suggested_filename
    look(vera, picture, "verification")
    address = page.url

    table.get_by_role("checkbox", name=re.compile("cart:7")).check()
    page.get_by_role("button", name="Repair selected…").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Repair 1 key of orders-new?")
    look(vera, picture, "repair-question")
    page.get_by_role("button", name="Repair 1 key").click()
    expect(page.locator("#live > .notice")).to_contain_text("1 repaired, 0 agreed already, 0 failed.")
    look(vera, picture, "repair")
    with target.client() as client:
        assert client.hget("cart:7", "apples") == b"3"
    page.goto(address)
    expect(page.locator("#differences")).to_contain_text("repaired")
    page.get_by_role("button", name="Repair all listed…").click()
    page.get_by_role("button", name="Repair 3 keys").click()
    expect(page.locator("#live > .notice")).to_contain_text("3 repaired")

    # And once more, without scripts.
    plain = visitor("vera", java_script_enabled=False, viewport=DESK)
    plain.page.goto(f"{path}verifications/new/")
    plain.page.get_by_label("Quick: ").check()
    plain.page.get_by_role("button", name="Verify").click()
    while "Both sides agree" not in plain.page.content():
        plain.page.reload()
    plain.page.goto(f"{path}verifications/")
    expect(plain.page.get_by_text("4 of 2,003 keys differ")).to_be_visible()
    page.goto(path)
    expect(
        page.get_by_role("region", name="Verification")
        .or_(page.locator("section", has_text="Verification"))
        .first
    ).to_be_visible()


def look(visitor: Visitor, picture: Callable[..., None], name: str) -> None:
    """Light, dark and on a phone: axe has nothing to say, and nothing has to be moved sideways."""
    page = visitor.page
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        found = Axe().run(page, options=RULES | {"resultTypes": ["violations"]}).response["violations"]
        assert not found, [(one["id"], [node["html"] for node in one["nodes"]]) for one in found]
        picture(visitor, f"{name}-{scheme}", full_page=True)
    page.emulate_media(color_scheme="light", reduced_motion="reduce")
    page.set_viewport_size(PHONE)
    picture(visitor, f"{name}-phone", full_page=True)
    wide: int = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    page.set_viewport_size(DESK)
    assert wide <= 0, f"{name} is {wide} pixels too wide"
