"""What can go wrong, said in one line."""

from __future__ import annotations

import subprocess
from pathlib import Path


class NotToBeHad(Exception):
    """A server that this machine cannot get, with the reason for the summary."""


def run(
    command: list[str],
    *,
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
    stdin: int = subprocess.DEVNULL,
) -> str:
    """Runs a command and returns its standard output; raises NotToBeHad with the line of its errors that says most."""
    try:
        done = subprocess.run(
            command, env=env, cwd=cwd, stdin=stdin, capture_output=True, text=True, timeout=600, check=False
        )
    except FileNotFoundError:
        raise NotToBeHad(f"{command[0]} is not on this machine") from None
    except subprocess.TimeoutExpired:
        raise NotToBeHad(f"{command[0]} did not end within ten minutes") from None
    if done.returncode:
        raise NotToBeHad(f"{Path(command[0]).name} failed: {reason(done.stderr or done.stdout)}")
    return done.stdout


def reason(output: str) -> str:
    """The first line that names an error, or else the last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    for mark in ("ERROR:", "E:", "error:"):
        for line in lines:
            if line.startswith(mark) or f" {mark}" in line:
                return line
    return lines[-1] if lines else "it said nothing"
