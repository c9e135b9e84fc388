"""Elements of listpacks and ziplists as arguments: compiled code makes what the plain reader makes, or leaves it to that."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migrations_app.engine.abilities import Abilities
from migrations_app.engine.errors import SnapshotError
from migrations_app.engine.kernel import COMPILED, Packer, split_commands
from migrations_app.engine.protocol.resp import encode
from migrations_app.engine.rdb.packed import listpack, ziplist
from migrations_app.engine.rdb.rewrite import ListRewriter, rewriter_for

from . import build
from .fuzzing import CHANGES, CUTS, SNAPSHOT_HOSTILE, damage

EDGES = [
    0,
    12,
    13,
    127,
    128,
    4095,
    4096,
    -1,
    -4096,
    -4097,
    2**15,
    -(2**15),
    2**23,
    2**31,
    -(2**31),
    2**63 - 1,
    -(2**63),
]
ELEMENTS = st.lists(
    st.one_of(
        st.sampled_from(EDGES),
        st.integers(-(2**63), 2**63 - 1),
        st.binary(max_size=80),
        st.integers(0, 5000).map(lambda size: b"x" * size),
    ),
    max_size=40,
)


def made_listpack(elements: list[int | bytes]) -> bytes:
    out = b""
    for element in elements:
        if isinstance(element, bytes):
            size = len(element)
            head = bytes((0x80 | size,)) if size < 64 else bytes((0xE0 | size >> 8, size & 0xFF)) if size < 4096 else b"\xf0" + size.to_bytes(4, "little")  # fmt: skip
            one = head + element
        elif 0 <= element < 128:
            one = bytes((element,))
        elif -4096 <= element < 4096:
            one = bytes((0xC0 | (element & 0x1FFF) >> 8, element & 0xFF))
        else:
            size = next(size for size in (2, 3, 4, 8) if -(1 << 8 * size - 1) <= element < 1 << 8 * size - 1)
            one = bytes((0xF1 + (2, 3, 4, 8).index(size),)) + element.to_bytes(size, "little", signed=True)
        back = b""  # seven bits to a byte, the last of them first; here only their number counts
        rest = len(one)
        while True:
            back += bytes((rest & 0x7F,))
            rest >>= 7
            if not rest:
                break
        out += one + back
    return (
        (len(out) + 7).to_bytes(4, "little") + (len(elements) & 0xFFFF).to_bytes(2, "little") + out + b"\xff"
    )


def made_ziplist(elements: list[int | bytes]) -> bytes:
    out, before = b"", 0
    for element in elements:
        one = bytes((before,)) if before < 254 else b"\xfe" + before.to_bytes(4, "little")
        if isinstance(element, bytes):
            size = len(element)
            one += bytes((size,)) if size < 64 else bytes((0x40 | size >> 8, size & 0xFF)) if size < 1 << 14 else b"\x80" + size.to_bytes(4, "big")  # fmt: skip
            one += element
        elif 0 <= element <= 12:
            one += bytes((0xF1 + element,))
        else:
            size = next(
                size for size in (1, 2, 3, 4, 8) if -(1 << 8 * size - 1) <= element < 1 << 8 * size - 1
            )
            one += {1: b"\xfe", 2: b"\xc0", 3: b"\xf0", 4: b"\xd0", 8: b"\xe0"}[size] + element.to_bytes(
                size, "little", signed=True
            )
        before = len(one)
        out += one
    return bytes(10) + out + b"\xff"


def as_text(element: int | bytes) -> bytes:
    return element if isinstance(element, bytes) else b"%d" % element


@pytest.mark.parametrize("make", [made_listpack, made_ziplist])
@given(elements=ELEMENTS)
def test_every_element(make: Callable[[list[int | bytes]], bytes], elements: list[int | bytes]) -> None:
    node, packer = make(elements), Packer()
    plain = make is not made_listpack
    assert list((ziplist if plain else listpack)(node)) == [as_text(element) for element in elements]
    assert packer.pack(node, plain) is COMPILED
    if COMPILED:
        assert packer.data == b"".join(b"$%d\r\n%b\r\n" % (len(one), one) for one in map(as_text, elements))
        assert packer.count == len(elements)
        assert packer.size == sum(len(as_text(element)) for element in elements)


@given(elements=ELEMENTS, changes=CHANGES, plain=st.booleans())
def test_damage_is_left_to_the_plain_reader(
    elements: list[int | bytes], changes: list[tuple[str, int, int]], plain: bool
) -> None:
    """Where that finds none either, both make the same."""
    node = damage(
        made_ziplist(elements) if plain else made_listpack(elements),
        changes,
        [b"\xff", b"\xf0\xff\xff\xff\x7f", b"\xfe"],
    )
    packer = Packer()
    packed = packer.pack(node, plain)
    try:
        found = list((ziplist if plain else listpack)(node))
    except SnapshotError:
        assert not packed
    else:
        assert packed is COMPILED
        if packed:
            assert packer.data == b"".join(b"$%d\r\n%b\r\n" % (len(one), one) for one in found)


STRINGS = st.lists(
    st.one_of(
        st.binary(max_size=90).map(build.string),
        st.integers(-(2**31), 2**31 - 1).map(
            lambda number: build.number(
                number, 1 if -128 <= number < 128 else 2 if -(2**15) <= number < 2**15 else 4
            )
        ),
        st.sampled_from(
            [build.lzf(b"\x00a\x20\x00", 4), build.string(b"y" * 20_000), build.string(b"z" * 600_000)]
        ),
    ),
    max_size=40,
)


@pytest.mark.parametrize("kind", [1, 2, 4])
@given(strings=STRINGS, times=st.integers(1, 60), cuts=CUTS, changes=st.one_of(st.just([]), CHANGES))
@settings(deadline=None)
def test_strings_in_a_row(
    kind: int, strings: list[bytes], times: int, cuts: list[int], changes: list[tuple[str, int, int]]
) -> None:
    """Short and long ones, numbers, compressed ones, however they are cut: the same commands, word by word or packed."""
    strings = strings * times if sum(map(len, strings)) * times < 3_000_000 else strings
    strings = strings[: len(strings) // 2 * 2] or strings * 2
    value = build.length(len(strings) // (2 if kind == 4 else 1)) + b"".join(strings)
    if changes:
        value = damage(value, changes, SNAPSHOT_HOSTILE)

    def told(encoded: bool) -> list[object]:
        rewriter = rewriter_for(kind, b"key", target=Abilities((5,)), stamp=9)
        assert rewriter is not None
        rewriter.encoded = encoded and COMPILED
        made: list[object] = []
        try:
            for piece in build.pieces(value, cuts):
                made += [one if isinstance(one, bytes) else encode(*one) for one in rewriter.feed(piece)]
            made += [one if isinstance(one, bytes) else encode(*one) for one in rewriter.finish()]
        except SnapshotError as error:
            made.append(error.message)
        return made

    assert told(True) == told(False)


def test_a_node_that_is_too_large_is_left_to_it() -> None:
    assert not Packer().pack(made_listpack([b"x" * (1 << 20)]), False)


@pytest.mark.parametrize("encoded", [False, True])
def test_a_list_becomes_the_same_commands(encoded: bool) -> None:
    """Packed nodes, plain ones, and one that compiled code leaves alone, between each other."""
    nodes = [
        (2, made_listpack([b"%d" % number for number in range(700)])),
        (1, b"plain" * 30_000),
        (2, made_listpack([b"y" * 1_100_000])),
        (2, made_listpack(list(range(-300, 300)))),
    ]
    value = build.length(len(nodes)) + b"".join(
        build.length(container) + build.string(node) for container, node in nodes
    )

    def commands() -> Iterator[bytes]:
        rewriter = rewriter_for(18, b"key", target=Abilities((5,)), stamp=9)
        assert isinstance(rewriter, ListRewriter)
        rewriter.encoded = encoded
        for command in [*rewriter.feed(value[:100_000]), *rewriter.feed(value[100_000:]), *rewriter.finish()]:
            yield command if isinstance(command, bytes) else encode(*command)

    made = list(commands())
    elements = [word for command in made for word in split_commands(command)[0][2:]]
    assert elements == [
        *(b"%d" % number for number in range(700)), b"plain" * 30_000, b"y" * 1_100_000, *(b"%d" % number for number in range(-300, 300)),
    ]  # fmt: skip
    assert len(made) == 4


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize(("kind", "make"), [(14, made_ziplist), (18, made_listpack)])
@pytest.mark.parametrize("beside", [[], [b"one"], [b"%d" % number for number in range(512)]], ids=len)
def test_an_empty_node_makes_no_command(
    encoded: bool, kind: int, make: Callable[[list[int | bytes]], bytes], beside: list[bytes]
) -> None:
    """By itself, and between others, also where a command has just become full. `RPUSH key` alone is an error at the target."""
    nodes = [make([]), make([*beside]), make([])]
    value = build.length(len(nodes)) + b"".join(
        (build.length(2) if kind == 18 else b"") + build.string(node) for node in nodes
    )
    rewriter = rewriter_for(kind, b"key", target=Abilities((5,)), stamp=9)
    assert isinstance(rewriter, ListRewriter)
    rewriter.encoded = encoded
    made = [
        split_commands(command)[0] if isinstance(command, bytes) else command
        for command in [*rewriter.feed(value), *rewriter.finish()]
    ]
    assert made == ([[b"RPUSH", b"key", *beside]] if beside else [])
