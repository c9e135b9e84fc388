"""`manage.py demo`: a migration to look at, on two embedded servers, with a folder, a database and keys of
its own."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Any

from django.core.management.base import BaseCommand

from migrations_app.demo import environment


class Command(BaseCommand):
    help = (
        "Start two embedded Valkey servers with sample data and a writer, and migrate one to the other in "
        "the console, until Ctrl-C. Nothing of it stays afterwards, and no setting of yours is used."
    )
    requires_system_checks: Sequence[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--once", action="store_true", help="end when both sides have been compared; exit code 0: equal"
        )
        parser.add_argument("--keys", type=int, help="keys of the sample data (default: 220000)")
        parser.add_argument("--rate", type=float, help="commands per second of the writer (default: 2000)")
        parser.add_argument(
            "--port",
            type=int,
            default=8000,
            help="of the console, or the next free one (default: %(default)s)",
        )

    def handle(
        self, *args: Any, once: bool, keys: int | None, rate: float | None, port: int, **options: Any
    ) -> None:
        if environment.folder() is None:
            # Settings are read when Django starts, which was before this line: the same process starts over
            # with the demo's own.
            os.execve(sys.executable, sys.orig_argv, environment.prepare())
        from migrations_app.demo import stage

        sys.exit(stage.run(once=once, keys=keys, rate=rate, port=port))
