"""A target that has lost the link's position is not filled again without consent."""

from __future__ import annotations

import pytest

from migrations_app.engine.errors import FullResyncNeeded
from tests.support.servers import Server

from .links import RunningLink, assert_equal


@pytest.fixture
def followed(pair: tuple[Server, Server]) -> tuple[Server, Server]:
    """A link that was in the incremental phase, and a target that was emptied since."""
    source, target = pair
    source.client().set("key", "value")
    with RunningLink(source, target) as link:
        link.settle(source, target)
    target.client().flushall()
    return source, target


def test_nothing_is_written_without_consent(followed: tuple[Server, Server]) -> None:
    source, target = followed
    with RunningLink(source, target, followed=True) as link, pytest.raises(FullResyncNeeded, match="target"):
        link.result()
    assert not target.client().exists("key")


def test_with_consent_it_begins_again(followed: tuple[Server, Server]) -> None:
    source, target = followed
    with RunningLink(source, target, followed=True, allow_full_resync=True) as link:
        link.settle(source, target)
        assert "link.full_resync" in link.ports.events
    assert_equal(source, target)


def test_a_running_link_notices_it_when_it_comes_back(pair: tuple[Server, Server]) -> None:
    source, target = pair
    source.client().set("key", "value")
    with RunningLink(source, target) as link:
        link.settle(source, target)
        # In one step: the link must not write its position again in between.
        with target.client().pipeline(transaction=True) as pipe:
            pipe.flushall()
            pipe.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            pipe.execute()
        with pytest.raises(FullResyncNeeded):
            link.result()
