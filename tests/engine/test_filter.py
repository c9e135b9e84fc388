"""What the choice of databases, commands and keys makes of the commands of the stream."""

from __future__ import annotations

import pytest

from migrations_app.engine import kernel
from migrations_app.engine.choice import CommandChoice
from migrations_app.engine.commands import actions
from migrations_app.engine.errors import UnsupportedData
from migrations_app.engine.filter import DatabaseFilter, Filter, destination_of
from migrations_app.engine.kernel import Entry
from migrations_app.engine.keyfilter import KeyFilter
from tests.engine.test_keys import EXAMPLES

OWN = [b"switchyard:checkpoint:x", b"switchyard:deferred:x"]
Result = list[tuple[int, list[bytes]]]


def beyond(databases: set[int] | None, database: int, command: str, own: list[bytes] = OWN) -> Result:
    """What a command of the stream becomes, when these databases are chosen."""
    chosen = DatabaseFilter(frozenset(databases) if databases is not None else None, own)
    return [
        (number, list(args)) for number, args in chosen.beyond(Entry(command.encode().split(), database, 100))
    ]


def same(database: int, command: str) -> Result:
    return [(database, command.encode().split())]


@pytest.mark.parametrize(
    "command", ["FLUSHALL", "flushall ASYNC", "MOVE k 3", "COPY a b DB 2 REPLACE", "COPY a b", "SWAPDB 1 2"]
)
def test_with_all_databases_everything_goes_on_as_it_came(command: str) -> None:
    assert beyond(None, 1, command) == same(1, command)


def test_flushall_empties_the_chosen_databases_only() -> None:
    assert beyond({0, 3}, 7, "FLUSHALL") == [(0, [b"FLUSHDB"]), (3, [b"FLUSHDB"])]
    assert beyond({2}, 0, "FLUSHALL ASYNC") == [(2, [b"FLUSHDB", b"ASYNC"])]


@pytest.mark.parametrize(
    ("database", "command", "becomes"),
    [
        (0, "MOVE k 3", [(0, [b"MOVE", b"k", b"3"])]),
        (0, "MOVE k 5", [(0, [b"DEL", b"k"])]),  # it leaves what is copied
        (5, "MOVE k 6", []),
        (0, "COPY a b DB 3", [(0, b"COPY a b DB 3".split())]),
        (0, "copy a b db 5 replace", []),
        (0, "COPY a b REPLACE", [(0, b"COPY a b REPLACE".split())]),
        (5, "COPY a b", []),
    ],
)
def test_keys_that_change_their_database(database: int, command: str, becomes: Result) -> None:
    assert beyond({0, 3}, database, command) == becomes


@pytest.mark.parametrize("command", ["MOVE the-key 3", "COPY the-key b DB 3"])
def test_data_from_a_database_that_is_not_chosen_is_refused(command: str) -> None:
    with pytest.raises(UnsupportedData, match=r"the-key.*database 5.*database 3"):
        beyond({0, 3}, 5, command)


def test_swapped_databases() -> None:
    """With database 0 the product's own keys have to stay there."""
    assert beyond({1, 2}, 0, "SWAPDB 1 2") == same(0, "SWAPDB 1 2")
    assert beyond({1, 2}, 0, "SWAPDB 4 5") == []
    assert beyond({1, 2}, 0, "SWAPDB 0 0") == []
    for command in ("SWAPDB 0 4", "SWAPDB 4 0"):
        first, *rest = beyond(None, 0, command)
        assert first == same(0, command)[0]
        assert rest, "the checkpoint has gone to the other database with the rest"
        assert all(database == 4 for database, _ in rest)
    assert beyond(None, 0, "SWAPDB 0 0") == same(0, "SWAPDB 0 0")
    for command in ("SWAPDB 1 4", "SWAPDB 4 1", "SWAPDB 0 2"):
        with pytest.raises(UnsupportedData, match=command):
            beyond({1, 2}, 0, command)


def test_which_key_a_command_writes() -> None:
    for command, expected in {
        "MOVE a 3": (3, b"a"), "RENAME a b": (1, b"b"), "RENAMENX a b": (1, b"b"), "COPY a b": (1, b"b"),
        "COPY a b REPLACE DB 9": (9, b"b"),
    }.items():  # fmt: skip
        assert destination_of(Entry(command.encode().split(), 1, 0)) == expected


# --- keys and commands ------------------------------------------------------------------------------------------------

KEYS = KeyFilter(include_prefixes=(b"k",))


