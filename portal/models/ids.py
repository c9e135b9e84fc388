"""Public identifiers: what people read out, copy and put into commands. They tell nothing about the row."""

from __future__ import annotations

import secrets

ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # lower case, without the letters and digits that look alike
LENGTH = 8


def public_id(prefix: str) -> str:
    """`prefix-xxxxxxxx`: 8 random characters of ALPHABET, 31⁸ ≈ 8.5 × 10¹¹ values. The column's UNIQUE decides."""
    return f"{prefix}-{''.join(secrets.choice(ALPHABET) for _ in range(LENGTH))}"


def account_id() -> str:
    return public_id("acc")


def instance_id() -> str:
    return public_id("r")
