"""How a precheck is told to people: its items by side, what may be done about each, and whether it still counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from migrations_app.choices import InspectionKind, InspectionStatus, Outcome, TaskStatus
from migrations_app.models import AppliedRepair, IgnoredItem, Inspection, MigrationTask, PrecheckItem
from migrations_app.present_inspection import InspectionView
from migrations_app.services import inspections, prechecks, repairs

_TROUBLE: Final = (Outcome.FAILED, Outcome.WARNING, Outcome.IGNORED)
_ORDER: Final = {Outcome.FAILED: 0, Outcome.WARNING: 1, Outcome.IGNORED: 2}
_HIDDEN: Final = frozenset({"same", "id", "set"})  # of an item's data: for the programs
_SHOWN: Final = 20
# Items that can be put right in the set-up as well: the step that does.
_STEPS: Final = dict.fromkeys(
    ("network", "raw_ip", "reachable", "authenticated", "tls", "roles", "same_server", "file"), "sides"
) | dict.fromkeys(
    ("settings", "phases", "psync", "databases", "same_names", "empty", "notifications"), "objects"
)


@dataclass(frozen=True, slots=True)
class ItemView:
    """One item, with what somebody has done about it. `repair` is the newest attempt to repair it by the button.

    `busy`: a repair of the task is under way, and one at a time is possible.
    """

    item: PrecheckItem
    ignored: IgnoredItem | None = None
    repair: Inspection | None = None
    changes: list[AppliedRepair] = field(default_factory=list)
    busy: bool = False

    @property
    def step(self) -> str:
        """The step of the set-up in which it can be put right, too; "" where there is none."""
        return _STEPS.get(self.item.code.partition(".")[2], "")

    @property
    def badge(self) -> Outcome:
        return Outcome(self.item.outcome)

    @property
    def is_failed(self) -> bool:
        return self.item.outcome == Outcome.FAILED

    @property
    def clears(self) -> bool:
        """Its repair deletes data: it is asked for with the typed name of the target."""
        return self.item.repair_code == repairs.CLEAR

    @property
    def can_repair(self) -> bool:
        return (
            self.item.repair_code in repairs.CODES
            and self.badge in (Outcome.FAILED, Outcome.WARNING)
            and not (self.is_repairing or self.is_repaired)
        )

    @property
    def wanted(self) -> dict[str, str]:
        """What the repair would set: setting → value."""
        return dict(self.item.data.get("set", {}))

    @property
    def is_repairing(self) -> bool:
        return self.repair is not None and not self.repair.status_badge.is_final

    @property
    def is_open(self) -> bool:
        """Whether the page shows it unfolded."""
        return self.is_failed or self.repair is not None

    @property
    def repair_failed(self) -> bool:
        return self.repair is not None and self.repair.status in (
            InspectionStatus.FAILED,
            InspectionStatus.CANCELLED,
        )

    @property
    def is_repaired(self) -> bool:
        return self.repair is not None and self.repair.status == InspectionStatus.DONE

    @property
    def details(self) -> list[tuple[str, list[str], int]]:
        """What else was found: (name, values, how many more there are)."""
        return [
            (label(key), *_values(value))
            for key, value in self.item.data.items()
            if key not in _HIDDEN and value not in (None, "", [], {})
        ]


@dataclass(frozen=True, slots=True)
class SideView:
    """The items of a side: what needs a look first, the rest apart."""

    title: str
    trouble: list[ItemView]
    passed: list[ItemView]
    skipped: list[ItemView]


class PrecheckView(InspectionView):
    """The newest precheck of a task; `inspection` is None before the first one."""

    def __init__(self, task: MigrationTask) -> None:
        self.task = task
        super().__init__(prechecks.newest(task))
        if task.status == TaskStatus.PRECHECKING and self.inspection is not None and not self.is_running:
            # It has ended since the task was read: with its end the status was written.
            task.refresh_from_db(fields=["status"])

    @property
    def is_live(self) -> bool:
        """Whether the page has something to wait for."""
        return self.is_running or self.is_restoring or any(view.is_repairing for view in self.items)

    @cached_property
    def is_restoring(self) -> bool:
        """What was changed for the task is being put back."""
        return self.task.inspections.filter(
            kind=InspectionKind.REPAIR, status__in=inspections.OPEN, parameters__restore=True
        ).exists()

    @property
    def counts_now(self) -> bool:
        """The task can be started on it."""
        return self.task.status == TaskStatus.READY and not self.void

    @cached_property
    def void(self) -> str:
        """Why it does not count any more, as a sentence; "" while it does, or if nothing has passed yet."""
        if self.inspection is None or not self.is_done:
            return ""
        why = prechecks.why_outdated(self.task, self.inspection)
        return f"{why[:1].upper()}{why[1:]}." if why else ""

    @property
    def percent(self) -> int:
        progress = self.inspection.progress if self.inspection else {}
        total = progress.get("total") or 0
        return int(min(100, progress.get("done", 0) * 100 / total)) if total else 0

    @cached_property
    def rate(self) -> int:
        return prechecks.success_rate(self.inspection) if self.inspection else 0

    @cached_property
    def items(self) -> list[ItemView]:
        if self.inspection is None:
            return []
        ignored = {(one.code, one.side): one for one in self.task.ignored_items.select_related("by")}
        attempted: dict[tuple[str, str], Inspection] = {}
        attempts = self.task.inspections.filter(
            kind=InspectionKind.REPAIR, created_at__gte=self.inspection.created_at
        )
        for one in attempts.order_by("pk"):
            attempted[one.parameters.get("code", ""), one.parameters.get("side", "")] = one
        changes: dict[str, list[AppliedRepair]] = {}
        for change in self.task.repairs.select_related("instance", "by").filter(applied_at__isnull=False):
            changes.setdefault(change.code, []).append(change)
        sides = {"source": self.task.source_id, "target": self.task.target_id}
        busy = any(not one.status_badge.is_final for one in attempted.values())
        return [
            ItemView(
                item,
                ignored.get((item.code, item.side)) if item.outcome == Outcome.IGNORED else None,
                attempted.get((item.repair_code, item.side)) if item.repair_code else None,
                [
                    one
                    for one in changes.get(item.repair_code, [])
                    if sides.get(item.side, one.instance_id) == one.instance_id
                ]
                if item.repair_code
                else [],
                busy,
            )
            for item in self.inspection.items.all()
        ]

    @cached_property
    def sides(self) -> list[SideView]:
        source, target = self.task.both_sides()
        titles = {
            "source": f"Source: {source.name}",
            "target": f"Target: {target.name}",
            "": "Both sides and the worker",
        }
        found = []
        for side, title in titles.items():
            items = [view for view in self.items if view.item.side == side]
            trouble = [view for view in items if view.badge in _TROUBLE]
            if items:
                found.append(
                    SideView(
                        title,
                        sorted(trouble, key=lambda view: _ORDER[view.badge]),
                        [view for view in items if view.badge == Outcome.PASSED],
                        [view for view in items if view.badge == Outcome.SKIPPED],
                    )
                )
        return found

    @property
    def failed(self) -> int:
        return sum(view.is_failed for view in self.items)

    @property
    def warned(self) -> int:
        return sum(view.badge == Outcome.WARNING for view in self.items)

    @property
    def changes(self) -> list[AppliedRepair]:
        """Settings of servers that were changed for the task and are still to be put back."""
        return list(
            self.task.repairs.select_related("instance", "by").filter(
                applied_at__isnull=False, restored_at__isnull=True
            )
        )


def label(key: str) -> str:
    """`same_names` as "Same names"."""
    return key.replace("_", " ").replace(".", " ").capitalize()


def _values(value: Any) -> tuple[list[str], int]:
    """A value of an item's data as the texts that are shown, and how many more there are."""
    if isinstance(value, Mapping):
        texts = [f"{key}: {_text(one)}" for key, one in value.items()]
    elif isinstance(value, (list, tuple)):
        texts = [_text(one) for one in value]
    else:
        texts = [_text(value)]
    return texts[:_SHOWN], max(0, len(texts) - _SHOWN)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(one)}" for key, one in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_text(one) for one in value)
    return str(value)
