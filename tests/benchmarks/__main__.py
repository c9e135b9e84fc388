"""`make bench`: full synchronization and the stream, this engine beside native replication.

Each round measures one after the other on the same source; the table shows medians of the ratios of each round. It ends by itself.

    SETS=A,F ROUNDS=5 SCALE=0.2 SERVER=redis-7.0 FORMAT=json make bench
"""

from __future__ import annotations

import json
import os
import statistics
import sys
from typing import Any

from tests.benchmarks import data, full, stream
from tests.support.servers import available


def main() -> int:
    server = os.environ.get("SERVER") or "redis-7.0"
    letters = (os.environ.get("SETS") or "A,B,C,D,E,F,G,stream").split(",")
    rounds = int(os.environ.get("ROUNDS") or 3)
    scale = float(os.environ.get("SCALE") or 1)
    as_json = os.environ.get("FORMAT") == "json"
    if not any(name.startswith(server) for name in available()):
        print(f"{server} is not there: make servers", file=sys.stderr)
        return 1
    result: dict[str, Any] = {"server": server, "kernel": full.kernel(), "full": {}, "incremental": {}}
    for chosen in data.SETS:
        if chosen.letter in letters:
            print(f"{chosen.letter}: {chosen.what}", file=sys.stderr, flush=True)
            runs = full.measure(server, chosen, rounds, scale)
            result["full"][chosen.letter] = _summary(runs)
    if "stream" in letters:
        print("stream", file=sys.stderr, flush=True)
        result["incremental"] = stream.measure(server, rounds, scale)
    print(json.dumps(result) if as_json else _table(result))
    return 0


def _summary(runs: list[dict[str, full.Run]]) -> dict[str, Any]:
    """Medians over the rounds; ratios are taken within each round."""
    summary: dict[str, Any] = {"native_seconds": _median(run["native"].seconds for run in runs)}
    for name in runs[0]:
        if name == "native":
            continue
        ratio = _median(run["native"].seconds / run[name].seconds for run in runs)
        prefix = "" if name == "engine" else f"{name}_"
        summary[f"{prefix}native_ratio"] = ratio
        summary[f"{prefix}peak_mb"] = _median(run[name].peak_mb for run in runs)
        summary[f"{prefix}cpu"] = _median(run[name].cpu for run in runs)
        summary[f"{prefix}source_cpu"] = _median(run[name].source_cpu for run in runs)
        summary[f"{prefix}target_cpu"] = _median(run[name].target_cpu for run in runs)
    return summary


def _median(values: Any) -> float:
    return round(float(statistics.median(values)), 3)


def _table(result: dict[str, Any]) -> str:
    lines = [f"server {result['server']}, kernel {result['kernel']}", ""]
    if result["full"]:
        lines.append("full sync   ÷ native   native s   engine CPU s   source CPU s   target CPU s   peak MB")
        for letter, row in result["full"].items():
            lines.append(
                f"{letter:<12}{row['native_ratio']:>8.2f}{row['native_seconds']:>11.2f}{row['cpu']:>15.2f}"
                f"{row['source_cpu']:>15.2f}{row['target_cpu']:>15.2f}{row['peak_mb']:>10.0f}"
            )
        ratios = [row["native_ratio"] for letter, row in result["full"].items() if letter != "G"]
        if ratios:
            lines.append(f"median      {statistics.median(ratios):>8.2f}   lowest {min(ratios):.2f}")
    for name, row in result["incremental"].items():
        lines.append(f"{name}: " + ", ".join(f"{key} {value}" for key, value in row.items()))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
