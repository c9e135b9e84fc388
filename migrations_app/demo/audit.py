"""Keys from which it can be proven that a migration lost nothing, repeated nothing and kept the order.

The writer changes each audit key by commands that are not idempotent, one step at a time: a counter by 1, a
list and a string by the next number of a sequence. What the target must hold is therefore known exactly
(`AuditExpected`), and a write that is lost, applied twice or applied in another order shows. The invariant
keys are changed in transactions and scripts only; each of them on its own holds at every moment, so that a
target which applies half a transaction is caught while the migration runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from random import Random
from typing import cast

import redis

from .clients import Capabilities, Command, DemoError, Pipe, Source, factory_for

AuditCounts = dict[str, int]
"""{audit key: number of steps}."""
AuditExpected = dict[int, AuditCounts]
"""{database: {audit key: number of steps}}; JSON turns the databases into text, `check_audit` takes both."""

WIDTH = 10
"""Digits of a number in ``audit:append``."""

COUNTERS = ("audit:incr", "audit:float", "audit:hash", "audit:zset")
SEQUENCES = ("audit:list", "audit:head", "audit:append", "audit:stream")
ACCOUNTS = 10
SCRIPT = """
redis.call('INCRBY', KEYS[1], ARGV[1])
redis.call('RPUSH', KEYS[3], ARGV[1])
redis.call('INCRBY', KEYS[2], ARGV[1])
redis.call('LTRIM', KEYS[3], -20, -1)
return 1
"""


class Auditor:
    """The audit of one database: makes the next steps and knows how many have been made."""

    def __init__(self, caps: Capabilities, random: Random) -> None:
        self._random = random
        self._names = [name for name in COUNTERS + SEQUENCES if name != "audit:stream" or caps.has("XADD")]
        self.counts: AuditCounts = dict.fromkeys(self._names, 0)

    def steps(self) -> list[Command]:
        """One step of one key; of all of them in a transaction now and then."""
        if self._random.random() < 0.1:
            return [("MULTI",), *map(self._step, self._names), ("EXEC",)]
        return [self._step(self._random.choice(self._names))]

    def _step(self, name: str) -> Command:
        self.counts[name] += 1
        number = self.counts[name]
        match name:
            case "audit:incr":
                return "INCR", name
            case "audit:float":
                return "INCRBYFLOAT", name, "0.5"
            case "audit:hash":
                return "HINCRBY", name, "total", 1
            case "audit:zset":
                return "ZINCRBY", name, 1, "total"
            case "audit:list":
                return "RPUSH", name, number
            case "audit:head":
                return "LPUSH", name, number
            case "audit:append":
                return "APPEND", name, f"{number:0{WIDTH}}"
            case _:
                return "XADD", name, "*", "n", number

    def read_back(self, pipe: Pipe) -> None:
        """Take the counts from the server: at the start, and after a failure that leaves open what was
        applied.

        Raises `DemoError` if the server holds something else under these names.
        """
        replies = pipe.ask(
            [
                ("GET", "audit:incr"),
                ("GET", "audit:float"),
                ("HGET", "audit:hash", "total"),
                ("ZSCORE", "audit:zset", "total"),
                ("LLEN", "audit:list"),
                ("LLEN", "audit:head"),
                ("STRLEN", "audit:append"),
                *([("XLEN", "audit:stream")] if "audit:stream" in self._names else []),
            ]
        )
        for reply in replies:
            if isinstance(reply, Exception):
                raise DemoError(f"The audit keys cannot be read back: {reply}") from reply
        steps = [float(reply or 0) for reply in replies]
        steps[1] *= 2
        steps[6] /= WIDTH
        self.counts = {name: int(count) for name, count in zip(self._names, steps, strict=True)}


def invariant_steps(random: Random) -> list[Command]:
    """One change of one invariant: atomic by MULTI or by a script."""
    match random.randrange(4):
        case 0:
            return [
                ("MULTI",),
                ("INCR", "invariant:left"),
                ("SET", "invariant:between", random.random()),
                ("INCR", "invariant:right"),
                ("EXEC",),
            ]
        case 1:
            one, other = random.sample(range(ACCOUNTS), 2)
            amount = random.randrange(1, 1000)
            return [
                ("MULTI",),
                ("DECRBY", f"invariant:account:{one}", amount),
                ("INCRBY", f"invariant:account:{other}", amount),
                ("EXEC",),
            ]
        case 2:
            keys = ("invariant:script:left", "invariant:script:right", "invariant:script:recent")
            return [("EVAL", SCRIPT, 3, *keys, random.randrange(1, 100))]
        case _:
            # The list comes into being and vanishes again.
            return [
                ("MULTI",),
                ("RPUSH", "invariant:list", "a", "b"),
                ("HINCRBY", "invariant:hash", "length", 2),
                ("EXEC",),
                ("MULTI",),
                ("LPOP", "invariant:list"),
                ("RPOP", "invariant:list"),
                ("HINCRBY", "invariant:hash", "length", -2),
                ("EXEC",),
            ]


def check_invariant(target: Source, databases: Iterable[int] = (0,)) -> list[str]:
    """Problems of the invariants, one sentence each; none means that they hold.

    To be asked of a source at any time, of a target at any time from the end of the full phase (which carries
    keys one by one). Each database is read in one transaction.
    """
    client_of = factory_for(target)
    problems = []
    for db in databases:
        questions: list[Command] = [("GET", f"invariant:account:{n}") for n in range(ACCOUNTS)]
        questions += [
            ("GET", f"invariant:{name}") for name in ("left", "right", "script:left", "script:right")
        ]
        questions += [("LLEN", "invariant:list"), ("HGET", "invariant:hash", "length")]
        values = Pipe(client_of(db)).ask([("MULTI",), *questions, ("EXEC",)])[-1]
        if isinstance(values, Exception):
            raise values
        numbers = [int(value or 0) for value in values]
        total = sum(numbers[:ACCOUNTS])
        left, right, script_left, script_right, length, said = numbers[ACCOUNTS:]
        if total:
            problems.append(f"db {db}: the accounts add up to {total} instead of 0")
        for name, one, other in (
            ("invariant:left and :right", left, right),
            ("invariant:script:left and :right", script_left, script_right),
            ("the length of invariant:list and the one in invariant:hash", length, said),
        ):
            if one != other:
                problems.append(f"db {db}: {name} differ: {one} and {other}")
    return problems


def check_audit(target: Source, expected: AuditExpected) -> list[str]:
    """Compare the audit keys of a server with what a stopped writer expects (`Writer.expected`).

    Returns one sentence per problem: steps lost, applied twice, out of order, or too many. Reads in pieces.
    """
    client_of = factory_for(target)
    problems = []
    for db, counts in expected.items():
        client = client_of(int(db))
        for name, count in counts.items():
            try:
                found = _check_one(client, name, count)
            except (redis.ResponseError, ValueError) as error:
                found = [f"cannot be read: {error}"]
            problems += [f"db {db} {name}: {problem}" for problem in found]
    return problems


def _check_one(client: redis.Redis, name: str, count: int) -> list[str]:
    reads: dict[str, Command] = {
        "audit:incr": ("GET", name),
        "audit:float": ("GET", name),
        "audit:hash": ("HGET", name, "total"),
        "audit:zset": ("ZSCORE", name, "total"),
    }
    if name in reads:
        reply = Pipe(client).ask([reads[name]])[0]
        if isinstance(reply, Exception):
            raise reply
        value = float(reply or 0)
        wanted = count / 2 if name == "audit:float" else count
        return [] if value == wanted else [f"is {value:.15g} instead of {wanted:.15g}"]
    sequences = {"audit:list": _list, "audit:head": _head, "audit:append": _appended, "audit:stream": _stream}
    return sequence_problems(sequences[name](client, name), count)


def sequence_problems(numbers: Iterable[int], count: int) -> list[str]:
    """Problems of a sequence that should be 1, 2, … ``count``. Memory: a byte per number."""
    seen = bytearray(count + 1)
    beyond: list[int] = []
    twice: list[int] = []
    disordered: list[int] = []
    last = 0
    for number in numbers:
        if not 1 <= number <= count:
            beyond.append(number)
            continue
        if seen[number]:
            twice.append(number)
        elif number < last:
            disordered.append(number)
        seen[number] = 1
        last = max(last, number)
    lost = [number for number in range(1, count + 1) if not seen[number]]
    return [
        f"{len(found)} {what}: {_few(found)}"
        for what, found in (
            ("lost", lost),
            ("applied twice", twice),
            ("out of order", disordered),
            (f"that are not among the {count} acknowledged", beyond),
        )
        if found
    ]


def _few(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:5])) + (", …" if len(numbers) > 5 else "")


def _list(client: redis.Redis, name: str) -> Iterator[int]:
    start = 0
    while part := cast("list[bytes]", client.lrange(name, start, start + 9999)):
        yield from map(int, part)
        start += len(part)


def _head(client: redis.Redis, name: str) -> Iterator[int]:
    end = -1
    while part := cast("list[bytes]", client.lrange(name, end - 9999, end)):
        yield from map(int, reversed(part))
        end -= len(part)


def _appended(client: redis.Redis, name: str) -> Iterator[int]:
    start, size = 0, WIDTH * 100_000
    while part := cast(bytes, client.getrange(name, start, start + size - 1)):
        for offset in range(0, len(part), WIDTH):
            number = part[offset : offset + WIDTH]
            yield int(number) if len(number) == WIDTH and number.isdigit() else -1
        start += len(part)


def _stream(client: redis.Redis, name: str) -> Iterator[int]:
    start = "-"
    while part := cast("list[tuple[bytes, dict[bytes, bytes]]]", client.xrange(name, start, "+", 5000)):
        for _, fields in part:
            yield int(fields[b"n"])
        moment, _, number = part[-1][0].decode().partition("-")
        # `(` for "beyond" is known from 6.2 on only.
        start = f"{moment}-{int(number) + 1}"
