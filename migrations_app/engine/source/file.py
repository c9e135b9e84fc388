"""A snapshot file as source: what a server has saved (`dump.rdb`), read once from its beginning to its end."""

from __future__ import annotations

import io
import os
import stat
import time

from migrations_app.engine import errors
from migrations_app.engine.endpoint import Endpoint
from migrations_app.engine.facts import ServerFacts
from migrations_app.engine.protocol.psync import Event, FullResync, SnapshotBegin, SnapshotBytes, SnapshotEnd

_FACTS = ServerFacts(version=(), valkey_version="", run_id="", master=True, cluster=False, loading=False)


def check_file(endpoint: Endpoint) -> None:
    """Raise `UsageError` for a path that cannot be read or holds no snapshot."""
    _open(endpoint).close()


class SnapshotFile:
    """An open file with the methods of a connection that the loop uses. Its end before `size` bytes is an error."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._file = _open(endpoint)
        status = os.fstat(self._file.fileno())
        self.size, self.modified = status.st_size, status.st_mtime  # bytes; seconds since the epoch
        self._path = endpoint.file
        self._left = self.size
        self.last_received = time.monotonic()

    def fileno(self) -> int:
        return self._file.fileno()

    @property
    def buffered(self) -> bool:
        return False  # a poll of a file finds it readable, always

    def recv(self, size: int) -> bytes:
        try:
            data = self._file.read(size)
        except OSError as error:
            raise errors.SnapshotError(f"{self._path} cannot be read: {error.strerror or error}") from None
        if not data:
            raise errors.SnapshotError(
                f"{self._path} is cut short: it ends at byte {self.size - self._left}, before the end of the snapshot",
                advice="Make the snapshot anew (BGSAVE) or copy the whole file, then start again.",
            )
        self._left -= len(data)
        self.last_received = time.monotonic()
        return data

    def close(self) -> None:
        self._file.close()


class FileDecoder:
    """All bytes are the snapshot; nothing may follow it."""

    def __init__(self, path: str, size: int) -> None:
        self._path = path
        self._size = size
        self._begun = False

    @property
    def waiting(self) -> bool:
        return not self._begun

    @property
    def left(self) -> None:
        return None

    def feed(self, data: bytes) -> list[Event]:
        events: list[Event] = [] if self._begun else [FullResync("", 0), SnapshotBegin(self._size)]
        self._begun = True
        return [*events, SnapshotBytes(data)]

    def end_snapshot(self, rest: bytes) -> list[Event]:
        """The snapshot is complete; `rest` is what the block holds behind it."""
        if rest:
            raise errors.SnapshotError(
                f"{self._path} goes on behind the end of its snapshot, as an append-only file does; that part cannot be read",
                advice="Make a snapshot (BGSAVE) and give its file. What the first part holds is written to the target already.",
            )
        return [SnapshotEnd()]


class FileSource:
    """Has no stream, so nothing to acknowledge, follow or go on with."""

    follows = False
    resumes = False
    pushes = False

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.connection = SnapshotFile(endpoint)
        self.decoder = FileDecoder(endpoint.file, self.connection.size)
        self.facts = _FACTS
        written = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(self.connection.modified))
        self.limits = (
            f"a snapshot file: the data is as old as the file (last written {written}), later changes of its server are not in it; "
            "keys whose expiry has passed since are not carried, as a server leaves them out when it loads the file"
        )

    def close(self) -> None:
        self.connection.close()

    def keyspace(self) -> None:
        return None

    def replication(self) -> dict[str, str]:
        return {}

    def start(self, replication_id: str, offset: int) -> None:
        pass

    def acknowledge(self, offset: int) -> None:
        pass


def _open(endpoint: Endpoint) -> io.FileIO:
    """The file; `UsageError` if it is no snapshot."""
    path = endpoint.file
    try:
        # Not to wait for a writer, should it be a pipe.
        file = io.FileIO(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise errors.UsageError(f"{path} cannot be read: {reason}; nothing was changed") from None
    try:
        mode = os.fstat(file.fileno()).st_mode
        if not stat.S_ISREG(mode):
            what = "a directory" if stat.S_ISDIR(mode) else "no regular file"
            raise errors.UsageError(f"{path} is {what}, not a snapshot file; nothing was changed")
        magic = os.pread(file.fileno(), 9, 0)
        if not any(magic.startswith(name) and magic[len(name) :].isdigit() for name in (b"REDIS", b"VALKEY")):
            raise errors.UsageError(
                f"{path} is no snapshot file: it begins with {magic!r}, not with REDIS or VALKEY and a version; nothing was changed",
                advice="Give the file that SAVE or BGSAVE writes (CONFIG GET dir, CONFIG GET dbfilename).",
            )
    except BaseException:
        file.close()
        raise
    return file
