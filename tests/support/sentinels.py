"""A master, its replicas and real sentinels that watch them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import redis

from .catalogue import PLACE
from .ports import LOOPBACK, free_port
from .process import Process
from .servers import Server, Value
from .wait import wait_for

NAME = "orders"


class Sentinel:
    """One sentinel, started; it watches `NAME` at `port_of_master`."""

    def __init__(
        self,
        version: str,
        port_of_master: int,
        *,
        quorum: int = 1,
        password: str = "",
        password_of_master: str = "",
        tls: Server | None = None,
    ) -> None:
        self.port = free_port()
        self.password = password
        self.dir = Path(tempfile.mkdtemp(prefix="sy-"))
        self._tls = tls  # a server whose certificates it uses, for its own port and for the master
        names = ("tls-cert-file", "tls-key-file", "tls-ca-cert-file", "tls-auth-clients")
        lines = [
            *([f"port 0\ntls-port {self.port}\ntls-replication yes"] if tls else [f"port {self.port}"]),
            *([f"{name} {tls.config[name]}" for name in names] if tls else []),
            f"bind {LOOPBACK}",
            f"dir {self.dir}",
            "protected-mode no",
            f"sentinel monitor {NAME} {LOOPBACK} {port_of_master} {quorum}",
            f"sentinel down-after-milliseconds {NAME} 1000",
            f"sentinel failover-timeout {NAME} 6000",
        ]
        if password:
            lines.append(f"requirepass {password}")
        if password_of_master:
            lines.append(f"sentinel auth-pass {NAME} {password_of_master}")
        self._file = self.dir / "sentinel.conf"
        self._file.write_text("\n".join([*lines, ""]))
        self._binary = PLACE / version / "bin" / "server"
        self._start()

    def _start(self) -> None:
        self._process = Process([self._binary, self._file, "--sentinel"], self.dir / "log", cwd=self.dir)
        wait_for(
            self._answers,
            20,
            lambda: self._process.tail(),
            ignore=(redis.ConnectionError, redis.TimeoutError),
        )

    def _answers(self) -> bool:
        with self.client() as client:
            return bool(client.ping())

    def client(self) -> redis.Redis:
        return redis.Redis(
            host=LOOPBACK,
            port=self.port,
            protocol=2,
            password=self.password or None,
            socket_timeout=10,
            driver_info=None,
            ssl=self._tls is not None,
            ssl_ca_certs=str(self._tls.ca) if self._tls else None,
        )

    def ask(self, *words: Any) -> Any:
        with self.client() as client:
            return client.execute_command("SENTINEL", *words)

    def master_port(self) -> int:
        """Of the master that it names."""
        return int(self.ask("GET-MASTER-ADDR-BY-NAME", NAME)[1])

    def stop(self) -> None:
        self._process.end()

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.dir, ignore_errors=True)


class Watched:
    """`Watched("redis-7.0", sentinels=1)`: a master with `replicas` replicas, all known to the sentinels."""

    def __init__(
        self,
        version: str,
        *,
        sentinels: int = 1,
        replicas: int = 1,
        password: str = "",
        sentinel_password: str = "",
        config: Mapping[str, Value | list[Value]] | None = None,
    ) -> None:
        self.password = password
        self.sentinel_password = sentinel_password
        self.sentinels: list[Sentinel] = []
        given: dict[str, Value | list[Value]] = {
            "repl-diskless-sync-delay": 0,
            "repl-backlog-size": "32mb",
            "repl-ping-slave-period": 1,
            "hz": 50,
        }
        self.servers = [Server(version, config=given | dict(config or {}), password=password)]
        try:
            self.servers[0].start()
            for _ in range(replicas):
                replica = Server(
                    version,
                    config=given
                    | dict(config or {})
                    | {"replicaof": (self.servers[0].host, self.servers[0].port)},
                    password=password,
                )
                self.servers.append(replica)
                replica.start()
            for _ in range(sentinels):
                one = Sentinel(
                    self.servers[0].name,
                    self.servers[0].port,
                    quorum=1,
                    password=sentinel_password,
                    password_of_master=password,
                )
                self.sentinels.append(one)
            wait_for(lambda: all(self._sees_all(one) for one in self.sentinels), 30)
        except BaseException:
            self.close()
            raise

    def _sees_all(self, sentinel: Sentinel) -> bool:
        (fields,) = [
            dict(zip(one[::2], one[1::2], strict=True)) if isinstance(one, list) else one
            for one in sentinel.ask("MASTERS")
        ]
        texts = {_text(name): _text(value) for name, value in fields.items()}
        known = int(texts["num-slaves"]) == len(self.servers) - 1
        return known and int(texts["num-other-sentinels"]) == len(self.sentinels) - 1 and self._followed()

    def _followed(self) -> bool:
        replicas = [server for server in self.servers if server.info("replication")["role"] == "slave"]
        return len(replicas) == len(self.servers) - 1 and all(
            server.info("replication")["master_link_status"] == "up" for server in replicas
        )

    @property
    def url(self) -> str:
        login = f":{self.password}@" if self.password else ""
        option = f"?sentinel_password={self.sentinel_password}" if self.sentinel_password else ""
        places = ",".join(f"{LOOPBACK}:{one.port}" for one in self.sentinels)
        return f"sentinel://{login}{places}/{NAME}{option}"

    @property
    def master(self) -> Server:
        """The server that the first running sentinel names."""
        port = self.sentinels[0].master_port()
        return next(server for server in self.servers if server.port == port)

    def fail_over(self, how: Callable[[Server], None] | None = None) -> Server:
        """A replica becomes the master: by order, or because `how` was done to the master. → the new master, promoted."""
        old = self.master
        if how is None:
            self.sentinels[0].ask("FAILOVER", NAME)
        else:
            how(old)
        wait_for(lambda: all(one.master_port() != old.port for one in self.sentinels), 40)
        new = self.master
        wait_for(lambda: new.info("replication")["role"] == "master", 20)
        return new

    def close(self) -> None:
        for sentinel in self.sentinels:
            sentinel.close()
        for server in self.servers:
            server.close()


def _text(value: bytes | str | int) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
