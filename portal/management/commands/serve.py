"""`manage.py serve`: the console and both clusters in the foreground, on the settings of the environment."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connections

from portal.processes import (
    ChildFailed,
    Interrupted,
    Supervisor,
    cluster_command,
    raise_on_signals,
    web_command,
)


class Command(BaseCommand):
    help = (
        "Bring the database up to date, then run the web server and the clusters `default` and `replication` "
        "until Ctrl-C or SIGTERM. On larger sites let a service manager run gunicorn and `runcluster`."
    )
    requires_system_checks = []  # run below, after the data folder has been made

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--bind", default="127.0.0.1:8000", metavar="HOST:PORT", help="default: %(default)s"
        )
        parser.add_argument(
            "--web-workers", type=int, default=2, metavar="N", help="processes; default: %(default)s"
        )

    def handle(self, *args: Any, bind: str, web_workers: int, **options: Any) -> None:
        database = settings.DATABASES["default"]
        data = Path(settings.DATA_DIR)
        if database["ENGINE"] == "django.db.backends.sqlite3" and Path(database["NAME"]).parent == data:
            data.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.check(display_num_errors=True)
        call_command("migrate", verbosity=options["verbosity"], interactive=False)
        connections.close_all()
        base = Path(settings.BASE_DIR)
        raise_on_signals()
        try:
            with Supervisor() as supervisor:
                supervisor.start("the web server", web_command(base, bind, workers=web_workers))
                for name in ("default", "replication"):
                    supervisor.start(f"the cluster {name}", cluster_command(base, name))
                self.stdout.write(f"Switchyard at http://{bind}/ (Ctrl-C ends it)")
                if settings.SECURE_SSL:
                    self.stdout.write(
                        "It expects a proxy that adds TLS and redirects plain requests there. "
                        "To use it on this machine alone, set SECURE_SSL=off."
                    )
                supervisor.wait()
        except Interrupted:
            self.stdout.write("Stopped.")
        except ChildFailed as failure:
            raise CommandError(str(failure)) from failure
