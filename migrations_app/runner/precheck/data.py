"""The data itself: names on both sides, databases, types, sizes and expiries (R51, R75–R77, R99, R101, R102)."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Final

from migrations_app.choices import ConflictPolicy, Method, Severity
from migrations_app.engine.protocol.resp import ReplyError
from migrations_app.engine.source.scan import DUMP_MOST
from migrations_app.runner.precheck import names
from migrations_app.runner.precheck.context import Context, Node, Side, number, text
from migrations_app.runner.precheck.identity import modules_of
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
from migrations_app.runner.precheck.words import counted, listed, named, size
from portal.uploads import snapshot_version

checks = Checks()

SAMPLE_KEYS: Final = 20_000  # of each server
SAMPLE_SECONDS: Final = 10.0
_PAGE: Final = 500
BIG_BYTES: Final = 64 * 2**20  # larger values go in pieces, and take memory on the way
_ENTRY: Final = 64  # bytes that an element takes, where the server does not tell sizes
_LENGTHS: Final = {
    "string": "STRLEN",
    "list": "LLEN",
    "hash": "HLEN",
    "set": "SCARD",
    "zset": "ZCARD",
    "stream": "XLEN",
}
RDB_NEWEST: Final = {"REDIS": 13, "VALKEY": 80}  # versions of snapshots that were tested
_WITH_CHECKSUM: Final = 5  # from this version on the end is marked, and 8 bytes of checksum follow
_CHECKSUM: Final = 8
_BUILT_IN: Final = {"vectorset": "vector sets"}  # modules that Redis 8 always has


@checks.source("file", "Snapshot file", Severity.ERROR, ignorable=False, needs=(), file=True)
def file(ctx: Context, side: Side) -> Finding:
    """A snapshot, whole, of a version that is known."""
    if not side.is_file:
        raise Skip("The source is a server.")
    path = side.endpoint.file
    try:
        with open(path, "rb") as handle:
            header = handle.read(9)
            length = handle.seek(0, os.SEEK_END)
            handle.seek(max(0, length - _CHECKSUM - 1))
            end = handle.read(1)
    except OSError as error:
        return failed(
            f"{path} cannot be read: {error.strerror}.",
            "Check the path on the worker's machine, or upload the file again.",
        )
    version = snapshot_version(header)
    if version is None:
        return failed(
            f"{path} is no snapshot file: it begins with {header!r}, not with REDIS or VALKEY and a version.",
            "Give the file that SAVE or BGSAVE writes (dump.rdb).",
        )
    if version >= _WITH_CHECKSUM and end != b"\xff":
        return failed(
            f"{path} does not end as a snapshot does: it is cut short, or goes on behind its end as an append-only file does.",
            "Copy the whole file again, or make a new snapshot (BGSAVE).",
        )
    product = "VALKEY" if header.startswith(b"VALKEY") else "REDIS"
    told = f"{path}: {size(length)}, format {product.title()} {version}."
    if version > RDB_NEWEST[product]:
        return warning(
            f"{told} The newest that was tested is {RDB_NEWEST[product]}.",
            "What is not known stops the task before it is written. Rehearse the migration first.",
        )
    return passed(told, version=version, size=length)


@checks.pair("databases", "Databases of the target", Severity.ERROR, ignorable=False)
def databases(ctx: Context) -> Finding:
    """Every chosen database is there; a cluster has database 0 only (R77, R99)."""
    task, source, target = ctx.task, ctx.source, ctx.target
    chosen = set(task.databases) if task.databases is not None else set(source.keyspace) | {0}
    if source.is_cluster and 0 not in chosen:
        return failed(
            "The source is a cluster, which has database 0 only, and that is not chosen.",
            "Choose database 0.",
        )
    if target.is_cluster:
        beyond = {number: source.keyspace.get(number, (0, 0))[0] for number in sorted(chosen - {0})}
        if any(beyond.values()) or (task.databases is not None and beyond):
            told = listed(f"{number} ({counted(keys, 'key')})" for number, keys in beyond.items())
            return failed(
                f"The target is a cluster, which has database 0 only; the source has keys in database {told}."
                if any(beyond.values())
                else f"The target is a cluster, which has database 0 only; database {told} is chosen, too.",
                "Choose database 0 alone, move those keys into it, or choose a standalone target.",
            )
        return passed("Database 0 only, as a cluster has it.")
    lacking = [
        number for number in sorted(chosen) if isinstance(target.node.ask("SELECT", number), ReplyError)
    ]
    target.node.ask("SELECT", 0)
    if lacking:
        count = number(target.node.config("databases"))
        return failed(
            f"The target has no database {listed(lacking)}"
            + (f": it has {count} (0 to {count - 1})." if count else "."),
            "Leave them out, or raise `databases` in the configuration of the target and restart it.",
        )
    return passed(
        f"The target has the {counted(len(chosen), 'database')} of the task: {listed(sorted(chosen), 20)}."
    )


@checks.pair("modules", "Modules", Severity.ERROR, ignorable=False)
def modules(ctx: Context) -> Finding:
    """Values of modules need the module on the target."""
    here, there = modules_of(ctx.source), modules_of(ctx.target)
    if here is None:
        return warning(
            "The source does not tell its modules (MODULE LIST is refused).",
            "Allow +module|list to its user.",
        )
    if not here:
        return passed("The source has no modules.")
    if there is None:
        return warning(
            f"The source has {listed(here)}; the target does not tell its modules (MODULE LIST is refused).",
            "Allow +module|list to its user.",
        )
    lacking = [name for name in here if name not in there]
    built_in = [name for name in lacking if name in _BUILT_IN]
    loaded = [name for name in lacking if name not in _BUILT_IN]
    if loaded:
        return failed(
            f"The target lacks {'the module' if len(loaded) == 1 else 'the modules'} {listed(loaded)} of the source.",
            "Load them on the target, too (values of a module that the target does not have stop the task), or unload them on the "
            "source if nobody uses them.",
        )
    if built_in:
        used = [
            kind
            for node in ctx.source.nodes
            for kind in sample(ctx, ctx.source, node).types
            if kind in _BUILT_IN
        ]
        what = listed(_BUILT_IN[name] for name in built_in)
        if used:
            return failed(
                f"The source holds {what}, which the target does not know.",
                "Use a target that knows them, or delete those keys.",
            )
        return passed(f"The target knows no {what}; none was found in a sample of the source.")
    older = [f"{name} {there[name]} (source: {here[name]})" for name in here if there[name] < here[name]]
    if older:
        return warning(
            f"The target has an older version of {listed(older)}.",
            "Load the version of the source: an older one may not read its values.",
        )
    return passed(f"The target has {listed(here)}, too.")


# --- a sample of the source -------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Sample:
    """Some of the keys of a server. `biggest` is (bytes, database, name, type)."""

    keys: int
    types: dict[str, int]
    biggest: list[tuple[int, int, bytes, str]]


def sample(ctx: Context, side: Side, node: Node) -> Sample:
    """SCAN over the chosen databases, bounded in keys and time; once for each server."""
    if node.sample_of_keys is None:
        node.sample_of_keys = _sample(ctx, node)
    found = node.sample_of_keys
    assert isinstance(found, Sample)
    return found


def _sample(ctx: Context, node: Node) -> Sample:
    until = time.monotonic() + SAMPLE_SECONDS
    found = Sample(0, {}, [])
    holding = {number: keys for number, (keys, _) in node.client.keyspace().items() if ctx.wants(number)}
    for database in sorted(holding):
        share = max(_PAGE, SAMPLE_KEYS * holding[database] // sum(holding.values()))
        node.client.execute("SELECT", database)
        taken = 0
        for page in node.client.scan(count=_PAGE):
            ctx.tick(f"{found.keys:,} keys looked at")
            kinds = [text(kind) for kind in node.client.pipeline([("TYPE", key) for key in page])]
            for key, kind, bytes_ in zip(page, kinds, _sizes(node, page, kinds), strict=True):
                found.types[kind] = found.types.get(kind, 0) + 1
                if bytes_ > BIG_BYTES:
                    found.biggest = sorted([*found.biggest, (bytes_, database, key, kind)], reverse=True)[:5]
            found.keys += len(page)
            taken += len(page)
            if taken >= share or time.monotonic() > until:
                break
    node.client.execute("SELECT", 0)
    return found


def _sizes(node: Node, keys: list[bytes], kinds: list[str]) -> list[int]:
    """Bytes of each: as the server tells, or by its length where it does not (before 4.0)."""
    replies = (
        node.client.pipeline([("MEMORY", "USAGE", key) for key in keys]) if node.facts.version >= (4,) else []
    )
    if replies and not isinstance(replies[0], ReplyError):
        return [reply if isinstance(reply, int) else 0 for reply in replies]
    lengths = node.client.pipeline(
        [
            (_LENGTHS[kind], key) if kind in _LENGTHS else ("EXISTS", key)
            for key, kind in zip(keys, kinds, strict=True)
        ]
    )
    return [
        (length if kind == "string" else length * _ENTRY) if isinstance(length, int) else 0
        for length, kind in zip(lengths, kinds, strict=True)
    ]


@checks.source("big_keys", "Big keys", Severity.WARNING)
def big_keys(ctx: Context, side: Side) -> Finding:
    """Large values cost memory on the way; the sample finds them early."""
    samples = [sample(ctx, side, node) for node in side.nodes]
    looked = sum(one.keys for one in samples)
    biggest = sorted((big for one in samples for big in one.biggest), reverse=True)
    if not biggest:
        return passed(
            f"None above {size(BIG_BYTES)} among {counted(looked, 'key')} that were looked at.", keys=looked
        )
    told = listed(
        f"{named(name)} ({kind}, {size(bytes_)}, database {database})"
        for bytes_, database, name, kind in biggest
    )
    if ctx.task.method == Method.SCAN and biggest[0][0] > DUMP_MOST:
        return failed(
            f"Too big for a key scan, which takes up to {size(DUMP_MOST)}: {told}.",
            "Choose the method PSYNC or a snapshot file, split these values, or leave their databases out.",
        )
    return warning(
        f"Above {size(BIG_BYTES)}, among {counted(looked, 'key')} that were looked at: {told}.",
        "They are carried in pieces, and need memory at the source, on the worker and at the target meanwhile. Split them if they are "
        "not meant to be so big.",
    )


@checks.source("expiring", "Keys that expire", Severity.NOTICE)
def expiring(ctx: Context, side: Side) -> Finding:
    """Expired keys that are not deleted yet are counted, but not migrated (R51)."""
    chosen = [counts for database, counts in side.keyspace.items() if ctx.wants(database)]
    keys, expires = sum(one for one, _ in chosen), sum(one for _, one in chosen)
    stale = side.node.info.get("expired_stale_perc", "")
    estimate = f" About {float(stale):.0f} % of them have expired and are not deleted yet." if stale else ""
    if not expires:
        return passed(f"None of {counted(keys, 'key')} expires.")
    return warning(
        f"{expires:,} of {counted(keys, 'key')} expire.{estimate}",
        "The target may count fewer keys than the source: what has expired is not migrated. Compare the keys that do not expire (keys "
        "minus expires): their count is the same on both sides.",
    )


# --- what the target holds already --------------------------------------------------------------------------------------------


@checks.target("empty", "Target is empty", Severity.WARNING, repairs=("target.clear",), file=True)
def empty(ctx: Context, side: Side) -> Finding:
    """What becomes of the keys that the target has already (R76, R101, R102)."""
    held = names.held(ctx)
    if not held:
        return passed("The target has no keys in the databases of the task.")
    there = listed((f"{counted(keys, 'key')} in database {number}" for number, keys in held.items()), 8)
    told = f"The target has {there}."
    becomes = {
        ConflictPolicy.OVERWRITE: "Keys of the same name are overwritten by those of the source; all others stay.",
        ConflictPolicy.KEEP: "Keys of the same name are kept, and the source's are not migrated: the two sides then differ.",
        ConflictPolicy.FAIL: "As long as no name is on both sides, they stay beside those of the source.",
    }[ConflictPolicy(ctx.task.conflict)]
    return warning(
        f"{told} {becomes}",
        "If it is not needed, clear the target before the migration.",
        repair=f"FLUSHDB on the target, or the button, which asks you to type the name {side.instance.name} first. What is cleared is gone.",
        repair_code="target.clear",
        databases=sorted(held),
        keys=sum(held.values()),
    )


@checks.target(
    "same_names",
    "Names on both sides",
    Severity.ERROR,
    ignorable=False,
    needs=(SOURCE, TARGET),
    repairs=("target.clear",),
    file=True,
)
def same_names(ctx: Context, side: Side) -> Finding:
    """All names of the smaller side are looked up on the other (R75); only where the policy wants it."""
    policy = ConflictPolicy(ctx.task.conflict)
    if policy is not ConflictPolicy.FAIL:
        raise Skip(
            "The task overwrites them."
            if policy is ConflictPolicy.OVERWRITE
            else "The task keeps those of the target."
        )
    found = names.both(ctx)
    if not found.count:
        return passed("No name is on both sides.")
    first = listed(
        (
            f"{named(name)}" + (f" (database {database})" if database else "")
            for database, name in found.first
        ),
        10,
    )
    return failed(
        f"{counted(found.count, 'key')} of the source {'is' if found.count == 1 else 'are'} in the target already{', among them' if found.count > len(found.first) else ':'} {first}.",
        "Remove them from the target, clear it, or choose another conflict policy (keep or overwrite).",
        repair=f"DEL them on the target; or the button clears it, after you have typed the name {side.instance.name}.",
        repair_code="target.clear",
        databases=sorted(names.held(ctx)),
        count=found.count,
    )
