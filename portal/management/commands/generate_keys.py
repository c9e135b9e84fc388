"""Prints the two keys that an installation needs, ready for an environment file."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from portal import keys


class Command(BaseCommand):
    help = "Print a new SECRET_KEY and a new key for CREDENTIAL_KEYS. Nothing is stored."
    requires_system_checks: list[str] = []  # it prints what the checks would miss

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--credential-key",
            action="store_true",
            help="print a key for CREDENTIAL_KEYS only, without its name",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["credential_key"]:
            self.stdout.write(keys.generate_credential_key())
            return
        self.stdout.write(f"SECRET_KEY={keys.generate_secret_key()}")
        self.stdout.write(f"CREDENTIAL_KEYS={keys.generate_credential_key()}")
