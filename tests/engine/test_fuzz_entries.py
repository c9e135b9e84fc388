"""The entry points of `make fuzz` run on their seeds, damaged a little, so that they do not rot; and what it says without atheris."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from migrations_app.engine.errors import SnapshotError
from tests.fuzz import __main__ as fuzz
from tests.fuzz import entries, install, seeds

from . import fuzzing
from .fuzzing import SNAPSHOT_HOSTILE, damage

VERSION = "redis-7.4"
EACH = 40


@pytest.fixture(autouse=True)
def _clock() -> Iterator[None]:
    with fuzzing.fixed_clock():
        yield


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("seeds")
    fuzzing.keep_inputs_in(tmp_path_factory.getbasetemp())
    with fuzzing.fixed_clock():
        assert seeds.write(folder, [VERSION, "redis-0.1"]) == ["redis-0.1"]
    return folder


@pytest.mark.parametrize("entry", list(entries.ENTRIES))
def test_the_entry_points_on_their_seeds(corpus: Path, entry: str) -> None:
    files = sorted((corpus / entry).iterdir())
    assert len(files) > 10
    random = Random(1)
    for file in random.sample(files, min(EACH, len(files))):
        data = file.read_bytes()
        entries.run(entry, data)
        entries.run(entry, damage(data, [("byte", random.randrange(1 << 20), 255)], SNAPSHOT_HOSTILE))
    assert seeds.dictionary(entry).startswith('"\\x')


@pytest.mark.parametrize("entry", list(entries.ENTRIES))
@pytest.mark.parametrize("data", [b"", b"\0", b"\0\0", b"\0\0\0", b"\xff\xff\xff"], ids=bytes.hex)
def test_the_entry_points_on_next_to_nothing(entry: str, data: bytes) -> None:
    entries.run(entry, data)


def test_a_finding_is_an_exception_and_is_repeated_from_its_file(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An entry point that fails otherwise than by an error of the engine ends `python -m tests.fuzz FILE`."""
    file = tmp_path / "snapshot-crash-1"
    file.write_bytes(min((corpus / "snapshot").iterdir()).read_bytes())
    assert fuzz.main([str(file)]) == 0
    assert "both kernels agree" in capsys.readouterr().out

    def defect(self: object, part: bytes) -> object:
        raise IndexError("a defect")

    kernel = fuzzing.worlds()[0].kernel.SnapshotKernel
    monkeypatch.setattr(kernel, "feed", defect)
    with pytest.raises(IndexError, match="a defect"):
        fuzz.main([str(file)])
    monkeypatch.setattr(kernel, "feed", lambda self, part: (_ for _ in ()).throw(SnapshotError("other")))
    if len(fuzzing.worlds()) > 1:
        with pytest.raises(AssertionError, match=r"differ|end at different steps"):
            fuzz.main([str(file)])


@pytest.mark.parametrize(("ci", "code"), [("", 0), ("true", 1)])
def test_without_a_wheel_it_says_so(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    ci: str,
    code: int,
) -> None:
    """pip itself, with a folder that has nothing as its only source."""
    monkeypatch.setenv("CI", ci)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setattr(fuzz, "install", lambda: install.install(tmp_path / "fuzz"))
    assert fuzz.fuzz(1) == code
    said = capsys.readouterr().out
    assert "Nothing was fuzzed: there is no wheel of atheris to be had for CPython" in said
    assert not (tmp_path / "fuzz").exists()


_ENDS_AT_ONCE = """
import os
def instrument_func(function): return function
def Setup(arguments, one_input):
    global prefix
    prefix = next(a for a in arguments if a.startswith("-artifact_prefix=")).partition("=")[2]
def Fuzz():
    open(prefix + "crash-1", "wb").write(b"xyz")
    os._exit(77)
"""


def test_a_finding_is_an_exit_with_1_and_how_to_repeat_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a fuzzer that finds something at once. The same finding in the next run is one again."""
    (tmp_path / "atheris.py").write_text(_ENDS_AT_ONCE)
    monkeypatch.setattr(fuzz, "install", lambda: tmp_path)
    monkeypatch.setattr(fuzz, "prepare", lambda: None)
    monkeypatch.setattr(fuzz, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(entries, "ENTRIES", {"replies": entries.replies})
    for _ in range(2):
        assert fuzz.fuzz(10) == 1
        said = capsys.readouterr().out
        assert "ended with 77" in said
        assert re.search(
            r"once more: \.venv/bin/python -m tests\.fuzz \S+/findings/replies-crash-1\n", said
        ), said


def test_usage() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--seconds", "0"],
        cwd=install.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and "usage:" in done.stderr


def test_what_libfuzzer_says_of_itself() -> None:
    log = "#2 INITED cov: 5 ft: 6 corp: 1/1b\n#900 NEW    cov: 1237 ft: 9 corp: 264/9Kb lim: 4 exec/s: 3\n"
    assert fuzz.read(log, "ended with 77") == (900, 1237, 264, "ended with 77")
    assert fuzz.read(f"{log}stat::number_of_executed_units: 1873\n", "") == (1873, 1237, 264, "")
    assert fuzz.read("", "did not end") == (0, 0, 0, "did not end")