def apply(command: str, chosen: Filter, database: int = 0) -> list[str]:
    """What a command becomes, with its database before it where it is another one."""
    made = chosen.apply(Entry(command.encode().split(), database, 100))
    return [(f"{number}: " if number != database else "") + b" ".join(args).decode() for number, args in made]


def with_keys(command: str) -> list[str]:
    """Keys that begin with k are chosen."""
    return apply(command, Filter(keys=KEYS))


@pytest.mark.parametrize("command", EXAMPLES)
def test_commands_over_chosen_keys_go_on_as_they_came(command: str) -> None:
    name = command.split()[0]
    if name in {"FLUSHALL", "FLUSHDB", "SWAPDB"} or (name in {"EVAL", "FCALL"} and command.split()[2] == "0"):
        with pytest.raises(UnsupportedData, match=name):
            with_keys(command)
    else:
        assert with_keys(command) == [command]


@pytest.mark.parametrize("command", EXAMPLES)
def test_commands_over_other_keys_do_not_go_on(command: str) -> None:
    words = command.split()
    others = " ".join([words[0], *("x" + word if word.startswith("k") else word for word in words[1:])])
    if others == command:  # it has no keys
        return
    expected = [f"SCRIPT LOAD {words[1]}"] if words[0] == "EVAL" else []
    assert with_keys(others) == expected


@pytest.mark.parametrize(
    ("command", "becomes"),
    [
        ("DEL k1 x k2", "DEL k1 k2"), ("unlink x k", "unlink k"), ("MSET x 1 k 2 y 3", "MSET k 2"), ("MSETNX x 1 k 2", "MSETNX k 2"),
        ("MSETEX 2 x 1 k 2 PXAT 9 NX", "MSETEX 1 k 2 PXAT 9 NX"), ("PFCOUNT x k", "PFCOUNT k"),
        ("RENAME k x", "DEL k"), ("rename k k", "rename k k"), ("RENAMENX k x", "DEL k"), ("SMOVE k x m", "SREM k m"), ("SMOVE x k m", "SADD k m"),
        ("RPOPLPUSH k x", "RPOP k"), ("BRPOPLPUSH k x 0", "RPOP k"), ("LMOVE k x LEFT RIGHT", "LPOP k"), ("LMOVE k x right LEFT", "RPOP k"),
        ("BLMOVE k x LEFT RIGHT 0", "LPOP k"), ("COPY k x", ""), ("COPY x y DB 3", ""), ("COPY x y REPLACE", ""), ("MOVE x 3", ""), ("MOVE k 3", "MOVE k 3"),
        ("COPY k k2 DB 3", "COPY k k2 DB 3"), ("SUNIONSTORE x k1 k2", ""), ("BITOP AND x k1 y", ""), ("ZUNIONSTORE x 2 k y", ""), ("PFMERGE x k", ""),
        ("SORT k STORE x", ""), ("SORT x STORE k BY w* STORE y", ""), ("SORT k BY nosort GET # STORE k2", "SORT k BY nosort GET # STORE k2"),
        ("GEORADIUS k 1 2 3 m STORE x", ""), ("GEOSEARCHSTORE x k FROMMEMBER m BYRADIUS 1 m", ""), ("ZRANGESTORE x k 0 1", ""),
        ("FUNCTION LOAD x", "FUNCTION LOAD x"), ("PUBLISH x y", "PUBLISH x y"), ("SET x EX", ""), ("set k EX", "set k EX"),
    ],
)  # fmt: skip
def test_commands_over_chosen_and_other_keys_are_taken_apart_where_that_is_exact(
    command: str, becomes: str
) -> None:
    assert with_keys(command) == ([becomes] if becomes else [])


@pytest.mark.parametrize(
    "command",
    [
        "RENAME x k", "RENAMENX x k", "COPY x k", "COPY x k DB 3", "RPOPLPUSH x k", "LMOVE x k LEFT LEFT", "BITOP AND k k x", "SUNIONSTORE k k x",
        "SINTERSTORE k x y", "PFMERGE k x", "ZUNIONSTORE k 2 k x", "ZRANGESTORE k x 0 1", "GEOSEARCHSTORE k x FROMMEMBER m BYRADIUS 1 m",
        "SORT x STORE k", "GEORADIUS x 1 2 3 m STORE k", "EVAL s 2 k x", "EVALSHA s 2 x k", "FCALL s 2 x k", "LMPOP 2 k x LEFT", "BLPOP k x 0",
        "XREADGROUP GROUP g c STREAMS k x > >",
    ],
)  # fmt: skip
def test_what_cannot_be_taken_apart_stops_with_its_name_and_keys(command: str) -> None:
    with pytest.raises(UnsupportedData, match=rf"{command.split()[0]} concerns chosen keys .*b'k'.*b'x'"):
        with_keys(command.replace("x y", "x k"))


