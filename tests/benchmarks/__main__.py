"""`make bench`: full synchronization and the stream, this engine beside native replication, and beside rivals where they are.

Each round measures everybody one after the other on the same source; the table shows medians of the ratios of each round. It ends by
itself and uses loopback only.

    SETS=A,F,stream ROUNDS=5 SCALE=0.2 SERVER=redis-7.0 FORMAT=json REDIS_SHAKE=PATH REDIS_GUNYU=PATH make bench
    SETS=pages SCALE=0.1 make bench      # the pages of the migrations on PostgreSQL, alone
    SETS=events make bench               # bulk changes of 10,000 events on SQLite, alone
"""

from __future__ import annotations

import json
import os
import statistics
import sys
from collections.abc import Iterable
from typing import Any

from migrations_app.engine.kernel import COMPILED
from tests.benchmarks import data, events, full, pages, stream
from tests.benchmarks.contenders import Contender, Rival, contenders
from tests.support.servers import available

_GIANTS = "G"  # measured for its memory; rivals that write it piece by piece would seem to be done at once


def main() -> int:
    server = os.environ.get("SERVER") or "redis-7.0"
    letters = (os.environ.get("SETS") or "A,B,C,D,E,F,G,uncompressed,stream").split(",")
    rounds = int(os.environ.get("ROUNDS") or 3)
    scale = float(os.environ.get("SCALE") or 1)
    if "pages" in letters:
        told_pages = pages.measure(scale)
        print(json.dumps(told_pages) if os.environ.get("FORMAT") == "json" else pages.table(told_pages))
        return 0
    if "events" in letters:
        told_events = events.measure(scale)
        print(json.dumps(told_events) if os.environ.get("FORMAT") == "json" else events.table(told_events))
        return 0
    if not any(name.startswith(server) for name in available()):
        print(f"{server} is not there: make servers", file=sys.stderr)
        return 1
    result: dict[str, Any] = {
        "server": server,
        "kernel": "compiled" if COMPILED else "interpreted",
        "rounds": rounds,
        "scale": scale,
        "full": {},
        "uncompressed": {},
        "incremental": {},
    }
    with contenders() as who:
        for chosen in data.SETS:
            if chosen.letter in letters:
                _say(f"{chosen.letter}: {chosen.what}")
                result["full"][chosen.letter] = _full(server, chosen, who, rounds, scale)
        for chosen in data.SETS:
            if "uncompressed" in letters and chosen.letter != _GIANTS:
                _say(f"{chosen.letter}, source with rdbcompression no")
                result["uncompressed"][chosen.letter] = _full(
                    server, chosen, who[:2], rounds, scale, compressed=False
                )
        if "stream" in letters:
            _say("the stream")
            told = stream.measure(server, who, rounds, scale)
            result["incremental"] = told.pop("engine") | {"others": told}
    print(json.dumps(result) if os.environ.get("FORMAT") == "json" else _table(result))
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _full(
    server: str,
    chosen: data.DataSet,
    who: list[Contender],
    rounds: int,
    scale: float,
    *,
    compressed: bool = True,
) -> dict[str, Any]:
    """Medians over the rounds, of the engine; those of the others by their name. Ratios are taken within each round."""
    if chosen.letter == _GIANTS:
        who = [contender for contender in who if not isinstance(contender, Rival)]
    runs = full.measure(server, chosen, who, rounds, scale, compressed=compressed)
    told = {}
    for name in runs[0]:
        told[name] = {
            "native_ratio": _median(run["native"].seconds / run[name].seconds for run in runs),
            "seconds": _median(run[name].seconds for run in runs),
            "cpu": _median(run[name].cpu for run in runs),
            "source_cpu": _median(run[name].source_cpu for run in runs),
            "target_cpu": _median(run[name].target_cpu for run in runs),
            "cpu_ratio": _median(
                run[name].cpu / max(0.01, run[name].source_cpu + run[name].target_cpu) for run in runs
            ),
            "peak_mb": _median(run[name].peak_mb for run in runs),
        }
    return told.pop("engine") | {"others": told}


def _median(values: Iterable[float]) -> float:
    return round(float(statistics.median(values)), 3)


_HEAD = "÷ native   seconds   CPU s   source CPU s   target CPU s   CPU ratio   peak MB"


def _table(result: dict[str, Any]) -> str:
    lines = [
        f"server {result['server']}, kernel {result['kernel']}, {result['rounds']} rounds, scale {result['scale']:g}"
    ]
    for title, part in {"full sync": "full", "full sync, rdbcompression no": "uncompressed"}.items():
        rows = result[part]
        if rows:
            lines += ["", f"{title:<32}{_HEAD}"]
        for letter, row in rows.items():
            lines.append(_row(f"{letter}  engine", row))
            lines += [_row(f"   {name}", other) for name, other in row["others"].items()]
        for name in ("engine", "interpreted"):
            ratios = [
                (row if name == "engine" else row["others"][name])["native_ratio"]
                for letter, row in rows.items()
                if letter != _GIANTS and (name == "engine" or name in row["others"])
            ]
            if ratios:
                lines.append(f"{name}: median {statistics.median(ratios):.2f}, lowest {min(ratios):.2f}")
    if result["incremental"]:
        stream_rows = {"engine": result["incremental"]} | result["incremental"]["others"]
        lines += ["", f"{'stream':<16}÷ native   commands/s   lag ms   latency p50   p99   max ms"]
        for name, row in stream_rows.items():
            drain, latency = row["drain"], row["latency"]
            lines.append(
                f"{name:<16}{drain['native_ratio']:>8.2f}{drain['commands_per_second']:>13}{row['lag']['median_ms']:>9.1f}"
                f"{latency['p50_ms']:>14.2f}{latency['p99_ms']:>6.1f}{latency['max_ms']:>9.1f}"
            )
    return "\n".join(lines)


def _row(name: str, row: dict[str, Any]) -> str:
    return (
        f"{name:<32}{row['native_ratio']:>8.2f}{row['seconds']:>10.2f}{row['cpu']:>8.2f}{row['source_cpu']:>15.2f}"
        f"{row['target_cpu']:>15.2f}{row['cpu_ratio']:>12.2f}{row['peak_mb']:>10.0f}"
    )


if __name__ == "__main__":
    sys.exit(main())
