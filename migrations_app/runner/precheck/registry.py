"""What an item of the precheck is, what it answers, and the registry of a module's items."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from migrations_app.choices import Outcome, Severity

if TYPE_CHECKING:
    from migrations_app.runner.precheck.context import Context, Side

SOURCE: Final = "source"
TARGET: Final = "target"
PAIR: Final = ""


class Skip(Exception):
    """The item does not apply; the text says why."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one item has found.

    `found` tells what is there, with its numbers and the advised ones beside them; it stays the same while nothing of weight
    changes, because an ignored item is one whose `found` has not changed. `repair` is how a person repairs it, `repair_code`
    names the button that does (services/repairs.py); `data` must be JSON.
    """

    outcome: Outcome
    found: str
    advice: str = ""
    repair: str = ""
    repair_code: str = ""
    data: dict[str, Any] = field(default_factory=dict)


def passed(found: str, **data: Any) -> Finding:
    return Finding(Outcome.PASSED, found, data=data)


def warning(found: str, advice: str, *, repair: str = "", repair_code: str = "", **data: Any) -> Finding:
    return Finding(Outcome.WARNING, found, advice, repair, repair_code, data)


def failed(found: str, advice: str, *, repair: str = "", repair_code: str = "", **data: Any) -> Finding:
    return Finding(Outcome.FAILED, found, advice, repair, repair_code, data)


@dataclass(frozen=True, slots=True)
class Item:
    """One item. `code` never changes; `severity` is how bad it can be.

    `ignorable` is whether somebody may take the risk of its failure: never for what protects data, or what the task could not run
    with. `repairs` names the buttons that it may offer. `needs` are the sides that have to be connected, `file` whether it is
    looked at where the source is a snapshot file. `about` says what is looked at, for docs/precheck.md.
    """

    code: str
    side: str
    title: str
    severity: Severity
    check: Callable[[Context], Finding]
    ignorable: bool
    repairs: tuple[str, ...]
    needs: tuple[str, ...]
    file: bool
    about: str


class Checks:
    """The items of a module, in the order in which they are defined."""

    def __init__(self) -> None:
        self._items: list[Item] = []

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items)

    def source(
        self, name: str, title: str, severity: Severity, **options: Any
    ) -> Callable[[Callable[[Context, Side], Finding]], Callable[[Context, Side], Finding]]:
        """Register a check of the source: `source.NAME`."""
        return self._sides((SOURCE,), name, title, severity, options)

    def target(
        self, name: str, title: str, severity: Severity, **options: Any
    ) -> Callable[[Callable[[Context, Side], Finding]], Callable[[Context, Side], Finding]]:
        """Register a check of the target: `target.NAME`."""
        return self._sides((TARGET,), name, title, severity, options)

    def each(
        self, name: str, title: str, severity: Severity, **options: Any
    ) -> Callable[[Callable[[Context, Side], Finding]], Callable[[Context, Side], Finding]]:
        """Register a check of either side."""
        return self._sides((SOURCE, TARGET), name, title, severity, options)

    def pair(
        self, name: str, title: str, severity: Severity, **options: Any
    ) -> Callable[[Callable[[Context], Finding]], Callable[[Context], Finding]]:
        """Register a check of both sides together, or of the worker: `pair.NAME`."""

        def register(check: Callable[[Context], Finding]) -> Callable[[Context], Finding]:
            self._add(
                f"pair.{name}",
                PAIR,
                title,
                severity,
                check,
                (SOURCE, TARGET),
                {"about": _first_line(check)} | options,
            )
            return check

        return register

    def _sides(
        self, sides: tuple[str, ...], name: str, title: str, severity: Severity, options: dict[str, Any]
    ) -> Callable[[Callable[[Context, Side], Finding]], Callable[[Context, Side], Finding]]:
        def register(check: Callable[[Context, Side], Finding]) -> Callable[[Context, Side], Finding]:
            for side in sides:
                self._add(
                    f"{side}.{name}",
                    side,
                    title,
                    severity,
                    lambda ctx, side=side: check(ctx, ctx.side(side)),  # type: ignore[misc]
                    (side,),
                    {"about": _first_line(check)} | options,
                )
            return check

        return register

    def _add(
        self,
        code: str,
        side: str,
        title: str,
        severity: Severity,
        check: Callable[[Context], Finding],
        needs: tuple[str, ...],
        options: dict[str, Any],
    ) -> None:
        given: dict[str, Any] = {"ignorable": True, "repairs": (), "needs": needs, "file": False} | options
        self._items.append(Item(code=code, side=side, title=title, severity=severity, check=check, **given))


def _first_line(check: Callable[..., Finding]) -> str:
    return (check.__doc__ or "").partition("\n\n")[0].replace("\n    ", " ")