@pytest.mark.parametrize("command", ["SORT k BY w_* STORE k2", "SORT k GET # get k* STORE k2"])
def test_a_sort_that_reads_by_a_pattern_stops(command: str) -> None:
    with pytest.raises(UnsupportedData, match=r"SORT into key b'k2' reads keys by the pattern"):
        with_keys(command)


def test_keys_and_databases_together() -> None:
    chosen = Filter(frozenset({0, 3}), keys=KEYS)
    assert apply("MOVE k 5", chosen) == ["DEL k"]
    assert apply("MOVE x 5", chosen) == []
    assert apply("MOVE x 0", chosen, 5) == []
    assert apply("COPY x k DB 5", chosen) == []
    assert apply("COPY k x DB 0", chosen, 5) == []
    assert apply("SET k v", chosen, 5) == []
    assert apply("FLUSHDB", chosen, 5) == []
    assert apply("SWAPDB 4 5", chosen) == []
    for command, database in (("MOVE k 0", 5), ("COPY y k DB 0", 5), ("FLUSHALL", 5), ("SWAPDB 0 3", 5)):
        with pytest.raises(UnsupportedData, match=command.split()[0]):
            apply(command, chosen, database)


def test_what_belongs_to_no_database_is_applied_whatever_is_chosen() -> None:
    chosen = Filter(frozenset({2, 3}))
    for command in ("FUNCTION LOAD x", "SCRIPT LOAD x", "PUBLISH c m", "SPUBLISH c m"):
        assert apply(command, chosen, 3) == [command]
        assert apply(command, chosen, 0) == ["2: " + command]
    assert apply("EVAL s 1 k", chosen, 0) == ["2: SCRIPT LOAD s"]
    assert apply("EVALSHA s 1 k", chosen, 0) == []


def test_commands_of_each_database() -> None:
    chosen = Filter(
        commands={
            None: CommandChoice(without=frozenset({"DEL"})),
            3: CommandChoice(only=frozenset({"@hash", "SETEX", "FLUSHALL"})),
        }
    )
    assert apply("DEL k", chosen) == []
    assert apply("HSET k f v", chosen) == ["HSET k f v"]
    assert apply("SET k v", chosen, 3) == []
    assert apply("SET k v PX 5", chosen, 3) == ["SET k v PX 5"]
    assert apply("DEL k", chosen, 3) == ["DEL k"]  # what expires is deleted so
    assert apply("LPUSH k v", chosen, 3) == []
    assert apply("FLUSHALL", chosen, 1) == ["FLUSHALL"]
    assert apply("SWAPDB 1 2", chosen) == ["SWAPDB 1 2"]
    with pytest.raises(UnsupportedData, match="SWAPDB 1 3"):
        apply("SWAPDB 1 3", chosen)


def test_flushall_of_some_databases() -> None:
    commands = {2: CommandChoice(without=frozenset({"FLUSHALL"}))}
    assert apply("FLUSHALL", Filter(frozenset({1, 2}), commands=commands), 7) == ["1: FLUSHDB"]
    with pytest.raises(UnsupportedData, match="FLUSHALL"):
        apply("FLUSHALL", Filter(commands=commands))
    assert apply("FLUSHALL", Filter(commands={None: CommandChoice(without=frozenset({"@keyspace"}))})) == []


def test_what_no_choice_touches_stays_as_it_is() -> None:
    """The kernel passes it on as the bytes that came."""
    table = actions()
    assert Filter().actions() == table
    changed = {name for name, action in Filter(frozenset({0})).actions().items() if action != table[name]}
    assert changed == {b"FUNCTION", b"SCRIPT", b"PUBLISH", b"SPUBLISH"}
    some = Filter(commands={5: CommandChoice(without=frozenset({"LPUSH", "SETEX"}))}).actions()
    assert {name for name, action in some.items() if action != table[name]} == {b"LPUSH"}
    assert some[b"SET"] == kernel.RULE_LONG
    assert Filter(commands={None: CommandChoice(without=frozenset({"SET"}))}).actions()[b"SET"] == kernel.RULE
    with_keys = Filter(keys=KEYS).actions()
    assert not set(with_keys.values()) & {kernel.FORWARD, kernel.RULE_LONG}
    for name in (b"SELECT", b"MULTI", b"EXEC", b"PING", b"REPLCONF"):
        assert with_keys[name] == table[name]
