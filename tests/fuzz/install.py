"""atheris in a folder of its own, hash-pinned: nothing else in the environment changes."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".venv" / "fuzz"
REQUIREMENTS = ROOT / "requirements" / "fuzz.txt"
_ABSENT = "No matching distribution found"


class NotToBeHad(Exception):
    """There is no wheel for this interpreter, or no registry to ask."""


def install(folder: Path = FOLDER, requirements: Path = REQUIREMENTS) -> Path:
    """Where atheris is; fetched if it is not there as `requirements` has it. Raises `NotToBeHad` where it cannot be fetched."""
    mark = folder / "installed.txt"
    if mark.is_file() and mark.read_bytes() == requirements.read_bytes():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    done = subprocess.run(
        [
            sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes",
            "--only-binary", ":all:", "--target", folder, "--requirement", requirements,
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode == 0:
        mark.write_bytes(requirements.read_bytes())
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    said = done.stderr.strip().splitlines()
    if any(_ABSENT in line for line in said):
        raise NotToBeHad(
            f"there is no wheel of atheris to be had for {platform.python_implementation()} {platform.python_version()} on "
            f"{platform.system()} {platform.machine()} ({said[-1].removeprefix('ERROR: ')})"
        )
    raise SystemExit(f"atheris could not be installed:\n{done.stderr}")
