"""What the fuzz tests share: real input of several servers, ways to damage it, and the kernel twice, compiled and interpreted.

Every damaged input has one of two outcomes: a result, or an `EngineError`. Anything else (another exception, a length that is
believed and allocated, a loop without end) fails the test. Both kernels run on every input, in the same pieces, and must agree on
everything they give: bytes, counts, the error's type and its message.

A run is the same each time. `SWITCHYARD_TEST_SEEDS` (`make test SEEDS=20000`) asks for as many examples, of another choice each time.
An input that ends the process (a read beyond a buffer) is the file `last-input` in pytest's folder of temporary files. `tests/fuzz`
looks for such inputs by coverage, with the same runs and the same judgement.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import os
import resource
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from migrations_app.engine import kernel as kernel_in_use
from migrations_app.engine.errors import EngineError
from migrations_app.engine.kernel import split_commands
from migrations_app.engine.protocol.psync import FullResync
from migrations_app.engine.protocol.resp import ReplyReader, encode
from migrations_app.engine.rdb import rewrite as rewrite_in_use
from tests.support.servers import Server

from .recording import Player, prepare, record

SEEDS = int(os.environ.get("SWITCHYARD_TEST_SEEDS") or 0)
_HEADROOM = 512 << 20  # bytes of address space that a run may take beyond what the process has


def examples(usual: int) -> settings:
    """Settings of a fuzz test that takes `usual` examples where nobody asks for more."""
    return settings(
        deadline=None,
        max_examples=SEEDS or usual,
        derandomize=not SEEDS,
        database=None,
        print_blob=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


# --- the kernel, twice ------------------------------------------------------------------------------------------------


class World(NamedTuple):
    """A kernel and what is built on it."""

    name: str
    kernel: Any
    rewriter_for: Callable[..., Any]


@functools.cache
def worlds() -> list[World]:
    """The interpreted kernel, and the compiled one where there is one."""
    found = [_interpreted()]
    if kernel_in_use.COMPILED:
        found.append(World("compiled", kernel_in_use, rewrite_in_use.rewriter_for))
    return found


def _interpreted() -> World:
    """kernel.py itself and fresh copies of the modules on top of it, beside the ones that are loaded."""
    name, folder = "migrations_app.engine.kernel", Path(kernel_in_use.__file__).parent
    above = "migrations_app.engine.rdb"
    saved = {key: module for key, module in sys.modules.items() if key == name or key.startswith(above)}
    for key in saved:
        del sys.modules[key]
    try:
        loader = SourceFileLoader(name, str(folder / "kernel.py"))
        spec = importlib.util.spec_from_loader(name, loader)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        loader.exec_module(module)
        rewrite = importlib.import_module(f"{above}.rewrite")
    finally:
        for key in [key for key in sys.modules if key == name or key.startswith(above)]:
            del sys.modules[key]
        sys.modules.update(saved)
        for key, before in saved.items():  # the packages name them, too
            parent, _, child = key.rpartition(".")
            setattr(sys.modules[parent], child, before)
    assert module is not kernel_in_use and not module.COMPILED
    return World("interpreted", module, rewrite.rewriter_for)


Told = list[Any]  # tuples


def told(run: Callable[[World], Iterator[tuple[object, ...]]], world: World) -> Told:
    """What a run gives, step by step; an `EngineError` is its last step."""
    steps: Told = []
    try:
        with bounded():
            steps.extend(run(world))
    except EngineError as error:
        steps.append(("error", type(error).__name__, error.message))
    return steps


def agreed(run: Callable[[World], Iterator[tuple[object, ...]]], data: bytes) -> Told:
    """Run it on every kernel; they tell the same. `data` is the input, for the report of a failure."""
    keep(data)
    try:
        results = [(world.name, told(run, world)) for world in worlds()]
        first_name, first = results[0]
        for name, steps in results[1:]:
            for number, (one, other) in enumerate(zip(first, steps, strict=False)):
                assert one == other, f"step {number}: {first_name} and {name} differ"
            assert len(first) == len(steps), f"{first_name} and {name} end at different steps"
    except Exception as error:
        error.add_note(f"input: {data.hex() if len(data) < 8000 else f'{len(data)} bytes'}")
        raise
    return first


def failed(steps: Told) -> bool:
    return bool(steps and steps[-1][0] == "error")


_last_input: int | None = None


def keep_inputs_in(folder: Path) -> None:
    """Where an input is found that has ended the process."""
    global _last_input
    _last_input = os.open(folder / "last-input", os.O_WRONLY | os.O_CREAT, 0o600)


def keep(data: bytes) -> None:
    if _last_input is not None:
        os.truncate(_last_input, 0)
        os.pwrite(_last_input, data, 0)


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """A length that is believed and allocated is a `MemoryError`, in C as well as in Python."""
    if not sys.platform.startswith("linux"):
        yield
        return
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size + _HEADROOM, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


NOW = 1_700_000_000_000


@contextlib.contextmanager
def fixed_clock() -> Iterator[None]:
    """Targets that take no absolute expiry get what is left of it: the same for both kernels."""
    with mock.patch("time.time_ns", return_value=NOW * 1_000_000):
        yield


# --- damage ---------------------------------------------------------------------------------------------------------------

_NUMBERS = [
    0, 1, 63, 64, 0x3FFF, 0x4000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, 0xFFFFFFFF, 1 << 32, (1 << 40) - 1, 1 << 40, (1 << 40) + 1,
    (1 << 62) + 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 24, (1 << 64) - 9, (1 << 64) - 1,
]  # fmt: skip
# Lengths of the snapshot's format, in every form; compressed strings that claim everything; opcodes and type bytes.
SNAPSHOT_HOSTILE = [
    *(b"\x81" + number.to_bytes(8, "big") for number in _NUMBERS),
    *(b"\x80" + (number & 0xFFFFFFFF).to_bytes(4, "big") for number in _NUMBERS[:10]),
    *(b"\xc3" + packed + plain for packed in (b"\x00", b"\x05", b"\x81" + b"\xff" * 8, b"\x80\xff\xff\xff\xff")
      for plain in (b"\x00", b"\x7f\xff", b"\x81\x00\x00\x01" + b"\x00" * 5, b"\x81" + b"\xff" * 8)),
    *(bytes((byte,)) for byte in (0x3F, 0x40, 0x7F, 0x80, 0x81, 0x82, 0xBF, 0xC0, 0xC1, 0xC2, 0xC3, 0xC4, *range(0xF0, 0x100))),
    *(bytes((kind,)) for kind in range(30)),
    b"\xfc" + b"\xff" * 8, b"\xfc" + b"\xff" * 7 + b"\x7f", b"\xfd\xff\xff\xff\xff", b"\xf8\x81" + b"\xff" * 8, b"\xf9\xff",
    b"\xfe\x81" + b"\xff" * 8, b"\xfe\x0f", b"\xff" + b"\x00" * 8,
]  # fmt: skip
RESP_HOSTILE = [
    *(b"%b%d\r\n" % (kind, number) for kind in (b"$", b"*") for number in (-(1 << 63), -2, -1, *_NUMBERS, 10**18, 10**19, 10**30)),
    b"$+5\r\n", b"$ 5\r\n", b"$5 \r\n", b"$1_0\r\n", b"$\r\n", b"*\r\n", b"$-\r\n", b"*-0\r\n", b"$0x5\r\n", b"$\xd9\xa1\r\n", b"$\xb2\r\n",
    b"*00000000000000000000000000001\r\n", b"$0\r\n\r\n", b"\r\n", b"\n", b"\r", b"\0", b"PING\r\n", b"+OK\r\n", b":1\r\n", b"-ERR\r\n",
    b"$1000000\r\n", b"*1000000\r\n", b"*1\r\n*1\r\n*1\r\n", b"*1\r\n" * 40, b"\xff" * 70, b"x" * 70,
    b"*3\r\n$3\r\nSET\r\n$20\r\n", b"*3\r\n$3\r\nset\r\n$10\r\nswitchyard\r\n", b"*1\r\n$5\r\nMULTI\r\n", b"*1\r\n$4\r\nEXEC\r\n",
    b"*2\r\n$6\r\nSELECT\r\n$12\r\n999999999999\r\n", b"*1\r\n$6\r\nSELECT\r\n", b"*2\r\n$6\r\nSELECT\r\n$2\r\n-1\r\n", b"*1\r\n$0\r\n\r\n",
]  # fmt: skip

Change = tuple[str, int, int]
_PLACE = st.integers(0, 1 << 20)
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("flip"), _PLACE, st.integers(0, 7)),
        st.tuples(st.just("byte"), _PLACE, st.integers(0, 255)),
        st.tuples(st.just("lose"), _PLACE, st.integers(1, 40)),
        st.tuples(st.just("double"), _PLACE, st.integers(1, 200)),
        st.tuples(st.just("insert"), _PLACE, st.integers(0, 1 << 16)),
        st.tuples(st.just("overwrite"), _PLACE, st.integers(0, 1 << 16)),
        st.tuples(st.just("move"), _PLACE, _PLACE),
        st.tuples(st.just("end"), _PLACE, st.just(0)),
    ),
    min_size=1,
    max_size=5,
)
CUTS = st.lists(_PLACE, max_size=12)


def damage(data: bytes, changes: Sequence[Change], hostile: Sequence[bytes]) -> bytes:
    """`data` with these changes, never empty; places are taken modulo its length."""
    out = bytearray(data)
    for kind, place, number in changes:
        at = place % (len(out) + 1)
        piece = hostile[number % len(hostile)]
        if kind == "flip" and at < len(out):
            out[at] ^= 1 << number
        elif kind == "byte" and at < len(out):
            out[at] = number
        elif kind == "lose":
            del out[at : at + number]
        elif kind == "double":
            out[at:at] = out[at : at + number]
        elif kind == "insert":
            out[at:at] = piece
        elif kind == "overwrite":
            out[at : at + len(piece)] = piece
        elif kind == "move":
            size = number % 60
            out[number % (len(out) + 1) : number % (len(out) + 1)] = out[at : at + size]
        elif kind == "end":
            del out[at:]
    return bytes(out) or hostile[0]


# --- real input -----------------------------------------------------------------------------------------------------------


class Value(NamedTuple):
    """A value as a server serialises it in a snapshot."""

    kind: int
    data: bytes
    valkey: bool


class Corpus(list[Any]):
    """Real input. A failed example is shown with it, so briefly."""

    def __repr__(self) -> str:
        return f"<{len(self)} of them>"


def values_of(server: Server) -> list[Value]:
    """The values that DUMP gives of the demo's corner cases: of each type byte some, the large ones left out."""
    prepare(server)
    found: dict[tuple[int, int], list[Value]] = {}
    valkey = server.product == "valkey"
    for database in (0, 3):
        with server.client(db=database) as client:
            for key in sorted(client.scan_iter(count=1000)):
                payload = client.dump(key)
                if payload is None or len(payload) > 4000:
                    continue
                value = Value(payload[0], payload[1:-10], valkey)
                alike = found.setdefault((value.kind, len(value.data).bit_length()), [])
                if len(alike) < 4:
                    alike.append(value)
    return [value for alike in found.values() for value in alike]


