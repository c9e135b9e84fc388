"""A side that does not answer is noticed, however little is under way."""

from __future__ import annotations

from tests.support.servers import Server
from tests.support.wait import wait_for

from .links import RunningLink


def test_a_target_that_owes_one_small_answer(pair: tuple[Server, Server]) -> None:
    """One write is sent, all of it is out of the door, and no answer comes: the link lets go within its time-out."""
    source, target = pair
    source.client().config_set(
        "repl-ping-replica-period", 1
    )  # the source is never silent for as long as that
    with RunningLink(source, target, timeout=2.0) as link:
        link.settle(source, target)
        target.pause()
        try:
            source.client().set("key", "value")
            wait_for(
                lambda: any("has not answered" in line for _, _, line in link.ports.lines), 15, link.told
            )
        finally:
            target.resume()
        link.settle(source, target)
        assert target.client().get("key") == b"value"
        assert link.progress.full_syncs == 1
