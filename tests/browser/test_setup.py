"""The set-up of a migration, from the login to the running task, by keyboard alone; what it looks like to people who read it another way."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.support.fixtures import ServerFactory
from tests.support.wait import wait_for

from .conftest import NewVisitor
from .console import PASSWORD
from .test_pages import COLOURS, DESK, PHONE, RULES, tab_to, violations
from .visitor import AT_ONCE, Visitor


class Looked:
    """What is wrong with the steps, as they are: nothing is loaded again for it."""

    def __init__(self, visitor: Visitor, picture: Callable[..., None]) -> None:
        self.faults: list[str] = []
        self._visitor, self._picture = visitor, picture

    def at(self, name: str) -> None:
        page = self._visitor.page
        focus = page.evaluate_handle("document.activeElement")
        self.faults += violations(page, RULES, f"{name} light")
        page.emulate_media(color_scheme="dark")
        self.faults += violations(page, COLOURS, f"{name} dark")
        self._picture(self._visitor, f"{name}-dark", full_page=True)
        page.set_viewport_size(PHONE)
        over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        if over > 0:
            self.faults.append(f"{name} phone: {over} px too wide")
        self._picture(self._visitor, f"{name}-phone", full_page=True)
        page.set_viewport_size(DESK)
        page.emulate_media(color_scheme="light")
        self._picture(self._visitor, name, full_page=True)
        focus.evaluate("element => element.focus()")


def press(page: Page, wanted: Locator) -> None:
    tab_to(page, wanted)
    page.keyboard.press("Enter")


@pytest.mark.timeout(300)
def test_from_nothing_to_a_running_migration_by_keyboard_alone(
    visitor: NewVisitor,
    redis_server: ServerFactory,
    free_port: Callable[[], int],
    picture: Callable[..., None],
) -> None:
    source = redis_server("redis-6.2", password="of the: source", config=AT_ONCE)
    target = redis_server("valkey-9", password="of the target")
    with source.client() as client, source.client(db=3) as third:
        client.mset({f"key:{number}": number for number in range(500)})
        third.set("other", 1)
    nora = visitor(viewport=DESK, reduced_motion="reduce")
    page, keys = nora.page, nora.page.keyboard
    looked = Looked(nora, picture)

    # A fresh console: somebody logs in, and brings the server in that is to become the target.
    page.goto("/login/")
    expect(page.get_by_label("User name")).to_be_focused()
    keys.type("nora")
    keys.press("Tab")
    keys.type(PASSWORD)
    keys.press("Enter")
    press(page, page.get_by_role("link", name="Instances").first)
    press(page, page.get_by_role("link", name="Register instance").first)
    tab_to(page, page.get_by_label("Address"))
    keys.type(f"{target.host}:{target.port}")
    tab_to(page, page.get_by_label("Password optional"))
    keys.type(target.password)
    tab_to(page, page.get_by_label("Name", exact=True))
    keys.type("shop")
    keys.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("shop")

    # Source and target.
    press(page, page.get_by_role("link", name="Migrations").first)
    press(page, page.get_by_role("button", name="Create task").first)
    expect(page.get_by_role("heading", level=1)).to_have_text("Source and target")
    looked.at("setup-1-empty")
    address = page.locator("#id_source-address")
    with nora.refusals():
        tab_to(page, address)
        keys.type("127.0.0.1:99999")
        keys.press("Enter")
        expect(nora.error_at("source-address")).to_contain_text("99999 is not a port")
        expect(nora.error_at("target-instance")).to_contain_text("Choose the instance that is the target")
    looked.at("setup-1-refused")
    tab_to(page, address)
    keys.press("Control+A")
    keys.type(f"{source.host}:{source.port}")
    tab_to(page, page.locator("#id_source-password"))
    keys.type("wrong")
    tab_to(page, page.locator("#id_target-instance"))
    keys.type("shop")
    press(page, page.get_by_role("button", name="Test connectivity and continue"))
    test = page.locator("#connectivity")
    expect(test).to_contain_text("The server refused the user name and password.")
    expect(test).to_contain_text("Valkey 9")  # the other side is told all the same
    looked.at("setup-1-not-reached")
    expect(page.get_by_role("navigation", name="Steps")).to_contain_text("after the connectivity test")
    tab_to(page, page.locator("#id_source-password"))
    keys.type("of the: source")
    keys.press("Enter")
    expect(test).to_contain_text("Both sides answer")
    expect(test).to_contain_text("Redis 6.2")
    expect(test).to_contain_text("501 keys")
    expect(test).to_contain_text("Add it to the allowlists of both sides")
    expect(page.locator("#limits-heading")).to_be_visible()
    onward = page.get_by_role("link", name="Continue to")
    expect(onward).to_be_focused()
    looked.at("setup-1-reached")
    keys.press("Enter")

    # What is migrated; left in the middle, and found again as it was.
    expect(page.get_by_role("heading", level=1)).to_have_text("Objects and phases")
    looked.at("setup-2")
    tab_to(page, page.locator("[name=scope]:checked"))
    keys.press("ArrowDown")
    tab_to(page, page.get_by_label("DB 0"))
    keys.press("Space")
    press(page, page.get_by_role("button", name="Save and leave"))
    row = page.get_by_role("row").filter(has_text="to shop")
    expect(row).to_contain_text("Not configured")
    press(page, row.get_by_role("link").first)
    expect(page.get_by_role("heading", level=1)).to_have_text("Objects and phases")
    expect(page.get_by_label("DB 0")).to_be_checked()
    expect(page.get_by_label("DB 3")).not_to_be_checked()
    press(page, page.get_by_role("button", name="Next: save and precheck"))

    # The precheck, which has begun.
    expect(page.get_by_role("heading", level=1)).to_have_text("Precheck")
    looked.at("setup-3-before")
    confirm = page.get_by_role("button", name="Next: confirm")
    expect(confirm).to_be_visible()
    expect(page.locator(".precheck-rate")).to_contain_text("100 %")
    looked.at("setup-3")
    # Back to the first step: everything is as it was, the password is not shown, and nothing has to be tested again.
    press(page, page.get_by_role("navigation", name="Steps").get_by_role("link", name="Source and target"))
    expect(address).to_have_value(f"{source.host}:{source.port}")
    expect(page.locator("#id_source-password")).to_have_value("")
    press(page, page.get_by_role("navigation", name="Steps").get_by_role("link", name="Precheck"))
    press(page, confirm)

    # All on one page, and the start.
    expect(page.get_by_role("heading", level=1)).to_have_text("Confirm and start")
    expect(page.locator("main")).to_contain_text("No billing change")
    looked.at("setup-4")
    tab_to(page, page.get_by_label("I have read what is listed above"))
    keys.press("Space")
    press(page, page.get_by_role("button", name="Start the task"))
    expect(nora.status()).to_contain_text("Incremental")
    expect(page.get_by_text("Undelayed", exact=True)).to_be_visible()
    looked.at("setup-5-running")
    with source.client() as client, target.client() as copy:
        client.set("after", "the start")
        wait_for(lambda: copy.get("after") is not None, 20)
        # The product keeps its position in the target, under names of its own.
        assert len([key for key in copy.scan_iter() if not key.startswith(b"switchyard:")]) == 501
    with target.client(db=3) as copy:
        assert copy.dbsize() == 0
    assert not looked.faults, "\n".join(looked.faults)


@pytest.mark.timeout(180)
def test_a_snapshot_file_is_uploaded_and_imported(visitor: NewVisitor, redis_server: ServerFactory) -> None:
    source, target = redis_server("redis-6.2"), redis_server("valkey-9", password="of the target")
    with source.client() as client:
        client.mset({f"key:{number}": number for number in range(300)})
        client.save()
    otto = visitor("otto", viewport=DESK)
    page = otto.page
    otto.register("imported", target)
    page.goto("/migrations/")
    page.get_by_role("button", name="Create task").first.click()
    page.locator("[name=source-origin][value=file]").check()
    page.locator("#id_source-upload").set_input_files(
        {"name": "notes.rdb", "mimeType": "application/octet-stream", "buffer": b"no snapshot at all"}
    )
    page.locator("#id_target-instance").select_option(index=1)
    with otto.refusals():
        page.get_by_role("button", name="Test connectivity and continue").click()
        expect(otto.error_at("source-upload")).to_contain_text("notes.rdb is no snapshot file")
    page.locator("#id_source-upload").set_input_files(source.dir / "dump.rdb")
    page.get_by_role("button", name="Test connectivity and continue").click()
    expect(page.locator("#connectivity")).to_contain_text("Snapshot of format 9")
    expect(page.locator("#side-source")).to_contain_text("dump.rdb is uploaded")
    page.get_by_role("link", name="Continue to").click()
    expect(page.get_by_text("The source is a snapshot file, which no changes follow.")).to_be_visible()
    page.get_by_role("button", name="Next: save and precheck").click()
    otto.check_and_confirm()
    expect(otto.status()).to_contain_text("Successful")
    with target.client() as copy:
        assert copy.get("key:299") == b"299"
