"""System checks. `manage.py check` runs them; those about a deployment run with `--deploy`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error, Tags, register
from django.core.exceptions import ImproperlyConfigured

from portal import keys, networks

MINIMUM_SECRET = 50

# The names that jobs are sent to.
DEFAULT_CLUSTER = "default"
REPLICATION_CLUSTER = "replication"


@register(Tags.security)
def credential_keys(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    try:
        keys.parse_keys(list(settings.CREDENTIAL_KEYS))
    except ImproperlyConfigured as error:
        return [
            Error(
                str(error),
                hint="Keep the keys outside the database's backups: whoever has both can read the passwords.",
                id="portal.E001",
            )
        ]
    return []


@register(Tags.security)
def secret_key(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    if len(settings.SECRET_KEY) >= MINIMUM_SECRET or settings.DEBUG:
        return []
    return [
        Error(
            f"SECRET_KEY has {len(settings.SECRET_KEY)} characters; at least {MINIMUM_SECRET} are needed.",
            hint="`python manage.py generate_keys` prints a good one.",
            id="portal.E002",
        )
    ]


@register(Tags.database)
def sqlite_directory(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    database = settings.DATABASES["default"]
    name = str(database["NAME"])
    if database["ENGINE"] != "django.db.backends.sqlite3" or ":memory:" in name or name.startswith("file:"):
        return []
    folder = Path(name).parent
    if not folder.is_dir():
        return [
            Error(
                f"The folder of the SQLite database, {folder}, does not exist.",
                hint=f"Create it (`mkdir -p {folder}`), or set SWITCHYARD_DATA_DIR or DATABASE_URL.",
                id="portal.E003",
            )
        ]
    if not os.access(folder, os.W_OK | os.X_OK):
        return [
            Error(
                f"The folder of the SQLite database, {folder}, cannot be written to.",
                hint="SQLite creates its journal beside the database. Give this user write permission on the folder.",
                id="portal.E004",
            )
        ]
    return []


@register()
def clusters(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    cluster = settings.Q_CLUSTER
    alternatives = cluster.get("ALT_CLUSTERS", {})
    messages: list[CheckMessage] = []
    if (
        cluster.get("cluster_name", cluster.get("name")) != DEFAULT_CLUSTER
        or REPLICATION_CLUSTER not in alternatives
    ):
        messages.append(
            Error(
                f"Q_CLUSTER must be the cluster {DEFAULT_CLUSTER!r} and have {REPLICATION_CLUSTER!r} in ALT_CLUSTERS.",
                hint="Jobs are sent to these two names; a cluster of another name would never run them.",
                id="portal.E005",
            )
        )
    for name, options in {DEFAULT_CLUSTER: cluster, **alternatives}.items():
        timeout = options.get("timeout")
        if timeout is not None and timeout >= 0 and options.get("retry", 0) <= timeout:
            messages.append(
                Error(
                    f"Cluster {name!r}: retry ({options.get('retry')} s) must be longer than timeout ({timeout} s).",
                    hint="Otherwise a job that is still running is started a second time.",
                    id="portal.E006",
                )
            )
    return messages


@register()
def allowed_networks(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    try:
        networks.parse(tuple(settings.ALLOWED_NETWORKS))
    except ImproperlyConfigured as error:
        return [
            Error(str(error), hint="Write networks as 203.0.113.0/24 or 2001:db8::/32.", id="portal.E007")
        ]
    return []


@register(Tags.staticfiles, deploy=True)
def collected(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    if settings.COLLECTED or settings.DEBUG:
        return []
    return [
        checks.Warning(
            "Static files have not been collected: browsers load them again on every visit.",
            hint="Run `python manage.py collectstatic --no-input` at each release.",
            id="portal.W001",
        )
    ]


@register(Tags.urls, deploy=True)
def site_url(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    host = urlsplit(settings.SITE_URL).hostname
    if (host and host != "localhost" and not host.startswith("127.")) or settings.DEBUG:
        return []
    return [
        checks.Warning(
            f"SITE_URL is {settings.SITE_URL!r}: nobody but this machine can follow the links in messages.",
            hint="Set it to the address under which people open the console, such as https://switchyard.example.org.",
            id="portal.W002",
        )
    ]
