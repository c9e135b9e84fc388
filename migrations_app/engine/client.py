"""A small blocking client: for the handshake, questions to a server, and the comparison."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from migrations_app.engine import errors, lookup
from migrations_app.engine.endpoint import Endpoint
from migrations_app.engine.net import Connection
from migrations_app.engine.protocol.resp import Reply, ReplyError, ReplyReader, encode, encode_many

Arg = bytes | str | int | float
Command = Sequence[bytes | str | int | float]

_READ = 256 * 1024


class Client:
    """Speaks to one server, logged in. Use as a context manager, or `close()` it.

    `execute` raises for an error reply, `pipeline` returns it as `ReplyError` in its place. Every call is bounded by
    `timeout` seconds for each wait on the network. Where the endpoint is to be looked up, that is done here, and `endpoint` of the
    client is the server that was found.
    """

    endpoint: Endpoint
    connection: Connection

    def __init__(self, endpoint: Endpoint, *, timeout: float = 20.0, name: str = "") -> None:
        self.timeout = timeout
        if endpoint.lookup is not None and not endpoint.host:
            self._find(endpoint, name)
        else:
            self._open(endpoint, name)

    def _find(self, endpoint: Endpoint, name: str) -> None:
        """Connect to the first server that is named for the endpoint and is a master."""
        ask = partial(Client, timeout=lookup.ask_seconds(self.timeout))
        failure: errors.ConnectError | None = None
        for place in lookup.found(endpoint, ask):
            try:
                self._open(place, name)
                role = self._role()
            except errors.ConnectError as error:
                failure = error
                continue
            if role == "master":
                return
            self.close()
            failure = errors.NotTheMaster(
                f"{place.address}: named as the master, but it is a {role or 'server'}"
            )
        raise failure or errors.ConnectError(f"{endpoint.address}: no server was named")

    def _role(self) -> str:
        try:
            return self.info("replication").get("role", "master")
        except BaseException:
            self.close()
            raise

    def _open(self, endpoint: Endpoint, name: str) -> None:
        self.endpoint = endpoint
        self.connection = Connection.open(endpoint, self.timeout)
        self._reader = ReplyReader()
        self._ready: list[Reply] = []
        try:
            self._login(name)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.connection.close()

    def execute(self, *args: bytes | str | int | float) -> Reply:
        """One command and its reply; an error reply is raised as an `EngineError`."""
        self.connection.send_all(encode(*args), self.timeout)
        reply = self._reply()
        if isinstance(reply, ReplyError):
            raise self.error(reply, str(_text(args[0])).upper())
        return reply

    def pipeline(self, commands: Iterable[Command]) -> list[Reply]:
        """Several commands in one go, and their replies in order. Keep it to some MB: all of it is sent first."""
        commands = list(commands)
        self.send(encode_many(tuple(command) for command in commands))
        return self.receive(len(commands))

    def transaction(self, commands: Sequence[Command]) -> list[Reply]:
        """Commands in one MULTI/EXEC, and their replies in order; a command that is not taken is raised as an `EngineError`."""
        replies = self.pipeline([("MULTI",), *commands, ("EXEC",)])
        for command, reply in zip(commands, replies[1:-1], strict=True):
            if isinstance(reply, ReplyError):
                raise self.error(reply, _text(command[0]).upper())
        results = replies[-1]
        if isinstance(results, ReplyError):
            raise self.error(results, "EXEC")
        if not isinstance(results, list):
            raise errors.ProtocolError(
                f"{self.endpoint.address}: EXEC did not answer with a list: {results!r}"
            )
        return results

    @property
    def received(self) -> int:
        """Bytes that have come from the server so far."""
        return self.connection.received

    def send(self, data: bytes) -> None:
        """Send commands that are encoded already; `receive` their replies later, as many as there are commands."""
        self.connection.send_all(data, self.timeout)

    def receive(self, count: int) -> list[Reply]:
        """The next `count` replies, in order; an error reply comes as `ReplyError`."""
        ready = self._ready
        while len(ready) < count:
            ready += self._reader.feed(self.connection.recv_wait(_READ, self.timeout))
        self._ready = ready[count:]
        del ready[count:]
        return ready

    def available(self) -> list[Reply]:
        """The replies that are there now, without waiting; not more than some MB of them."""
        ready, self._ready = self._ready, []
        for _ in range(8):
            if (data := self.connection.recv(_READ)) is None:
                break
            ready += self._reader.feed(data)
        return ready

    def info(self, *sections: str) -> dict[str, str]:
        """INFO as a flat mapping; no section means the default ones."""
        fields: dict[str, str] = {}
        for section in sections or ("",):
            reply = self.execute(*(("INFO", section) if section else ("INFO",)))
            for line in _text(reply).splitlines():
                name, colon, value = line.partition(":")
                if colon and not line.startswith("#"):
                    fields[name] = value
        return fields

    def keyspace(self) -> dict[int, tuple[int, int]]:
        """Database → (keys, keys with an expiry), of the databases that hold keys."""
        result: dict[int, tuple[int, int]] = {}
        for name, value in self.info("keyspace").items():
            if name.startswith("db") and name[2:].isdigit():
                counts = dict(part.split("=", 1) for part in value.split(",") if "=" in part)
                result[int(name[2:])] = (int(counts.get("keys", 0)), int(counts.get("expires", 0)))
        return result

    def scan(self, pattern: bytes | str = b"", count: int = 1000) -> Iterator[list[bytes]]:
        """SCAN of the selected database, one page of keys after the other; a key may come more than once."""
        cursor: bytes = b"0"
        while True:
            extra: tuple[Arg, ...] = ("MATCH", pattern) if pattern else ()
            reply = self.execute("SCAN", cursor, *extra, "COUNT", count)
            if not isinstance(reply, list) or len(reply) != 2 or not isinstance(reply[0], bytes):
                raise errors.ProtocolError(
                    f"{self.endpoint.address}: SCAN answered something else than a page of keys"
                )
            cursor, keys = reply[0], reply[1]
            if keys:
                yield keys  # type: ignore[misc]
            if cursor == b"0":
                return

    def error(self, reply: ReplyError, command: str) -> errors.EngineError:
        """The error that a reply stands for; `command` is named in the message."""
        return error_of(reply, command, self.endpoint)

    def _login(self, name: str) -> None:
        endpoint = self.endpoint
        if endpoint.password or endpoint.username:
            user = (endpoint.username,) if endpoint.username else ()
            self._first("AUTH", *user, endpoint.password)
        else:
            self._first("PING")
        if name:
            self.execute("CLIENT", "SETNAME", name)

    def _first(self, *args: bytes | str | int | float) -> None:
        """The first command tells whether there is a Redis at the other end."""
        address = self.endpoint.address
        try:
            reply = self._first_reply(encode(*args))
        except errors.ProtocolError as error:
            raise errors.NotRedis(f"{address}: {error.message}") from None
        except errors.ConnectionTimeout:
            raise errors.ConnectionTimeout(
                f"{address}: connected, but there was no answer within {self.timeout:g} s",
                advice="Check that the port belongs to Redis or Valkey, and that the server is not stopped or overloaded.",
            ) from None
        except errors.ConnectionLost:
            raise errors.ConnectionLost(
                f"{address}: the server closed the connection at the first command",
                advice="Check that the port belongs to Redis or Valkey, whether it expects TLS, and its maxclients.",
            ) from None
        if isinstance(reply, ReplyError):
            raise self.error(reply, str(args[0]))

    def _first_reply(self, command: bytes) -> Reply:
        self.connection.send_all(command, self.timeout)
        data = self.connection.recv_wait(_READ, self.timeout)
        if data[:1] == b"\x15" and not self.endpoint.tls:
            raise errors.ProtocolError("the port answers with TLS; use rediss:// (TLS on)")
        self._ready += self._reader.feed(data)
        return self._reply()

    def _reply(self) -> Reply:
        return self.receive(1)[0]


def error_of(reply: ReplyError, command: str, endpoint: Endpoint) -> errors.EngineError:
    """Turn an error reply into the error that names its cause."""
    message = f"{endpoint.address}: {command}: {reply}"
    code = reply.code
    if code in {"WRONGPASS", "NOAUTH"}:
        return errors.AuthError(message)
    if (
        "invalid password" in reply
        or "without any password configured" in reply
        or "no password is set" in reply
    ):
        return errors.AuthError(message)
    if command == "AUTH" and "wrong number of arguments" in reply:
        return errors.AuthError(message, advice="Servers before 6.0 know no users: give the password alone.")
    if code == "NOPERM":
        return errors.PermissionDenied(message)
    # The second: EXEC of a transaction that began before the server became a replica.
    if code == "READONLY" or "instance is now a read-only" in reply:
        return errors.TargetDemoted(message) if endpoint.lookup else errors.TargetReadOnly(message)
    if code == "BUSYKEY":
        return errors.TargetConflict(message)
    if code == "OOM":
        return errors.TargetOutOfMemory(message)
    if code in {"LOADING", "BUSY", "MASTERDOWN", "TRYAGAIN", "CLUSTERDOWN"}:
        return errors.ServerLoading(message)
    if code in {"MOVED", "ASK"}:
        return errors.ClusterChanged(message)
    if "max number of clients" in reply:
        return errors.ConnectError(message, advice="Raise maxclients of the server, or close idle clients.")
    if code == "DENIED":
        return errors.PermissionDenied(
            message, advice="The server runs in protected mode: set a password or `bind`."
        )
    return errors.TargetError(message)


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
