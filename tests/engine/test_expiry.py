"""The rule of expiries, for each form that a command of the stream can have."""

from __future__ import annotations

import pytest

from migrations_app.engine.expiry import ExpiryRule
from migrations_app.engine.kernel import Entry

NOW = 1_700_000_000_000
GUARD = 60_000
FAR_S, FAR_MS = (NOW + 1_000_000) // 1000, NOW + 1_000_000
NEAR_S, NEAR_MS = (NOW + 5_000) // 1000, NOW + 5_000


class Rule:
    """The rule at a time that stands still; it notes what is near, and what is relative while the link is behind (`late`)."""

    def __init__(
        self, *, pxat: bool = True, absttl: bool = True, late: bool = False, near: bool = True
    ) -> None:
        self.rule = ExpiryRule(
            lambda: NOW, lambda at: near and at < NOW + GUARD, lambda: late, pxat=pxat, absttl=absttl
        )

    def __call__(self, command: str, database: int = 2) -> list[str]:
        emitted = self.rule.apply(Entry(command.encode().split(), database, 0))
        assert all(number == database for number, _ in emitted)
        return [b" ".join(args).decode() for _, args in emitted]

    @property
    def noted(self) -> set[tuple[int, bytes]]:
        return self.rule.deferred


ABSOLUTE = {
    "EXPIRE k 1000": f"PEXPIREAT k {FAR_MS}",
    "expire k 1000 NX": f"PEXPIREAT k {FAR_MS} NX",
    "PEXPIRE k 1000000": f"PEXPIREAT k {FAR_MS}",
    f"EXPIREAT k {FAR_S}": f"PEXPIREAT k {FAR_MS}",
    f"PEXPIREAT k {FAR_MS}": f"PEXPIREAT k {FAR_MS}",
    "SET k v EX 1000": f"SET k v PXAT {FAR_MS}",
    "SET k v px 1000000": f"SET k v PXAT {FAR_MS}",
    f"SET k v EXAT {FAR_S}": f"SET k v PXAT {FAR_MS}",
    f"SET k v PXAT {FAR_MS}": f"SET k v PXAT {FAR_MS}",
    f"SET k v NX PXAT {FAR_MS}": f"SET k v NX PXAT {FAR_MS}",
    f"SET k v PXAT {FAR_MS} XX": f"SET k v XX PXAT {FAR_MS}",
    "SETEX k 1000 v": f"SET k v PXAT {FAR_MS}",
    "PSETEX k 1000000 v": f"SET k v PXAT {FAR_MS}",
    "GETEX k EX 1000": f"PEXPIREAT k {FAR_MS}",
    f"GETEX k PXAT {FAR_MS}": f"PEXPIREAT k {FAR_MS}",
    "RESTORE k 1000000 payload REPLACE": f"RESTORE k {FAR_MS} payload REPLACE ABSTTL",
    f"RESTORE k {FAR_MS} payload ABSTTL": f"RESTORE k {FAR_MS} payload ABSTTL",
}


@pytest.mark.parametrize("command", ABSOLUTE)
def test_far_expiries_become_absolute(command: str) -> None:
    rule = Rule()
    assert rule(command) == [ABSOLUTE[command]]
    assert rule.noted == set()


LEFT_OUT = {
    "EXPIRE k 5": "PERSIST k",
    "PEXPIRE k 5000 GT": "PERSIST k",
    f"EXPIREAT k {NEAR_S}": "PERSIST k",
    f"PEXPIREAT k {NEAR_MS}": "PERSIST k",
    "SET k v EX 5": "SET k v",
    f"SET k v NX PXAT {NEAR_MS}": "SET k v NX",
    "SETEX k 5 v": "SET k v",
    "PSETEX k 5000 v": "SET k v",
    "GETEX k PX 5000": "PERSIST k",
    "RESTORE k 5000 payload REPLACE": "RESTORE k 0 payload REPLACE",
    f"RESTORE k {NEAR_MS} payload ABSTTL": "RESTORE k 0 payload ABSTTL",
}


@pytest.mark.parametrize("command", LEFT_OUT)
def test_near_expiries_are_left_out_and_noted(command: str) -> None:
    """The expiry that the key had before goes too: it must not strike meanwhile."""
    rule = Rule()
    assert rule(command) == [LEFT_OUT[command]]
    assert rule.noted == {(2, b"k")}


