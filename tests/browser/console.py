"""The console as people run it: `manage.py serve` on settings, a database and people of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen
from zoneinfo import ZoneInfo

from portal import keys
from tests.support.ports import LOOPBACK, free_port
from tests.support.process import Process
from tests.support.wait import wait_for

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "opens the console"
ADMIN = "ada"

# Each person owns an account; the administrator is a member of none.
SEED = """
import json, os
from django.contrib.auth import get_user_model
from portal.services.accounts import create_account

seed = json.loads(os.environ["SEED"])
users = get_user_model().objects
users.create_superuser(seed["admin"], "", seed["password"])
for name in seed["people"]:
    create_account(None, f"Account of {name}", owner=users.create_user(name, "", seed["password"]))
"""
BERLIN = ZoneInfo("Europe/Berlin")


def hour_of_window() -> int:
    """By the clock of Berlin, at which a window of two hours may begin that is hours away now, and that no change of clocks touches.

    In a window that is open the next possible moment is not its begin, and moves on with the clock.
    """
    return 20 if 5 <= datetime.now(BERLIN).hour < 15 else 10


class Console:
    """Web server and both clusters, in a folder that holds everything they write."""

    def __init__(self, folder: Path, people: tuple[str, ...]) -> None:
        self.port = free_port()
        self.origin = f"http://{LOOPBACK}:{self.port}"
        # Of a run on PostgreSQL, too: this is the embedded default, as somebody meets it first.
        others = {name: value for name, value in os.environ.items() if not name.startswith("DATABASE_URL")}
        self.env = others | {
            "SECRET_KEY": keys.generate_secret_key(),
            "CREDENTIAL_KEYS": keys.generate_credential_key(),
            "SWITCHYARD_DATA_DIR": str(folder),
            "SECURE_SSL": "off",
            # A refusal to connect is to be shown, not to be waited for.
            "INSTANCE_TIMEOUT": "3",
        }
        self._manage("migrate", "--verbosity", "0")
        self._manage("shell", "--no-imports", "--command", SEED, people=people)
        self.process = Process(
            [sys.executable, ROOT / "manage.py", "serve", "--bind", f"{LOOPBACK}:{self.port}"],
            folder / "serve.log",
            cwd=ROOT,
            env=self.env,
        )

    def wait(self) -> Console:
        """Until it answers and both clusters wait for jobs."""
        wait_for(self._healthy, 60, self._trouble, ignore=(URLError, OSError))
        wait_for(lambda: self.log.count("cluster.started") == 2, 60, self._trouble)
        return self

    def run(self, code: str) -> None:
        """Python in the console's own surroundings: for what its people cannot make in the browser."""
        self._manage("shell", "--no-imports", "--command", code)

    def close(self) -> None:
        """Ends it as Ctrl-C does."""
        if self.process.alive:
            self.process.popen.terminate()
            self.process.wait(60)
        self.process.end()

    @property
    def log(self) -> str:
        """What its processes have written."""
        return self.process.log.read_text(errors="replace")

    def _healthy(self) -> bool:
        assert self.process.alive, self._trouble()
        with urlopen(f"{self.origin}/healthz", timeout=5) as answer:
            return bool(answer.status == 200)

    def _trouble(self) -> str:
        return f"the console does not answer. Its log:\n{self.process.tail()}"

    def _manage(self, *arguments: str, people: tuple[str, ...] = ()) -> None:
        seed = json.dumps({"admin": ADMIN, "people": people, "password": PASSWORD})
        done = subprocess.run(
            [sys.executable, str(ROOT / "manage.py"), *arguments],
            env=self.env | {"SEED": seed},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
