"""How a rehearsal is told to people: its figures as words, and the keys that the target cannot take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from migrations_app.choices import InspectionKind
from migrations_app.models import MigrationTask
from migrations_app.present import duration
from migrations_app.present_inspection import InspectionView
from migrations_app.services import inspections


@dataclass(frozen=True, slots=True)
class TypeRow:
    """Keys of one type among those that were looked at; bytes None where they were not measured."""

    name: str
    keys: int
    bytes: int | None


class RehearsalView(InspectionView):
    """The newest rehearsal of a task; `inspection` is None before the first one. `runner/rehearsal.py` says what its result holds."""

    def __init__(self, task: MigrationTask) -> None:
        self.task = task
        super().__init__(inspections.newest(task, InspectionKind.REHEARSAL))
        self.result: Mapping[str, Any] = self.inspection.result if self.inspection else {}

    @property
    def percent(self) -> int:
        progress = self.inspection.progress if self.inspection else {}
        total = progress.get("total") or 0
        return int(min(100, progress.get("done", 0) * 100 / total)) if total else 0

    @property
    def keys(self) -> int | None:
        return self.result.get("keys")

    @property
    def bytes(self) -> int | None:
        return self.result.get("bytes")

    @property
    def sampled(self) -> int | None:
        return self.result.get("sampled_keys")

    @property
    def time(self) -> str:
        """How long the full phase is expected to take: `about 4 min`; "" where it is not known."""
        seconds = self.result.get("seconds")
        if seconds is None:
            return ""
        return "under a second" if seconds < 1 else f"about {duration(seconds)}"

    @property
    def refused(self) -> list[Mapping[str, Any]]:
        return list(self.result.get("refused") or ())

    @property
    def refused_count(self) -> int:
        return int(self.result.get("refused_count", len(self.refused)))

    @property
    def fits(self) -> bool | None:
        """Whether the target has room for it all; None where that is not known."""
        return self.result.get("fits")

    @property
    def notes(self) -> list[str]:
        return list(self.result.get("notes") or ())

    @property
    def refused_more(self) -> int:
        return max(0, self.refused_count - len(self.refused))

    @property
    def largest(self) -> list[Mapping[str, Any]]:
        return list(self.result.get("largest") or ())

    @property
    def types(self) -> list[TypeRow]:
        rows = []
        for name, value in (self.result.get("by_type") or {}).items():
            if isinstance(value, Mapping):
                rows.append(TypeRow(str(name), int(value.get("keys", 0)), value.get("bytes")))
            else:
                rows.append(TypeRow(str(name), int(value), None))
        return sorted(rows, key=lambda row: -row.keys)

    @property
    def summary(self) -> str:
        """One sentence for the pages that only mention it."""
        if not self.is_done:
            return ""
        found = (
            f"{self.keys:,} {'key' if self.keys == 1 else 'keys'}"
            if self.keys is not None
            else "The size is not known"
        )
        if self.time:
            found += f", {self.time} for the full phase"
        trouble = []
        if self.refused_count:
            keys = "key that the target" if self.refused_count == 1 else "keys that the target"
            trouble.append(f"{self.refused_count:,} {keys} cannot take")
        if self.fits is False:
            trouble.append("more than the target has room for")
        return f"{found}, and {' and '.join(trouble) or 'nothing that the target cannot take'}."
