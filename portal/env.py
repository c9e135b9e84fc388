"""Reading settings from the environment.

Every setting `NAME` may also be given as `NAME_FILE`, the path of a file that holds the value (Docker and
systemd hand out secrets that way). `NAME_FILE` wins only when `NAME` is absent; both at once is refused,
because one of them would be ignored in silence.
"""

from __future__ import annotations

import os
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

TRUE = frozenset({"1", "true", "yes", "on"})
FALSE = frozenset({"0", "false", "no", "off", ""})


def text(name: str, default: str = "") -> str:
    """The value of `name` (or of the file that `name_FILE` names) without surrounding white space."""
    value = os.environ.get(name)
    path = os.environ.get(f"{name}_FILE")
    if value is not None and path:
        raise ImproperlyConfigured(f"Both {name} and {name}_FILE are set. Set one of them.")
    if value is None and path:
        try:
            value = Path(path).read_text(encoding="utf-8")
        except OSError as error:
            raise ImproperlyConfigured(
                f"{name}_FILE names {path}, which cannot be read: {error.strerror}."
            ) from error
    return default if value is None else value.strip()


def flag(name: str, default: bool) -> bool:
    """`1/true/yes/on` or `0/false/no/off`, in any case."""
    value = text(name, "on" if default else "off").lower()
    if value in TRUE:
        return True
    if value in FALSE:
        return False
    raise ImproperlyConfigured(f"{name} is {value!r}. Set it to on or off.")


def number(name: str, default: int) -> int:
    value = text(name, str(default))
    try:
        return int(value)
    except ValueError as error:
        raise ImproperlyConfigured(f"{name} is {value!r}. Set it to a whole number.") from error


def words(name: str, default: str = "") -> list[str]:
    """A comma-separated list; empty parts are dropped."""
    return [word for part in text(name, default).split(",") if (word := part.strip())]


def numbers(name: str, default: str = "") -> list[int]:
    """A comma-separated list of whole numbers."""
    try:
        return [int(word) for word in words(name, default)]
    except ValueError as error:
        raise ImproperlyConfigured(
            f"{name} is {text(name, default)!r}. Set it to whole numbers, separated by commas."
        ) from error


def one_of(name: str, allowed: tuple[str, ...], default: str) -> str:
    value = text(name, default).lower()
    if value not in allowed:
        raise ImproperlyConfigured(f"{name} is {value!r}. Set it to one of: {', '.join(allowed)}.")
    return value


def data_dir() -> Path:
    """Where Switchyard keeps its files: SWITCHYARD_DATA_DIR, else the XDG data directory of the user."""
    given = text("SWITCHYARD_DATA_DIR")
    if given:
        return Path(given).expanduser().resolve()
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser() / "switchyard"
