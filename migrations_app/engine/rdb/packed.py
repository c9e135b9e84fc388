"""Ziplists and listpacks: the packed forms in which servers keep small collections and the nodes of large ones.

Formats: `ziplist.c` and `listpack.c` of Redis and Valkey, read as descriptions. Damage raises `SnapshotError`.
"""

from __future__ import annotations

from collections.abc import Iterator

from migrations_app.engine.errors import SnapshotError


def listpack(data: bytes) -> Iterator[bytes]:
    """The elements of a listpack, integers as decimal digits."""
    pos, end = 6, len(data)
    try:
        while (first := data[pos]) != 0xFF:
            start = pos
            if first < 0x80:
                yield b"%d" % first
                pos += 1
            elif first < 0xC0:
                pos = start + 1 + (first & 0x3F)
                yield data[start + 1 : pos]
            elif first < 0xE0:
                number = (first & 0x1F) << 8 | data[start + 1]
                yield b"%d" % (number - 0x2000 if number >= 0x1000 else number)
                pos = start + 2
            elif first < 0xF0:
                pos = start + 2 + ((first & 0x0F) << 8 | data[start + 1])
                yield data[start + 2 : pos]
            elif first == 0xF0:
                pos = start + 5 + int.from_bytes(data[start + 1 : start + 5], "little")
                yield data[start + 5 : pos]
            elif first <= 0xF4:
                size = (2, 3, 4, 8)[first - 0xF1]
                pos = start + 1 + size
                yield b"%d" % int.from_bytes(data[start + 1 : pos], "little", signed=True)
            else:
                raise SnapshotError(f"the snapshot is damaged: listpack element 0x{first:02x} does not exist")
            pos += _back_length(pos - start)
            if pos >= end:
                raise IndexError
    except IndexError:
        raise SnapshotError("the snapshot is damaged: a listpack is cut short") from None


def _back_length(size: int) -> int:
    """How many bytes the length of an element takes behind it."""
    if size <= 127:
        return 1
    if size < 16383:
        return 2
    if size < 2097151:
        return 3
    return 4 if size < 268435455 else 5


def ziplist(data: bytes) -> Iterator[bytes]:
    """The elements of a ziplist, integers as decimal digits."""
    pos, end = 10, len(data)
    try:
        while data[pos] != 0xFF:
            pos += 5 if data[pos] == 0xFE else 1  # length of the element before
            first = data[pos]
            if first < 0x40:
                start, stop = pos + 1, pos + 1 + first
            elif first < 0x80:
                start = pos + 2
                stop = start + ((first & 0x3F) << 8 | data[pos + 1])
            elif first < 0xC0:
                start = pos + 5
                stop = start + int.from_bytes(data[pos + 1 : start], "big")
            elif 0xF1 <= first <= 0xFD:
                yield b"%d" % ((first & 0x0F) - 1)
                pos += 1
                continue
            else:
                size = {0xC0: 2, 0xD0: 4, 0xE0: 8, 0xF0: 3, 0xFE: 1}.get(first)
                if size is None:
                    raise SnapshotError(
                        f"the snapshot is damaged: ziplist element 0x{first:02x} does not exist"
                    )
                yield b"%d" % int.from_bytes(data[pos + 1 : pos + 1 + size], "little", signed=True)
                pos += 1 + size
                continue
            if stop >= end:
                raise IndexError
            yield data[start:stop]
            pos = stop
    except IndexError:
        raise SnapshotError("the snapshot is damaged: a ziplist is cut short") from None
