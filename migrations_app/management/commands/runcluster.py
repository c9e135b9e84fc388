"""`manage.py runcluster default|replication`: one cluster of background workers, in the foreground."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand
from django_q.conf import Conf

from migrations_app import jobs
from migrations_app.cluster import GuardedCluster

NAMES = ("default", "replication")


class Command(BaseCommand):
    help = (
        "Run a cluster of background workers until SIGTERM or Ctrl-C, which ends it in seconds. `default` does short jobs; "
        "`replication` runs links, REPLICATION_WORKERS at once. More machines join by running the same command."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", choices=NAMES)

    def handle(self, *args: Any, name: str, **options: Any) -> None:
        if name != Conf.CLUSTER_NAME:
            # django-q2 reads the name when it is imported, which was before this line. The same process starts over.
            os.environ["Q_CLUSTER_NAME"] = name
            os.execv(sys.executable, sys.orig_argv)  # noqa: S606  # this very command again, without a shell
        GuardedCluster(jobs.tick if name == "replication" else jobs.tick_default).run()
