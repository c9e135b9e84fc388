"""What else has to be right in a real browser: failures, the admin, the keyboard, accessibility, narrow screens."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, ViewportSize, expect

from tests.support.fixtures import ServerFactory

from .conftest import NewVisitor
from .console import ADMIN, PASSWORD
from .visitor import AT_ONCE, Visitor

PHONE: ViewportSize = {"width": 360, "height": 740}
DESK: ViewportSize = {"width": 1280, "height": 900}
RULES: dict[str, Any] = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
COLOURS: dict[str, Any] = {"runOnly": {"type": "rule", "values": ["color-contrast"]}}


def test_a_failed_task_says_what_happened_and_what_to_do(
    visitor: NewVisitor, redis_server: ServerFactory, picture: Callable[..., None]
) -> None:
    source = redis_server("valkey-9", password="the first", config=AT_ONCE)
    target = redis_server("valkey-9")
    with source.client() as client:
        client.set("key", "value")
        mira = visitor("mira", viewport=DESK)
        mira.register("sessions", source)
        mira.register("sessions-new", target)
        # The precheck counts for an hour; this happens within it.
        mira.create("sessions", "sessions-new", start=False)
        client.config_set("requirepass", "another")
    mira.page.get_by_role("button", name="Start").click()
    alert = mira.page.get_by_role("alert")
    expect(alert).to_contain_text("The task failed: Source sessions (")
    expect(alert).to_contain_text("password")
    expect(alert).to_contain_text("The source was not changed. No data was written to the target.")
    expect(alert).to_contain_text("What to do:")
    expect(mira.status()).to_contain_text("Failed")
    expect(mira.page.locator("#log")).to_contain_text("Error")
    expect(mira.page.locator("body")).not_to_contain_text("Traceback")
    picture(mira, "failed-task")
    # The advice leads on: with the right password the same task goes through.
    page = mira.page
    page.get_by_role("link", name="sessions", exact=True).click()
    page.get_by_role("link", name="Edit").click()
    page.get_by_label("Password optional").fill("another")
    page.get_by_role("button", name="Save").click()
    page.locator("main").get_by_role("link", name="sessions to sessions-new").click()
    page.get_by_role("button", name="Resume").click()
    expect(mira.status()).to_contain_text("Incremental")
    mira.stop()
    expect(mira.status()).to_contain_text("Successful")


def test_the_admin_stops_tasks(visitor: NewVisitor, redis_server: ServerFactory) -> None:
    jonas = visitor("jonas", viewport=DESK)
    jonas.register("ledger-a", redis_server("valkey-9", config=AT_ONCE))
    jonas.register("ledger-b", redis_server("valkey-9"))
    path = jonas.create("ledger-a", "ledger-b")
    expect(jonas.page.get_by_text("Undelayed", exact=True)).to_be_visible()

    ada = visitor(viewport=DESK)
    page = ada.page
    page.goto("/admin/migrations_app/migrationtask/?q=ledger-a")
    # The admin's own login page is the console's or Django's; both ask for the same.
    page.locator("#id_username").fill(ADMIN)
    page.locator("#id_password").fill(PASSWORD)
    page.locator("#id_password").press("Enter")
    public_id = path.strip("/").rpartition("/")[2]
    row = page.get_by_role("row").filter(has_text=public_id)
    expect(row).to_contain_text("Incremental")
    row.get_by_role("checkbox").check()
    page.get_by_label("Action:").select_option(label="Stop selected tasks")
    page.get_by_role("button", name=re.compile("Run|Go")).click()
    expect(page.locator(".messagelist .success")).to_contain_text(public_id)
    # Whoever looks at the task sees it end, and who asked for it.
    expect(jonas.status()).to_contain_text("Successful")
    expect(jonas.page.locator("#log")).to_contain_text(f"{ADMIN} asked to stop the task.")


def tab_to(page: Page, wanted: Locator) -> None:
    """Press Tab until the focus is there. Fails if it cannot be reached that way."""
    for _ in range(80):
        page.keyboard.press("Tab")
        if wanted.evaluate("element => element === document.activeElement"):
            return
    raise AssertionError(f"Tab does not reach {wanted}")


def test_keyboard_alone(visitor: NewVisitor, redis_server: ServerFactory) -> None:
    lea = visitor(viewport=DESK)
    page, keys = lea.page, lea.page.keyboard
    page.goto("/login/")
    expect(page.get_by_label("User name")).to_be_focused()
    keys.type("lea")
    keys.press("Tab")
    keys.type(PASSWORD)
    keys.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
    # The first stop leads past the menu.
    keys.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    keys.press("Enter")
    expect(page.locator("main")).to_be_focused()

    for name, config in (("alpha", AT_ONCE), ("beta", {})):
        server = redis_server("valkey-9", config=config)
        page.goto("/instances/register/")
        tab_to(page, page.get_by_label("Address"))
        keys.type(f"{server.host}:{server.port}")
        tab_to(page, page.get_by_label("Name", exact=True))
        keys.type(name)
        keys.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_have_text(name)

    page.goto("/migrations/")
    tab_to(page, page.get_by_role("button", name="Create task").first)
    keys.press("Enter")
    for side, name in (("source", "alp"), ("target", "bet")):
        tab_to(page, page.locator(f"[name={side}-origin]:checked"))
        if side == "source":
            while not page.locator("[name=source-origin][value=fleet]").is_checked():
                keys.press("ArrowLeft")  # from Self-hosted, which it begins with
        tab_to(page, page.locator(f"#id_{side}-instance"))
        keys.type(name)
    tab_to(page, page.get_by_role("button", name="Test connectivity and continue"))
    keys.press("Enter")
    expect(page.get_by_role("link", name="Continue to")).to_be_focused()  # as soon as it is there
    keys.press("Enter")
    tab_to(page, page.get_by_role("button", name="Next: save and precheck"))
    keys.press("Enter")
    expect(page.get_by_role("button", name="Next: confirm")).to_be_visible()
    tab_to(page, page.get_by_role("button", name="Next: confirm"))
    keys.press("Enter")
    tab_to(page, page.get_by_label("I have read what is listed above"))
    keys.press("Space")
    tab_to(page, page.get_by_role("button", name="Start the task"))
    keys.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("alpha to beta")
    expect(page.get_by_text("Undelayed", exact=True)).to_be_visible()
    # The page changes by itself each second; a button that has the focus keeps it.
    tab_to(page, page.get_by_role("link", name="Stop…"))
    with page.expect_response(lambda answer: answer.url == page.url):
        pass
    expect(page.get_by_role("link", name="Stop…")).to_be_focused()
    keys.press("Enter")
    tab_to(page, page.get_by_role("button", name="Stop the task"))
    keys.press("Enter")
    expect(lea.status()).to_contain_text("Successful")


def faults_of(visitor: Visitor, path: str) -> list[str]:
    """What is wrong with a page for people who read it another way, in light and dark, and on a phone."""
    page = visitor.page
    page.set_viewport_size(DESK)
    page.emulate_media(color_scheme="light")
    page.goto(path)
    found = violations(page, RULES, f"{path} light")
    page.emulate_media(color_scheme="dark")
    found += violations(page, COLOURS, f"{path} dark")
    found += [f"{path} desk: covered: {one}" for one in page.evaluate(COVERED)]
    page.set_viewport_size(PHONE)
    found += [f"{path} phone: covered: {one}" for one in page.evaluate(COVERED)]
    over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    if over > 0:
        found.append(f"{path} phone: {over} px too wide")
    return found


def tell(visitor: Visitor, account_page: str) -> tuple[str, str]:
    """A contact of the account is made and told something. Returns the paths of the contact and of the message in the inbox."""
    page = visitor.page
    page.goto(f"{account_page}contacts/new/")
    page.get_by_label("Name").fill("On call")
    page.get_by_label("Inbox of").select_option(index=1)
    page.get_by_label("Webhook").fill("http://127.0.0.1:9/path")  # where nobody listens
    page.get_by_role("button", name="Add contact").click()
    expect(page.get_by_text("This is the secret of the webhook.")).to_be_visible()
    page.get_by_role("button", name="Send a test message").click()
    expect(page.get_by_text("is on its way")).to_be_visible()
    contact = page.url.removeprefix(visitor.origin)
    page.goto("/inbox/")
    message = page.get_by_role("link", name="Test message for On call").get_attribute("href")
    return contact, message or ""


COVERED = """() => {
  const found = [];
  for (const element of document.querySelectorAll("main :is(a[href], button, input, select, textarea, summary)")) {
    const [box] = element.getClientRects();
    const seen = {opacityProperty: true, visibilityProperty: true};
    if (!box || box.width < 2 || box.height < 2 || !element.checkVisibility(seen)) continue;
    element.scrollIntoView({block: "center", inline: "center", behavior: "instant"});
    const [place] = element.getClientRects();
    const hit = document.elementFromPoint(place.x + place.width / 2, place.y + place.height / 2);
    const own = [element, ...(element.labels || [])];
    if (!own.some((one) => one.contains(hit))) found.push(element.outerHTML.slice(0, 200));
  }
  return found;
}"""
"""What of a page's links and fields lies under something else, so that it cannot be clicked."""


