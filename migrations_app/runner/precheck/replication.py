"""Whether the source lets itself be replicated, for long enough and through interruptions (R43–R45, R49, R92, R93, R95, R98)."""

from __future__ import annotations

import math
import time
from typing import Final

from migrations_app.choices import Method, Phases, Severity
from migrations_app.engine.client import Client
from migrations_app.engine.protocol.resp import ReplyError
from migrations_app.engine.source import notify
from migrations_app.runner.precheck.context import Context, Node, Side, number
from migrations_app.runner.precheck.registry import Checks, Finding, Skip, failed, passed, warning
from migrations_app.runner.precheck.setting import by_setting
from migrations_app.runner.precheck.words import duration, size

checks = Checks()

REPL_TIMEOUT: Final = 300  # seconds (R95)
BUFFER_SHARE: Final = 0.2  # of the maximum memory (R95)
BACKLOG_LEAST: Final = 64 * 2**20
BACKLOG_MOST_SHARE: Final = 0.1  # of the memory
SAMPLE_SECONDS: Final = 3.0
_UNCERTAIN: Final = "The source does not tell (CONFIG GET is refused)."


def _by_psync(ctx: Context) -> None:
    if ctx.task.method != Method.PSYNC:
        raise Skip("The source is not read by replication.")


@checks.source("psync", "PSYNC permitted", Severity.ERROR, ignorable=False)
def psync(ctx: Context, side: Side) -> Finding:
    """The handshake of a replica up to PSYNC, which is sent behind a PING in one piece.

    With a reply still pending every server refuses PSYNC in a way of its own, after it has looked at name and rights: so nothing
    is begun, no snapshot and no replica.
    """
    _by_psync(ctx)
    for node in side.nodes:
        with Client(node.client.endpoint, timeout=ctx.timeout) as client:
            replies: list[tuple[str, object]] = []
            for names, commands in (
                (("REPLCONF",), [("REPLCONF", "capa", "eof", "capa", "psync2")]),
                (("PING", "PSYNC"), [("PING",), ("PSYNC", "?", "-1")]),
            ):
                replies += zip(names, client.pipeline(commands), strict=True)
        for name, reply in replies:
            if not isinstance(reply, ReplyError) or "pending output" in reply or "Unrecognized" in reply:
                continue
            return _refused(node, side, name, reply)
    return passed(
        f"The source answers {'each ' if len(side.nodes) > 1 else ''}REPLCONF and PSYNC as a replica sends them."
    )


def _refused(node: Node, side: Side, name: str, reply: ReplyError) -> Finding:
    user = side.endpoint.username or "default"
    told = f"{node.address} refuses {name}: {reply}"
    other = "Where that cannot be had, choose the method key scan or a snapshot file."
    if reply.code == "NOPERM":
        return failed(
            told,
            f"Grant the user the commands of replication. {other}",
            repair=f"ACL SETUSER {user} +psync +replconf +ping",
        )
    if "unknown command" in reply:
        return failed(
            told,
            f"The command was disabled or renamed: take the line rename-command {name} out of the configuration and restart the "
            f"server. {other}",
            repair=f"Remove `rename-command {name} …` from the configuration file of {node.address} and restart it.",
        )
    if reply.code == "NOMASTERLINK":
        return failed(
            told,
            "The source is a replica that has lost its master: repair its replication, or choose the master.",
        )
    return failed(told, other)


@checks.source("repl_timeout", "Replication timeout", Severity.WARNING, repairs=("source.repl_timeout",))
def repl_timeout(ctx: Context, side: Side) -> Finding:
    """The source cuts a link that is silent for longer (R95)."""
    _by_psync(ctx)
    values = [number(node.config("repl-timeout")) for node in side.nodes]
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return warning(
            f"repl-timeout is not known. {_UNCERTAIN} Advised: {REPL_TIMEOUT} s.", "Look it up on the server."
        )
    if min(known) >= REPL_TIMEOUT:
        return passed(f"repl-timeout is {min(known)} s; advised: {REPL_TIMEOUT} s or more.")
    return warning(
        f"repl-timeout is {min(known)} s; advised: {REPL_TIMEOUT} s or more.",
        "A large snapshot or a slow network can keep the two sides silent for longer than that; the source then cuts the link.",
        current=f"{min(known)} s",
        recommended=f"{REPL_TIMEOUT} s",
        **by_setting(side, "source.repl_timeout", {"repl-timeout": str(REPL_TIMEOUT)}),
    )


