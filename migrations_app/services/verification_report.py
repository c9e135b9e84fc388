"""The result of a verification as files: the report with its checksum, and the differences as CSV and JSON lines.

The report is canonical: the same stored result gives the same bytes, so its SHA-256, kept with the result, proves that a copy was not
changed. All of them are made row by row.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from migrations_app.models import Difference, Inspection
from portal import spreadsheets

COLUMNS: Final = ("database", "key", "kind", "source", "target", "detail", "repaired_at", "repair_note")
_HIDDEN: Final = "(not shown)"
_BOTH: Final = frozenset({"source", "target"})


def report(inspection: Inspection, values: Mapping[str, Any]) -> Iterator[str]:
    """Lines, each with its newline. `values` are the result of the inspection; its `sha256` is not part of the text."""
    yield "Switchyard verification\n"
    yield f"verification: {inspection.public_id}\n"
    yield f"task: {inspection.task.public_id}\n"
    yield from (_line(name, values[name]) for name in sorted(values) if name != "sha256")
    yield "differences:\n"
    for row in _rows(inspection):
        yield _json(
            {
                "database": row.database,
                "key": escaped(bytes(row.key)),
                "kind": row.kind,
                "source": row.source_text,
                "target": row.target_text,
                "detail": row.detail,
            }
        )
    yield "end\n"


def digest(inspection: Inspection, values: Mapping[str, Any]) -> str:
    """SHA-256 of the report, in hexadecimal digits."""
    made = hashlib.sha256()
    # As it will be read back from the database: numbers and lists as JSON knows them.
    for line in report(inspection, json.loads(json.dumps(dict(values)))):
        made.update(line.encode())
    return made.hexdigest()


def as_csv(inspection: Inspection, sides: frozenset[str] = _BOTH) -> Iterator[str]:
    """With a heading. Values of a side that is not among `sides` are left out."""
    return spreadsheets.as_csv(
        COLUMNS, ([str(value) for value in _fields(row, sides).values()] for row in _rows(inspection))
    )


def as_json_lines(inspection: Inspection, sides: frozenset[str] = _BOTH) -> Iterator[str]:
    return (_json(_fields(row, sides)) for row in _rows(inspection))


def escaped(data: bytes, limit: int | None = None) -> str:
    r"""A key as printable ASCII; other bytes and the backslash as `\xNN`."""
    cut = data if limit is None else data[:limit]
    text = "".join(chr(byte) if 32 <= byte < 127 and byte != 92 else f"\\x{byte:02x}" for byte in cut)
    return text + ("…" if len(cut) < len(data) else "")


def shown(row: Difference, sides: frozenset[str]) -> dict[str, str]:
    """`source`, `target` and `detail` of a difference for somebody who may see the values of these sides.

    The detail names fields and members, which are values as well.
    """
    return {
        "source": row.source_text if "source" in sides else _HIDDEN,
        "target": row.target_text if "target" in sides else _HIDDEN,
        "detail": row.detail if sides == _BOTH else _HIDDEN if row.detail else "",
    }


def _rows(inspection: Inspection) -> Iterable[Difference]:
    return Difference.objects.filter(inspection=inspection).order_by("pk").iterator(chunk_size=500)


def _fields(row: Difference, sides: frozenset[str]) -> dict[str, Any]:
    return {
        "database": row.database,
        "key": escaped(bytes(row.key)),
        "kind": row.kind,
        **shown(row, sides),
        "repaired_at": row.repaired_at.isoformat(timespec="seconds") if row.repaired_at else "",
        "repair_note": row.repair_note if sides == _BOTH else "",
    }


def _line(name: str, value: object) -> str:
    return f"{name}: {json.dumps(value, sort_keys=True, ensure_ascii=True)}\n"


def _json(fields: Mapping[str, Any]) -> str:
    return json.dumps(dict(fields), sort_keys=True, ensure_ascii=True) + "\n"
