"""The console, the browser and its visitors. `make servers` brings Chromium."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.support.catalogue import program

from .console import ROOT, Console
from .visitor import LIVE_MS, Visitor

ARTEFACTS = ROOT / "test-results" / "browser"
"""Pictures of what the tests have seen; git ignores the folder."""
# One for each test that needs an account of its own.
PEOPLE = (
    "luisa",
    "olivia",
    "noah",
    "mira",
    "jonas",
    "lea",
    "timo",
    "vera",
    "nora",
    "otto",
    "paula",
    "pia",
    "rosa",
    "rudi",
    "wanda",
    "elena",
    "emil",
    "hedda",
    "hugo",
    "ida",
)

NewVisitor = Callable[..., Visitor]
saved: list[Path] = []


@pytest.fixture(scope="package")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    console = Console(tmp_path_factory.mktemp("console"), PEOPLE)
    try:
        yield console.wait()
    finally:
        console.close()


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Chromium, with everything switched off that looks for hosts on the internet."""
    path = program("chromium", "chromium")
    arguments = [
        "--no-sandbox",  # it runs as root in containers, where there is no sandbox to be had
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ]
    expect.set_options(timeout=LIVE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def visitor(browser: Browser, console: Console, request: pytest.FixtureRequest) -> Iterator[NewVisitor]:
    """`visitor("olivia", java_script_enabled=False)` → a Visitor who has logged in; without a name, one who has not.

    At the end of the test each must have seen no request elsewhere and no error. If the test fails, what they saw last is
    kept as a picture.
    """
    made: list[Visitor] = []
    failures_before = request.session.testsfailed

    def make(name: str = "", **options: Any) -> Visitor:
        made.append(Visitor(browser, console.origin, **options))
        if name:
            made[-1].log_in(name)
        return made[-1]

    yield make
    for number, one in enumerate(made, 1):
        if request.session.testsfailed > failures_before:
            keep(one, f"failed-{request.node.name}-{number}", full_page=True)
        one.context.close()
    for one in made:
        one.check()


def keep(visitor: Visitor, name: str, **options: Any) -> None:
    """A picture of what the visitor sees; its path is named at the end of the run."""
    path = ARTEFACTS / f"{name}.png"
    visitor.picture(path, **options)
    saved.append(path)


@pytest.fixture
def picture() -> Callable[..., None]:
    return keep


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if saved:
        terminalreporter.section("pictures")
        for path in saved:
            terminalreporter.line(os.path.relpath(path))
