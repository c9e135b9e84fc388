"""Scripts, functions and channels: what clients of the source call is there on the target, and what they say is heard."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from tests.support.servers import Server

from .conftest import QUICK, Shared
from .links import RunningLink, assert_equal

ADD = "redis.call('SET', KEYS[1], ARGV[1]) return redis.call('INCR', KEYS[2])"
KEY = "switchyard:scripts:test"


def digest(code: str) -> str:
    return hashlib.sha1(code.encode(), usedforsecurity=False).hexdigest()


# Servers that send EVAL and EVALSHA as the client did.
VERBATIM = [
    ("redis-3.2", {}),
    ("redis-5.0", {"lua-replicate-commands": "no"}),
    ("redis-6.2", {"lua-replicate-commands": "no"}),
]


@pytest.fixture(params=VERBATIM, ids=lambda param: param[0])
def verbatim(request: pytest.FixtureRequest, redis_server: Any) -> Server:
    version, config = request.param
    server: Server = redis_server(version, config={**QUICK, **config})
    return server


def test_scripts_by_code_and_by_digest(verbatim: Server, shared: Shared) -> None:
    """Loaded, called by code, called by digest; and again after the target has lost its scripts."""
    target = shared("redis-7.0", "target")
    target.client().script_flush()
    other = "return redis.call('RPUSH', KEYS[1], ARGV[1])"
    with verbatim.client() as client:
        with RunningLink(verbatim, target) as link:
            link.wait_caught_up()
            client.script_load(ADD)
            client.eval(other, 1, "list", "one")
            for number in range(3):
                client.evalsha(digest(ADD), 2, "k", "n", number)
                client.evalsha(digest(other), 1, "list", "more")
            link.settle(verbatim, target)
            assert target.client().script_exists(digest(ADD), digest(other)) == [True, True]
            link.stop()
        assert_equal(verbatim, target)
        assert set(target.client().hgetall(KEY)) == {digest(ADD).encode(), digest(other).encode()}
        target.client().script_flush()
        with RunningLink(verbatim, target) as link:
            link.wait_caught_up()
            assert target.client().script_exists(digest(ADD), digest(other)) == [True, True]
            target.client().script_flush()  # while the link runs: it sends the code
            client.evalsha(digest(ADD), 2, "k", "n", "last")
            client.evalsha(digest(other), 1, "list", "last")
            link.settle(verbatim, target)
            assert link.progress.full_syncs == 0
            link.stop()
    assert_equal(verbatim, target)
