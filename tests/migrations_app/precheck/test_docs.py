"""docs/precheck.md lists the items as they are."""

from __future__ import annotations

from pathlib import Path

from migrations_app.choices import Severity
from migrations_app.runner.precheck.items import ITEMS
from migrations_app.runner.precheck.registry import Item

FILE = Path(__file__).resolve().parents[3] / "docs" / "precheck.md"
_SIDES = {"source": "source", "target": "target", "": "both"}


def row(item: Item) -> str:
    button = ", ".join(f"`{code}`" for code in item.repairs) or "–"
    ignored = "yes" if item.ignorable else "no"
    severity = Severity(item.severity).label.lower()
    return f"| `{item.code}` | {_SIDES[item.side]} | {item.title}: {item.about} | {severity} | {button} | {ignored} |"


def test_every_item_says_what_is_looked_at() -> None:
    assert [item.code for item in ITEMS if not item.about.endswith((".", ")"))] == []


def test_the_table_is_the_registry() -> None:
    """If this fails: the lines that are missing are to be put into the table, the others to be taken out."""
    stored = [line for line in FILE.read_text().splitlines() if line.startswith("| `")]
    assert stored == [row(item) for item in ITEMS]
