#!/usr/bin/env python3
"""Switchyard's command line: `python manage.py <command>`."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")
    if sys.argv[1:2] in (["generate_keys"], ["demo"]) and not os.environ.get("SECRET_KEY_FILE"):
        # The commands that run before there is a key: one prints the first, the other makes its own and starts over
        # with it. Nothing is signed with this value.
        os.environ.setdefault("SECRET_KEY", "not-used-by-these-commands-which-sign-and-encrypt-nothing")
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line

    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        # A setting is missing or wrong: the sentence says which, and a traceback would hide it.
        sys.exit(f"{error}")


if __name__ == "__main__":
    main()
