"""Numbers and lists as the findings say them."""

from __future__ import annotations

from collections.abc import Iterable


def listed(words: Iterable[object], most: int = 5) -> str:
    """`a, b and c`, or `a, b, c, d, e and 3 more`."""
    all_ = [str(word) for word in words]
    shown = all_[:most]
    if len(all_) > most:
        return f"{', '.join(shown)} and {len(all_) - most:,} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else "".join(shown)


def size(count: float) -> str:
    """Bytes: `512 bytes`, `1.5 MiB`, `12 GiB`."""
    value = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if abs(value) < 1024 or unit == "TiB":
            break
        value /= 1024
    if unit == "bytes":
        return f"{value:.0f} bytes"
    return f"{value:.0f} {unit}" if value >= 10 or value == int(value) else f"{value:.1f} {unit}"


def counted(count: int, one: str, many: str = "") -> str:
    """`1 key`, `1,200 keys`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3 h`, `2 days`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 72 * 3600 else f"{seconds / 86400:.0f} days"


def named(key: bytes, most: int = 64) -> str:
    """The name of a key, shortened: as text where it is text, else with escapes."""
    text = key[:most].decode("utf-8", "replace")
    shown = text if text.isprintable() and "\ufffd" not in text else repr(key[:most])[2:-1]
    return f"“{shown}{'…' if len(key) > most else ''}”"
