"""The parts that need no server: registers, first difference, descriptions, reports."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrations_app.engine.verify import Difference, Kind, VerifyReport
from migrations_app.engine.verify.hyperloglog import registers, same
from migrations_app.engine.verify.model import around, escaped, first_unequal, short
from migrations_app.engine.verify.report import as_dict, as_text
from migrations_app.engine.verify.values import score, string_finding
from tests.engine.conftest import Shared

HEADER = b"HYLL%c\0\0\0" + b"\0" * 8


def dense(values: list[int]) -> bytes:
    bits = sum(value << 6 * index for index, value in enumerate(values))
    return HEADER % 0 + bits.to_bytes(12288, "little")


def sparse(runs: list[tuple[int, int]]) -> bytes:
    """(value, length) runs as opcodes."""
    out = bytearray(HEADER % 1)
    for value, length in runs:
        if value:
            out.append(0x80 | value - 1 << 2 | length - 1)
        elif length > 64:
            out += bytes((0x40 | length - 1 >> 8, length - 1 & 255))
        else:
            out.append(length - 1)
    return bytes(out)


def test_sparse_and_dense_registers() -> None:
    runs = [(0, 1000), (5, 4), (0, 64), (32, 1), (0, 16384 - 1069)]
    values = [value for value, length in runs for _ in range(length)]
    assert registers(sparse(runs)) == registers(dense(values)) == bytes(values)
    assert same(sparse(runs), dense(values))
    assert not same(sparse(runs), dense([1, *values[1:]]))
    assert string_finding(sparse(runs), dense(values)) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HYLL",
        HEADER % 0,
        HEADER % 1,
        HEADER % 2 + b"\0" * 12288,
        HEADER % 0 + b"\0" * 12289,
        HEADER % 1 + b"\x7f",
        sparse([(0, 16383)]),
        sparse([(0, 16384), (0, 1)]),
        b"h" + dense([0] * 16384)[1:],
    ],
    ids=range(10),
)
def test_what_is_no_hyperloglog(data: bytes) -> None:
    assert registers(data) is None
    assert not same(data, data)


def test_registers_of_a_real_server(shared: Shared) -> None:
    server = shared("redis-7.0", "source")
    with server.client() as client:
        for count in (0, 1, 10, 300, 20_000):
            client.delete("a")
            client.pfadd("a", *range(count))
            before = registers(client.get("a"))
            client.config_set("hll-sparse-max-bytes", 0)
            client.pfadd("a", *range(count))
            client.execute_command("PFDEBUG", "TODENSE", "a")
            client.config_set("hll-sparse-max-bytes", 3000)
            assert before == registers(client.get("a")) is not None
            expected = client.execute_command("PFDEBUG", "GETREG", "a")
            assert list(before or b"") == expected


@given(st.binary(max_size=200), st.binary(max_size=5), st.binary(max_size=5))
def test_first_unequal(start: bytes, a: bytes, b: bytes) -> None:
    left, right = start + a, start + b
    offset = first_unequal(left, right)
    assert left[:offset] == right[:offset]
    if left == right:
        assert offset == len(left)
    else:
        assert left[offset : offset + 1] != right[offset : offset + 1]


@given(st.binary(max_size=300), st.integers(0, 300))
def test_descriptions_are_printable_and_short(data: bytes, offset: int) -> None:
    for text in (escaped(data), short(data), around(data, offset)):
        assert text.isprintable()
    assert len(around(data, offset)) < 260
    assert escaped(data).encode("latin-1").decode("unicode_escape").encode("latin-1") == data


def test_descriptions() -> None:
    assert short(None) == "absent"
    assert short(b"a\n\\\xff") == "'a\\x0a\\x5c\\xff'"
    assert short(b"x" * 100) == "'" + "x" * 60 + "…' (100 bytes)"
    assert around(b"0123456789" * 20, 50) == "'…" + "0123456789" * 6 + "…'"
    assert [score(value) for value in (1.0, 0.1, float("inf"), -3e300, None)] == [
        "1",
        "0.1",
        "inf",
        "-3e+300",
        "absent",
    ]


def report(differences: int, listed: int, *, complete: bool = True, keys: int = 7) -> VerifyReport:
    item = Difference(3, b"a\xff", Kind.VALUE, "'1'", "'2'", "byte 0")
    kinds = {Kind.VALUE: differences} if differences else {}
    return VerifyReport(keys, differences, kinds, (item,) * listed, {0: 5, 3: 2}, 1.23456, complete)


def test_report_as_text() -> None:
    assert as_text(report(0, 0)) == "verified: 7 keys, 0 differences"
    assert as_text(report(0, 0, keys=1)) == "verified: 1 keys, 0 differences"
    assert as_text(report(0, 0, complete=False)) == "stopped after 7 keys, 0 differences so far"
    assert as_text(report(3, 1)).splitlines() == [
        "value: db3 'a\\xff' (byte 0): source '1', target '2'",
        "… and 2 more",
        "value 3",
        "verified: 7 keys, 3 differences",
    ]


def test_report_as_json() -> None:
    data = json.loads(json.dumps(as_dict(report(2, 1))))
    assert data == {
        "result": "different",
        "keys": 7,
        "differences": 2,
        "by_kind": {"value": 2},
        "databases": {"0": 5, "3": 2},
        "items": [
            {
                "database": 3,
                "key": "a\\xff",
                "kind": "value",
                "source": "'1'",
                "target": "'2'",
                "detail": "byte 0",
            }
        ],
        "seconds": 1.235,
    }
    assert as_dict(report(0, 0))["result"] == "equal"
    assert as_dict(report(0, 0, complete=False))["result"] == "stopped"
