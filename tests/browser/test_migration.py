"""A migration from the login to its end, as one person sees it; with and without JavaScript."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect
from playwright.sync_api import TimeoutError as NothingCame

from migrations_app.demo import dataset
from migrations_app.demo.writer import DEMO_RATE, Writer, check_audit
from migrations_app.engine.endpoint import Endpoint
from migrations_app.engine.verify import verify
from tests.support.fixtures import ServerFactory
from tests.support.proxy import FaultProxy, Way
from tests.support.servers import Server
from tests.support.wait import wait_for

from .conftest import NewVisitor
from .visitor import AT_ONCE, Visitor, option

PICTURE = os.environ.get("SWITCHYARD_TEST_PICTURE", "")
"""`make test TESTS=tests/browser PICTURE=docs/images/task.png` runs with the demo's data and keeps the picture there."""
PARTS_WAY = re.compile(r"^[1-9]\d? %$")
NUMBER = re.compile(r"^[\d,]*[1-9][\d,]*$")

Proxy = Callable[[Server], FaultProxy]


class SlowNetwork:
    """A proxy's hook: some 2 MB/s to the client until `hurry()`, so that there is a full phase to look at."""

    def __init__(self, proxy: FaultProxy) -> None:
        self._hurry = threading.Event()
        self.hurry = self._hurry.set
        proxy.hook = self._pass

    def _pass(self, way: Way, data: bytes) -> bytes:
        if way is Way.DOWN and len(data) > 4096:
            self._hurry.wait(len(data) / 2e6)
        return data


def is_refused_with_the_reason(visitor: Visitor, source: Server, free_port: int) -> None:
    """The register page says at the field what is wrong, keeps what was entered, and registers nothing."""
    page = visitor.page
    page.goto("/instances/register/")
    page.get_by_label("Name", exact=True).fill("shop-cache")
    address = page.get_by_label("Address")
    with visitor.refusals():
        address.fill(f"{source.host}:{free_port}")
        page.get_by_role("button", name="Register").click()
        expect(visitor.error_at("address")).to_contain_text("Nothing accepts connections at")
        expect(visitor.error_at("address")).to_contain_text("Check the port")
        expect(address).to_have_value(f"{source.host}:{free_port}")
        address.fill(f"{source.host}:{source.port}")
        page.get_by_label("Password optional").fill("not the password")
        page.get_by_role("button", name="Register").click()
        expect(visitor.error_at("password")).to_contain_text("The server refused the user name and password.")
        expect(page.get_by_label("Name", exact=True)).to_have_value("shop-cache")
        expect(page.get_by_text("Nothing was saved.")).to_be_visible()
        # A password is not sent back, a wrong one neither.
        expect(page.get_by_label("Password optional")).to_have_value("")
    page.goto("/instances/")
    expect(page.get_by_role("heading", name="No instances yet")).to_be_visible()


