"""Which versions are served, and what becomes of the commands that an older target lacks (R40, R52, R96). One table.

`docs/compatibility.md` says the same; `tests/migrations_app/precheck/test_versions.py` holds the two together.
"""

from __future__ import annotations

from typing import Final

from migrations_app.engine.abilities import Abilities
from migrations_app.runner.precheck.registry import Finding, failed, passed, warning
from migrations_app.runner.precheck.words import listed

OLDEST: Final = (3, 0)
NEWEST_REDIS: Final = (8, 6)  # that was tested
NEWEST_VALKEY: Final = (9, 1)

# Feature of `engine.abilities` → what people call it, for those that stop the task where they are used on the source.
STOPS: Final[dict[str, str]] = {
    "SWAPDB": "SWAPDB",
    "streams": "streams",
    "functions": "functions",
    "field expiry": "fields of hashes that expire",
    "vector sets": "vector sets",
    "BITOP DIFF": "BITOP DIFF, DIFF1, ANDOR and ONE",
    "BYPOLYGON": "GEOSEARCHSTORE BYPOLYGON",
    "IDMP": "streams with XADD IDMP",
}
# The others are translated; some by a small script, for which the target's user needs EVAL.
BY_SCRIPT: Final = frozenset(
    {"KEEPTTL", "COPY", "LMOVE", "ZADD GT", "ZRANGESTORE", "MINID", "HSETEX", "KEEPREF"}
)


def judge(source: Abilities, target: Abilities) -> Finding:
    """The versions of the two sides, against what is served."""
    pair = f"{source} → {target}"
    for side, one in (("source", source), ("target", target)):
        if one.redis < OLDEST:
            return failed(
                f"{pair}: the {side} is older than 3.0, the oldest version that is served.",
                f"Upgrade the {side} to 3.0 or later.",
            )
    for side, one in (("source", source), ("target", target)):
        version, newest = (one.valkey, NEWEST_VALKEY) if one.valkey else (one.redis, NEWEST_REDIS)
        if version[:2] > newest:
            return warning(
                f"{pair}: the {side} is newer than {'.'.join(map(str, newest))}, the newest version that was tested.",
                "Rehearse the migration first: it tells what the target cannot take. What is not known stops the task, it is "
                "never dropped.",
            )
    if bool(source.valkey) == bool(target.valkey) and _line(target) < _line(source):
        return warning(
            f"{pair}: the target is of an earlier version than the source; the same or a later one is advised.",
            "Commands and values are translated where that is possible. Use a target of the source's version or a later one to be "
            "on the safe side.",
        )
    return passed(f"{pair}: served.")


def translation(source: Abilities, target: Abilities) -> Finding:
    """What the source knows and the target does not."""
    lacking = source.beyond(target)
    if not lacking:
        return passed(f"{target} knows all that {source} sends.")
    stopping = [STOPS[feature] for feature in lacking if feature in STOPS]
    translated = len(lacking) - len(stopping)
    parts = [f"{target} lacks {len(lacking)} abilities of {source}."]
    if translated:
        parts.append(f"{translated} of them are translated into commands with the same effect.")
    if stopping:
        parts.append(f"Where the source uses {listed(stopping, 8)}, the task stops.")
    advice = "Keep applications from using new commands until the migration is done; docs/compatibility.md lists what becomes of each."
    if any(feature in BY_SCRIPT for feature in lacking):
        advice += " Some are expressed by small scripts: the target's user needs EVAL."
    return warning(" ".join(parts), advice, lacking=lacking)


def _line(one: Abilities) -> tuple[int, ...]:
    return (one.valkey or one.redis)[:2]
