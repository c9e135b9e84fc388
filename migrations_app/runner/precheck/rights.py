"""What the users of both sides may do: every command that the engine uses, tried in transactions that are thrown away (R62, R70, R72, R77).

A server looks at a command's name and at the user's rights when it queues it, so nothing is carried out and nobody needs the right to
read ACLs. What servers do not let into a transaction is asked for directly: it changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from migrations_app.choices import ConflictPolicy, Method, Phases, Severity
from migrations_app.engine.abilities import Abilities
from migrations_app.engine.client import Client
from migrations_app.engine.commands import actions
from migrations_app.engine.protocol.resp import ReplyError
from migrations_app.runner.precheck.context import Context, Node, Side, number
from migrations_app.runner.precheck.registry import Checks, Finding, failed, passed, warning
from migrations_app.runner.precheck.versions import BY_SCRIPT
from migrations_app.runner.precheck.words import listed

checks = Checks()

Command = tuple[bytes | str | int, ...]
CONNECTIONS: Final = 16  # that a link may open at one server, at most
_PROBE: Final = "switchyard:probe"
_KEY: Final = "1"  # stands for any key of the data; as a number it also does where a command wants one
# Of the engine's table, what is no command of the stream, and what arrives as what it did, under another name (measured, see
# docs/compatibility.md).
_NEVER: Final = frozenset(
    [
        "SELECT",
        "MULTI",
        "EXEC",
        "PING",
        "REPLCONF",
        "PFDEBUG",
        "DIGEST",
        "XIDMPRECORD",
        "RESTORE-ASKING",
        "GETEX",
        "GETDEL",
        "LMPOP",
        "BLMPOP",
        "ZMPOP",
        "BZMPOP",
        "FCALL",
    ]
)
# Words of a command, itself counted → commands that every server knows, from 3.2 on: where COMMAND is refused.
_SINCE_EVER: Final[dict[int, str]] = {
    1: "FLUSHALL FLUSHDB",
    2: "DECR DEL INCR LPOP PERSIST PFADD PFMERGE RPOP SORT SPOP",
    3: "APPEND BLPOP BRPOP DECRBY EVAL EVALSHA EXPIRE EXPIREAT GETSET HDEL INCRBY INCRBYFLOAT LPUSH LPUSHX MOVE MSET MSETNX PEXPIRE "
    "PEXPIREAT PUBLISH RENAME RENAMENX RPOPLPUSH RPUSH RPUSHX SADD SCRIPT SDIFFSTORE SET SETNX SINTERSTORE SREM SUNIONSTORE ZREM",
    4: "BITOP BRPOPLPUSH HINCRBY HINCRBYFLOAT HMSET HSET HSETNX LREM LSET LTRIM PSETEX RESTORE SETBIT SETEX SETRANGE SMOVE ZADD "
    "ZINCRBY ZINTERSTORE ZREMRANGEBYLEX ZREMRANGEBYRANK ZREMRANGEBYSCORE ZUNIONSTORE",
    5: "GEOADD GEORADIUSBYMEMBER LINSERT",
    6: "GEORADIUS",
}


@checks.source("rights", "Rights at the source", Severity.ERROR)
def source_rights(ctx: Context, side: Side) -> Finding:
    """Reading: what a link, the comparison of names and the repair of single keys ask."""
    return _rights(ctx, side, _of_source(ctx, side.node), _wishes_of_source(ctx, side.node))


@checks.target("rights", "Rights at the target", Severity.ERROR)
def target_rights(ctx: Context, side: Side) -> Finding:
    """Writing: RESTORE and its kin, the checkpoint, and every write command that this source can send and this target knows."""
    needed = _of_target(ctx, side)
    if ctx.task.phases == Phases.FULL_INCREMENTAL:
        needed += _of_stream(ctx, side.node)
    return _rights(ctx, side, needed, [("CONFIG", "GET", "maxmemory"), ("MODULE", "LIST")])


def _rights(ctx: Context, side: Side, needed: list[Command], wishes: list[Command]) -> Finding:
    user = side.endpoint.username or "default"
    # At the source all of it only reads, but for the heartbeat.
    harmless = side is ctx.source and not ctx.task.heartbeat
    missing: dict[str, None] = {}
    renamed: dict[str, None] = {}
    keys = channels = False
    for node in side.nodes:
        for name, reply in [*node.refusals(needed, harmless=harmless), *_asked(ctx, node, side)]:
            if reply.code == "NOPERM" and " key" in reply:
                keys = True
            elif reply.code == "NOPERM" and "channel" in reply:
                channels = True
            elif reply.code == "NOPERM":
                missing[name] = None
            elif "unknown command" in reply:
                renamed[name] = None
    if missing or keys or channels:
        grants = [*map(_grant, missing), *(["~*"] if keys else []), *(["&*"] if channels else [])]
        lacks = [listed(missing, 12)] if missing else []
        lacks += ["all keys"] * keys + ["all channels"] * channels
        return failed(
            f"The user {user} of {side.called} lacks the right to {'; '.join(lacks)}.",
            "Grant the rights, or give the task a user that has them.",
            repair=f"ACL SETUSER {user} {' '.join(grants)}",
            same=f"{user}: {' '.join(grants)}",
            missing=[*missing],
        )
    if renamed:
        return failed(
            f"{side.called[:1].upper()}{side.called[1:]} does not know {listed(renamed, 12)}: disabled or renamed (rename-command).",
            "Take the lines rename-command out of the configuration and restart the server.",
            missing=[*renamed],
        )
    refused = [
        name
        for node in side.nodes
        for name, reply in node.refusals(wishes, harmless=True)
        if reply.code == "NOPERM"
    ]
    if refused:
        return warning(
            f"The user {user} may do all that the link needs, but not {listed(dict.fromkeys(refused))}: some checks cannot look, and "
            "an opposite link or a wrong clock may go unseen.",
            "Grant these as well; they only read.",
            repair=f"ACL SETUSER {user} {' '.join(map(_grant, dict.fromkeys(refused)))}",
        )
    return passed(f"The user {user} may run the {len(needed)} commands that were tried.", tried=len(needed))


def _grant(name: str) -> str:
    return "+" + name.lower().replace(" ", "|")


def _asked(ctx: Context, node: Node, side: Side) -> Iterable[tuple[str, ReplyError]]:
    """What is not let into a transaction, on a connection of its own."""
    commands: list[Command] = [("CLIENT", "SETNAME", "switchyard:precheck"), ("INFO", "server")]
    if side is ctx.target:
        commands += [("WATCH", _PROBE), ("UNWATCH",), ("CLIENT", "LIST")]
        commands += [("CLIENT", "ID")] if node.facts.version >= (5,) else []
    elif ctx.task.method == Method.SCAN and ctx.task.phases == Phases.FULL_INCREMENTAL:
        commands += [("PSUBSCRIBE", "__keyevent@*__:*")]
    with Client(node.client.endpoint, timeout=ctx.timeout) as client:
        for command, reply in zip(commands, client.pipeline(commands), strict=True):
            if isinstance(reply, ReplyError):
                yield (" ".join(map(str, command[:2])) if command[0] == "CLIENT" else str(command[0])), reply


def _of_source(ctx: Context, node: Node) -> list[Command]:
    version = node.facts.version
    expiry = "PEXPIRETIME" if version >= (7,) else "PTTL"
    commands: list[Command] = [("PING",), ("SELECT", 0), ("DUMP", _KEY), (expiry, _KEY)]
    if ctx.task.conflict == ConflictPolicy.FAIL or ctx.task.method == Method.SCAN:
        commands += [("SCAN", 0), ("EXISTS", _KEY)]
    if node.facts.cluster:
        commands += [("CLUSTER", "SLOTS"), ("CLUSTER", "NODES"), ("CLUSTER", "INFO")]
    if ctx.task.heartbeat:
        commands += [("SET", f"switchyard:heartbeat:{ctx.task.public_id}", 1, "PX", 1000)]
    return commands


def _wishes_of_source(ctx: Context, node: Node) -> list[Command]:
    """What it can do without, but should not have to."""
    commands: list[Command] = [
        ("TIME",),
        ("CONFIG", "GET", "repl-timeout"),
        ("HGETALL", "switchyard:links"),
        ("SCAN", 0),
        ("TYPE", _KEY),
    ]
    return [*commands, ("MEMORY", "USAGE", _KEY)] if node.facts.version >= (4,) else commands


def _of_target(ctx: Context, side: Side) -> list[Command]:
    """What the engine sends by itself, whatever the stream holds."""
    version = side.node.facts.version
    own = f"switchyard:checkpoint:{ctx.task.public_id}"
    commands: list[Command] = [
        ("PING",), ("SELECT", 0), ("HMSET", own, "a", 1), ("HGETALL", own), ("HSET", own, "a", 1), ("HDEL", own, "a"), ("HGET", own, "a"),
        ("DUMP", own), ("SADD", _PROBE, 1), ("SREM", _PROBE, 1), ("SMEMBERS", _PROBE), ("SCARD", _PROBE), ("SRANDMEMBER", _PROBE, 1),
        ("RESTORE", _KEY, 0, "x"), ("SET", _KEY, 1), ("MSET", _KEY, 1), ("DEL", _KEY), ("PEXPIREAT", _KEY, 1), ("PERSIST", _KEY),
        ("EXISTS", _KEY), ("SCAN", 0), ("FLUSHDB",), ("FLUSHALL",), ("CLIENT", "KILL", "ID", 999_999_999),
    ]  # fmt: skip
    commands += [("UNLINK", _KEY)] if version >= (4,) else []
    # What was kept is counted; in a cluster every slot has a mark.
    commands += [("GET", own)] if ctx.task.conflict == ConflictPolicy.KEEP or side.is_cluster else []
    if ctx.task.conflict == ConflictPolicy.KEEP:
        # By scripts, in which the same rights count.
        commands += [("INCR", own), ("RENAME", own, own), ("SISMEMBER", _PROBE, 1)]
        commands += [("SSCAN", _PROBE, 0)] if ctx.task.method == Method.SCAN else []
    here = ctx.source.node.facts if ctx.source.connected else None
    if ctx.task.conflict != ConflictPolicy.OVERWRITE or (here is not None and here.version < (7,)):
        commands += [("SCRIPT", "LOAD", "return 1"), ("EVALSHA", "0" * 40, 0)]
    if here is not None and set(Abilities.of(here).beyond(Abilities.of(side.node.facts))) & BY_SCRIPT:
        commands.append(("EVAL", "return 1", 0))
    if version >= (7,) and (here is None or here.version >= (7,)):
        commands.append(("FUNCTION", "LOAD", "x"))
    if side.is_cluster:
        commands += [("CLUSTER", "SLOTS"), ("WAIT", 0, 1), ("DBSIZE",)]
    return commands


def _of_stream(ctx: Context, node: Node) -> list[Command]:
    """The write commands that may come: in the engine's table, known to the source, with as many arguments as the target wants."""
    names = sorted(name.decode() for name in actions() if name.decode() not in _NEVER)
    coming = set(names)
    if ctx.source.connected:
        coming = set(_arities(ctx.source.node, names))
        coming -= _SCRIPTS if ctx.source.node.facts.version >= (7,) else set()
    commands: list[Command] = []
    for name, arity in _arities(node, names).items():
        if name in coming:
            commands.append((name, *_FILLED.get(name, (_KEY,) * (abs(arity) - 1))))
    return commands


