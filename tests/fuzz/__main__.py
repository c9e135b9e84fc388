"""`make fuzz SECONDS=60`: fuzz each entry point for its share of the time, and say what was run and found.

`python -m tests.fuzz FILE…` runs inputs that were found once more, without atheris.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tests.engine import fuzzing

from . import entries, seeds
from .install import ROOT, NotToBeHad, install

RESULTS = ROOT / "test-results" / "fuzz"
_SHARES = {"snapshot": 4, "value": 2, "stream": 2, "handshake": 1, "replies": 1}  # of the time
_LONGEST = 4096  # bytes of an input
_HANGS = 30  # seconds for one input
_MEMORY = 2048  # MB
_BEYOND = 120  # seconds to read the seeds in, on a busy machine


class Outcome(NamedTuple):
    executions: int
    edges: int  # of the engine's code that were taken
    inputs: int  # that are worth to go on from
    ended: str  # how the fuzzer ended where it was not by the clock


def main(arguments: list[str]) -> int:
    if (
        arguments[:1] == ["--seconds"]
        and len(arguments) == 2
        and arguments[1].isdigit()
        and int(arguments[1])
    ):
        return fuzz(int(arguments[1]))
    if arguments and all(Path(name).is_file() for name in arguments):
        return repeat([Path(name) for name in arguments])
    print("usage: python -m tests.fuzz --seconds NUMBER | FILE…", file=sys.stderr)
    return 2


def repeat(files: list[Path]) -> int:
    """Each file is named after its entry point. A finding is the exception that ends this."""
    with fuzzing.fixed_clock():
        for file in files:
            entries.run(file.name.partition("-")[0], file.read_bytes())
            print(f"{file}: a result, or an error of the engine; both kernels agree")
    return 0


def fuzz(seconds: int) -> int:
    try:
        folder = install()
    except NotToBeHad as reason:
        print(f"Nothing was fuzzed: {reason}.")
        return 1 if os.environ.get("CI") == "true" else 0
    if len(fuzzing.worlds()) == 1:
        print("The kernel is not compiled here (`make setup` says why): only the interpreted one is fuzzed.")
    prepare()
    before = findings()
    ended = False
    for entry in entries.ENTRIES:
        outcome = run(folder, entry, max(1, seconds * _SHARES[entry] // sum(_SHARES.values())))
        ended = ended or bool(outcome.ended)
        print(
            f"{entry:10} {outcome.executions:8} executions  {outcome.edges:5} edges covered  {outcome.inputs:5} inputs kept"
            f"{f'  {outcome.ended}' if outcome.ended else ''}",
            flush=True,
        )
    found = findings() - before
    for file, _ in sorted(found):
        name = os.path.relpath(file, ROOT)
        print(f"Found: {name}\n  once more: .venv/bin/python -m tests.fuzz {name}")
    if ended and not found:
        print(f"A fuzzer has not ended as it should; its log is in {os.path.relpath(RESULTS, ROOT)}.")
    return 1 if found or ended else 0


def prepare() -> None:
    """Seeds, once: `test-results/fuzz` goes with `make clean`."""
    done = RESULTS / "seeds.txt"
    if done.is_file():
        return
    print("Taking seeds from the servers …", flush=True)
    missing = seeds.write(RESULTS / "seeds", seeds.VERSIONS)
    if missing:
        print(f"Not there (`make servers` says why), so without their input: {', '.join(missing)}")
        return
    done.write_text("\n".join(seeds.VERSIONS))


def findings() -> set[tuple[Path, int]]:
    """With the time, since the same input is found again until it is mended."""
    return {(file, file.stat().st_mtime_ns) for file in (RESULTS / "findings").glob("*")}


def run(folder: Path, entry: str, seconds: int) -> Outcome:
    """One entry point, in a process of its own: an input may end it."""
    corpus, kept = RESULTS / "corpus" / entry, RESULTS / "findings"
    for place in (corpus, kept):
        place.mkdir(parents=True, exist_ok=True)
    words = RESULTS / f"{entry}.dict"
    words.write_text(seeds.dictionary(entry))
    command: list[str | Path] = [
        sys.executable, "-m", "tests.fuzz.fuzzer", folder, entry, f"-max_total_time={seconds}", f"-max_len={_LONGEST}",
        f"-timeout={_HANGS}", f"-rss_limit_mb={_MEMORY}", f"-dict={words}", f"-artifact_prefix={kept}/{entry}-",
        "-print_final_stats=1", corpus, RESULTS / "seeds" / entry,
    ]  # fmt: skip
    log = RESULTS / f"{entry}.log"
    with log.open("wb") as out:
        try:
            ended = subprocess.run(command, cwd=ROOT, stdout=out, stderr=out, check=False, timeout=seconds + _BEYOND).returncode  # fmt: skip
            how = f"ended with {ended}: {os.path.relpath(log, ROOT)}" if ended else ""
        except subprocess.TimeoutExpired:
            how = f"did not end: {os.path.relpath(log, ROOT)}"
    return read(log.read_text(errors="replace"), how)


def read(log: str, how: str) -> Outcome:
    """What libFuzzer says of itself; without its last words (an input has ended it) what it has said before."""
    executed = re.findall(r"^(?:stat::number_of_executed_units:\s*|#)(\d+)", log, re.MULTILINE)
    covered = re.findall(r"\bcov: (\d+)", log)
    kept = re.findall(r"\bcorp: (\d+)", log)
    last = [int(numbers[-1]) if numbers else 0 for numbers in (executed, covered, kept)]
    return Outcome(last[0], last[1], last[2], how)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
