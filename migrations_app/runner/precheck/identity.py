"""Who the two sides are, and what else is done with them (R40, R52, R57, R63, R75, R96, R99)."""

from __future__ import annotations

import time
from typing import Final

from django.db.models import Q
from django.utils import timezone

from migrations_app.choices import ACTIVE, HOLDING, Method, Phases, Severity
from migrations_app.engine.abilities import Abilities
from migrations_app.engine.errors import EngineError, UsageError
from migrations_app.engine.shards import layout
from migrations_app.models import MigrationTask
from migrations_app.runner.precheck import versions
from migrations_app.runner.precheck.context import Context, Side, number, text
from migrations_app.runner.precheck.registry import (
    SOURCE,
    TARGET,
    Checks,
    Finding,
    Skip,
    failed,
    passed,
    warning,
)
from migrations_app.runner.precheck.settings import link_config
from migrations_app.runner.precheck.words import listed
from portal.errors import ServiceError
from portal.models import AccessRole
from portal.services.roles import check_role

checks = Checks()

CLOCK_MS: Final = 2000  # that clocks may be apart
ROLE_DAYS: Final = 7  # a role that expires within them is a warning


@checks.pair("settings", "Settings fit together", Severity.ERROR, ignorable=False, needs=(), file=True)
def settings_fit(ctx: Context) -> Finding:
    """What the engine refuses before it connects, and what it refuses of clusters."""
    try:
        link_config(ctx)
    except UsageError as error:
        return failed(error.message[:1].upper() + error.message[1:] + ".", error.advice, id=error.id)
    task = ctx.task
    if ctx.source.connected and ctx.source.is_cluster and task.method == Method.SCAN:
        return failed(
            "The source is a cluster, whose masters are read by replication only.",
            "Choose the method PSYNC.",
        )
    return passed("Method, phases, databases, commands and conflict policy fit together.")


@checks.pair("phases", "Changes are followed", Severity.WARNING, needs=(), file=True)
def phases(ctx: Context) -> Finding:
    """Full only leaves out what is written after the start (R46, R74, R109, R120)."""
    if ctx.task.phases == Phases.FULL_INCREMENTAL:
        return passed(
            "Full and incremental: what is written to the source during the migration is migrated, too."
        )
    return warning(
        "Full only: what is written to the source after the task has started is not migrated, and the two sides then differ.",
        "Stop writing to the source before the start, or choose full and incremental, which is recommended.",
    )


@checks.pair("roles", "Roles across accounts", Severity.ERROR, ignorable=False, needs=(), file=True)
def roles(ctx: Context) -> Finding:
    """The roles that the task uses are valid, cover the instances and last (R63, R68)."""
    task = ctx.task
    # The row of now, not the one that the task was loaded with.
    used = [
        (side, AccessRole.objects.get(pk=role_id))
        for side, role_id in ((ctx.source, task.source_role_id), (ctx.target, task.target_role_id))
        if role_id
    ]
    if not used:
        raise Skip("Both sides belong to the account of the task.")
    soon = []
    for side, role in used:
        try:
            check_role(role, task.account, side.instance, task.databases, side is ctx.target, unchanged="")
        except ServiceError as refusal:
            return failed(refusal.message.strip(), refusal.advice, id=refusal.id)
        if role.expires_at and (role.expires_at - timezone.now()).days < ROLE_DAYS:
            soon.append(f"{role.name} ({side.name}) expires on {role.expires_at:%Y-%m-%d %H:%M} UTC")
    if soon:
        return warning(
            f"The role {listed(soon)}; the task is paused then.",
            f"Ask its owner to extend it, if the migration may take longer; {ROLE_DAYS} days at least are advised.",
        )
    return passed(f"The role {listed(role.name for _, role in used)} is valid.")


@checks.pair("same_server", "Source and target differ", Severity.ERROR, ignorable=False)
def same_server(ctx: Context) -> Finding:
    """Not one server, not one cluster, not master and replica of each other."""
    source, target = ctx.source, ctx.target
    both = {node.facts.run_id for node in source.nodes} & {node.facts.run_id for node in target.nodes}
    if both - {""}:
        what = "cluster" if source.is_cluster else "server"
        return failed(
            f"Source and target are one and the same {what}: both answer with the run ID {min(both)[:8]}….",
            "Choose another target.",
        )
    replicated = source.node.info.get("master_replid", "").strip("0")
    if replicated and replicated == target.node.info.get("master_replid", "").strip("0"):
        return failed(
            "Source and target belong to one replication: what is written to one of them comes back from the other.",
            "Choose a target that is no replica of the source (REPLICAOF NO ONE), and no source that replicates the target.",
        )
    return passed(f"{source.node.address} and {target.node.address} are different servers.")


