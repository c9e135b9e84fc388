"""Which servers `make servers` has fetched, and what to do about one that is not there."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

PLACE = Path(__file__).resolve().parents[2] / ".servers"
missing: dict[str, int] = {}  # asked for and not there → how often; named in the summary of the run


def available(product: str = "", place: Path = PLACE) -> list[str]:
    """`redis-5.0.10`, `redis-7.0.15`, …: names by product and version, oldest first."""
    names = [path.parent.parent.name for path in place.glob("*/bin/server")]
    return sorted(
        (name for name in names if not product or name.rpartition("-")[0] == product), key=by_version
    )


def by_version(name: str) -> tuple[str, tuple[int, ...]]:
    product, _, version = name.rpartition("-")
    return product, tuple(int(part) for part in re.findall(r"\d+", version))


def find(prefix: str, place: Path = PLACE) -> str | None:
    """The newest server that fits: `redis-7` takes 7.4.1 before 7.0.15, `redis-7.0` does not take 7.4.1."""
    fits = re.compile(re.escape(prefix) + r"(?:$|[-.])")
    return next((name for name in reversed(available(place=place)) if fits.match(name)), None)


def require(prefix: str) -> str:
    """The name of the server that fits; skips the test if there is none, and fails it in CI."""
    if name := find(prefix):
        return name
    missing[prefix] = missing.get(prefix, 0) + 1
    reason = f"no {prefix} in .servers (`make servers` says why)"
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def program(prefix: str, name: str = "server") -> Path:
    """The path of a program of a server that fits, for example `program("chromium", "chromium")`."""
    return PLACE / require(prefix) / "bin" / name