_SCRIPTS: Final = frozenset(
    {"EVAL", "EVALSHA", "FCALL", "SCRIPT"}
)  # from 7.0 on what they did comes in their place
_FILLED: Final[dict[str, tuple[str, ...]]] = {
    "EVAL": ("return 1", "0"),
    "EVALSHA": ("0" * 40, "0"),
    "SCRIPT": ("LOAD", "return 1"),
    "FUNCTION": ("LOAD", "x"),
    "XGROUP": ("CREATE", _KEY, _KEY, "$"),
    "XREADGROUP": ("GROUP", _KEY, _KEY, "STREAMS", _KEY, ">"),
    "BITOP": ("AND", _KEY, _KEY),
}


def _arities(node: Node, names: list[str]) -> dict[str, int]:
    """Command → how many words it has at least; of those that the server knows, or where it does not tell, that all know."""
    reply = node.ask("COMMAND", "INFO", *names)
    if not isinstance(reply, list):
        known = {name: count for count, line in _SINCE_EVER.items() for name in line.split()}
        return known | ({"FUNCTION": 2} if node.facts.version >= (7,) else {})
    return {
        name: facts[1]
        for name, facts in zip(names, reply, strict=True)
        if isinstance(facts, list) and len(facts) > 1 and isinstance(facts[1], int)
    }