@checks.pair("versions", "Versions", Severity.ERROR, ignorable=False)
def versions_served(ctx: Context) -> Finding:
    """Both sides against the matrix of versions (R40, R52, R96)."""
    return versions.judge(Abilities.of(ctx.source.node.facts), Abilities.of(ctx.target.node.facts))


@checks.pair("translation", "Commands known to the target", Severity.WARNING)
def translation(ctx: Context) -> Finding:
    """What an older target lacks, what is translated and what stops the task."""
    return versions.translation(Abilities.of(ctx.source.node.facts), Abilities.of(ctx.target.node.facts))


@checks.each("cluster", "Cluster complete", Severity.ERROR, ignorable=False)
def cluster(ctx: Context, side: Side) -> Finding:
    """Every slot is served, and none is on its way."""
    if not side.is_cluster:
        raise Skip(f"The {side.name} is no cluster.")
    try:
        topology = layout.check_complete(side.node.client)
    except EngineError as error:
        return failed(
            error.message,
            "Repair the cluster (CLUSTER INFO, redis-cli --cluster check), then run the precheck again.",
        )
    if side.name == "source":
        for node in side.nodes:
            if opened := layout.open_slots(node.client):
                return failed(
                    f"Slots are being moved: {node.address} {opened}.",
                    "Finish the resharding before the task starts.",
                )
    return passed(f"All slots are served, by {len(topology.shards)} masters.", masters=len(topology.shards))


@checks.source("replica", "Source is a master", Severity.ERROR)
def replica(ctx: Context, side: Side) -> Finding:
    """A replica can be the source as long as it has its master."""
    node = side.node
    if node.facts.master:
        return passed(f"{node.address} is a master.")
    master = f"{node.info.get('master_host')}:{node.info.get('master_port')}"
    if node.info.get("master_link_status") != "up":
        return failed(
            f"{node.address} is a replica of {master} and has lost it: it serves no replicas now.",
            "Repair its replication (INFO replication), or choose the master as the source.",
        )
    return warning(
        f"{node.address} is a replica of {master}: its data is that of the master, a little later.",
        "This spares the master. The task fails if the replica is given another master; keys that expire go when the master deletes them.",
    )


@checks.pair("tasks", "Other tasks", Severity.ERROR, ignorable=False, needs=(), file=True)
def tasks(ctx: Context) -> Finding:
    """Nobody else writes into the target, and nothing runs back."""
    others = MigrationTask.objects.exclude(pk=ctx.task.pk).select_related("account")
    into = others.filter(_is("target", ctx.target), status__in=HOLDING).first()
    if into is not None:
        return failed(
            f"{_called(into, ctx.task)} writes into the same target.",
            "Stop or release that task first, or choose another target.",
        )
    if ctx.source.is_file:
        return passed("No other task writes into the target.")
    back = others.filter(_is("source", ctx.target), _is("target", ctx.source), status__in=HOLDING).first()
    if back is not None:
        return failed(
            f"{_called(back, ctx.task)} migrates in the opposite direction: every write would go in a circle.",
            "Stop or release that task first.",
        )
    beside = list(others.filter(_is("source", ctx.source), status__in=ACTIVE)[:6])
    if beside:
        return warning(
            f"{listed(_called(one, ctx.task) for one in beside)} reads the same source: it serves one more replica, and the lowest "
            "retry time of them holds for all.",
            "Start one after the other, if the source is busy.",
        )
    chained = others.filter(
        Q(_is("target", ctx.source)) | Q(_is("source", ctx.target)), status__in=ACTIVE
    ).first()
    if chained is not None:
        return warning(
            f"{_called(chained, ctx.task)} runs at one of the two servers: the data goes through a chain, with the delay of both tasks.",
            "Make sure that the chain is meant.",
        )
    return passed("No other task runs between these servers, into the target or from the source.")


def _is(role: str, side: Side) -> Q:
    """The side `role` of a task is this server: the same instance, address or run ID."""
    known = Q(**{f"{role}_id": side.instance.pk})
    endpoint = side.instance.endpoint
    if endpoint.host and endpoint.kind == "server":
        known |= Q(**{f"{role}__endpoint__host": endpoint.host, f"{role}__endpoint__port": endpoint.port})
    runs = [node.facts.run_id for node in side.nodes if node.facts.run_id] if side.connected else []
    return known | Q(**{f"{role}__run_id__in": runs}) if runs else known


