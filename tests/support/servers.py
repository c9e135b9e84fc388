"""Real Redis and Valkey servers for tests, each on its own port and in its own folder."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import redis
from redis.exceptions import NoPermissionError

from .catalogue import PLACE, available, require
from .certs import Authority, Pair
from .ports import LOOPBACK, free_port
from .process import Process
from .wait import wait_for

__all__ = ["Server", "available", "require"]

Value = str | int | tuple[str | int, ...]


class Server:
    """One server, not yet started.

        with Server("redis-7.0", config={"maxmemory": "100mb"}) as server:
            server.client().set("a", 1)

    `version` is a prefix (`redis-6`, `valkey-9.1.2`); the newest that fits is taken, and the test is skipped if there is
    none. `config` holds directives of redis.conf; a tuple is one directive with several words, a list of tuples (or strings)
    is a directive that comes several times. `password` sets requirepass; ACL users go into `config` as `user`.

    With `tls=True` the server listens for TLS on `port` and takes no plain connections (7.0.15, 7.2, 7.4, 8.x and Valkey 8.x
    are built with it). `unix=True` adds a UNIX socket, `unix_path`.
    """

    def __init__(
        self,
        version: str = "valkey-9",
        *,
        config: Mapping[str, Value | list[Value]] | None = None,
        password: str = "",
        username: str = "",
        tls: bool = False,
        unix: bool = False,
        port: int | None = None,
        client_certs: bool = False,
    ) -> None:
        self.name = require(version)
        self.host = LOOPBACK
        self.port = port or free_port()
        self.username = username  # of `client()` and `url`; the server knows it from a `user` directive
        self.password = password
        # Short, because the path of a UNIX socket may not be longer than some 100 bytes.
        self.dir = Path(tempfile.mkdtemp(prefix="sy-"))
        self.log = self.dir / "server.log"
        self.unix_path = self.dir / "s" if unix else None
        self.authority: Authority | None = None
        self.client_pair: Pair | None = None
        self._process: Process | None = None
        self.config: dict[str, Value | list[Value]] = {
            "bind": self.host,
            "dir": str(self.dir),
            "save": "",
            "appendonly": "no",
            "protected-mode": "no",
        }
        if password and not username:
            self.config["requirepass"] = password
            self.config["masterauth"] = password
        if unix:
            self.config["unixsocket"] = str(self.unix_path)
        if tls:
            self.authority = Authority(self.dir / "tls")
            pair = self.authority.server()
            self.config |= {
                "port": 0,
                "tls-port": self.port,
                "tls-cert-file": str(pair.cert),
                "tls-key-file": str(pair.key),
                "tls-ca-cert-file": str(self.authority.ca),
                "tls-auth-clients": "yes" if client_certs else "no",
            }
            if client_certs:
                self.client_pair = self.authority.client()
        else:
            self.config["port"] = self.port
        if self._knows_debug_option:
            self.config["enable-debug-command"] = "yes"
        self.config |= config or {}

    # --- Life ---------------------------------------------------------------------------------------------------------

    def start(self, timeout: float = 20) -> Server:
        """Starts the server and waits until it answers, a snapshot from an earlier start loaded."""
        assert not self.running, f"{self} is running"
        file = self.dir / "server.conf"
        file.write_text(self._config_file())
        self._process = Process([PLACE / self.name / "bin" / "server", file], self.log, cwd=self.dir)
        self._wait_until_it_answers(timeout)
        return self

    def stop(self, timeout: float = 20) -> int:
        """SIGTERM: the server saves if `save` says so, and ends."""
        process = self._running()
        process.signal(signal.SIGCONT)
        process.signal(signal.SIGTERM)
        return process.wait(timeout)

    def kill(self) -> None:
        """SIGKILL: what was not saved is lost."""
        process = self._running()
        process.signal(signal.SIGKILL)
        process.wait()

    def restart(self, *, kill: bool = False, timeout: float = 20) -> Server:
        """Same port, same folder. With `kill` as after a crash."""
        if self.running:
            self.kill() if kill else self.stop(timeout)
        return self.start(timeout)

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing answers."""
        self._running().signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._running().signal(signal.SIGCONT)

    def close(self) -> None:
        """Ends the server in whatever state it is and removes its folder. Can be called twice."""
        if self._process is not None:
            self._process.end()
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self) -> Server:
        return self if self.running else self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- What is known of it ------------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.alive

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def product(self) -> str:
        return self.name.rpartition("-")[0]

    @property
    def version(self) -> tuple[int, ...]:
        return tuple(int(part) for part in self.name.rpartition("-")[2].split("."))

    @property
    def address(self) -> tuple[str, int]:
        return self.host, self.port

    @property
    def url(self) -> str:
        """`redis://` or `rediss://`, with the credentials; without a database."""
        return self.url_to(self.host, self.port)

    def url_to(self, host: str, port: int) -> str:
        """The same server by another address, such as a proxy's."""
        return f"{'rediss' if self.authority else 'redis'}://{self._credentials}{host}:{port}"

    @property
    def unix_url(self) -> str:
        assert self.unix_path is not None, "the server was made without unix=True"
        return f"unix://{self._credentials}{self.unix_path}"

    @property
    def _credentials(self) -> str:
        return f"{quote(self.username, safe='')}:{quote(self.password, safe='')}@" if self.password else ""

    @property
    def ca(self) -> Path:
        assert self.authority is not None, "the server was made without tls=True"
        return self.authority.ca

    def client(self, **options: Any) -> redis.Redis:
        """A redis-py client in RESP2, which every version speaks. Close it, or leave that to the garbage collector."""
        given: dict[str, Any] = {
            "host": self.host,
            "port": self.port,
            "protocol": 2,
            "socket_timeout": 20,
            "password": self.password or None,
            "username": self.username or None,
        }
        if self.authority is not None:
            given |= {"ssl": True, "ssl_ca_certs": str(self.authority.ca)}
            if self.client_pair:
                given |= {
                    "ssl_certfile": str(self.client_pair.cert),
                    "ssl_keyfile": str(self.client_pair.key),
                }
        # CLIENT SETINFO is unknown before 7.2; redis-py would send it on every connection.
        given |= {"driver_info": None}
        return redis.Redis(**(given | options))

    def info(self, section: str = "everything") -> dict[str, Any]:
        with self.client() as client:
            return dict(client.info(section))

    def tail(self, lines: int = 40) -> str:
        return self._process.tail(lines) if self._process else "(never started)"

    # --- Helpers ------------------------------------------------------------------------------------------------------

    @property
    def _knows_debug_option(self) -> bool:
        return self.product == "valkey" or self.version >= (7,)

    def _config_file(self) -> str:
        lines = []
        for name, values in self.config.items():
            for value in values if isinstance(values, list) else [values]:
                words = value if isinstance(value, tuple) else (value,)
                lines.append(" ".join([name, *(_quoted(str(word)) for word in words)]))
        return "\n".join([*lines, ""])

    def _running(self) -> Process:
        assert self._process is not None, f"{self} was never started"
        assert self._process.alive, f"{self} is not running. Its log:\n{self._process.tail()}"
        return self._process

    def _wait_until_it_answers(self, timeout: float) -> None:
        process = self._running()

        def answers() -> bool:
            assert process.alive, f"{self} ended with {process.popen.returncode}. Its log:\n{process.tail()}"
            with self.client(socket_timeout=1, retry=None) as client:
                try:
                    return bool(client.ping())
                except redis.BusyLoadingError:
                    return False
                except (redis.AuthenticationError, NoPermissionError):
                    return True  # it answers; who may do what is the test's business
                except redis.ResponseError as error:
                    return "NOAUTH" in str(error) or "NOPERM" in str(error)

        wait_for(
            answers,
            timeout,
            lambda: f"{self} does not answer. Its log:\n{process.tail()}",
            ignore=(redis.ConnectionError, redis.TimeoutError, OSError),
        )

    def __repr__(self) -> str:
        return f"<Server {self.name} on {self.port}>"


def _quoted(word: str) -> str:
    plain = word and not set(word) & set(" \t\"'\\\n")
    return word if plain else '"' + word.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