@checks.source(
    "output_buffer", "Output buffer of replicas", Severity.WARNING, repairs=("source.output_buffer",)
)
def output_buffer(ctx: Context, side: Side) -> Finding:
    """What is written during the snapshot waits there; 20 % of the maximum memory are advised (R95)."""
    _by_psync(ctx)
    worst: tuple[float, str, str, int] | None = None
    memory = 0
    for node in side.nodes:
        limit = _replica_limit(node.config("client-output-buffer-limit"))
        memory, of = memory_of(node)
        if limit is None or not memory:
            return warning(
                f"The limit is not known. {_UNCERTAIN} Advised: 20 % of the maximum memory.",
                "Look it up on the server.",
            )
        advised = int(memory * BUFFER_SHARE)
        hard, soft, seconds = limit
        least = min(value for value in (hard or math.inf, soft or math.inf))
        shown = "unlimited" if least == math.inf else f"{_limit(hard)}, or {_limit(soft)} for {seconds} s"
        told = f"client-output-buffer-limit for replicas is {shown}; advised: {size(advised)} (20 % of {of}, {size(memory)})."
        if worst is None or least / advised < worst[0]:
            worst = (least / advised, told, shown, advised)
    assert worst is not None
    share, told, shown, advised = worst
    if share >= 1:
        return passed(told)
    return warning(
        told,
        "What is written while the snapshot is under way waits in this buffer; when it is full, the source cuts the link and the "
        "full phase begins again.",
        current=shown,
        recommended=size(advised),
        **by_setting(
            side, "source.output_buffer", {"client-output-buffer-limit": f"slave {advised} {advised} 60"}
        ),
    )


def _limit(value: int) -> str:
    return size(value) if value else "unlimited"


def _replica_limit(value: str | None) -> tuple[int, int, int] | None:
    """(hard, soft, seconds) of `normal 0 0 0 slave 268435456 67108864 60 pubsub …`."""
    words = (value or "").split()
    for place in range(0, len(words) - 3, 4):
        if words[place] in ("slave", "replica"):
            hard, soft, seconds = (int(word) for word in words[place + 1 : place + 4])
            return hard, soft, seconds
    return None


def memory_of(node: Node) -> tuple[int, str]:
    """(bytes that the data may take, what that is): maxmemory, else the memory of the host, else 0."""
    limit = node.number("maxmemory") or number(node.config("maxmemory")) or 0
    if limit:
        return limit, "maxmemory"
    return node.number("total_system_memory") or 0, "the host's memory"


@checks.source(
    "backlog", "Interruption that the backlog covers", Severity.WARNING, repairs=("source.backlog",)
)
def backlog(ctx: Context, side: Side) -> Finding:
    """How long the link may be away and still go on where it stood, at the write rate that is measured (R43–R45)."""
    _by_psync(ctx)
    if ctx.task.phases == Phases.FULL:
        raise Skip("Full only: nothing is followed.")
    wanted = ctx.retry_minutes * 60
    for node in side.nodes:
        found = _backlog_of(ctx, node, wanted)
        if found is not None:
            told, current, settings = found
            return warning(
                told,
                "After an interruption that is longer, the source no longer has the changes that the link needs, and only a new full "
                "synchronization helps. Do not let it come to that: raise the backlog.",
                current=current,
                recommended=size(int(settings["repl-backlog-size"]))
                if "repl-backlog-size" in settings
                else current,
                **by_setting(side, "source.backlog", settings),
            )
    rates = [rate_of(ctx, node) for node in side.nodes]
    sizes = [_size_of(node) or 0 for node in side.nodes]
    covered = min((least / rate if rate else math.inf) for least, (rate, _) in zip(sizes, rates, strict=True))
    return passed(
        f"The backlog of {size(min(sizes))} covers {_covers(covered)} of interruption at the present write rate; the retry time is "
        f"{ctx.retry_minutes} min.",
        bytes_per_second=round(max(rate for rate, _ in rates)),
    )


