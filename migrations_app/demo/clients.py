"""What the sample data and the writer need of a server: clients, capabilities and a quick, checked pipeline.

redis-py speaks RESP3 by default, which servers before 6.0 do not know: every client here says ``protocol=2``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

Word = bytes | str | int | float
Command = tuple[Word, ...]
ClientFactory = Callable[[int], redis.Redis]
Source = str | redis.Redis | ClientFactory

SOCKET_TIMEOUT_S = 60.0


class DemoError(Exception):
    """Something a person can act on: the sentence is the whole message."""


def factory_for(source: Source) -> ClientFactory:
    """A function database → client for a URL, a client (its settings are reused), or a function that already
    is one.

    Clients do not retry by themselves: a repeated INCR or RPUSH would be applied twice without anybody's
    knowledge.
    """
    if isinstance(source, str):
        return lambda db: redis.Redis.from_url(
            # Of a database in the URL and one in the argument redis-py takes the URL's: it is cut off.
            _without_database(source),
            db=db,
            protocol=2,
            socket_timeout=SOCKET_TIMEOUT_S,
            socket_connect_timeout=5.0,
            retry=Retry(NoBackoff(), 0),
        )
    if isinstance(source, redis.Redis):
        pool = source.connection_pool
        settings = {**pool.connection_kwargs, "retry": Retry(NoBackoff(), 0)}
        # A decoding client cannot carry binary keys, whatever the caller's own client does.
        settings["decode_responses"] = False
        settings["protocol"] = 2

        def from_client(db: int) -> redis.Redis:
            return redis.Redis(
                connection_pool=redis.ConnectionPool(
                    connection_class=pool.connection_class, **{**settings, "db": db}
                )
            )

        return from_client
    return source


def _without_database(url: str) -> str:
    parts = urlsplit(url)
    query = urlencode([pair for pair in parse_qsl(parts.query) if pair[0] != "db"])
    path = parts.path if parts.scheme == "unix" else ""
    return urlunsplit((parts.scheme, parts.netloc, path, query, ""))


@dataclass(frozen=True)
class Capabilities:
    """What a server is and knows. ``compat`` is the Redis version that it claims compatibility with (Valkey:
    7.2.4)."""

    product: str
    version: tuple[int, ...]
    compat: tuple[int, ...]
    commands: frozenset[str]
    cluster: bool

    @classmethod
    def of(cls, client: redis.Redis) -> Capabilities:
        """Ask a server. Raises `redis.RedisError` where it cannot be reached or refuses."""
        info = client.info()
        valkey = info.get("valkey_version")
        # COMMAND is read raw: the parsed form differs between releases of redis-py and of the servers.
        reply = Pipe(client).ask([("COMMAND",)])[0]
        return cls(
            product="valkey" if valkey else "redis",
            version=_version(str(valkey or info["redis_version"])),
            compat=_version(str(info["redis_version"])),
            commands=frozenset(bytes(entry[0]).decode().upper() for entry in reply),
            cluster=bool(info.get("cluster_enabled")),
        )

    def has(self, *commands: str) -> bool:
        """Whether the server knows all of these commands (upper case)."""
        return self.commands.issuperset(commands)

    def at_least(self, *version: int) -> bool:
        """Whether the Redis version that it is compatible with is this or later."""
        return self.compat >= version

    def __str__(self) -> str:
        return f"{self.product} {'.'.join(map(str, self.version))}"


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:3] if part.isdigit())


def encode(command: Command) -> bytes:
    """One command as a RESP array. Text is UTF-8; numbers are written as Python's `repr`, which loses no
    precision."""
    parts = [b"*%d\r\n" % len(command)]
    for argument in command:
        if type(argument) is not bytes:
            argument = str(argument).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(argument), argument))
    return b"".join(parts)


class Pipe:
    """A pipeline on one connection that checks every reply.

    redis-py's own pipeline keeps every command and reply of a run in memory and parses replies by command;
    this one holds at most ``commands`` commands or ``size`` bytes and takes a third of the time.
    """

    def __init__(self, client: redis.Redis, *, commands: int = 1000, size: int = 1 << 20) -> None:
        self._client = client
        self._limit = commands
        self._size = size
        self._buffer: list[bytes] = []
        self._names: list[Command] = []
        self._bytes = 0
        self.sent = 0
        self.sent_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        if kind is None:
            self.flush()

    def add(self, *command: Word) -> None:
        """Queue a command; sends what is queued when a limit is reached. Raises `DemoError` for an error
        reply."""
        packed = encode(command)
        self._buffer.append(packed)
        self._names.append(command)
        self._bytes += len(packed)
        if len(self._buffer) >= self._limit or self._bytes >= self._size:
            self.flush()

    def extend(self, commands: Iterable[Command]) -> None:
        """Queue many commands."""
        for command in commands:
            self.add(*command)

    def flush(self) -> None:
        """Send what is queued and read as many replies. Raises `DemoError` for the first error among them."""
        if not self._buffer:
            return
        names, self._names = self._names, []
        payload, self._buffer = b"".join(self._buffer), []
        self._bytes = 0
        for command, reply in zip(names, self._exchange(payload, len(names)), strict=True):
            for part in reply if isinstance(reply, list) else (reply,):
                if isinstance(part, Exception):
                    raise DemoError(f"the server refused {_shown(command)}: {part}") from part

    def ask(self, commands: list[Command]) -> list[Any]:
        """Send these commands (after what is queued) and return their replies; errors are returned, not
        raised."""
        self.flush()
        return self._exchange(b"".join(map(encode, commands)), len(commands))

    def _exchange(self, payload: bytes, count: int) -> list[Any]:
        pool = self._client.connection_pool
        # Any: this part of redis-py carries no types.
        connection: Any = pool.get_connection()
        whole = False
        try:
            connection.send_packed_command([payload], check_health=False)
            replies = [self._reply(connection) for _ in range(count)]
            whole = True
        finally:
            if not whole:
                # Replies that were not read would be taken for those of the next commands.
                connection.disconnect()
            pool.release(connection)
        self.sent += count
        self.sent_bytes += len(payload)
        return replies

    @staticmethod
    def _reply(connection: Any) -> Any:
        try:
            return connection.read_response(disable_decoding=True, disconnect_on_error=False)
        except redis.ResponseError as error:
            return error


def _shown(command: Command) -> str:
    words = " ".join(repr(word)[:60] for word in command[:3])
    return words + (" …" if len(command) > 3 else "")
