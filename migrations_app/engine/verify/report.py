"""A report as text for a person and as a mapping for JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from migrations_app.engine.verify.model import Difference, VerifyReport, escaped

_KEY = 200  # bytes of a key that text shows


def as_text(report: VerifyReport) -> str:
    """Lines without a newline at the end: the differences, what is not listed, and the sum as the last one.

    The last line is `verified: N keys, M differences`, or `stopped after N keys, M differences so far`.
    """
    return "\n".join(_lines(report))


def as_dict(report: VerifyReport) -> dict[str, Any]:
    """What JSON can hold. Keys are escaped (`\\xNN` for what is not printable ASCII, and for the backslash)."""
    return {
        "result": "stopped" if not report.complete else "different" if report.differences else "equal",
        "keys": report.keys,
        "differences": report.differences,
        "by_kind": {kind.value: count for kind, count in sorted(report.by_kind.items())},
        "databases": {str(number): keys for number, keys in sorted(report.databases.items())},
        "items": [_item(item) for item in report.items],
        "seconds": round(report.seconds, 3),
    }


def _lines(report: VerifyReport) -> Iterator[str]:
    for item in report.items:
        detail = f" ({item.detail})" if item.detail else ""
        key = escaped(item.key, _KEY)
        yield f"{item.kind}: db{item.database} '{key}'{detail}: source {item.source}, target {item.target}"
    if unlisted := report.differences - len(report.items):
        yield f"… and {unlisted} more"
    if report.differences:
        yield ", ".join(f"{kind} {count}" for kind, count in sorted(report.by_kind.items()))
    counts = f"{report.keys} keys, {report.differences} differences"  # one form, whatever the numbers: programs read it
    yield f"verified: {counts}" if report.complete else f"stopped after {counts} so far"


def _item(item: Difference) -> dict[str, Any]:
    return {
        "database": item.database,
        "key": escaped(item.key),
        "kind": item.kind.value,
        "source": item.source,
        "target": item.target,
        "detail": item.detail,
    }