def commands_of(server: Server) -> list[bytes]:
    """The stream of a server while the demo's writer works on it, command by command."""
    recording = record(server, commands=600)
    (full,) = (event for event in Player().play([recording.data]).events if isinstance(event, FullResync))
    stream = recording.data[full.offset - recording.offset :]
    commands = [encode(*args) for args in split_commands(stream)]
    assert b"".join(commands) == stream, "servers write commands in one form only"
    return [command for command in commands if len(command) < 2000]


_QUESTIONS: list[tuple[object, ...]] = [
    ("PING",), ("SET", "k", "v"), ("INCR", "n"), ("GET", "k"), ("GET", "missing"), ("GET", "n", "too many"), ("RPUSH", "l", *range(30)),
    ("LRANGE", "l", 0, -1), ("LRANGE", "missing", 0, -1), ("LPUSH", "k", 1), ("SCAN", 0), ("COMMAND",), ("INFO",), ("MULTI",), ("SET", "a", 1),
    ("LPUSH", "k", 1), ("LRANGE", "l", 0, 5), ("EXEC",), ("CONFIG", "GET", "*max*"), ("TIME",), ("XADD", "s", "*", "f", "v"),
    ("XRANGE", "s", "-", "+"), ("SETRANGE", "big", 3000, "\r\n-ERR in a string\r\n"), ("GET", "big"), ("EVAL", "return {1,{2,{3,'x',false}},{}}", 0),
    ("NOSUCH",), ("WATCH", "n"), ("DEBUG", "SLEEP", 0), ("CLIENT", "LIST"), ("DUMP", "l"), ("EXISTS", "k"), ("BLPOP", "missing", 0.01),
]  # fmt: skip


def replies_of(server: Server) -> list[bytes]:
    """What a server answers to all kinds of commands, reply by reply."""
    replies = []
    with socket.create_connection(server.address, 20) as sock:
        for question in _QUESTIONS:
            sock.sendall(encode(*question))
            reader, data = ReplyReader(), b""
            while not (data and reader.pending is False):
                piece = sock.recv(1 << 20)
                assert piece, "the server closed the connection"
                reader.feed(piece)
                data += piece
            replies.append(data)
    return replies
