"""The console's table of commands against the engine's, which decides."""

from __future__ import annotations

import random

import pytest

from migrations_app import wire
from migrations_app.engine import choice
from migrations_app.engine.errors import UsageError
from migrations_app.runner.configuration import command_choices
from portal.errors import Invalid

NAMES = sorted(choice.NAMES)
WORDS = [*NAMES, *(group.word for group in wire.GROUPS)]


def test_groups_and_names_are_the_engines() -> None:
    assert wire.NAMES == choice.NAMES
    assert {group.word: wire.expanded([group.word]) for group in wire.GROUPS} == {
        f"@{word}": choice._expanded([f"@{word}"]) for word in choice.GROUPS
    }
    shown = [name for group in wire.GROUPS for name in group.names]
    assert len(shown) == len(set(shown))


def test_forms_are_the_engines() -> None:
    for name in NAMES:
        assert wire.regular(name) == choice._regular(name), name
        assert wire._all_forms(name) == choice._all_forms(name), name
        assert frozenset(wire.same_as(name)) == choice._same_as(name), name


def verdict(only: frozenset[str] | None, without: frozenset[str]) -> tuple[object, object]:
    """(console, engine): refused or the number of notes, each."""
    found: list[object] = []
    try:
        found.append(len(wire.Choice(only, without).check()))
    except Invalid:
        found.append("refused")
    try:
        found.append(len(choice.CommandChoice(only, without).notes))
    except UsageError:
        found.append("refused")
    return found[0], found[1]


@pytest.mark.parametrize("word", WORDS)
def test_single_words(word: str) -> None:
    for only, without in ((frozenset({word}), frozenset()), (None, frozenset({word}))):
        console, engine = verdict(only, without)
        assert console == engine, (only, without)


def test_many_words() -> None:
    chance = random.Random(7)
    refused = 0
    for _ in range(600):
        only = frozenset(chance.sample(WORDS, chance.randint(1, 40))) if chance.random() < 0.5 else None
        without = frozenset(chance.sample(WORDS, chance.randint(0, 12)))
        console, engine = verdict(only, without)
        assert console == engine, (only, without)
        refused += console == "refused"
    assert 0 < refused < 600


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("EXPIRE", "PEXPIREAT"),
        ("SETEX", "SET with an expiry"),
        ("SPOP", "SREM"),
        ("INCRBYFLOAT", "SET"),
        ("BLPOP", "LPOP"),
        ("GETDEL", "DEL or UNLINK"),
        ("SET", ""),
        ("DEL", ""),
        ("HSET", ""),
        ("EVAL", "the commands that it calls"),
    ],
)
def test_becomes(name: str, shown: str) -> None:
    assert wire.becomes(name) == shown


def test_refusals_say_what_to_do() -> None:
    with pytest.raises(Invalid, match="GEOADD cannot be left out alone: it travels as ZADD") as refusal:
        wire.Choice(without=frozenset({"GEOADD"})).check()
    assert refusal.value.field == "commands"
    assert "Leave ZADD out, too" in str(refusal.value)
    for words in ({"GET"}, {"@nothing"}, set()):
        with pytest.raises(Invalid, match="not saved"):
            wire.Choice(only=frozenset(words)).check()


def test_labels() -> None:
    assert wire.Choice.of({}).label == "All commands"
    assert wire.Choice.of({"without": ["@stream"]}).label == "All but streams"
    many = ["SET", "DEL", "HSET", "HDEL", "LPUSH", "RPUSH"]
    assert wire.Choice.of({"only": many}).label == "Only DEL, HDEL, HSET and 3 more"


def test_nothing_left_out_of_one_database_means_all_of_it() -> None:
    choices = command_choices({"": {"only": ["SET"]}, "3": {"without": []}})
    assert choices[None].lets("SET")
    assert not choices[None].lets("HSET")
    assert choices[3].lets("HSET")
