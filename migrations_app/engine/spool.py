"""What the source sends while the target does not keep up: kept on disk, first in, first out, within a limit.

Segments of up to 64 MB, each a file without a name: space that has been read is given back at once, and nothing is left behind however
the process ends. There is no file before the first byte and none after the last.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import deque
from io import FileIO

from migrations_app.engine.errors import SpoolError

_LASTING = "/var/tmp"  # noqa: S108 - files in it are made without a name
BLOCK = 256 * 1024  # the most that is put at once; the limit leaves room for it
_SEGMENT = 64 * 2**20
_LOOK_EVERY = 2**20  # bytes written between two looks at the disk's free space
_KEEP_FREE = 2**30  # bytes of the disk that are left to others, but no more than this share of it:
_KEEP_FREE_SHARE = 0.05
_AGAIN_AFTER = 1.0  # seconds until a disk that was full is tried again


def default_folder() -> str:
    """`TMPDIR` where it is set, else `/var/tmp` (`/tmp` is memory on many systems), else what the system has."""
    if "TMPDIR" not in os.environ and os.access(_LASTING, os.W_OK | os.X_OK):
        return _LASTING
    return tempfile.gettempdir()


class _Segment:
    __slots__ = ("file", "read", "written")

    def __init__(self, file: FileIO) -> None:
        self.file = file
        self.written = self.read = 0


class Spool:
    """`put` and `take` bytes; ask `full` before `put`. `size` bytes wait in it. A limit of 0 makes it full for good.

    A disk that is full, or cannot be written, makes the spool full (`why` says so) and is tried again; what is in the spool stays
    readable. Raises `SpoolError` when what was written cannot be read again.
    """

    def __init__(self, folder: str, limit: int) -> None:
        self.folder = folder
        self.limit = limit
        self.size = 0
        self.why = ""
        self._segments: deque[_Segment] = deque()
        self._segment_size = min(_SEGMENT, max(BLOCK, limit // 16))
        self._on_disk = 0
        self._unlooked = 0  # bytes written since the last look at the free space
        self._refused = b""  # what the disk did not take: at most one block
        self._sealed = True  # the last segment takes nothing more
        self._again_at = 0.0

    @property
    def full(self) -> bool:
        """Whether nothing may be `put` now; `why` then holds the reason."""
        if self._on_disk + BLOCK > self.limit:
            self.why = f"its limit of {self.limit} bytes is reached"
            return True
        if not self.why or not self._again_at:
            return False
        if time.monotonic() < self._again_at:
            return True
        self._again_at, self.why = 0.0, ""
        if self._looked():
            self._write(b"")
        return bool(self.why)

    def put(self, data: bytes) -> None:
        """Append up to `BLOCK` bytes."""
        first = not self.size
        self.size += len(data)
        self._write(data)
        if (first or self._unlooked >= _LOOK_EVERY) and not self._again_at:
            self._looked()

    def take(self, size: int) -> bytes:
        """The next bytes, at most `size` of them; empty when nothing waits."""
        if not self._segments:
            data, self._refused = self._refused[:size], self._refused[size:]
        else:
            data = self._read(size)
        self.size -= len(data)
        if not self.size:
            self.close()
        return data

    def close(self) -> None:
        """Throw away what is left; the spool can be used again."""
        while self._segments:
            self._segments.popleft().file.close()
        self.size = self._on_disk = self._unlooked = 0
        self._refused, self._sealed = b"", True
        self._again_at, self.why = 0.0, ""

    def _write(self, data: bytes) -> None:
        view = memoryview(self._refused + data)
        try:
            while view:
                if self._sealed or self._segments[-1].written >= self._segment_size:
                    self._add_segment()
                segment = self._segments[-1]
                count = segment.file.write(view[: self._segment_size - segment.written]) or 0
                segment.written += count
                self._on_disk += count
                self._unlooked += count
                view = view[count:]
        except OSError as error:
            self._refuse(error.strerror or str(error))
            self._sealed = True  # also a file may have a limit of its own
        self._refused = bytes(view)

    def _add_segment(self) -> None:
        # Without a name from the beginning where the file system can do that, else unlinked at once.
        file = tempfile.TemporaryFile(dir=self.folder, prefix="switchyard-spool-", buffering=0)  # noqa: SIM115
        self._segments.append(_Segment(file))
        self._sealed = False

    def _read(self, size: int) -> bytes:
        segment = self._segments[0]
        wanted = min(size, segment.written - segment.read)
        try:
            data = os.pread(segment.file.fileno(), wanted, segment.read)
        except OSError as error:
            raise SpoolError(
                f"the spool in {self.folder} cannot be read: {error.strerror or error}"
            ) from None
        if wanted and not data:
            raise SpoolError(f"the spool in {self.folder} has lost what was written to it")
        segment.read += len(data)
        if segment.read == segment.written:
            self._segments.popleft()
            self._on_disk -= segment.written
            segment.file.close()
            self._sealed = self._sealed or not self._segments
        return data

    def _looked(self) -> bool:
        """Whether the disk has room to spare."""
        self._unlooked = 0
        try:
            facts = os.statvfs(self.folder)
        except OSError as error:
            self._refuse(error.strerror or str(error))
            return False
        free = facts.f_bavail * facts.f_frsize
        if free - BLOCK < min(_KEEP_FREE, _KEEP_FREE_SHARE * facts.f_blocks * facts.f_frsize):
            self._refuse(f"{free} bytes are free on the disk, the rest is left to others")
            return False
        return True

    def _refuse(self, reason: str) -> None:
        self.why = f"{self.folder}: {reason}"
        self._again_at = time.monotonic() + _AGAIN_AFTER
