"""What the demo shows in the terminal, with rich; plain lines where the output is no terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TextColumn
from rich.progress_bar import ProgressBar
from rich.table import Table

from migrations_app.choices import TaskStatus
from migrations_app.models import LinkProgress, MigrationTask

from .writer import Writer

PLAIN_S = 2.0
"""Seconds between two lines about the progress where there is no terminal."""

Show = Callable[[MigrationTask, LinkProgress, Writer], None]


class Display:
    """Says what happens."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)
        self._said = 0.0

    def say(self, text: str) -> None:
        """One line (or some), as it is."""
        self.console.print(text, markup=False)

    def fail(self, text: str) -> None:
        """What went wrong."""
        self.console.print(f"[bold red]The demo failed:[/] {escape(text)}")

    def welcome(self, address: str, user: str, password: str, notes: Sequence[str] = ()) -> None:
        """Where to look, how to get in, and what else there is to see."""
        login = f"user [bold]{user}[/], password [bold]{escape(password)}[/]"
        lines = (f"[bold]{address}[/]", login, "", "Ctrl-C ends it; nothing stays.")
        self.console.print(Panel("\n".join(lines), title="Switchyard", expand=False))
        # Not in the panel, which would break a path that people want to copy.
        for note in notes:
            self.say(note)

    @contextmanager
    def filling(self, keys: int) -> Iterator[Callable[[int], None]]:
        """A bar while the source is filled, by the number of commands."""
        with self._bar("Filling the source", keys * 1.35) as advance:
            yield lambda done: advance(done, None)

    @contextmanager
    def comparing(self) -> Iterator[Callable[[int, int], None]]:
        """A bar while both sides are compared, by keys done and keys altogether."""
        with self._bar("Comparing by value, type and expiry", None) as advance:
            yield advance

    @contextmanager
    def _bar(self, title: str, total: float | None) -> Iterator[Callable[[int, float | None], None]]:
        columns = (TextColumn(title), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
        with Progress(
            *columns, console=self.console, transient=True, disable=not self.console.is_terminal
        ) as progress:
            bar = progress.add_task("", total=total)

            def advance(done: int, whole: float | None) -> None:
                progress.update(bar, completed=done, total=whole or total)

            yield advance

    @contextmanager
    def live(self) -> Iterator[Show]:
        """The running task: a panel that renews itself, or a line every `PLAIN_S` seconds."""
        if not self.console.is_terminal:
            yield self._line
            return
        with Live(console=self.console, refresh_per_second=8, transient=True) as panel:
            yield lambda task, progress, writer: panel.update(_panel(task, progress, writer))

    def _line(self, task: MigrationTask, progress: LinkProgress, writer: Writer) -> None:
        if time.monotonic() - self._said >= PLAIN_S:
            self._said = time.monotonic()
            self.say(" · ".join(f"{name} {value}" for name, value in figures(task, progress, writer)))


def figures(task: MigrationTask, progress: LinkProgress, writer: Writer) -> list[tuple[str, str]]:
    """Name and text of what is shown of a task."""
    percent = f"{progress.percent:.0f} %" if progress.percent is not None else "–"
    total = f" of {progress.keys_total:,}" if progress.keys_total else ""
    lag = "–"
    if progress.lag_bytes is not None:
        lag = f"{progress.lag_bytes:,} bytes, {progress.lag_seconds or 0:.1f} s"
    return [
        ("phase", str(TaskStatus(task.status).label)),
        ("full", percent),
        ("keys", f"{progress.keys_done:,}{total}, {progress.keys_per_second:,.0f}/s"),
        ("commands", f"{progress.commands:,}, {progress.commands_per_second:,.0f}/s"),
        ("received", f"{progress.bytes_in / 2**20:,.1f} MB"),
        ("lag", lag),
        ("writer", f"{writer.commands:,} commands"),
    ]


def _panel(task: MigrationTask, progress: LinkProgress, writer: Writer) -> Panel:
    table = Table.grid(padding=(0, 2))
    for name, value in figures(task, progress, writer):
        table.add_row(name, value)
    bar = ProgressBar(total=100, completed=progress.percent or 0, width=50)
    # In rows of a table: a bar alone does not end its line.
    rows = Table.grid()
    rows.add_row(bar)
    rows.add_row(table)
    return Panel(rows, title=escape(f"{task.name} ({task.public_id})"), expand=False)
