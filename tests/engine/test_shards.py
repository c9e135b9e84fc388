"""The pure parts of a cluster as the source: what has moved, and the counters of all shards as one."""

from __future__ import annotations

from dataclasses import fields

import pytest

from migrations_app.engine.checkpoint import CLUSTER, Checkpoint
from migrations_app.engine.choice import CommandChoice
from migrations_app.engine.config import LinkConfig
from migrations_app.engine.endpoint import Endpoint
from migrations_app.engine.errors import ShardAnew, SlotsMoved, UsageError
from migrations_app.engine.kernel import Entry
from migrations_app.engine.ports import Phase, Progress
from migrations_app.engine.shards.filter import ShardFilter
from migrations_app.engine.shards.layout import Scope, movements, ranges_of, text_of
from migrations_app.engine.shards.progress import combined
from migrations_app.engine.topology import Node, Ranges, Shard, Topology, joined


def topology(*ranges: Ranges) -> Topology:
    return Topology(tuple(Shard(Node(f"id{n}", "10.0.0.1", 7000 + n), part) for n, part in enumerate(ranges)))


WHOLE = topology(((0, 5460),), ((5461, 10922),), ((10923, 16383),))


def test_a_layout_and_its_text() -> None:
    text = "0-99,103-5460;5461-10922;10923-16383,100-102"
    assert [len(ranges) for ranges in ranges_of(text)] == [2, 1, 2]
    assert text_of(WHOLE) == "0-5460;5461-10922;10923-16383"
    assert ranges_of(text_of(WHOLE)) == [shard.ranges for shard in WHOLE.shards]
    assert ranges_of("0;1-16383") == [((0, 0),), ((1, 16383),)]
    assert joined([(3, 4), (0, 0), (1, 2), (7, 9)]) == ((0, 4), (7, 9))


def test_missing_slots_and_owners() -> None:
    assert WHOLE.missing == ()
    assert topology(((1, 5),), ((7, 16000),)).missing == ((0, 0), (6, 6), (16001, 16383))
    assert topology().missing == ((0, 16383),)
    owner = WHOLE.owner(5461)
    assert owner is not None
    assert owner.port == 7001
    assert topology(((1, 5),)).owner(0) is None
    assert WHOLE.addresses == (("10.0.0.1", 7000), ("10.0.0.1", 7001), ("10.0.0.1", 7002))


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (
            topology(((0, 99), (103, 5460)), ((5461, 10922),), ((100, 102), (10923, 16383))),
            "slots 100-102 from the shard of 0-5460 to 10.0.0.1:7002",
        ),
        (
            topology(((0, 10922),), ((10923, 16383),)),
            "from the shard of 0-5460 to 10.0.0.1:7000",
        ),
        (
            topology(((0, 5459),), ((5460, 10922),), ((10923, 16382),), ((16383, 16383),)),
            "slots 5460 from the shard of 0-5460 to 10.0.0.1:7001",
        ),
        (
            topology(((0, 1000),), ((1001, 5460),), ((5461, 10922),), ((10923, 16383),)),
            "it has 4 shards now instead of 3",
        ),
    ],
)
def test_movements_are_told(now: Topology, told: str) -> None:
    assert told in movements(text_of(WHOLE), now)


def test_the_progress_of_all_is_that_of_the_last() -> None:
    one = Progress(
        phase=Phase.INCREMENTAL,
        percent=100.0,
        keys_done=10,
        keys_total=10,
        lag_bytes=0,
        lag_seconds=0.0,
        caught_up=True,
        databases={0: 10},
    )
    two = Progress(
        phase=Phase.FULL, percent=50.0, keys_done=15, keys_total=30, lag_seconds=2.0, databases={0: 15}
    )
    both = combined([one, two])
    assert both.phase is Phase.FULL
    assert both.percent == pytest.approx(62.5)
    assert (both.keys_done, both.keys_total) == (25, 40)
    assert both.lag_bytes is None
    assert both.lag_seconds == 2.0
    assert not both.caught_up
    assert both.databases == {0: 25}
    assert combined([one, one]).caught_up
    assert combined([one, Progress(phase=Phase.RETRYING)]).phase is Phase.RETRYING
    assert combined([one, one]).lag_seconds == 0.0


def test_every_counter_is_taken_along() -> None:
    """A field that is new to Progress must say what several of them are together."""
    full = Progress(
        **{
            field.name: getattr(Progress(), field.name) or {"int": 1, "float": 1.0, "bool": True}.get(str(field.type).partition(" ")[0], getattr(Progress(), field.name))
            for field in fields(Progress)
        }
    )  # fmt: skip
    both = combined([full, full])
    for field in fields(Progress):
        value = getattr(full, field.name)
        largest = {"percent", "lag_seconds", "latency_ms", "backlog_bytes", "written_per_second"}
        if field.name in largest or isinstance(value, bool):
            assert getattr(both, field.name) == value, field.name
        elif isinstance(value, int | float):
            assert getattr(both, field.name) == 2 * value, field.name


def test_the_backlog_is_that_of_the_shard_that_lasts_shortest() -> None:
    roomy = Progress(backlog_bytes=1000, written_per_second=10.0)
    tight = Progress(backlog_bytes=500, written_per_second=100.0)
    idle = Progress(backlog_bytes=1, written_per_second=0.0)
    both = combined([roomy, tight, idle, Progress()])
    assert (both.backlog_bytes, both.written_per_second) == (500, 100.0)


def entry(*args: bytes) -> Entry:
    return Entry(list(args), 0, 1000, False)


def test_what_is_particular_to_the_stream_of_a_shard() -> None:
    first, other = (
        ShardFilter(Scope(((n, n + 99),), "…"), None, [], keys=None, commands=None) for n in (0, 100)
    )
    for command in (
        entry(b"RESTORE-ASKING", b"k", b"0", b"payload"),
        entry(b"CLUSTER", b"SYNCSLOTS"),
        entry(b"trimslots", b"RANGES"),
    ):
        with pytest.raises(SlotsMoved, match="being moved"):
            other.apply(command)
    with pytest.raises(ShardAnew):
        other.apply(entry(b"FLUSHALL"))
    load = entry(b"FUNCTION", b"LOAD", b"code")
    assert first.apply(load)
    assert other.apply(load) == []
    deaf = ShardFilter(
        Scope(((0, 99),), "…"),
        None,
        [],
        keys=None,
        commands={None: CommandChoice(without=frozenset({"FLUSHALL"}))},
    )
    assert deaf.apply(entry(b"FLUSHALL")) == []


def test_only_the_engine_names_shards() -> None:
    sides = {"source": Endpoint(host="a"), "target": Endpoint(host="b")}
    with pytest.raises(UsageError, match="no name for a link"):
        LinkConfig(name="orders@0", **sides)
    assert LinkConfig(name="orders@0", shard=Scope(((0, 1),), "0-1"), **sides).name == "orders@0"


def test_the_checkpoint_of_the_whole() -> None:
    one = Checkpoint(epoch=3, phase=CLUSTER, held=frozenset({0}), shards=text_of(WHOLE))
    words = one.command("orders")[2:]
    assert Checkpoint.read(dict(zip(words[::2], words[1::2], strict=True))) == one
    assert not one.resumable
