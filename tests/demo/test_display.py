"""What the demo shows: every figure is there, in a terminal and without one."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from migrations_app.choices import Phases, TaskStatus
from migrations_app.demo.display import Display, figures
from migrations_app.demo.writer import Writer
from migrations_app.models import LinkProgress, MigrationTask


@pytest.fixture
def shown():
    """A task in the middle of its full phase, its progress and a writer; nothing of it is in the database."""
    task = MigrationTask(
        name="Move [it]", public_id="mt-1", status=TaskStatus.FULL, phases=Phases.FULL_INCREMENTAL
    )
    progress = LinkProgress(
        percent=41.6,
        keys_done=1234,
        keys_total=5000,
        keys_per_second=99.6,
        commands=7,
        lag_bytes=2048,
        lag_seconds=1.26,
    )
    writer = Writer("redis://127.0.0.1:1")
    writer.commands = 4321
    return task, progress, writer


def test_figures(shown):
    assert dict(figures(*shown)) == {
        "phase": str(TaskStatus.FULL.label),
        "full": "42 %",
        "keys": "1,234 of 5,000, 100/s",
        "commands": "7, 0/s",
        "received": "0.0 MB",
        "lag": "2,048 bytes, 1.3 s",
        "writer": "4,321 commands",
    }


def test_unknown_figures_are_dashes(shown):
    task, progress, writer = shown
    progress.percent = progress.lag_bytes = progress.keys_total = None
    found = dict(figures(task, progress, writer))
    assert (found["full"], found["lag"], found["keys"]) == ("–", "–", "1,234, 100/s")


@pytest.mark.parametrize("terminal", [True, False])
def test_all_figures_are_shown(shown, terminal):
    output = io.StringIO()
    display = Display(Console(file=output, force_terminal=terminal, width=200, highlight=False))
    with display.live() as show:
        show(*shown)
    for name, value in figures(*shown):
        assert name in output.getvalue()
        assert value in output.getvalue()


def test_markup_in_texts_is_text(shown):
    output = io.StringIO()
    display = Display(Console(file=output, width=110))
    display.say("lost: [bold]key[/]")
    display.fail("no such file [x]")
    display.welcome("http://127.0.0.1:1/", "demo", "a[b]c", ["Mails are in [d]"])
    assert "lost: [bold]key[/]" in output.getvalue()
    assert "no such file [x]" in output.getvalue()
    assert "a[b]c" in output.getvalue()
    assert "Mails are in [d]" in output.getvalue()
