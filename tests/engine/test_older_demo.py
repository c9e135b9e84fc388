"""The way back: from a newer server to an older one with the demo's data and its writer, in both phases."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from migrations_app.demo.clients import Capabilities
from migrations_app.engine.abilities import Abilities
from migrations_app.engine.client import Client
from migrations_app.engine.facts import ServerFacts
from tests.support.servers import Server, Value

from .conftest import QUICK, Shared
from .links import endpoint
from .test_pairs import carry

PAIRS = [
    ("redis-7.0", "redis-5.0"), ("redis-7.4", "redis-6.2"), ("redis-8.6", "redis-7.0"), ("valkey-9", "redis-7.2"),
    ("redis-7.2", "redis-3.2"),
]  # fmt: skip
# What a target cannot hold in any form: the source goes without, as with a server of the target's version.
WITHOUT = {
    "functions": "FUNCTION FCALL",
    "field expiry": "HEXPIRE HPEXPIRE HEXPIREAT HPEXPIREAT HSETEX HGETEX",
    "streams": "XADD XGROUP XREADGROUP XACK XCLAIM XAUTOCLAIM XDEL XTRIM XSETID XDELEX XACKDEL",
    "SWAPDB": "SWAPDB",
    "IDMP": "XCFGSET",
}


@pytest.fixture
def source(request: pytest.FixtureRequest, shared: Shared) -> Iterator[Server]:
    new, old = request.param
    with Client(endpoint(shared(old, "target"))) as client:
        knows = Abilities.of(ServerFacts.of(client)).knows
    with shared(new, "any").client() as client:
        known = Capabilities.of(client).commands
    gone: list[Value] = [
        (word, "")
        for feature, words in WITHOUT.items()
        for word in words.split()
        if not knows(feature) and word in known
    ]
    with Server(new, config={**QUICK, "rename-command": gone} if gone else QUICK) as server:
        yield server


@pytest.mark.parametrize(("source", "old"), [(pair, pair[1]) for pair in PAIRS], indirect=["source"])
def test_the_demo_goes_back_with_its_writer(source: Server, shared: Shared, old: str) -> None:
    carry(
        source,
        shared(old, "target"),
        keys=6000,
        commands=6000,
        big_value_bytes=1_100_000,
        large_elements=3000,
    )