def _called(other: MigrationTask, task: MigrationTask) -> str:
    """The name of a task; of another account's only that there is one."""
    if other.account_id != task.account_id:
        return "A task of another account"
    return f"The task {other.name} ({other.public_id})"


@checks.pair("clocks", "Clocks agree", Severity.WARNING)
def clocks(ctx: Context) -> Finding:
    """Expiries are times of the day: the source's, the target's and the worker's clock."""
    source, target = ctx.source.node.facts.ahead, ctx.target.node.facts.ahead
    if source is None or target is None:
        which = "source" if source is None else "target"
        return warning(
            f"The {which} does not tell its time (TIME), so the worker's clock takes its place.",
            "Allow +time to the user of that side.",
        )
    worker = _worker_ms()
    for gap, what in (
        (target - source, "The target's clock is {} the source's, and keys expire there that much {}"),
        (
            worker - source,
            "The worker's clock is {} the source's, and the latency that is shown is wrong by that much{}",
        ),
    ):
        if abs(gap) > CLOCK_MS:
            seconds = f"{abs(gap) / 1000:.0f} s {'ahead of' if gap > 0 else 'behind'}"
            sooner = ("earlier" if gap > 0 else "later") if what.startswith("The target") else ""
            return warning(
                f"{what.format(seconds, sooner)}; at most {CLOCK_MS // 1000} s are advised.",
                "Set the clocks right (NTP) before the task starts.",
            )
    return passed(f"The clocks of source, target and worker agree within {CLOCK_MS // 1000} s.")


def _worker_ms() -> int:
    """By how many ms the clock of this machine is ahead of its monotonic clock, as `ServerFacts.ahead`."""
    return (time.time_ns() - time.monotonic_ns()) // 1_000_000


@checks.source("functions", "Functions", Severity.ERROR, ignorable=False, needs=(SOURCE, TARGET))
def functions(ctx: Context, side: Side) -> Finding:
    """Libraries of functions need a target that has them: from 7.0 on."""
    source, target = (Abilities.of(one.node.facts) for one in (side, ctx.target))
    if not source.knows("functions"):
        return passed("The source has no functions: it is older than 7.0.")
    count = side.node.number("number_of_libraries") or 0
    if not count:
        return passed("The source has no functions.")
    if target.knows("functions"):
        return passed(f"{count} libraries of functions; the target knows functions.")
    return failed(
        f"The source has {count} libraries of functions, and the target ({target}) knows none.",
        "Use a target from 7.0 on, or delete the libraries (FUNCTION DELETE) if nobody uses them.",
    )


@checks.source("scripts", "Scripts", Severity.WARNING)
def scripts(ctx: Context, side: Side) -> Finding:
    """EVAL and EVALSHA of the stream: what they answer on the target is not reported (R49)."""
    stats = side.node.client.info("commandstats")
    calls = 0
    for name in ("eval", "evalsha", "fcall"):
        fields = dict(
            part.split("=", 1) for part in stats.get(f"cmdstat_{name}", "").split(",") if "=" in part
        )
        calls += int(fields.get("calls", 0))
    if not calls:
        return passed("No script has run on the source since its statistics began.")
    if side.node.facts.version >= (7,):
        return passed(f"{calls:,} calls of scripts; this source sends what they did, not the scripts.")
    effects = side.node.config("lua-replicate-commands") if side.node.facts.version >= (5,) else "no"
    if effects == "yes":
        return passed(
            f"{calls:,} calls of scripts; this source sends what they did (lua-replicate-commands yes)."
        )
    return warning(
        f"{calls:,} calls of EVAL and EVALSHA: this source sends scripts as they are, and they run again on the target. What a script "
        "answers there is not reported.",
        "Let scripts name all their keys and be free of chance; compare both sides by a verification before the switch.",
    )


def modules_of(side: Side) -> dict[str, int] | None:
    """Name → version of the modules that may hold values; None where the server does not tell."""
    found: dict[str, int] = {}
    for node in side.nodes:
        reply = node.ask("MODULE", "LIST")
        if not isinstance(reply, list):
            if getattr(reply, "code", "") == "NOPERM":
                return None
            continue  # before 4.0 there are none
        for module in reply:
            fields = dict(zip(module[::2], module[1::2], strict=False)) if isinstance(module, list) else {}
            name = text(fields.get(b"name", b""))
            if name and name != "lua":
                found[name] = number(text(fields.get(b"ver", 0))) or 0
    return found