def violations(page: Page, options: dict[str, Any], where: str) -> list[str]:
    """axe's findings, one line each."""
    return [
        f"{where}: {violation['id']}: {violation['help']}: {violation['nodes'][0]['html'][:200]}"
        for violation in Axe()
        .run(page, options=options | {"resultTypes": ["violations"]})
        .response["violations"]
    ]


def test_a_token_is_made_on_a_phone(visitor: NewVisitor) -> None:
    timo = visitor("timo", viewport=PHONE, java_script_enabled=False)
    page = timo.page
    page.goto("/profile/tokens/")
    page.get_by_label("Name").fill("nightly report")
    for scope in ("events:read", "fleet:read"):
        page.get_by_label(f"({scope})").check()
    page.get_by_role("button", name="Make the token").click()
    expect(page.get_by_text("The token nightly report was made.")).to_be_visible()
    row = page.get_by_role("row").filter(has_text="nightly report")
    expect(row).to_contain_text("events:read, fleet:read")


@pytest.mark.timeout(240)
def test_every_page_is_accessible_and_fits_a_phone(visitor: NewVisitor, redis_server: ServerFactory) -> None:
    """axe in both schemes, and no page that has to be moved sideways."""
    source, target = redis_server("valkey-9", config=AT_ONCE), redis_server("valkey-9")
    with source.client() as client:
        client.set("key", "value")
    # Colours are measured, so none may be on its way to another.
    timo = visitor("timo", reduced_motion="reduce")
    # Names as long as they may be, and of another script.
    long_name = "orders-of-the-customers-in-central-europe-and-beyond-" * 2
    timo.register(long_name, source)
    timo.register("заказы-новые", target)
    instance = timo.page.url.removeprefix(timo.origin)
    stopped = timo.create(long_name, "заказы-новые")
    expect(timo.page.get_by_text("Undelayed", exact=True)).to_be_visible()
    faults = faults_of(timo, stopped) + faults_of(timo, f"{stopped}stop/")
    timo.page.goto(stopped)
    timo.stop()
    expect(timo.status()).to_contain_text("Successful")
    ready = timo.create(long_name, "заказы-новые", start=False, overwrite=True)
    account = "/accounts/"
    timo.page.goto(account)
    account_page = timo.page.locator("th a").first.get_attribute("href") or ""
    contact, message = tell(timo, account_page)
    for path in (
        "/",
        "/instances/",
        "/instances/?q=nothing-like-that",
        "/instances/register/",
        instance,
        f"{instance}edit/",
        f"{instance}delete/",
        "/migrations/",
        "/migrations/new/",
        ready,
        f"{ready}delete/",
        stopped,
        f"{stopped}log/",
        f"{stopped}log/?level=warning",
        f"{stopped}charts/",
        f"{stopped}charts/?charts=day",
        f"{stopped}checks/",
        f"{stopped}release/",
        account,
        account_page,
        f"{account_page}templates/",
        f"{account_page}templates/new/",
        f"{account_page}contacts/new/",
        contact,
        f"{contact}edit/",
        f"{account_page}deliveries/",
        "/audit/",
        "/inbox/",
        message,
        "/profile/",
        "/profile/password/",
        "/profile/tokens/",
    ):
        faults += faults_of(timo, path)
    with timo.refusals():
        faults += faults_of(timo, "/migrations/no-such-task/")
        faults += faults_of(timo, f"{stopped}stop/")
    nobody = visitor(reduced_motion="reduce")
    faults += faults_of(nobody, "/login/")
    assert not faults, "\n".join(faults)
