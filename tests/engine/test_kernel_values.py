"""The walker of values: it finds the end of every type, whatever comes behind it and however the bytes are cut."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from migrations_app.engine import kernel
from migrations_app.engine.errors import SnapshotError, UnsupportedData
from migrations_app.engine.kernel import SINGLE, ValueWalker, module_name

from . import build

# All types that the walker knows, of both products.
KNOWN = SINGLE.union(kernel._PROGRAMS, kernel._REDIS_ONLY, kernel._VALKEY_ONLY)


def walker(kind: int, pos: int = 0, *, valkey: bool = False) -> ValueWalker:
    made = ValueWalker()
    made.valkey = valkey
    made.begin(kind, pos)
    return made


def identify(case: tuple[int, bytes, bool]) -> str:
    return f"type{case[0]}-{len(case[1])}"


@pytest.mark.parametrize("case", build.ALL_VALUES, ids=identify)
def test_the_end_of_every_type_is_found(case: tuple[int, bytes, bool]) -> None:
    """In one piece, with other bytes before and behind."""
    kind, value, valkey = case
    buffer = b"before" + value + b"\xff" * 30
    found = walker(kind, 6, valkey=valkey)
    assert found.walk(buffer, len(buffer))
    assert found.pos == 6 + len(value)


@pytest.mark.parametrize("case", build.ALL_VALUES, ids=identify)
def test_a_value_that_is_cut_anywhere_is_waited_for(case: tuple[int, bytes, bool]) -> None:
    """Byte by byte (every 7th of the long ones): never complete too early, never a step back."""
    kind, value, valkey = case
    found = walker(kind, valkey=valkey)
    before = 0
    for end in [*range(0, len(value), 1 if len(value) < 3000 else 7)]:
        assert not found.walk(value[:end], end)
        assert before <= found.pos <= end
        before = found.pos
    assert found.walk(value + b"\0", len(value) + 1)
    assert found.pos == len(value)


@pytest.mark.parametrize("case", build.ALL_VALUES, ids=identify)
def test_bytes_can_be_taken_away_while_a_value_is_walked(case: tuple[int, bytes, bool]) -> None:
    kind, value, valkey = case
    found = walker(kind, 100, valkey=valkey)
    data = bytes(100) + value
    half = 100 + len(value) // 2
    found.walk(data[:half], half)
    found.shift(100)
    assert found.walk(value, len(value))
    assert found.pos == len(value)


@pytest.mark.parametrize("kind", sorted(set(range(256)) - KNOWN))
@pytest.mark.parametrize("valkey", [False, True])
def test_an_unknown_type_is_named(kind: int, valkey: bool) -> None:
    with pytest.raises(UnsupportedData, match=rf"\b{kind}\b"):
        walker(kind, valkey=valkey)


@pytest.mark.parametrize(("kind", "valkey"), [(22, False), (24, True), (25, True), (6, False), (6, True)])
def test_types_of_the_other_product_are_unknown(kind: int, valkey: bool) -> None:
    with pytest.raises(UnsupportedData, match=str(kind)):
        walker(kind, valkey=valkey)


def test_every_known_type_has_a_value_here() -> None:
    """So that a type that is added to the walker without a test of it shows."""
    assert {kind for kind, _, _ in build.ALL_VALUES} == KNOWN


@pytest.mark.parametrize("kind", sorted(KNOWN - SINGLE - {7, 22, 24, 25}))
def test_an_impossible_number_of_elements_is_damage(kind: int) -> None:
    data = build.length(2**62)
    with pytest.raises(SnapshotError):
        walker(kind).walk(data, len(data))


def test_a_module_opcode_that_does_not_exist_is_damage() -> None:
    data = build.lengths(1 << 20, 6, 0)
    with pytest.raises(SnapshotError, match="opcode 6"):
        walker(7).walk(data, len(data))


def test_a_module_is_named_by_its_identifier() -> None:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    number = 0
    for letter in "ReJSON-RL":
        number = number << 6 | letters.index(letter)
    data = build.length(number << 10 | 3)
    assert module_name(data, 0, len(data)) == "ReJSON-RL"


@given(case=st.sampled_from(build.ALL_VALUES), data=st.data())
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_a_damaged_value_is_refused_or_ends_inside_of_the_buffer(
    case: tuple[int, bytes, bool], data: st.DataObject
) -> None:
    """Bytes changed at random, up to the largest lengths: an error, a value, or a wait for more; nothing else."""
    kind, value, valkey = case
    damaged = bytearray(value[:3000])
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(damaged) - 1))
        damaged[place] = data.draw(
            st.sampled_from([0, 1, 0x3F, 0x40, 0x7F, 0x80, 0x81, 0xC0, 0xC3, 0xC4, 0xFF])
        )
    found = walker(kind, valkey=valkey)
    end = len(damaged)
    try:
        for stop in range(0, end, max(1, end // 7)):
            if found.walk(bytes(damaged[:stop]), stop):
                assert found.pos <= stop
                return
        found.walk(bytes(damaged), end)
    except SnapshotError:
        return
    assert found.pos <= end
