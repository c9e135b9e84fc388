"""django-q2's configuration: two named clusters of one code base.

`default` runs short jobs that can be repeated. `replication` runs links: one job per link, for as long as the link does.
`manage.py runcluster NAME` starts one of them.
"""

from __future__ import annotations

from typing import Any

from portal import env

# Seconds after which the broker hands out a message again that no worker has acknowledged. A running link does not depend
# on it: its worker acknowledges the message as soon as it holds the link's lease, and without the lease no worker runs a link.
REPLICATION_RETRY = 60

Q_CLUSTER: dict[str, Any] = {
    "name": "default",  # also the salt of the signed payloads: the same for every cluster of one site
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
            "retry": REPLICATION_RETRY,
            "recycle": 1,  # a fresh process for every link: nothing of the last one is left in its memory
            "scheduler": False,
            "poll": 0.3,
        },
    },
}
