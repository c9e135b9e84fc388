"""A verification beside a running link, by real clusters: a mixed writer makes no difference, and a killed worker is followed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from migrations_app.choices import InspectionStatus
from migrations_app.demo.writer import Writer
from migrations_app.models import Inspection
from migrations_app.services import verifications
from tests.support.fixtures import ServerFactory
from tests.support.process import descendants_of
from tests.support.wait import wait_for

from .clusters import Cluster, Story, database


@pytest.fixture
def story(
    tmp_path: Path, redis_server: ServerFactory, django_db_blocker: object
) -> Iterator[tuple[Story, Callable[[str], Cluster]]]:
    """A task, and what starts a cluster on its database."""
    made: list[Cluster] = []
    url = f"sqlite:///{tmp_path / 'shared.sqlite3'}"

    def cluster(name: str) -> Cluster:
        made.append(Cluster(url, tmp_path, name=name))
        return made[-1].start()

    with django_db_blocker.unblock(), database(url):
        source = redis_server("redis-7.0", config={"repl-diskless-sync-delay": 0})
        yield Story(source, redis_server("redis-7.0")), cluster
    for one in made:
        pids = [one.main, *descendants_of(one.main)]
        one.process.end()
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def ended(made: Inspection, seconds: float = 90) -> Inspection:
    def over() -> bool:
        made.refresh_from_db()
        return InspectionStatus(made.status).is_final

    wait_for(over, seconds, lambda: f"{made.status} {made.progress}")
    assert made.status == InspectionStatus.DONE, made.failure_message
    return made


@pytest.mark.timeout(240)
def test_beside_a_link(story: tuple[Story, Callable[[str], Cluster]]) -> None:
    one, cluster = story
    with one.source.client() as client:
        for start in range(0, 30_000, 5000):
            client.mset({f"key:{number}": "x" * 50 for number in range(start, start + 5000)})
    cluster("replication")
    cluster("default")
    one.start()
    with Writer(one.source.url, rate=500, databases=(0, 1)):
        one.wait_until_following()
        made = verifications.request_verification(None, one.task, "values", keys_per_second=3000)

        # The worker dies in the middle; another one begins anew, and nothing of the first one's is left over.
        with one.target.client() as client:
            client.mset({f"stray:{number}": "1" for number in range(300)})

        def far_enough() -> bool:
            made.refresh_from_db()
            return bool(made.owner) and made.progress.get("keys", 0) > 1000

        wait_for(far_enough, 60, lambda: f"{made.status} {made.progress}")
        os.kill(int(made.owner.split(":")[1]), signal.SIGKILL)
        found = ended(made)
        assert found.attempt == 2
        kinds = dict(found.differences.values_list("key", "kind"))
        assert {bytes(key).partition(b":")[0] for key in kinds} == {b"stray"}, kinds
        assert (found.result["differences"], found.result["by_kind"]) == (300, {"extra": 300})

        chosen = list(found.differences.values_list("pk", flat=True)[:20])
        repaired = ended(verifications.request_correction(None, found, chosen))
        assert repaired.result["counts"] == {"repaired": 20, "agrees": 0, "failed": 0}
        with one.target.client() as client:
            client.delete(*(f"stray:{number}" for number in range(300)))
        clean = ended(verifications.request_verification(None, one.task, "values", keys_per_second=None))
        assert clean.passed, list(clean.differences.values_list("key", "kind", "source_text", "target_text"))
        assert ended(verifications.request_verification(None, one.task, "quick")).result["keys"] > 30_000
