"""The choice of databases, for the commands that reach beyond one."""

from __future__ import annotations

import pytest

from migrations_app.engine.errors import UnsupportedData
from migrations_app.engine.filter import DatabaseFilter, destination_of
from migrations_app.engine.kernel import Entry

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
