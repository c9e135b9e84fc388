"""Static files: with their hash in the name once they are collected, under their own name before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from whitenoise.middleware import WhiteNoiseMiddleware
from whitenoise.storage import CompressedManifestStaticFilesStorage


class HashedStorage(CompressedManifestStaticFilesStorage):  # type: ignore[misc]  # WhiteNoise has no types
    """WhiteNoise's storage that needs no `collectstatic` in development and tests.

    A name that is missing from the manifest (a file added after the last `collectstatic`) is served unhashed
    rather than with an error page.
    """

    manifest_strict = False

    def url(self, name: str | None, force: bool = False) -> str:
        if not settings.COLLECTED:
            return f"{settings.STATIC_URL}{name or ''}"
        return str(super().url(name, force))

    def hashed_name(self, name: str, content: Any = None, filename: str | None = None) -> str:
        try:
            return str(super().hashed_name(name, content, filename))
        except ValueError:
            return name


class StaticFiles(WhiteNoiseMiddleware):  # type: ignore[misc]  # WhiteNoise has no types
    """WhiteNoise, without its warning at every start before the first `collectstatic`: check portal.W001 says it once."""

    def add_files(self, root: str, prefix: str | None = None) -> None:
        if Path(root).is_dir():
            super().add_files(root, prefix)