def _backlog_of(ctx: Context, node: Node, wanted: int) -> tuple[str, str, dict[str, str]] | None:
    """What is too little at this server, its present size, and the settings that are advised."""
    current = _size_of(node)
    if current is None:
        told = f"The size of the backlog is not known. {_UNCERTAIN}"
        return told, "not known", {"repl-backlog-size": str(BACKLOG_LEAST)}
    rate, certain = rate_of(ctx, node)
    needed = max(BACKLOG_LEAST, int(rate * wanted))
    most = int(memory_of(node)[0] * BACKLOG_MOST_SHARE)
    advised = -(-(min(needed, max(most, BACKLOG_LEAST)) if most else needed) // 2**20) * 2**20
    settings: dict[str, str] = {}
    if current < advised:
        settings["repl-backlog-size"] = str(advised)
    keeps = number(node.config("repl-backlog-ttl"))
    if keeps and keeps < wanted:
        settings["repl-backlog-ttl"] = str(wanted)
    if not settings:
        return None
    told = (
        f"{node.address} is written at {_speed(rate, certain)}; its backlog of {size(current)} covers "
        f"{_covers(current / rate if rate else math.inf)} of interruption, the retry time is {ctx.retry_minutes} min."
    )
    if "repl-backlog-size" in settings:
        told += f" Advised: {size(advised)}."
    if "repl-backlog-ttl" in settings:
        told += f" Without a replica it is kept for {duration(keeps or 0)} (repl-backlog-ttl); advised: {duration(wanted)}."
    return told, size(current), settings


def _speed(rate: float, certain: bool) -> str:
    if rate < 1024:
        return "less than 1 KiB/s"
    return f"{'' if certain else 'up to '}{size(rate)}/s"


def _size_of(node: Node) -> int | None:
    size_ = number(node.config("repl-backlog-size"))
    return node.number("repl_backlog_size") if size_ is None else size_


def _covers(seconds: float) -> str:
    return "any time" if seconds > 7 * 86400 else duration(seconds)


def rate_of(ctx: Context, node: Node) -> tuple[float, bool]:
    """(bytes per second that the source adds to its stream, whether that is certain). Measured for some seconds, once.

    Without any replica yet, old servers do not count their stream: then it is what comes in over the network, at most.
    """
    if node.rate is None:
        while time.monotonic() - node.sampled_at < SAMPLE_SECONDS:
            ctx.report.check()
            time.sleep(0.1)
        before, then = node.sample, node.sampled_at
        now = node.take_sample()
        seconds = node.sampled_at - then
        if now["active"] or now["offset"] > before["offset"]:
            node.rate = (max(0.0, now["offset"] - before["offset"]) / seconds, True)
        else:
            # What this precheck itself sends is some kilobytes, and no writes.
            came = now["input"] - before["input"] - (now["own"] - before["own"])
            node.rate = (max(0.0, came) / seconds, False)
    return node.rate


@checks.source(
    "notifications",
    "Keyspace notifications",
    Severity.ERROR,
    ignorable=False,
    repairs=("source.notifications",),
)
def notifications(ctx: Context, side: Side) -> Finding:
    """A key scan that follows its source learns of changes by them."""
    if ctx.task.method != Method.SCAN:
        raise Skip("Only a key scan needs them.")
    if ctx.task.phases == Phases.FULL:
        raise Skip("Full only: nothing is followed.")
    node = side.node
    flags = node.config("notify-keyspace-events")
    if flags is None:
        return failed(
            "The source does not tell whether it sends keyspace notifications (CONFIG GET is refused).",
            "Allow +config|get to the user of the source, or choose full only.",
        )
    if notify.sufficient(flags, node.facts.version):
        return passed(f"notify-keyspace-events is {flags}.")
    wanted = "".join(dict.fromkeys(flags + "EA"))
    told = (
        f"notify-keyspace-events is {flags or 'empty'}; needed: {wanted}. Without it changes are not noticed."
    )
    if not node.may_configure("notify-keyspace-events"):
        return failed(
            told,
            "Ask the operator of the server to switch them on.",
            **by_setting(side, "", {"notify-keyspace-events": wanted}),
        )
    return warning(
        f"{told} The task switches them on while it runs.",
        "They cost the source some CPU time. Switch them on before, to see what that means for its clients.",
        **by_setting(side, "source.notifications", {"notify-keyspace-events": wanted}),
    )


@checks.source("persistence", "Snapshots of the source", Severity.WARNING)
def persistence(ctx: Context, side: Side) -> Finding:
    """A full synchronization makes the source save: to its disk, or straight into the connection (R47)."""
    _by_psync(ctx)
    for node in side.nodes:
        diskless = node.config("repl-diskless-sync") == "yes"
        if node.info.get("rdb_last_bgsave_status", "ok") != "ok":
            return warning(
                f"The last snapshot of {node.address} has failed (rdb_last_bgsave_status)"
                + (
                    ", and the synchronization makes one, too."
                    if not diskless
                    else "; the synchronization goes without the disk."
                )
                + f" Its data takes {size(node.number('used_memory') or 0)}.",
                "Look into the server's log: free space of its disk, rights on its folder, memory for the child process. Free about as "
                "much disk as the data takes.",
            )
    modes = {node.config("repl-diskless-sync") for node in side.nodes}
    way = {"yes": "without its disk", "no": "through its disk"}.get(
        str(modes.pop()), "in a way that it does not tell"
    )
    data = sum(node.number("used_memory") or 0 for node in side.nodes)
    return passed(
        f"The source's last snapshot has worked; it sends its snapshot {way}, up to {size(data)} of it."
        + (
            " Its disk needs as much free space, which the worker cannot see."
            if way == "through its disk"
            else ""
        )
    )
