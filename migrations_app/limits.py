"""What the combination of two sides does not do, or does differently: told before anything else is chosen (R65).

From what the console knows of them; no server is asked. The precheck looks again, at the servers themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

from migrations_app.models import MigrationTask
from portal.choices import Architecture, Edition, EndpointKind, NodeRole
from portal.models import Instance


@dataclass(frozen=True, slots=True)
class Limit:
    """`tone` is warning for what can lose or change data, info for the rest."""

    tone: str
    text: str

    @property
    def icon(self) -> str:
        return "alert" if self.tone == "warning" else "info"


def limits_of(task: MigrationTask) -> list[Limit]:
    """Warnings first; empty until both sides are chosen."""
    if task.source is None or task.target is None:
        return []
    found = [*_about_source(task.source), *_about_pair(task.source, task.target), *_about_target(task.target)]
    return sorted(found, key=lambda limit: limit.tone != "warning")


def _about_source(source: Instance) -> list[Limit]:
    if source.endpoint.kind == EndpointKind.FILE:
        return [
            Limit("info", "A snapshot file has no changes after it: the task copies it once and then ends (full phase only)."),
        ]  # fmt: skip
    found = [
        Limit("info", "The source is loaded as by a new replica, and by nothing else. Choose hours of low demand, and enough "
              "bandwidth out of the source: it bounds the speed."),
        Limit("info", "Expired keys that the source has not deleted yet are counted there and not at the target."),
    ]  # fmt: skip
    if source.role == NodeRole.REPLICA:
        found.append(
            Limit("info", "The source is a replica: what its master has not sent to it is not migrated yet.")
        )
    if source.endpoint.kind == EndpointKind.SERVER and source.architecture == Architecture.STANDARD:
        found.append(Limit("info", "If another server takes over the address of the source (a failover), the task goes on where it "
                           "stood if the new master allows a partial resynchronization, and fails with the reason if not."))  # fmt: skip
    return found


def _about_pair(source: Instance, target: Instance) -> list[Limit]:
    found = []
    if source.compatible_version and target.compatible_version and _is_earlier(target, source):
        found.append(Limit("warning", f"The target is older ({target.product}) than the source ({source.product}). Values and commands are "
                           "rewritten where the older version knows them in another form; what it cannot hold stops the task, with the "
                           "key and the reason."))  # fmt: skip
    if source.architecture != Architecture.CLUSTER and target.architecture == Architecture.CLUSTER:
        found.append(Limit("warning", "A cluster has database 0 only: keys in other databases of the source cannot be migrated to it. "
                           "Commands over keys of several slots are not possible there."))  # fmt: skip
    return found


def _about_target(target: Instance) -> list[Limit]:
    found = []
    if target.eviction_policy and target.eviction_policy != "noeviction":
        found.append(Limit("warning", f"The target evicts keys when its memory is full ({target.eviction_policy}): data that was migrated may "
                           "vanish there. noeviction is advised while the task runs."))  # fmt: skip
    found.append(
        Limit(
            "info",
            "The data may take more memory at the target than at the source: fragmentation and encodings differ.",
        )
    )
    found.append(Limit("info", "Scripts of the source arrive as the writes that they have made; their results are not reported at the target."))  # fmt: skip
    found.append(Limit("warning", "Nothing else may write to the target while the task runs, and specification, address and port of both sides "
                       "must stay as they are."))  # fmt: skip
    return found


def _is_earlier(one: Instance, other: Instance) -> bool:
    """Of what both are compatible with: Valkey 7.2 and Redis 7.2 are the same, Valkey 8 comes after Redis 7.2."""

    def level(instance: Instance) -> tuple[int, ...]:
        return tuple(int(part) for part in instance.compatible_version.split(".") if part.isdecimal())

    if {one.edition, other.edition} == {Edition.REDIS.value, Edition.VALKEY.value}:
        # The editions parted after 7.2: beyond it, their numbers cannot be compared.
        return level(one) < min(level(other), (7, 2))
    return level(one) < level(other)
