"""Lengths, strings, compression and checksum of snapshots: what is read, and that damage never reads outside of the buffer."""

from __future__ import annotations

import contextlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrations_app.engine.errors import SnapshotError
from migrations_app.engine.kernel import (
    crc64,
    lzf_decompress,
    read_length,
    read_string,
    skip_strings,
    string_extent,
)

from . import build


def test_the_checksum_is_that_of_redis() -> None:
    """The check value that crc64.c of Redis states, and that a sum can be taken in parts."""
    assert crc64(b"123456789") == 0xE9C6D914C4B8D9CA
    assert crc64(b"56789", crc64(b"1234")) == crc64(b"123456789")
    assert crc64(b"") == 0
    assert crc64(memoryview(bytearray(b"123456789"))) == 0xE9C6D914C4B8D9CA


@pytest.mark.parametrize(
    "number", [0, 1, 62, 63, 64, 65, 16383, 16384, 2**31, 2**32 - 1, 2**32, 2**63, 2**64 - 1]
)
def test_every_form_of_a_length_is_read(number: int) -> None:
    data = build.length(number)
    assert read_length(data + b"tail", 0, len(data) + 4) == (number, len(data))
    for end in range(len(data)):
        assert read_length(data, 0, end) == (0, -1), "an incomplete length is waited for"


@pytest.mark.parametrize("first", [*range(0x82, 0xC0), *range(0xC0, 0x100)])
def test_a_byte_that_begins_no_length_is_damage(first: int) -> None:
    with pytest.raises(SnapshotError, match=f"0x{first:02x}"):
        read_length(bytes((first,)) * 9, 0, 9)


@pytest.mark.parametrize(
    ("data", "content"),
    [
        (build.string(b""), b""),
        (build.string(b"x" * 63), b"x" * 63),
        (build.string(b"x" * 64), b"x" * 64),
        (build.string(b"x" * 16384), b"x" * 16384),
        (build.number(-128, 1), b"-128"),
        (build.number(127, 1), b"127"),
        (build.number(-32768, 2), b"-32768"),
        (build.number(2**31 - 1, 4), b"2147483647"),
        (build.lzf(b"\x02abc", 3), b"abc"),
        (build.lzf(b"\x00a\xe0\xff\x00", 265), b"a" * 265),
    ],
)
def test_every_form_of_a_string_is_read(data: bytes, content: bytes) -> None:
    """Also behind other bytes, and not before its last byte is there."""
    buffer = b"head" + data
    assert read_string(buffer + b"tail", 4, len(buffer) + 4) == (content, len(buffer))
    for end in range(4, len(buffer)):
        assert read_string(buffer[:end], 4, end) == (b"", -1)
        assert skip_strings(buffer[:end], 4, end, 1) == (4, 1)
    assert skip_strings(buffer, 4, len(buffer), 1) == (len(buffer), 0)


def test_the_extent_of_a_string_is_known_before_its_content() -> None:
    data = build.string(b"x" * 100_000)[:5]
    assert string_extent(data, 0, len(data)) == (5, 100_005)
    assert string_extent(b"", 0, 0) == (0, -1)


@pytest.mark.parametrize(
    "data",
    [
        build.length(2**63),
        build.length(2**64 - 1),
        b"\xc3" + build.lengths(2**50, 5),
        b"\xc3" + build.lengths(5, 2**50),
        b"\xc4",
        b"\xff",
    ],
)
def test_an_impossible_string_is_damage_and_not_waited_for(data: bytes) -> None:
    with pytest.raises(SnapshotError):
        string_extent(data, 0, len(data))


def test_the_buffer_ends_where_the_caller_says() -> None:
    """Bytes behind `end` are of no interest, even if they would complete the string."""
    data = build.strings(b"abc", b"defg")
    assert skip_strings(data, 0, 6, 2) == (4, 1)
    assert read_string(data, 4, 6) == (b"", -1)


def compress(data: bytes) -> bytes:
    """LZF, simply and badly: every match of three bytes that a short look back finds. For tests alone."""
    out, literal, pos = bytearray(), bytearray(), 0

    def flush() -> None:
        while literal:
            part = bytes(literal[:32])
            out.append(len(part) - 1)
            out.extend(part)
            del literal[:32]

    while pos < len(data):
        best, back = 0, 0
        for start in range(max(0, pos - 300), pos):
            run = 0
            while run < 264 and pos + run < len(data) and data[start + run] == data[pos + run]:
                run += 1  # may go on beyond `pos`: an overlapping copy
            if run > best:
                best, back = run, pos - start - 1
        if best < 3:
            literal.append(data[pos])
            pos += 1
            continue
        flush()
        if best - 2 < 7:
            out += bytes(((best - 2) << 5 | back >> 8, back & 0xFF))
        else:
            out += bytes((7 << 5 | back >> 8, best - 9, back & 0xFF))
        pos += best
    flush()
    return bytes(out)


@given(
    st.lists(st.sampled_from([b"a", b"ab", b"\0" * 40, b"stop full stop ", b"\xff"]), max_size=40).map(
        b"".join
    )
)
def test_what_was_compressed_comes_out_again(data: bytes) -> None:
    """With copies that overlap what they write."""
    assert lzf_decompress(compress(data), len(data)) == data


def test_copies_may_overlap() -> None:
    assert lzf_decompress(b"\x00a\x20\x00", 4) == b"aaaa"
    assert lzf_decompress(b"\x01ab\x60\x01", 7) == b"abababa"
    assert lzf_decompress(b"\x02abc\x20\x02", 6) == b"abcabc"


@pytest.mark.parametrize(
    ("packed", "plain"),
    [
        (b"\x20\x00", 3),  # copies what is before the beginning
        (b"\x00a\x20\x01", 4),
        (b"\x00a\x20", 4),  # ends in the middle of a copy
        (b"\x00a\xe0", 10),
        (b"\x05ab", 6),  # ends in the middle of its literal bytes
        (b"\x02abc", 2),  # longer than it says
        (b"\x02abc", 4),  # shorter
        (b"\x00a\xe0\xff\x00", 100),
        (b"", 1),
    ],
)
def test_damaged_compression_is_refused(packed: bytes, plain: int) -> None:
    with pytest.raises(SnapshotError):
        lzf_decompress(packed, plain)


@given(st.binary(max_size=300), st.integers(0, 2000))
def test_any_bytes_decompress_or_are_refused(packed: bytes, plain: int) -> None:
    """And never to more than was announced."""
    with contextlib.suppress(SnapshotError):
        assert len(lzf_decompress(packed, plain)) == plain


@given(st.binary(max_size=64), st.integers(0, 70), st.integers(0, 70), st.integers(0, 5))
def test_any_bytes_are_read_inside_of_the_buffer(data: bytes, pos: int, end: int, count: int) -> None:
    end = min(end, len(data))
    for read in (read_length, string_extent, read_string):
        try:
            _, behind = read(data, pos, end)
        except SnapshotError:
            continue
        if read is not string_extent:
            assert behind == -1 or pos < behind <= end
    try:
        stop, left = skip_strings(data, pos, end, count)
    except SnapshotError:
        return
    assert 0 <= left <= count
    assert stop == pos or stop <= end


def test_random_integers_survive_each_width() -> None:
    source = random.Random(7)
    for size in (1, 2, 4):
        for _ in range(200):
            value = source.randrange(-(1 << 8 * size - 1), 1 << 8 * size - 1)
            data = build.number(value, size)
            assert read_string(data, 0, len(data)) == (b"%d" % value, 1 + size)
