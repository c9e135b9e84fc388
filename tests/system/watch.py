"""Proof that a target has one writer at a time: what it executes, command by command, with the epoch of the connection."""

from __future__ import annotations

import re
import socket
import threading
from collections import Counter
from typing import Self

from tests.support.servers import Server

_LINE = re.compile(rb'^\+[\d.]+ \[\d+ (\S+)\] "([^"]+)"(.*)$')
_QUESTIONS = frozenset(
    b"INFO WATCH UNWATCH HGETALL HGET SMEMBERS SRANDMEMBER SCARD CLIENT COMMAND AUTH HELLO PING SELECT DUMP SCAN EXISTS GET DBSIZE "
    b"MULTI EXEC MONITOR TIME".split()
)


class OneWriter:
    """Reads MONITOR of a target. Commands stand there in the order in which the server executes them.

    Every checkpoint names the epoch of the connection that writes it, and a connection's first write is a checkpoint. So a
    write of a connection whose epoch is not the highest one seen so far is the write of an owner that was replaced.
    """

    def __init__(self, target: Server, link: str) -> None:
        self._socket = socket.create_connection(target.address, 10)
        self._key = f'"switchyard:checkpoint:{link}"'.encode()
        self._epoch_of: dict[bytes, int] = {}
        self.writes: Counter[int] = Counter()  # epoch → writes of its connections
        self.epochs: list[int] = []  # in the order in which they took over
        self.violations: list[str] = []
        self._socket.sendall(b"MONITOR\r\n")
        self._file = self._socket.makefile("rb")
        assert self._file.readline() == b"+OK\r\n"
        self._socket.settimeout(None)
        self._thread = threading.Thread(target=self._read, name="one-writer", daemon=True)
        self._thread.start()

    @property
    def newest(self) -> int:
        return self.epochs[-1] if self.epochs else 0

    def _read(self) -> None:
        try:
            for line in self._file:
                self._take(line.rstrip())
        except (OSError, ValueError):
            return  # closed

    def _take(self, line: bytes) -> None:
        match = _LINE.match(line)
        if match is None:
            return
        address, name, rest = match[1], match[2].upper(), match[3]
        if name == b"CLIENT" and (b'"SETNAME"' in rest or b'"SETINFO"' in rest):
            # What a connection says first of all: the port is that of an owner no more.
            self._epoch_of.pop(address, None)
        if name == b"HMSET" and self._key in rest:
            epoch = int(re.search(rb'"epoch" "(\d+)"', rest)[1])  # type: ignore[index]
            before = self._epoch_of.setdefault(address, epoch)
            if epoch > self.newest:
                self.epochs.append(epoch)
                # The same connection can never take over twice; the port of a closed one can be used again.
                self._epoch_of[address] = epoch
            elif before != epoch:
                self._epoch_of[address] = epoch
                self.violations.append(f"{address!r} wrote epoch {epoch} after {before}: {line[:200]!r}")
        if name in _QUESTIONS or (epoch_of := self._epoch_of.get(address)) is None:
            return
        self.writes[epoch_of] += 1
        if epoch_of != self.newest:
            self.violations.append(
                f"a write of epoch {epoch_of} after epoch {self.newest} took over: {line[:200]!r}"
            )

    def check(self) -> None:
        assert self.violations == [], "\n".join(self.violations)
        assert self.epochs == sorted(set(self.epochs))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(10)
