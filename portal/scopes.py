"""What a token of the HTTP API may be allowed to do. Apps add theirs when they are ready (`register`)."""

from __future__ import annotations

_scopes: dict[str, str] = {}


def register(name: str, label: str) -> None:
    """`name` is `noun:read` or `noun:write`; writing includes reading of the same noun."""
    _scopes[name] = label


def choices() -> list[tuple[str, str]]:
    return sorted(_scopes.items())


def is_known(name: str) -> bool:
    return name in _scopes


def covers(granted: list[str], wanted: str) -> bool:
    """Whether one of the granted scopes is, or includes, the wanted one."""
    noun, _, verb = wanted.partition(":")
    return wanted in granted or (verb == "read" and f"{noun}:write" in granted)


register("fleet:read", "See instances")
register("fleet:write", "Change instances")
