"""The demo's own settings: nothing of the user's is read or touched.

Database, keys, logs, the servers' folders and temporary files are in one new folder that only this user can
enter; it goes with the demo. Keys are generated, lie in files there and are named by ``*_FILE``, so that no
command line or environment shows them.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from portal import keys
from portal.processes import Guardian, temporary_folder

from .clients import DemoError

OWN = (
    "SECRET_KEY", "SECRET_KEY_FALLBACKS", "CREDENTIAL_KEYS", "DATABASE_URL", "DATABASE_CONN_MAX_AGE",
    "DEBUG", "ALLOWED_HOSTS", "CSRF_TRUSTED_ORIGINS", "SECURE_SSL", "SECURE_HSTS_SECONDS",
    "TRUST_PROXY_TLS", "SWITCHYARD_DATA_DIR", "STATIC_ROOT", "EMAIL_BACKEND", "EMAIL_HOST",
    "EMAIL_HOST_USER", "EMAIL_HOST_PASSWORD", "EMAIL_FILE_PATH", "DEFAULT_FROM_EMAIL", "SITE_URL", "TIME_ZONE",
    "EVENT_REMINDER_HOURS", "EVENT_ESCALATION_MINUTES", "EVENT_LATE_MINUTES", "LOG_FORMAT", "LOG_LEVEL", "ALLOWED_NETWORKS",
    "DEFAULT_WORKERS", "REPLICATION_WORKERS", "Q_CLUSTER_NAME", "DJANGO_SETTINGS_MODULE",
)  # fmt: skip
"""Settings that the demo makes itself, or leaves at their defaults, whatever the user's environment says."""


MAILS = "mails"
"""The part of the folder in which mails are."""

_guardian: Guardian | None = None


def enter() -> None:
    """Make the folder with its keys, and turn the environment of this process into the demo's.

    To be called before Django reads its settings (manage.py does). From here on the folder goes when this process ends, in
    whatever way; until the demo handles signals itself, Ctrl-C just ends it.
    """
    global _guardian
    folder = temporary_folder("switchyard-demo-")
    _guardian = Guardian(folder)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: os._exit(128 + number))
    environment = _environment(folder)
    os.environ.clear()
    os.environ.update(environment)


def guardian() -> Guardian:
    """The guardian of the folder. Raises `DemoError` if `enter` was not called."""
    if _guardian is None:
        raise DemoError("The demo has settings of its own: start it with `python manage.py demo`.")
    return _guardian


def _environment(folder: Path) -> dict[str, str]:
    for part in ("keys", "logs", "tmp", MAILS):
        (folder / part).mkdir()
    environment = {name: value for name, value in os.environ.items() if name.removesuffix("_FILE") not in OWN}
    environment |= {
        "DJANGO_SETTINGS_MODULE": "portal.settings",
        "SECRET_KEY_FILE": _write(folder / "keys" / "secret", keys.generate_secret_key()),
        "CREDENTIAL_KEYS_FILE": _write(folder / "keys" / "credentials", keys.generate_credential_key()),
        "DATABASE_URL": f"sqlite:///{folder / 'switchyard.sqlite3'}",
        "SWITCHYARD_DATA_DIR": str(folder),
        "ALLOWED_HOSTS": "127.0.0.1,localhost",
        # It is served on loopback only, where there is no certificate to be had.
        "SECURE_SSL": "off",
        # Nothing leaves this machine: mails are files that can be looked at.
        "EMAIL_BACKEND": "django.core.mail.backends.filebased.EmailBackend",
        "EMAIL_FILE_PATH": str(folder / MAILS),
        # Of the demo itself, whose terminal shows other things; its children write everything to their logs.
        "LOG_LEVEL": "warning",
        "DEFAULT_WORKERS": "1",
        "REPLICATION_WORKERS": "1",
        "TMPDIR": str(folder / "tmp"),
    }
    return environment


def of_children(site_url: str) -> dict[str, str]:
    """The environment of the web server and the clusters. Links in messages begin with `site_url`."""
    return {**os.environ, "LOG_LEVEL": "info", "SITE_URL": site_url.rstrip("/")}


def _write(path: Path, text: str) -> str:
    path.touch(mode=0o600)
    path.write_text(text)
    return str(path)
