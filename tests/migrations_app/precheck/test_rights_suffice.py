"""Users that may run what the precheck tries, and nothing else, are enough for a link: so the list of commands is whole."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from migrations_app.choices import ConflictPolicy, InspectionKind, Method, Outcome
from migrations_app.engine.config import Outcome as Ended
from migrations_app.engine.link import run_link
from migrations_app.engine.ports import Level, Progress, Wanted
from migrations_app.engine.rate import UNLIMITED, Rate
from migrations_app.models import Inspection
from migrations_app.runner.inspections import Reporter
from migrations_app.runner.precheck import rights
from migrations_app.runner.precheck.context import Context
from migrations_app.runner.precheck.settings import link_config
from migrations_app.services.inspections import InspectionLease
from tests.support.cluster import Cluster
from tests.support.servers import Server
from tests.support.wait import wait_for

from .world import World

WORD = "a word for tests"
ALWAYS = [
    "+psync",
    "+replconf",
    "+ping",
    "+info",
    "+multi",
    "+exec",
    "+discard",
    "+select",
    "+client|setname",
]
AT_THE_TARGET = ["+watch", "+unwatch", "+client|list", "+client|id", "+client|kill", "+command"]


class Ports:
    def __init__(self) -> None:
        self.stop = threading.Event()
        self.caught_up = threading.Event()
        self.lines: list[str] = []
        self.commands = 0

    def wanted(self) -> Wanted:
        return Wanted.STOP if self.stop.is_set() else Wanted.RUN

    def rate(self) -> Rate:
        return UNLIMITED

    def progress(self, progress: Progress) -> None:
        self.commands = progress.commands
        if progress.caught_up:
            self.caught_up.set()

    def log(self, level: Level, event: str, message: str, **fields: Any) -> None:
        self.lines.append(f"{level.value} {event} {message}")


def grants(commands: list[rights.Command], version: tuple[int, ...]) -> list[str]:
    """`+name` for each; from 7.0 on by subcommand, before that of CLIENT and its kin only some can be named."""
    rules = []
    for name in {str(command[0]).lower() for command in commands}:
        containers = ("client", "cluster", "config", "script", "memory", "function", "xgroup", "module")
        if name in containers and version >= (7,):
            rules += [f"+{name}|{str(one[1]).lower()}" for one in commands if str(one[0]).lower() == name]
        else:
            rules.append(f"+{name}")
    return sorted(set(rules))


PAIRS = [
    ("redis-7.0", "redis-7.0", Method.PSYNC),
    ("redis-6.2", "valkey-9", Method.PSYNC),
    ("redis-8.6", "redis-7.0", Method.PSYNC),
    ("redis-7.0", "redis-6.2", Method.PSYNC),
    ("redis-7.0", "redis-7.2", Method.SCAN),
]
CASES = [(*pair, conflict) for pair in PAIRS for conflict in ConflictPolicy]


@pytest.mark.parametrize(("source", "target", "method", "conflict"), CASES)
def test_of_servers(world: World, source: str, target: str, method: Method, conflict: ConflictPolicy) -> None:
    here = world.use("source", source, config={"repl-diskless-sync-delay": 0})
    there = world.use("target", target)
    world.task(conflict=conflict, method=method)
    if method == Method.SCAN:
        world.configure("source", notify_keyspace_events="KEA")
    follow(world, here, there)


@pytest.mark.parametrize("conflict", [ConflictPolicy.OVERWRITE, ConflictPolicy.KEEP])
def test_into_a_cluster(world: World, conflict: ConflictPolicy) -> None:
    here = world.use("source", "redis-7.0", config={"repl-diskless-sync-delay": 0})
    cluster = world.use_cluster("target")
    world.task(conflict=conflict)
    follow(world, here, cluster)


def follow(world: World, here: Server, there: Server | Cluster) -> None:
    """The task's link, with users that may do what was tried: the data arrives, and what is written then as well."""
    with here.client() as client:
        client.mset({f"text:{number}": "x" * 10 for number in range(200)})
        client.set("short", "x", ex=1000)
        client.rpush("list", *range(300))
        client.hset("hash", mapping={f"f{number}": number for number in range(700)})
        client.zadd("zset", {f"m{number}": number / 3 for number in range(300)})
        client.xadd("stream", {"a": "1"})
        client.xgroup_create("stream", "readers", "0")
    if isinstance(there, Server):
        with there.client() as client:
            client.set("of the target", "1")
    task = world.made_task()
    inspection = Inspection.objects.create(task=task, kind=InspectionKind.PRECHECK)
    look = Context(task, Reporter(InspectionLease(inspection.pk, "test", 1), inspection))
    look.source.connect()
    look.target.connect()
    of_source = [
        *rights._of_source(look, look.source.node),
        *rights._wishes_of_source(look, look.source.node),
    ]
    if task.method == Method.SCAN:
        of_source.append(("PSUBSCRIBE",))
    of_target = [*rights._of_target(look, look.target), *rights._of_stream(look, look.target.node)]
    versions = look.source.node.facts.version, look.target.node.facts.version
    look.close()
    servers = {"source": [here], "target": there.nodes if isinstance(there, Cluster) else [there]}
    for side, commands, version in (("source", of_source, versions[0]), ("target", of_target, versions[1])):
        rules = [*grants(commands, version), *ALWAYS, *(AT_THE_TARGET if side == "target" else [])]
        if version < (7,):  # subcommands can only be added to a command that is denied
            containers = {rule.partition("|")[0] for rule in rules if "|" in rule}
            rules = [rule for rule in rules if "|" not in rule] + sorted(containers)
        channels = ["&*"] if version >= (6, 2) else []
        for server in servers[side]:
            world._execute(
                server, "ACL", "SETUSER", "mover", "reset", "on", f">{WORD}", "~*", *channels, *rules
            )
            world.undo.append(lambda server=server: world._execute(server, "ACL", "DELUSER", "mover"))  # type: ignore[misc]
    for instance in task.both_sides():
        instance.endpoint.username, instance.endpoint.password = "mover", WORD
        instance.endpoint.save()
    task = (
        type(task)
        .objects.select_related("source__endpoint", "target__endpoint", "link__progress")
        .get(pk=task.pk)
    )
    world._task = task
    for code in ("source.rights", "target.rights"):
        finding = world.look(code)
        # What it can do without (CONFIG GET, MODULE LIST at the target) is not granted.
        assert finding.outcome in (Outcome.PASSED, Outcome.WARNING), finding.found
    run(world, here, there)


