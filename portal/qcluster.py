"""django-q2's configuration: two named clusters of one code base.

`default` runs short jobs that can be repeated. `replication` runs links: one job per link, for as long as the link does.
`manage.py runcluster NAME` starts one of them.
"""

from __future__ import annotations

from typing import Any

from portal import env

# How long the broker keeps a message of `replication` locked before it hands it out again. A running link does not
# depend on it: its lease decides (see migrations_app/services/links.py), so a second delivery ends at once.
REPLICATION_RETRY_SECONDS = 3600

Q_CLUSTER: dict[str, Any] = {
    "name": "switchyard",  # salt of the signed payloads: the same for every cluster of one site
    "cluster_name": "default",
    "orm": "default",
    "poll": 0.5,  # seconds between two looks at an empty queue
    "workers": max(1, env.number("DEFAULT_WORKERS", 2)),
    "timeout": 120,
    "retry": 180,
    "max_attempts": 3,
    "ack_failures": True,
    "catch_up": False,
    "save_limit": 250,
    "label": "Background jobs",
    "ALT_CLUSTERS": {
        "replication": {
            "workers": max(1, env.number("REPLICATION_WORKERS", 4)),  # as many links at once
            "queue_limit": 1,  # what waits here would wait for a worker of this machine although another one is free
            "timeout": -1,
            "retry": REPLICATION_RETRY_SECONDS,
            "recycle": 1,  # a fresh process for every link: nothing of the last one is left in its memory
            "scheduler": False,
            "poll": 0.3,
        },
    },
}
