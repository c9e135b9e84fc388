"""Which keys a link copies, by name: prefixes and glob patterns. Pure.

A pattern means what it means to the server (`KEYS`, `SCAN … MATCH`; `stringmatchlen` of util.c): `*`, `?`, `[abc]`, `[a-z]`, `[^a]`,
and `\\` before a character that stands for itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from migrations_app.engine.errors import UsageError


@dataclass(frozen=True, slots=True)
class KeyFilter:
    """A key is wanted that has one of the included prefixes or fits one of the included patterns (without any: every key), and none
    of the excluded ones. Raises `UsageError` for an empty prefix or pattern."""

    include_prefixes: tuple[bytes, ...] = ()
    include_patterns: tuple[bytes, ...] = ()
    exclude_prefixes: tuple[bytes, ...] = ()
    exclude_patterns: tuple[bytes, ...] = ()
    _include: re.Pattern[bytes] | None = field(init=False, repr=False, compare=False)
    _exclude: re.Pattern[bytes] | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        given = (self.include_prefixes, self.include_patterns, self.exclude_prefixes, self.exclude_patterns)
        if any(not word for words in given for word in words):
            raise UsageError(
                "a prefix or pattern of keys is empty; leave it out to choose all keys. Nothing was changed"
            )
        object.__setattr__(self, "_include", _union(self.include_prefixes, self.include_patterns))
        object.__setattr__(self, "_exclude", _union(self.exclude_prefixes, self.exclude_patterns))

    def __bool__(self) -> bool:
        """Whether it leaves out any key."""
        return self._include is not None or self._exclude is not None

    def wants(self, key: bytes) -> bool:
        return (self._include is None or self._include.match(key) is not None) and (
            self._exclude is None or self._exclude.match(key) is None
        )


def _union(prefixes: tuple[bytes, ...], patterns: tuple[bytes, ...]) -> re.Pattern[bytes] | None:
    alternatives = [re.escape(prefix) for prefix in prefixes] + [_expression(pattern) for pattern in patterns]
    return re.compile(b"|".join(b"(?:%b)" % one for one in alternatives), re.DOTALL) if alternatives else None


def _expression(pattern: bytes) -> bytes:
    """A glob pattern as a regular expression that matches the whole key.

    What stands between two `*` is taken where it is first found and never looked for again (an atomic group), so that the time is
    bounded by the length of the key, whatever the pattern.
    """
    pieces: list[list[bytes]] = [[]]
    pos, end = 0, len(pattern)
    while pos < end:
        byte = pattern[pos : pos + 1]
        pos += 1
        if byte == b"*":
            pieces.append([])
        elif byte == b"?":
            pieces[-1].append(b".")
        elif byte == b"[":
            expression, pos = _class(pattern, pos)
            pieces[-1].append(expression)
        else:
            if byte == b"\\" and pos < end:
                byte = pattern[pos : pos + 1]
                pos += 1
            pieces[-1].append(re.escape(byte))
    first, *rest = [b"".join(piece) for piece in pieces]
    if not rest:
        return first + rb"\Z"
    *middle, last = rest
    return first + b"".join(b"(?>.*?%b)" % piece for piece in middle if piece) + b".*" + last + rb"\Z"


def _class(pattern: bytes, pos: int) -> tuple[bytes, int]:
    """The characters in brackets, from behind the opening one → (expression, position behind the closing one).

    As the server reads them: a class that is not closed ends with the pattern, `]` closes it wherever it stands, a range may be
    given from either end.
    """
    end = len(pattern)
    negated = pattern[pos : pos + 1] == b"^"
    pos += negated
    members: set[int] = set()
    while pos < end and pattern[pos] != 0x5D:
        if pattern[pos] == 0x5C and pos + 1 < end:
            members.add(pattern[pos + 1])
            pos += 2
        elif pos + 2 < end and pattern[pos + 1] == 0x2D:
            low, high = sorted((pattern[pos], pattern[pos + 2]))
            members.update(range(low, high + 1))
            pos += 3
        else:
            members.add(pattern[pos])
            pos += 1
    if negated:
        members = set(range(256)) - members
    if not members:
        return b"(?!)", pos + 1
    return b"[%b]" % b"".join(rb"\x%02x" % member for member in sorted(members)), pos + 1
