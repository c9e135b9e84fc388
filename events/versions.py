"""Versions as numbers with dots: which is later (R13). Pure."""

from __future__ import annotations

import re
from typing import Final

FORM: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9}){0,4}")


def is_version(text: str) -> bool:
    """`7`, `7.2`, `7.2.5`."""
    return FORM.fullmatch(text) is not None


def numbers(text: str) -> tuple[int, ...]:
    """What the text begins with, without zeros at its end, so that 7.2 and 7.2.0 are equal: `7.2.5-rc1` is (7, 2, 5)."""
    match = FORM.match(text.strip())
    found = [int(part) for part in match[0].split(".")] if match else []
    while found and not found[-1]:
        found.pop()
    return tuple(found)


def same_major(text: str, other: str) -> bool:
    """Of the same first number: 7.2 and 7.4, but not 6.2 and 7.2. Versions that are not known are of none."""
    return bool(numbers(text)) and numbers(text)[:1] == numbers(other)[:1]


def is_later(text: str, than: str) -> bool:
    """7.2.10 is later than 7.2.9, and 7.2.1 than 7.2."""
    return numbers(text) > numbers(than)
