"""The table of what servers know, asked of every server that is there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from migrations_app.demo.dataset import fill
from migrations_app.engine.abilities import _FEATURES, _TYPES, Abilities
from migrations_app.engine.client import Client
from migrations_app.engine.facts import ServerFacts
from migrations_app.engine.rdb.convert import stamped
from tests.support.servers import Server, available

from .build import string, strings
from .links import endpoint
from .writes import plain

# Feature → commands, the last of which a server answers without an error if it has it; {ms} is a moment in the future.
PROBES = {
    "ASYNC": "FLUSHALL ASYNC", "HSET many": "HSET h a 1 b 2", "SWAPDB": "SWAPDB 0 1", "UNLINK": "UNLINK k", "ZPOPMIN": "ZPOPMIN z",
    "streams": "XADD x 1-1 f v", "KEEPTTL": "SET k v KEEPTTL", "COPY": "COPY k d",
    "CREATECONSUMER": "XADD x 1-1 f v; XGROUP CREATE x g 0; XGROUP CREATECONSUMER x g c",
    "GEOSEARCHSTORE": "GEOSEARCHSTORE d g FROMLONLAT 1 1 BYRADIUS 1 km", "LMOVE": "LMOVE l d LEFT RIGHT", "LPOP count": "LPOP l 2",
    "MINID": "XADD x 1-1 f v; XTRIM x MINID 1", "NOMKSTREAM": "XADD x NOMKSTREAM 1-1 f v", "PXAT": "SET k v PXAT {ms}", "SYNC": "FLUSHALL SYNC",
    "ZADD GT": "ZADD z GT 1 a", "ZDIFFSTORE": "ZDIFFSTORE d 1 z", "ZRANGESTORE": "ZRANGESTORE d z 0 1",
    "ENTRIESREAD": "XADD x 1-1 f v; XGROUP CREATE x g 0 ENTRIESREAD 0", "EXPIRE GT": "EXPIRE k 100 GT", "functions": "FUNCTION FLUSH",
    "SPUBLISH": "SPUBLISH c m", "field expiry": "HSET h a 1; HPEXPIREAT h {ms} FIELDS 1 a", "HSETEX": "HSETEX h FIELDS 1 a 1",
    "vector sets": "VADD v VALUES 2 1 2 e", "BITOP DIFF": "BITOP DIFF d a b", "KEEPREF": "XADD x 1-1 f v; XTRIM x MAXLEN 1 KEEPREF", "DELEX": "DELEX k",
    "IFEQ": "SET k v IFEQ w", "IFNE": "SET k v IFNE w", "MSETEX": "MSETEX 1 k v",
    "BYPOLYGON": "GEOSEARCHSTORE d g BYPOLYGON 3 10 30 20 30 20 40", "HGETDEL": "HGETDEL h FIELDS 1 a", "IDMP": "XADD x IDMP p i * f v",
}  # fmt: skip
NEWEST = ["redis-3.2", "redis-5.0", "redis-7.0", "redis-7.4", "redis-8.6", "valkey-9"]


@pytest.fixture(scope="module")
def payloads() -> dict[int, bytes]:
    """A value of each type byte that a server writes or has written, as in DUMP without version and checksum."""
    found = {
        1: b"\x01\x02" + strings(b"a", b"b"),
        9: b"\x09" + string(b"\x01\x01f\x01\x00v\xff"),
        10: b"\x0a" + string(b"\x0d\x00\x00\x00\x0a\x00\x00\x00\x01\x00\x00\xf2\xff"),
    }
    for version in NEWEST:
        with Server(version) as server, server.client() as client:
            fill(server.url, keys=0, big_value_bytes=0, large_elements=300, databases=(0,))
            for key in client.scan_iter(count=1000):
                if payload := client.dump(key):
                    found.setdefault(payload[0], payload[:-10])
    return found


@pytest.fixture(scope="module", params=available("redis") + available("valkey"))
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with Server(request.param) as running:
        yield running


def able(server: Server) -> Abilities:
    with Client(endpoint(server)) as client:
        return Abilities.of(ServerFacts.of(client))


def test_what_is_loaded(server: Server, payloads: dict[int, bytes]) -> None:
    """Stamped with the server's own version."""
    client, table = server.client(), able(server)
    client.set("any", 1)
    stamp = int.from_bytes(client.dump("any")[-10:-8], "little")
    loaded = {}
    for kind, body in payloads.items():
        try:
            client.restore("k", 0, stamped(body, stamp), replace=True)
        except redis.ResponseError as error:
            assert "Bad data format" in str(error)  # noqa: PT017 - which of them fail is compared below
        loaded[kind] = client.delete("k") == 1
    assert loaded == {kind: table.loads(kind) for kind in payloads}
    assert _TYPES.keys() - payloads.keys() <= {7}


def test_what_is_known(server: Server) -> None:
    client, table = plain(server), able(server)
    assert PROBES.keys() == _FEATURES.keys() - {"ABSTTL"}
    known = {}
    for feature, probe in PROBES.items():
        client.flushall()
        try:
            for words in probe.replace("{ms}", "4000000000000").split(";"):
                client.execute_command(*words.split())
        except redis.ResponseError:
            known[feature] = False
        else:
            known[feature] = True
    assert known == {feature: table.knows(feature) for feature in PROBES}