@pytest.mark.timeout(300)
def test_a_migration_from_the_login_to_its_end(
    visitor: NewVisitor,
    redis_server: ServerFactory,
    fault_proxy: Proxy,
    free_port: Callable[[], int],
    picture: Callable[..., None],
) -> None:
    config = AT_ONCE if PICTURE else {}
    source = redis_server("redis-6.2" if not PICTURE else "valkey-9", password="of the source", config=config)
    target = redis_server("valkey-9", password="of the target")
    if PICTURE:
        dataset.fill(source.url)
    else:
        dataset.fill(source.url, keys=12_000, big_value_bytes=8 << 20, large_elements=4000)
    proxy = fault_proxy(source)
    network = SlowNetwork(proxy)
    olivia = visitor("olivia", viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    page = olivia.page

    is_refused_with_the_reason(olivia, source, free_port())
    olivia.register("shop-cache", source, f"{proxy.host}:{proxy.port}")
    expect(olivia.figure("Version")).to_contain_text("6.2" if not PICTURE else "9")
    olivia.register("shop-cache-new", target)
    with Writer(source.url, rate=DEMO_RATE) as writer:
        olivia.create("shop-cache", "shop-cache-new")
        opened = olivia.navigations

        # The full phase, as it goes on.
        step = page.get_by_role("listitem").filter(has_text="Full synchronization")
        expect(step).to_contain_text("in progress")
        share = page.locator(".meter-text strong")
        expect(share).to_have_text(PARTS_WAY)
        expect(page.locator(".meter-text")).to_contain_text(re.compile(r"[\d,]+ of [\d,]+ keys"))
        expect(share).not_to_have_text(share.inner_text())
        network.hurry()

        # The incremental phase: it catches up, and its figures move.
        expect(olivia.status()).to_contain_text("Incremental")
        expect(page.get_by_text("Undelayed", exact=True)).to_be_visible()
        expect(share).to_have_text("100 %")
        expect(olivia.figure("Lag")).to_have_text(re.compile(r"\d\s(bytes|KiB)$"))
        commands = olivia.figure("Commands applied")
        expect(commands).to_have_text(NUMBER)
        expect(commands).not_to_have_text(commands.inner_text())
        log = page.locator("#log")
        expect(log).to_contain_text("olivia started the task.")
        expect(log).to_contain_text("caught up", ignore_case=True)
        assert olivia.navigations == opened, "the page was loaded again"
        picture(olivia, "task")
        if PICTURE:
            expect(commands).to_have_text(re.compile(r"[3-9]\d,\d{3}"))
            olivia.picture(Path(PICTURE))
        expected = writer.stop()
    expect(olivia.figure("Lag")).to_have_text(re.compile(r"^0\sbytes$"))

    olivia.stop()
    expect(olivia.status()).to_contain_text("Successful")
    expect(page.locator("#live .notice.tone-success")).to_contain_text(
        "nothing more is written to the target"
    )
    expect(page.get_by_role("link", name="Stop…")).to_have_count(0)
    expect(log).to_contain_text("olivia asked to stop the task.")
    # At its final state the page asks no more: the last line of the log has come, and then nothing does.
    expect(page.locator("#log [hx-get][hx-trigger]")).to_have_count(0)
    with pytest.raises(NothingCame), page.expect_request("**", timeout=2500):
        pass

    assert check_audit(target.url, expected) == []
    sides = [Endpoint(host=side.host, port=side.port, password=side.password) for side in (source, target)]
    report = verify(*sides)
    assert report.complete and not report.differences


@pytest.mark.timeout(180)
def test_the_same_way_without_javascript(
    visitor: NewVisitor, redis_server: ServerFactory, free_port: Callable[[], int]
) -> None:
    source = redis_server("redis-7.0", password="of the source", config=AT_ONCE)
    target = redis_server("valkey-9")
    with source.client(db=3) as client:
        client.mset({f"key:{number}": number for number in range(500)})
    noah = visitor("noah", java_script_enabled=False)
    page = noah.page

    is_refused_with_the_reason(noah, source, free_port())
    noah.register("orders", source)
    noah.register("orders-new", target)
    page.goto("/instances/")
    page.get_by_label("Search instances").fill("new")
    page.get_by_role("button", name="Apply").click()
    expect(page.locator("tbody tr")).to_have_count(1)

    page.goto("/migrations/")
    page.get_by_role("button", name="Create task").first.click()
    page.locator("[name=source-origin][value=fleet]").check()
    for side, name in (("source", "orders"), ("target", "orders-new")):
        choice = page.locator(f"#id_{side}-instance")
        choice.select_option(label=option(choice, name))
    page.get_by_role("button", name="Test connectivity and continue").click()
    onward = page.get_by_role("link", name="Continue to")
    reload_until_there(noah, onward)
    onward.click()
    page.get_by_label("Chosen databases").check()
    page.get_by_label("DB 3 500 keys").check()
    page.get_by_role("button", name="Next: save and precheck").click()
    confirm = page.get_by_role("button", name="Next: confirm")
    reload_until_there(noah, confirm)
    confirm.click()
    page.get_by_role("button", name="Save without starting").click()
    page.get_by_role("link", name="orders to orders-new").click()
    expect(noah.status()).to_contain_text("Ready")
    with page.expect_navigation():
        page.get_by_role("button", name="Start").click()
    reload_until(noah, "Incremental")
    reload_until(noah, "Undelayed")
    with target.client(db=3) as client:
        assert client.dbsize() == 500
    noah.stop()
    reload_until(noah, "Successful")
    page.get_by_role("link", name="Log only").click()
    expect(page.locator("#log")).to_contain_text("noah asked to stop the task.")


def reload_until_there(visitor: Visitor, what: Locator) -> None:
    def there() -> bool:
        visitor.page.reload()
        return what.is_visible()

    wait_for(there, 60, lambda: visitor.page.locator("main").inner_text(), interval=0.3)


def reload_until(visitor: Visitor, text: str) -> None:
    """Without scripts the page changes when it is loaded again."""
    status = visitor.page.locator(".stat").first

    def shows() -> bool:
        visitor.page.reload()
        return text in status.inner_text()

    wait_for(shows, 30, lambda: f"no {text!r} in {status.inner_text()!r}", interval=0.2)
