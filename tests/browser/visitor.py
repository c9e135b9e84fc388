"""Somebody at a browser: what they do, and what their browser must not see meanwhile."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, ConsoleMessage, Locator, Request, Response, WebError, expect

from tests.support.servers import Server

from .console import PASSWORD

LIVE_MS = 60_000
"""How long a page may take to show what a worker does, on a machine that is busy with other things."""
AT_ONCE = {"repl-diskless-sync-delay": 0}
"""For a source that needs not wait whether more replicas want the same snapshot."""


class Visitor:
    """A browser of its own (cookies, size, scheme) with one page.

    It notes every request that leaves the server's origin, every error and warning in the browser's console, every error of
    a script and every answer from 400 on. `check()` fails if there was any; `refusals()` announces the ones that are meant.
    """

    def __init__(self, browser: Browser, origin: str, **options: Any) -> None:
        self.origin = origin
        self.problems: list[str] = []
        self.navigations = 0
        self._refusals = False
        self.context = browser.new_context(base_url=origin, **options)
        self.context.on("request", self._request)
        self.context.on("response", self._response)
        self.context.on("console", self._console)
        self.context.on("weberror", self._error)
        self.context.set_default_timeout(LIVE_MS)
        self.page = self.context.new_page()

    # --- What is watched ----------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Nothing has left the origin, and nothing has gone wrong in the browser."""
        assert not self.problems, "\n".join(self.problems)

    @contextmanager
    def refusals(self) -> Iterator[None]:
        """The server is meant to answer with 4xx; the browser notes that in its console."""
        self._refusals = True
        yield
        # Events of the browser arrive in order: with the answer to this, all earlier ones are here.
        self.page.title()
        self._refusals = False

    def _request(self, request: Request) -> None:
        self.navigations += request.is_navigation_request()
        address = urlsplit(request.url)
        # Bootstrap draws its ticks and arrows as data: images.
        if address.scheme != "data" and f"{address.scheme}://{address.netloc}" != self.origin:
            self.problems.append(f"a request left the server: {request.url}")

    def _response(self, response: Response) -> None:
        meant = self._refusals and response.status < 500
        if response.status >= 400 and not meant:
            self.problems.append(f"{response.status} for {response.request.method} {response.url}")

    def _console(self, message: ConsoleMessage) -> None:
        meant = self._refusals and re.search(r"responded with a status of 4\d\d", message.text)
        if message.type in ("error", "warning") and not meant:
            self.problems.append(f"{message.type} in the console: {message.text} ({message.location})")

    def _error(self, error: WebError) -> None:
        self.problems.append(f"error of a script: {error.error}")

    # --- What people do -----------------------------------------------------------------------------------------------

    def log_in(self, name: str, path: str = "/") -> None:
        """By the login page, from the page that was asked for."""
        self.page.goto(path)
        self.page.get_by_label("User name").fill(name)
        self.page.get_by_label("Password").fill(PASSWORD)
        self.page.get_by_role("button", name="Log in").click()
        expect(self.page.get_by_label(f"Your menu: {name}")).to_be_visible()

    def register(self, name: str, server: Server, address: str = "") -> None:
        """An instance, by the form, which ends on its page."""
        page = self.page
        page.goto("/instances/register/")
        page.get_by_label("Address").fill(address or f"{server.host}:{server.port}")
        page.get_by_label("Password optional").fill(server.password)
        page.get_by_label("Name", exact=True).fill(name)
        page.get_by_role("button", name="Register").click()
        expect(page.get_by_role("heading", level=1)).to_have_text(name)

    def create(self, source: str, target: str, *, start: bool = True, overwrite: bool = False) -> str:
        """A task between two instances of the fleet, by the set-up, which ends on its page; returns the path of that.

        With `start` False it is left behind its precheck, ready to start.
        """
        page = self.page
        page.goto("/migrations/")
        page.get_by_role("button", name="Create task").first.click()
        for side, name in (("source", source), ("target", target)):
            page.locator(f"[name={side}-origin][value=fleet]").check()
            choice = page.locator(f"#id_{side}-instance")
            choice.select_option(label=option(choice, name))
        page.get_by_role("button", name="Test connectivity and continue").click()
        page.get_by_role("link", name="Continue to").click()
        if overwrite:  # the target has keys of the same names
            page.locator("[name=conflict][value=overwrite]").check()
        page.get_by_role("button", name="Next: save and precheck").click()
        return self.check_and_confirm(start=start)

    def check_and_confirm(self, *, start: bool = True) -> str:
        """The two last steps, from the page of the precheck."""
        page = self.page
        page.get_by_role("button", name="Next: confirm").click()
        path = urlsplit(page.url).path.partition("setup/")[0]
        if start:
            page.get_by_label("I have read what is listed above").check()
            page.get_by_role("button", name="Start the task").click()
        else:
            page.get_by_role("button", name="Save without starting").click()
            expect(page).to_have_url(re.compile("/migrations/$"))
            page.goto(path)
        expect(page).to_have_url(re.compile("/migrations/mt-[^/]*/$"))
        return path

    def stop(self) -> None:
        """The task whose page is open, by its button and the question."""
        self.page.get_by_role("link", name="Stop…").click()
        button = self.page.get_by_role("button", name="Stop the task")
        expect(button).to_be_visible()  # the way to the question is not the one that is waited for
        with self.page.expect_navigation():
            button.click()

    # --- What they see ------------------------------------------------------------------------------------------------

    def error_at(self, field: str) -> Locator:
        """What the form says beside a field."""
        return self.page.locator(f"#id_{field}_error")

    def figure(self, label: str) -> Locator:
        """A large figure of a page, by its caption."""
        tile = self.page.locator(".stat").filter(has=self.page.get_by_text(label, exact=True))
        return tile.locator(".stat-value")

    def status(self) -> Locator:
        """The status of the task whose page is open."""
        return self.figure("Status")

    def picture(self, path: Path, **options: Any) -> None:
        """What is seen now, as PNG."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=path, **options)


def option(choice: Locator, name: str) -> str:
    """The text of the entry of a selection that begins with this name."""
    choice.page.wait_for_load_state(
        "domcontentloaded"
    )  # the entries are read as they are, with no waiting for more
    texts: list[str] = choice.locator("option").all_inner_texts()
    return next(text for text in texts if text.startswith(f"{name} "))
