"""How a verification and a repair are told to people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from migrations_app.choices import InspectionStatus
from migrations_app.models import Difference, Inspection
from migrations_app.present import duration
from migrations_app.services import verifications
from migrations_app.services.verification_report import escaped, shown

KINDS: Final = {
    "missing": "Missing on the target",
    "extra": "Only on the target",
    "database": "Other database",
    "type": "Type",
    "value": "Value",
    "ttl": "Expiry",
    "field": "Field of a hash",
    "member": "Member",
    "score": "Score",
    "order": "List order or element",
    "entry": "Stream entry",
    "group": "Stream group",
    "pending": "Pending entry",
    "uncomparable": "Not comparable",
    "unsettled": "Written all the time",
}
_VERDICTS: Final = {
    "equal": ("success", "check-circle", "Both sides agree"),
    "different": ("danger", "x-circle", "Differences found"),
    "unsettled": ("warning", "alert", "No difference found, but not all keys could be told"),
}
_KEY: Final = 120  # bytes of a key in a table


@dataclass(frozen=True, slots=True)
class Verdict:
    tone: str
    icon: str
    label: str


class VerificationView:
    """One verification; nothing is asked of the database here."""

    def __init__(self, inspection: Inspection) -> None:
        self.inspection = inspection
        self.status = InspectionStatus(inspection.status)
        self.result: dict[str, Any] = inspection.result
        self.progress: dict[str, Any] = inspection.progress

    @property
    def is_quick(self) -> bool:
        return bool(self.inspection.parameters.get("mode") == verifications.QUICK)

    @property
    def label(self) -> str:
        if self.is_quick:
            return "Quick"
        percent = float(self.inspection.parameters.get("percent", 100))
        return "By value" if percent >= 100 else f"By value, {percent:g} % of the keys"

    @property
    def settings(self) -> str:
        """What was asked for, in words."""
        asked = self.inspection.parameters
        if self.is_quick:
            return "number of keys per database"
        parts = ["both directions" if asked.get("both_directions") else "source to target only"]
        parts.append(f"expiries within {asked.get('ttl_tolerance_ms', 0) / 1000:g} s")
        limits = []
        if asked.get("keys_per_second"):
            limits.append(f"{asked['keys_per_second']:,} keys/s")
        if asked.get("megabytes_per_second"):
            limits.append(f"{asked['megabytes_per_second']:g} MB/s")
        parts.append("at most " + " and ".join(limits) if limits else "no limit of the speed")
        return ", ".join(parts)

    @property
    def verdict(self) -> Verdict | None:
        found = _VERDICTS.get(self.result.get("result", "")) if self.status == InspectionStatus.DONE else None
        return Verdict(*found) if found else None

    @property
    def words(self) -> str:
        """The outcome in a few words, or how far it has come, for a row of a table."""
        if self.status == InspectionStatus.FAILED:
            return self.inspection.failure_message
        if self.status == InspectionStatus.CANCELLED:
            keys = self.progress.get("keys")
            return f"{keys:,} keys were compared until then" if keys else ""
        if self.status != InspectionStatus.DONE:
            return str(self.progress.get("label", ""))
        number = self.result.get("differences", 0)
        if self.is_quick:
            return (
                f"{number} database{_s(number)} with another number of keys"
                if number
                else "all databases agree"
            )
        text = f"{number:,} of {self.result.get('keys', 0):,} keys differ"
        unsettled = self.result.get("unsettled", 0)
        return f"{text}, {unsettled:,} not told" if unsettled else text

    @property
    def percent(self) -> float | None:
        done, total = self.progress.get("done"), self.progress.get("total")
        return min(100.0, 100 * done / total) if done is not None and total else None

    @property
    def remaining(self) -> str:
        eta = self.progress.get("eta")
        return f"about {duration(eta)} left" if eta else ""

    @property
    def seconds(self) -> str:
        return duration(self.result.get("seconds", 0)) if self.result else ""

    @property
    def kinds(self) -> list[tuple[str, int]]:
        return [(KINDS.get(kind, kind), number) for kind, number in self.result.get("by_kind", {}).items()]

    @property
    def databases(self) -> list[tuple[str, int]]:
        """By value: database and keys compared."""
        found = self.result.get("databases", {})
        return sorted(found.items(), key=lambda row: int(row[0])) if isinstance(found, dict) else []


@dataclass(frozen=True, slots=True)
class DifferenceRow:
    """A difference as a table shows it, to somebody who may see these sides."""

    row: Difference
    key: str
    kind: str
    source: str
    target: str
    detail: str

    @classmethod
    def of(cls, row: Difference, sides: frozenset[str]) -> DifferenceRow:
        return cls(row, escaped(bytes(row.key), _KEY), KINDS.get(row.kind, row.kind), **shown(row, sides))


def _s(number: int) -> str:
    return "" if number == 1 else "s"
