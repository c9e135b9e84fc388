"""Who copies: native replication, this engine (compiled and interpreted), and rivals whose binary the environment names.

`REDIS_SHAKE` and `REDIS_GUNYU` are paths of binaries; their settings are the smallest that their documentation gives for a standalone
pair. A rival is done when the target holds as many keys as the source: the least that can be asked.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from migrations_app.engine.kernel import COMPILED
from tests.support.servers import Server
from tests.support.wait import wait_for

ROOT = Path(__file__).resolve().parents[2]
_LIMIT = 600.0  # seconds for one run


class Contender(ABC):
    """`copying` and `following` yield the process that copies, None where the servers do it themselves."""

    name = ""

    @abstractmethod
    @contextmanager
    def copying(self, source: Server, target: Server) -> Iterator[subprocess.Popen[bytes] | None]:
        """Begin a full synchronization; `wait` returns when it is done."""

    @abstractmethod
    def wait(self, process: subprocess.Popen[bytes] | None, source: Server, target: Server) -> None: ...

    @abstractmethod
    @contextmanager
    def following(self, source: Server, target: Server) -> Iterator[None]:
        """While it is open, what the source writes goes to the target."""


class Native(Contender):
    name = "native"

    @contextmanager
    def copying(self, source: Server, target: Server) -> Iterator[None]:
        client = target.client()
        client.replicaof(source.host, source.port)
        try:
            yield None
        finally:
            client.replicaof("NO", "ONE")

    def wait(self, process: object, source: Server, target: Server) -> None:
        client = target.client()
        while client.info("replication")["master_link_status"] != "up":
            time.sleep(0.002)

    @contextmanager
    def following(self, source: Server, target: Server) -> Iterator[None]:
        with self.copying(source, target):
            self.wait(None, source, target)
            yield


class Engine(Contender):
    """The engine of this tree, or of a copy of it without the compiled kernel."""

    def __init__(self, name: str, root: Path) -> None:
        self.name = name
        self._root = root

    @contextmanager
    def copying(self, source: Server, target: Server) -> Iterator[subprocess.Popen[bytes]]:
        with self._started(source, target, "--phases", "full", "--json") as process:
            yield process

    def wait(self, process: subprocess.Popen[bytes] | None, source: Server, target: Server) -> None:
        assert process is not None and process.stdout is not None
        line = process.stdout.readline()
        if not line or json.loads(line)["outcome"] != "completed":
            raise RuntimeError(f"the engine ended with {line!r}")

    @contextmanager
    def following(self, source: Server, target: Server) -> Iterator[None]:
        with self._started(source, target, "--link", "bench"):
            client = target.client()
            wait_for(
                lambda: client.hget("switchyard:checkpoint:bench", "phase") == b"incremental",
                60,
                "the link follows",
            )
            yield

    @contextmanager
    def _started(self, source: Server, target: Server, *options: str) -> Iterator[subprocess.Popen[bytes]]:
        command = [sys.executable, "-m", "migrations_app.engine", "run", source.url, target.url, *options]
        with _process(command, self._root) as process:
            yield process


class Rival(Contender):
    """Started with a settings file; goes on until it is ended."""

    def __init__(self, name: str, binary: str) -> None:
        self.name = name
        self._binary = binary

    @contextmanager
    def copying(self, source: Server, target: Server) -> Iterator[subprocess.Popen[bytes]]:
        with (
            tempfile.TemporaryDirectory(prefix="switchyard-bench-") as name,
            _process(self._command(source, target, Path(name)), Path(name)) as process,
        ):
            yield process

    def wait(self, process: subprocess.Popen[bytes] | None, source: Server, target: Server) -> None:
        ours, theirs = source.client(), target.client()
        until = time.monotonic() + _LIMIT
        while theirs.dbsize() < ours.dbsize():
            if process is None or process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{self.name} does not copy everything")
            time.sleep(0.002)

    @contextmanager
    def following(self, source: Server, target: Server) -> Iterator[None]:
        source.client().set("bench:begin", 1)
        with self.copying(source, target):
            wait_for(lambda: target.client().get("bench:begin") == b"1", 120, f"{self.name} follows")
            yield

    def _command(self, source: Server, target: Server, folder: Path) -> list[str]:
        raise NotImplementedError


class RedisShake(Rival):
    def _command(self, source: Server, target: Server, folder: Path) -> list[str]:
        settings = folder / "shake.toml"
        settings.write_text(
            f'[sync_reader]\naddress = "{source.host}:{source.port}"\nsync_rdb = true\nsync_aof = true\n'
            f'[redis_writer]\naddress = "{target.host}:{target.port}"\n'
            f'[advanced]\ndir = "{folder / "data"}"\nrdb_restore_command_behavior = "rewrite"\n'
        )
        return [self._binary, str(settings)]


class GunYu(Rival):
    def _command(self, source: Server, target: Server, folder: Path) -> list[str]:
        settings = folder / "gunyu.yaml"
        settings.write_text(
            f"input:\n  redis:\n    addresses: [{source.host}:{source.port}]\n    type: standalone\n"
            f"channel:\n  storer:\n    dirPath: {folder / 'data'}\n"
            f"output:\n  redis:\n    addresses: [{target.host}:{target.port}]\n    type: standalone\n"
        )
        return [self._binary, "-conf", str(settings), "-cmd", "sync"]


@contextmanager
def contenders() -> Iterator[list[Contender]]:
    """Native first; the interpreted engine runs from a copy of its package, since a compiled kernel beside the source is preferred."""
    with tempfile.TemporaryDirectory(prefix="switchyard-bench-") as folder:
        chosen: list[Contender] = [Native(), Engine("engine", ROOT)]
        if COMPILED:
            copy = Path(folder) / "migrations_app"
            copy.mkdir()
            (copy / "__init__.py").touch()
            shutil.copytree(
                ROOT / "migrations_app" / "engine",
                copy / "engine",
                ignore=shutil.ignore_patterns("*.so", "__pycache__"),
            )
            chosen.append(Engine("interpreted", Path(folder)))
        for variable, kind in {"REDIS_SHAKE": RedisShake, "REDIS_GUNYU": GunYu}.items():
            if binary := os.environ.get(variable):
                chosen.append(kind(variable.lower(), str(Path(binary).resolve())))
        yield chosen


@contextmanager
def _process(command: list[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process whose messages go to a file; ended by its id."""
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=said)
        try:
            yield process
        except BaseException:
            said.seek(0)
            print(said.read()[-2000:].decode(errors="replace"), file=sys.stderr)
            raise
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)
            if process.returncode is None:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()
