"""What a task that works across accounts stores for its own account never holds an address of the other one.

The engine and the checks name servers by their addresses. Where a side belongs to another account, every text about the task is rewritten
before it is stored, so that no page, export, message or API can show it later: addresses that the console knows of that side become
the name of its instance, and others that look like an address (nodes of a cluster, masters that sentinels name) are left out.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from django.db.models import Q

from migrations_app.models import Inspection, MigrationTask, PrecheckItem
from portal.models import Endpoint, Instance

HIDDEN: Final = "(address not shown)"
CLEARING: Final = "target.clear"  # of services/repairs.py, which imports this
# Texts for people in a JSON result; elsewhere in it (names of keys, for example) only what is known is rewritten.
# Places in a JSON result: of the other account's side they are replaced whatever they hold.
PLACES: Final = frozenset({"address", "addresses", "host", "hosts", "node", "nodes", "master", "replica_of"})
PROSE: Final = frozenset({"message", "advice", "found", "repair", "label", "error", "reason", "note"})

_IPV4: Final = r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?::\d{1,5})?(?![\w.]*\d)"
_IPV6: Final = r"\[[0-9A-Fa-f:.]+](?::\d{1,5})?"
_NAMED: Final = r"(?<![\w.@-])[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+:\d{2,5}(?!\w)"
_ADDRESS: Final = re.compile(f"{_IPV6}|{_IPV4}|{_NAMED}")


class Scrubber:
    """`names`: address → what to say instead; `keep`: addresses that may be shown (of the own side, of the worker); `sides`: the
    other account's, each with the name of its instance."""

    def __init__(
        self, names: Mapping[str, str], keep: Iterable[str] = (), sides: Mapping[str, str] | None = None
    ) -> None:
        self._sides = dict(sides or {})
        self._keep = {one for one in keep if one}
        self._names = {text: name for text, name in names.items() if text and text not in self._keep}
        # The longest first: host and port before the host alone.
        known = sorted(self._names, key=len, reverse=True)
        self._known = re.compile("|".join(_bounded(text) for text in known)) if known else None

    def known(self, text: str) -> str:
        """Without the addresses that the console knows of the other side."""
        return self._known.sub(lambda match: self._names[match[0]], text) if self._known else text

    def text(self, text: str) -> str:
        """Without those, and without anything else that looks like an address."""
        return _ADDRESS.sub(self._judged, self.known(text))

    def value(self, value: Any, key: str = "", side: str = "") -> Any:
        """JSON with every string in it rewritten. `side`: the name of the other account's instance that it is about."""
        if isinstance(value, str):
            if side and key in PLACES:
                return side
            return self.text(value) if key in PROSE or key in PLACES else self.known(value)
        if isinstance(value, Mapping):
            return {
                self.known(str(name)): self.value(one, str(name), self._sides.get(str(name), side))
                for name, one in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [self.value(one, key, side) for one in value]
        return value

    def _judged(self, match: re.Match[str]) -> str:
        found = match[0]
        host = found.rpartition(":")[0].strip("[]") or found
        return found if found in self._keep or host in self._keep or not _is_address(found) else HIDDEN


def of_task(task_id: int, *, keep: Iterable[str] = ()) -> Scrubber | None:
    """For a task with a side of another account; None for all others, whose texts stay as they are."""
    across = Q(source_role__isnull=False) | Q(target_role__isnull=False)
    task = (
        MigrationTask.objects.filter(across, pk=task_id)
        .select_related("source__endpoint", "target__endpoint")
        .first()
    )
    return None if task is None else of(task, keep=keep)


def of(task: MigrationTask, *, keep: Iterable[str] = ()) -> Scrubber | None:
    names: dict[str, str] = {}
    shown = list(keep)
    sides = {}
    for side, instance in (("source", task.source), ("target", task.target)):
        if instance is None:
            continue
        if instance.account_id == task.account_id:
            shown += _addresses(instance)
        else:
            names |= dict.fromkeys(_addresses(instance), instance.name)
            sides[side] = instance.name
    return Scrubber(names, shown, sides) if sides else None


def clean_items(inspection: Inspection) -> None:
    """The rows that an inspection has just stored: without addresses, and without buttons that change another account's server."""
    scrubber = of_task(inspection.task_id, keep=[inspection.worker_ip])
    if scrubber is None:
        return
    task = MigrationTask.objects.get(pk=inspection.task_id)
    foreign = [side for side in ("source", "target") if getattr(task, f"{side}_role_id") is not None]
    rows = list(PrecheckItem.objects.filter(inspection=inspection))
    for row in rows:
        row.found, row.advice, row.repair = (
            scrubber.text(one) for one in (row.found, row.advice, row.repair)
        )
        row.data = scrubber.value(row.data)
        # A role that may write opens the data, not the settings.
        if row.side in foreign and row.repair_code != CLEARING:
            row.repair_code = ""
    PrecheckItem.objects.bulk_update(rows, ["found", "advice", "repair", "data", "repair_code"])


def _addresses(instance: Instance) -> list[str]:
    """Everything that says where the servers of an instance are."""
    found: list[str] = [instance.replica_of]
    endpoint = Endpoint.objects.filter(instance=instance).first()
    if endpoint is not None:
        found += [
            endpoint.address, endpoint.host, f"[{endpoint.host}]", endpoint.unix_path, endpoint.file_path,
            endpoint.tls_server_name, *endpoint.sentinels,
        ]  # fmt: skip
        found += [f"{endpoint.host}:{endpoint.port}"] if endpoint.host else []
    for host, port in instance.nodes.values_list("host", "port"):
        found += [host, f"{host}:{port}", f"[{host}]:{port}"]
    found += [one.rpartition(":")[0].strip("[]") for one in (instance.replica_of, *_sentinels(endpoint))]
    return sorted({one for one in found if one and one != "[]"})


def _sentinels(endpoint: Endpoint | None) -> list[str]:
    return list(endpoint.sentinels) if endpoint is not None else []


def _bounded(text: str) -> str:
    return rf"(?<![\w.-]){re.escape(text)}(?![\w-])(?!\.\w)"


def _is_address(text: str) -> bool:
    """Not a version number such as 7.2.4.1, nor a number with a comma in front: four parts up to 255, or a name with a port."""
    bare = text.partition("]")[0].strip("[") if text.startswith("[") else text.partition(":")[0]
    if re.fullmatch(r"[\d.]+|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*", bare):
        try:
            ipaddress.ip_address(bare)
        except ValueError:
            return False
    return True
