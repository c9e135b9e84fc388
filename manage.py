#!/usr/bin/env python3
"""Switchyard's command line: `python manage.py <command>`."""

import os
import signal
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")
    if sys.argv[1:2] == ["generate_keys"]:
        # The one command that has to run before there is a key: it prints the first one. Nothing is signed with this value.
        os.environ.setdefault("SECRET_KEY", "not-used-by-generate-keys-which-signs-and-encrypts-nothing")
    if sys.argv[1:2] == ["demo"]:
        # An exception in the middle of an import can be lost in a library that clears errors: Ctrl-C just ends it until it is ready.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        # Before Django reads its settings: the demo has its own, and uses nothing of the user's.
        from migrations_app.demo import environment

        environment.enter()
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line

    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        # A setting is missing or wrong: the sentence says which, and a traceback would hide it.
        sys.exit(f"{error}")


if __name__ == "__main__":
    main()
