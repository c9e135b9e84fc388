"""A real PostgreSQL for tests."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import psycopg

from .catalogue import program
from .ports import LOOPBACK, free_port
from .process import Process, unprivileged
from .wait import wait_for

USER = "switchyard"


class Postgres:
    """A cluster of its own in a temporary folder, on the loopback interface, without passwords and without fsync.

    As root it runs as `nobody`, since PostgreSQL refuses root.
    """

    def __init__(self, version: str = "postgresql") -> None:
        self._server = program(version)
        self._initdb = program(version, "initdb")
        self.port = free_port()
        self.dir = Path(tempfile.mkdtemp(prefix="sy-pg-"))
        self.data = self.dir / "data"
        self.log = self.dir / "server.log"
        self._uid = unprivileged()
        self._process: Process | None = None

    def start(self, timeout: float = 60) -> Postgres:
        if not self.data.exists():
            self._initialize()
        self._process = Process(
            [
                self._server,
                "-D",
                self.data,
                "-p",
                str(self.port),
                "-h",
                LOOPBACK,
                "-k",
                self.dir,
                *self._options(),
            ],
            self.log,
            cwd=self.dir,
            user=self._uid,
        )
        process = self._process

        def answers() -> bool:
            assert process.alive, f"PostgreSQL ended. Its log:\n{process.tail()}"
            with psycopg.connect(self.url, connect_timeout=2) as connection:
                return connection.execute("SELECT 1").fetchone() == (1,)

        wait_for(
            answers,
            timeout,
            lambda: f"PostgreSQL does not answer:\n{process.tail()}",
            ignore=(psycopg.OperationalError,),
        )
        return self

    def stop(self, timeout: float = 30) -> int:
        """Fast shutdown: sessions are ended, transactions rolled back."""
        assert self._process is not None
        self._process.signal(signal.SIGINT)
        return self._process.wait(timeout)

    def restart(self, timeout: float = 60) -> Postgres:
        if self.running:
            self.stop()
        return self.start(timeout)

    def close(self) -> None:
        if self._process is not None:
            if self.running:
                # Not SIGKILL: the server's own children would live on for a moment, and its shared memory for ever.
                self._process.signal(signal.SIGQUIT)
                self._process.wait(30)
            self._process.end()
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self) -> Postgres:
        return self if self.running else self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.alive

    @property
    def url(self) -> str:
        """For psycopg and for DATABASE_URL."""
        return f"postgresql://{USER}@{LOOPBACK}:{self.port}/postgres"

    def tail(self, lines: int = 40) -> str:
        return self._process.tail(lines) if self._process else "(never started)"

    def _initialize(self) -> None:
        if self._uid is not None:
            os.chown(self.dir, self._uid, self._uid)
        done = subprocess.run(
            [
                self._initdb,
                "-D",
                self.data,
                "-U",
                USER,
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--no-locale",
                "--no-sync",
            ],
            user=self._uid,
            group=self._uid,
            extra_groups=[] if self._uid is not None else None,
            cwd=self.dir,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"initdb failed: {done.stderr}"

    @staticmethod
    def _options() -> list[str]:
        settings = {
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "max_connections": "100",
        }
        return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
