"""What a link keeps in its target."""

from __future__ import annotations

from .servers import Server


def expiries_wait(target: Server, link: str) -> bool:
    """Whether keys are noted, in any database, whose expiry has not been set yet, or whose value has to be read again."""
    with target.client() as client:
        databases = [int(name[2:]) for name in client.info("keyspace")]
    for database in databases:
        with target.client(db=database) as client:
            if client.exists(f"switchyard:deferred:{link}", f"switchyard:repair:{link}"):
                return True
    return False
