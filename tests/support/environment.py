"""Settings of the test run. A plugin (`-p` in pyproject.toml), since pytest-django reads the settings before any conftest.

Whatever the developer's own environment says, a test run has its own keys, its own data folder and no TLS redirect. Only
DATABASE_URL is taken over, so that the same tests can be run on PostgreSQL.

`python -m tests.support.environment COMMAND…` runs a command with these settings (mypy and `manage.py check` read them too).
"""

from __future__ import annotations

import atexit
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

# Names that settings read; each also exists as NAME_FILE, and both at once is refused.
OURS = (
    "SECRET_KEY",
    "CREDENTIAL_KEYS",
    "SECURE_SSL",
    "DEBUG",
    "ALLOWED_HOSTS",
    "SWITCHYARD_DATA_DIR",
    "LOG_FORMAT",
)
# Every process of this run has it in its environment, so that one that lives on can be found.
RUN = uuid.uuid4().hex


def prepare() -> None:
    from cryptography.fernet import Fernet

    for name in OURS:
        os.environ.pop(name, None)
        os.environ.pop(f"{name}_FILE", None)
    folder = tempfile.mkdtemp(prefix="switchyard-tests-")
    owner = os.getpid()
    # A forked worker that ends in the ordinary way runs this too; only the test run itself may remove the folder.
    atexit.register(lambda: shutil.rmtree(folder, ignore_errors=True) if os.getpid() == owner else None)
    os.environ.update(
        SECRET_KEY=secrets.token_urlsafe(48),
        CREDENTIAL_KEYS=Fernet.generate_key().decode(),
        SECURE_SSL="off",
        SWITCHYARD_DATA_DIR=folder,
        LOG_FORMAT="console",
        SWITCHYARD_TEST_RUN=RUN,
    )


def drop_stale_kernel() -> None:
    """A compiled kernel wins over its source at import. One that is older than the source would be tested in its place."""
    engine = Path(__file__).resolve().parents[2] / "migrations_app" / "engine"
    source = engine / "kernel.py"
    for compiled in engine.glob("kernel.*.so"):
        if source.is_file() and source.stat().st_mtime > compiled.stat().st_mtime:
            compiled.unlink(missing_ok=True)


prepare()
drop_stale_kernel()

if __name__ == "__main__":
    sys.exit(subprocess.call(sys.argv[1:]))
