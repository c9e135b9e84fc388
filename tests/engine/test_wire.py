"""What travels: every write of each version, and what its source sends of it. The translation for older targets rests on this."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
import redis

from migrations_app.engine.commands import actions
from tests.support.servers import Server

from .conftest import QUICK
from .wire import Wire
from .writes import cases, plain

# Never under their own names, whatever the version that knows them.
NEVER = frozenset(
    b"BITFIELD_RO BLMOVE BLMPOP BLPOP BRPOP BZMPOP BZPOPMAX BZPOPMIN DELIFEQ EVAL_RO FCALL GETDEL GETEX HEXPIRE HEXPIREAT HGETEX "
    b"HPEXPIRE INCRBYFLOAT LMPOP SPOP XAUTOCLAIM XREADGROUP ZMPOP".split()
)
VERSIONS = ["redis-3.2", "redis-5.0", "redis-6.2", "redis-7.0", "redis-7.4", "redis-8.6", "valkey-9"]
Sent = dict[str, list[list[bytes]]]


@pytest.fixture(scope="module", params=VERSIONS)
def sent(request: pytest.FixtureRequest) -> Iterator[tuple[Server, Sent]]:
    """Name of the case → what was sent of its command, of the cases that the server knows."""
    found: Sent = {}
    with Server(request.param, config=QUICK) as server, plain(server) as client, Wire(server) as wire:
        for case in cases():
            ready = all(_try(client, words) for words in case.setup)
            wire.sent()
            if ready and _try(client, case.command):
                found[case.name] = wire.sent()
        yield server, found


def _try(client: redis.Redis, words: Sequence[str]) -> bool:
    try:
        client.execute_command(*words)
    except redis.ResponseError:
        return False
    return True


def test_what_is_sent_is_known_to_the_engine(sent: tuple[Server, Sent]) -> None:
    server, found = sent
    names = {args[0].upper() for commands in found.values() for args in commands}
    assert len(found) > (20 if server.version < (6,) else 90)
    assert names <= actions().keys()
    assert not names & NEVER


def test_what_the_translation_relies_on(sent: tuple[Server, Sent]) -> None:
    """Conditions that did not hold never come here: only what had an effect travels, in the form that the rules expect."""
    server, found = sent
    version = server.version if server.product == "redis" else (99,)

    def forms(name: str) -> list[bytes]:
        return [b" ".join(arg for arg in args if b":" not in arg) for args in found[name]]

    if version >= (6,):
        assert forms("INCRBYFLOAT") == [b"SET 2.5 KEEPTTL"]
        assert forms("SET GET") == [b"SET w"]
    if version >= (7,):
        assert [args[-1] for args in found["EXPIRE XX"]] == [b"XX"]
        assert forms("LMPOP") == [b"LPOP 2"]
    if version >= (6, 2):
        assert forms("XADD MINID LIMIT") == [b"XADD NOMKSTREAM MINID = 1-1 LIMIT 10 9-1 f v"]
        assert [args[0] for args in found["GETEX EX"]] in ([b"PEXPIRE"], [b"PEXPIREAT"])
    if server.product == "redis" and version >= (8, 6):
        assert [args[2:5] for args in found["XADD IDMP"]] == [[b"IDMP", b"producer", b"once"]]
        assert b"*" not in found["XADD IDMP"][0]
        assert forms("HINCRBYFLOAT") == [b"HSETEX KEEPTTL FIELDS 1 a 2.5"]
