"""Two people of two accounts: one grants a role, the other migrates with it, the first takes it back. And views that are saved."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.support.fixtures import ServerFactory

from .conftest import NewVisitor
from .test_verification import DESK, look
from .visitor import AT_ONCE, Visitor


def account_id(visitor: Visitor, name: str) -> str:
    """As its members find it, on the page of the account."""
    visitor.page.goto("/accounts/")
    visitor.page.get_by_role("link", name=f"Account of {name}").click()
    return visitor.page.locator(".select-all").inner_text()


@pytest.mark.timeout(240)
def test_across_accounts(
    visitor: NewVisitor, redis_server: ServerFactory, picture: Callable[..., None]
) -> None:
    source, target = redis_server("redis-7.0", config=AT_ONCE), redis_server("valkey-9")
    with source.client() as client:
        client.mset({f"key:{number}": number for number in range(500)})
    rosa, rudi = visitor("rosa", viewport=DESK), visitor("rudi", viewport=DESK)
    rosa.register("parcels", source)
    rudi.register("depot", target)
    hers, his = account_id(rosa, "rosa"), account_id(rudi, "rudi")

    rosa.page.goto("/accounts/")
    rosa.page.get_by_role("link", name="Account of rosa").click()
    rosa.page.get_by_role("link", name="Create role").click()
    look(rosa, picture, "role-form")
    rosa.page.get_by_label("Name", exact=True).fill("parcels-reader")
    rosa.page.get_by_label("Trusted account").fill("acc-00000000")
    rosa.page.get_by_label("parcels Redis").check()
    with rosa.refusals():
        rosa.page.get_by_role("button", name="Create role").click()
        expect(rosa.error_at("trusted_account")).to_contain_text("There is no account")
    rosa.page.get_by_label("Trusted account").fill(his)
    rosa.page.get_by_role("button", name="Create role").click()
    expect(rosa.page.get_by_role("heading", level=1)).to_have_text("parcels-reader")
    role = rosa.page.url
    look(rosa, picture, "role")

    page = rudi.page
    page.goto("/migrations/")
    page.get_by_role("button", name="Create task").first.click()
    page.locator("[name=source-origin][value=account]").check()
    page.wait_for_load_state()  # from here on the scripts hear of what is entered
    page.get_by_label("Account ID of the owner").first.fill(hers)
    page.get_by_label("Role name").first.fill("parcels-writer")
    page.keyboard.press("Tab")
    expect(page.locator("#covered-source")).to_contain_text("has no role named parcels-writer")
    page.get_by_label("Role name").first.fill("parcels-reader")
    page.keyboard.press("Tab")
    page.locator("#id_source-covered").select_option(label="parcels — Redis 7.0.15")
    page.locator("[name=target-origin][value=fleet]").check()
    page.locator("#id_target-instance").select_option(index=1)
    look(rudi, picture, "setup-another-account")
    page.get_by_role("button", name="Test connectivity and continue").click()
    page.get_by_role("link", name="Continue to").click()
    page.get_by_role("button", name="Next: save and precheck").click()
    path = rudi.check_and_confirm()
    expect(page.get_by_text("Undelayed", exact=True)).to_be_visible()
    address = f"{source.host}:{source.port}"
    assert address not in page.content()

    rosa.page.goto("/migrations/")
    rosa.page.get_by_role("link", name="1 task of other accounts").click()
    look(rosa, picture, "shared-list")
    rosa.page.get_by_role("link", name=re.compile("^mt-")).click()
    expect(rosa.page.get_by_text("Undelayed", exact=True)).to_be_visible()
    assert f":{target.port}" not in rosa.page.content()
    look(rosa, picture, "shared")
    rosa.page.get_by_role("link", name="Revoke parcels-reader").click()
    expect(rosa.page.get_by_text("1 running task is paused within seconds")).to_be_visible()
    look(rosa, picture, "role-revoke")
    rosa.page.get_by_role("button", name="Revoke the role").click()
    expect(rosa.page).to_have_url(role)

    expect(rudi.status()).to_have_text("Paused")
    expect(page.get_by_text("The role parcels-reader was revoked").first).to_be_visible()
    for shown in (path, f"{path}log/", "/audit/"):
        page.goto(shown)
        assert address not in page.content(), shown


def test_a_view_is_saved_and_applied(visitor: NewVisitor, picture: Callable[..., None]) -> None:
    """As the list was left by search and filter, which moved its address on without loading the page again."""
    rosa = visitor("rosa", viewport=DESK)
    page = rosa.page
    page.goto("/migrations/")
    page.get_by_label("Status", exact=True).select_option("failed")
    expect(page).to_have_url(re.compile("status=failed"))
    page.locator(".views-menu summary").click()
    page.get_by_role("link", name="Save this view").click()
    look(rosa, picture, "view-save")
    page.get_by_label("Name", exact=True).fill("What has failed")
    page.get_by_role("button", name="Save view").click()
    expect(page).to_have_url(re.compile(r"/migrations/\?status=failed$"))
    page.goto("/migrations/")
    page.locator(".views-menu summary").click()
    look(rosa, picture, "views-menu")
    page.get_by_role("link", name="What has failed").click()
    expect(page).to_have_url(re.compile(r"\?status=failed$"))
    page.goto("/views/")
    look(rosa, picture, "views")
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("heading", name="No saved views yet")).to_be_visible()
