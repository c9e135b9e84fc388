"""What is uploaded: streamed to the folder of uploads, to people who are signed in only, up to a limit.

Django parses a form as a whole before the view is called, and the check against forged requests needs that; so what may be
stored is decided here, at the first bytes. A file that is refused is read to its end and thrown away, so that the person gets
the page that says why.
"""

from __future__ import annotations

import os
import tempfile
from typing import Any

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.core.files.uploadhandler import FileUploadHandler

HEADERS = (b"REDIS", b"VALKEY")
HEADER_BYTES = 10

TOO_LARGE = "too-large"
NO_SNAPSHOT = "no-snapshot"
NO_SPACE = "no-space"


class ArrivedFile(UploadedFile):  # type: ignore[type-arg]  # not subscriptable at run time
    """A file below `settings.UPLOADS` under a name of its own. `refused` says why nothing of it was kept, or is empty."""

    def __init__(self, file: Any, name: str, size: int, refused: str = "", header: bytes = b"") -> None:
        super().__init__(file, name, "application/octet-stream", size)
        self.refused = refused
        self.header = header

    @property
    def path(self) -> str:
        return str(self.file.name) if self.file is not None else ""

    def close(self) -> None:
        """What nobody has taken over is removed, at the end of the request at the latest."""
        if self.file is not None:
            self.file.close()


class SnapshotUpload(FileUploadHandler):
    chunk_size = 256 * 2**10

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        super().new_file(*args, **kwargs)
        self.refused = ""
        self.header = b""
        self.size = 0
        self.partial: Any = None
        user = getattr(self.request, "user", None)
        self.welcome = user is not None and user.is_authenticated

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        self.size += len(raw_data)
        if not self.welcome or self.refused:
            return None
        if len(self.header) < HEADER_BYTES:
            self.header += raw_data[: HEADER_BYTES - len(self.header)]
            if not any(self.header.startswith(one[: len(self.header)]) for one in HEADERS):
                return self._refuse(NO_SNAPSHOT)
        if self.size > settings.SNAPSHOT_UPLOAD_LIMIT:
            return self._refuse(TOO_LARGE)
        try:
            if self.partial is None:
                os.makedirs(settings.UPLOADS, mode=0o700, exist_ok=True)
                # Readable for this user only; removed by itself unless it is taken over.
                self.partial = tempfile.NamedTemporaryFile(dir=settings.UPLOADS, prefix=".arriving-")  # noqa: SIM115
            self.partial.write(raw_data)
        except OSError:
            self._refuse(NO_SPACE)
        return None

    def file_complete(self, file_size: int) -> ArrivedFile:
        if not self.welcome:
            return ArrivedFile(None, self.file_name or "", self.size, NO_SNAPSHOT)
        if not self.refused and not is_snapshot(self.header):
            self._refuse(NO_SNAPSHOT)
        if self.partial is not None:
            self.partial.flush()
        return ArrivedFile(self.partial, self.file_name or "", self.size, self.refused, self.header)

    def upload_interrupted(self) -> None:
        self._drop()

    def _refuse(self, why: str) -> None:
        self.refused = why
        self._drop()

    def _drop(self) -> None:
        if self.partial is not None:
            self.partial.close()
            self.partial = None


def is_snapshot(header: bytes) -> bool:
    """Whether a file that begins so is a snapshot of Redis or Valkey: the name, and its version in digits."""
    return snapshot_version(header) is not None


def snapshot_version(header: bytes) -> int | None:
    """The version of the format: `REDIS0011` is 11, `VALKEY080` is 80."""
    for name, digits in ((b"REDIS", 4), (b"VALKEY", 3)):
        number = header[len(name) : len(name) + digits]
        if header.startswith(name) and len(number) == digits and number.isdigit():
            return int(number)
    return None