def run(world: World, here: Server, there: Server | Cluster) -> None:
    task = world.made_task()
    inspection = Inspection.objects.create(task=task, kind=InspectionKind.PRECHECK)
    config = link_config(Context(task, Reporter(InspectionLease(inspection.pk, "test", 1), inspection)))
    ports = Ports()
    ended: list[object] = []

    def work() -> None:
        try:
            ended.append(run_link(config, ports).outcome)
        except Exception as error:  # noqa: BLE001 - told to the test
            ended.append(f"{error!r} {getattr(error, 'message', '')}")

    thread = threading.Thread(target=work)
    thread.start()
    try:
        wait_for(lambda: ports.caught_up.is_set() or ended, 60)
        assert not ended, (ended, ports.lines)
        with here.client() as client:
            client.set("later", "1", ex=500)
            client.incr("counter")
            client.expire("text:1", 400)
            client.lpush("list", "new")
            client.spop("nothing")
            client.zincrby("zset", 2, "m1")
            client.eval("redis.call('SET', KEYS[1], 'by a script')", 1, "scripted")
            client.publish("channel", "word")
            client.delete("text:2")
            if isinstance(there, Server):
                client.rename("text:3", "text:renamed")
            client.set("last", "1")
        wait_for(lambda: value(there, "last") == b"1" or ended, 30, lambda: str(ports.lines))
        assert not ended, (ended, ports.lines)
        assert value(there, "scripted") == b"by a script"
    finally:
        ports.stop.set()
        thread.join(30)
    assert ended == [Ended.STOPPED], ports.lines
    refused = [line for line in ports.lines if "NOPERM" in line]
    assert refused == []


def value(there: Server | Cluster, key: str) -> Any:
    if isinstance(there, Cluster):
        return there.get(key)
    with there.client() as client:
        return client.get(key)