@checks.target("writable", "Target takes writes", Severity.ERROR, ignorable=False)
def writable(ctx: Context, side: Side) -> Finding:
    """A master that would carry a SET out now: role, replicas that it needs, persistence, memory, a pause of writes."""
    for node in side.nodes:
        if not node.facts.master:
            master = f"{node.info.get('master_host')}:{node.info.get('master_port')}"
            return failed(
                f"{node.address} is a replica of {master} and refuses writes, or loses them.",
                "Choose the master as the target.",
            )
        with Client(node.client.endpoint, timeout=ctx.timeout) as client:
            replies = client.pipeline([("MULTI",), ("SET", _PROBE, 1), ("DISCARD",)])
        reply = replies[1]
        if isinstance(reply, ReplyError) and reply.code in _WHY_NOT:
            return failed(f"{node.address} refuses writes: {reply}", _WHY_NOT[reply.code], id=reply.code)
    return passed("The target is a master and takes writes.")


_WHY_NOT: Final = {
    "READONLY": "Choose the master as the target, or make this server one (REPLICAOF NO ONE).",
    "NOREPLICAS": "The server wants more replicas than it has (min-replicas-to-write): bring them back, or lower it.",
    "MISCONF": "The last save of the target has failed and stop-writes-on-bgsave-error is on: free its disk, or repair its persistence.",
    "OOM": "The target is out of memory: raise maxmemory, or empty it.",
    "CLUSTERDOWN": "The target cluster does not serve all slots: repair it.",
    "MASTERDOWN": "The target has lost its master: repair its replication.",
    "LOADING": "The target is loading its data: wait until it has done so.",
}


@checks.each("maxclients", "Free connections", Severity.ERROR)
def maxclients(ctx: Context, side: Side) -> Finding:
    """Both sides have room for the connections of a link."""
    least: tuple[int, str] | None = None
    links = len(ctx.source.nodes) if side is ctx.target and ctx.source.connected else 1
    needed = CONNECTIONS * links
    for node in side.nodes:
        limit = node.number("maxclients") or number(node.config("maxclients"))
        connected = node.number("connected_clients") or 0
        if limit is None:
            return warning(
                "The largest number of clients is not known: the server does not tell (CONFIG GET is refused).",
                f"Make sure that {needed} connections are free (maxclients).",
            )
        told = f"{node.address} has {connected:,} clients of {limit:,} (maxclients); the task needs up to {needed}."
        if least is None or limit - connected < least[0]:
            least = (limit - connected, told)
    assert least is not None
    free, told = least
    if free >= needed:
        return passed(told, free=free)
    return failed(
        told,
        "Raise maxclients (CONFIG SET maxclients N), or close idle clients (CLIENT LIST).",
        same=f"fewer than {needed}",
        free=free,
    )