@pytest.mark.parametrize(
    "command", ["SET k v", "SET k v KEEPTTL", "SET k v GET NX", "SET k EX", "SET EX PX KEEPTTL"]
)
def test_what_has_no_expiry_goes_on_as_it_came(command: str) -> None:
    rule = Rule()
    assert rule(command) == [command]
    assert rule.noted == set()


def test_values_that_look_like_options_are_values() -> None:
    assert Rule()("SET EX EX EX 1000") == [f"SET EX EX PXAT {FAR_MS}"]
    assert Rule()("RESTORE k 0 ABSTTL REPLACE") == ["RESTORE k 0 ABSTTL REPLACE"]


def test_getex_travels_by_its_effect_alone() -> None:
    assert Rule()("GETEX k PERSIST") == ["PERSIST k"]
    assert Rule()("GETEX k") == []


def test_targets_before_6_2_take_the_expiry_in_a_second_command() -> None:
    rule = Rule(pxat=False)
    assert rule("SET k v EX 1000") == ["SET k v", f"PEXPIREAT k {FAR_MS}"]
    assert rule("SETEX k 5 v") == ["SET k v"]


def test_targets_before_5_0_take_a_restore_with_the_time_that_is_left() -> None:
    """ABSTTL is a syntax error there."""
    rule = Rule(absttl=False)
    assert rule("RESTORE k 1000000 payload REPLACE") == ["RESTORE k 1000000 payload REPLACE"]
    assert rule(f"RESTORE k {FAR_MS} ABSTTL ABSTTL") == ["RESTORE k 1000000 ABSTTL"]
    assert rule("RESTORE k 5000 payload REPLACE") == ["RESTORE k 0 payload REPLACE"]
    assert rule("RESTORE k 0 payload") == ["RESTORE k 0 payload"]


@pytest.mark.parametrize(
    "command",
    ["EXPIRE k 1000", "SET k v EX 1000", "SETEX k 1000 v", "GETEX k EX 1000", "RESTORE k 1000000 p"],
)
def test_relative_expiries_that_come_late_are_noted_to_be_corrected(command: str) -> None:
    """They begin to count when they arrive, which is too late; the absolute ones are right."""
    rule = Rule(late=True, near=False)
    assert rule(command) != []
    assert rule.noted == {(2, b"k")}
    rule = Rule(late=True, near=False)
    rule(f"PEXPIREAT k {FAR_MS}")
    rule(f"SET k v PXAT {FAR_MS}")
    assert rule.noted == set()


def test_a_renamed_key_is_noted_under_its_new_name() -> None:
    rule = Rule()
    rule.rule.renamed(4, b"new")
    assert rule.noted == {(4, b"new")}


@pytest.mark.parametrize(
    ("command", "becomes"),
    [
        ("HEXPIRE h 1000 FIELDS 1 f", f"HPEXPIREAT h {FAR_MS} FIELDS 1 f"),
        ("HPEXPIRE h 1000000 NX FIELDS 2 f g", f"HPEXPIREAT h {FAR_MS} NX FIELDS 2 f g"),
        (f"HPEXPIREAT h {FAR_MS} FIELDS 1 f", f"HPEXPIREAT h {FAR_MS} FIELDS 1 f"),
        ("HSETEX h EX 1000 FIELDS 1 EX PX", f"HSETEX h PXAT {FAR_MS} FIELDS 1 EX PX"),
        (f"HSETEX h FXX PXAT {FAR_MS} FIELDS 1 f v", f"HSETEX h FXX PXAT {FAR_MS} FIELDS 1 f v"),
        ("HGETEX h PX 1000000 FIELDS 1 f", f"HGETEX h PXAT {FAR_MS} FIELDS 1 f"),
        ("HGETEX h PERSIST FIELDS 1 f", "HGETEX h PERSIST FIELDS 1 f"),
        ("MSETEX 2 EX 5 b 6 EX 1000", f"MSETEX 2 EX 5 b 6 PXAT {FAR_MS}"),
    ],
)
def test_expiries_of_fields_and_of_several_keys(command: str, becomes: str) -> None:
    assert Rule()(command) == [becomes]
