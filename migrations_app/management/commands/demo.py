"""`manage.py demo`: a migration to look at, on two embedded servers, with a folder, a database and keys of
its own."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from migrations_app.demo import stage
from migrations_app.demo.clients import DemoError


class Command(BaseCommand):
    help = (
        "Start two embedded Valkey servers with sample data and a writer, and migrate one to the other in "
        "the console, until Ctrl-C. Nothing of it stays afterwards, and no setting of yours is used."
    )
    requires_system_checks = []

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
        try:
            code = stage.run(once=once, keys=keys, rate=rate, port=port)
        except DemoError as error:
            raise CommandError(str(error)) from error
        sys.exit(code)
