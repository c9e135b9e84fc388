"""Where the keys of each command are, and the slots of keys, against what real servers say."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from migrations_app.engine.client import Client
from migrations_app.engine.commands import actions
from migrations_app.engine.errors import ProtocolError, UnknownCommand
from migrations_app.engine.keys import SEPARABLE, keys_of, positions, slot, split
from migrations_app.engine.protocol.resp import ReplyError
from tests.engine.links import endpoint
from tests.support.ports import free_port
from tests.support.servers import Server

SERVERS = ["redis-7.0", "redis-8.6", "valkey-9.1"]

# Keys are the words that begin with k; there is one example at least for each command that a source sends.
EXAMPLES = [
    "APPEND k v", "BITFIELD k SET u8 0 1", "BITOP AND k1 k2 k3", "BITOP NOT k1 k2", "BLMOVE k1 k2 LEFT RIGHT 0",
    "BLMPOP 0 2 k1 k2 LEFT COUNT 2", "BLPOP k1 k2 0", "BRPOP k1 0", "BRPOPLPUSH k1 k2 0", "BZMPOP 0 1 k1 MIN",
    "BZPOPMAX k1 k2 0", "BZPOPMIN k1 0", "COPY k1 k2", "COPY k1 k2 DB 3 REPLACE", "DECR k", "DECRBY k 2", "DEL k", "DEL k1 k2 k3",
    "DELEX k IFEQ v", "DELIFEQ k v", "DIGEST k", "EVAL return 0", "EVAL return 2 k1 k2 a b", "EVALSHA sha 1 k1 a", "EXEC",
    "EXPIRE k 10 GT", "EXPIREAT k 10", "FCALL f 0 a", "FCALL f 1 k1 a", "FLUSHALL ASYNC", "FLUSHDB", "FUNCTION LOAD code",
    "GEOADD k 1 2 m", "GEORADIUS k 1 2 3 m", "GEORADIUS k 1 2 3 m WITHDIST COUNT 3 ANY STORE k2", "GEORADIUS k 1 2 3 m STOREDIST k2",
    "GEORADIUSBYMEMBER k m 3 m STORE k2", "GEORADIUSBYMEMBER k STORE 3 m ASC STOREDIST k2", "GEOSEARCHSTORE k1 k2 FROMMEMBER m BYRADIUS 1 m",
    "GETDEL k", "GETEX k PX 3", "GETSET k v", "HDEL k f", "HEXPIRE k 3 FIELDS 1 f", "HEXPIREAT k 3 FIELDS 1 f", "HGETDEL k FIELDS 1 f",
    "HGETEX k EX 3 FIELDS 1 f", "HINCRBY k f 1", "HINCRBYFLOAT k f 1", "HMSET k f v", "HPERSIST k FIELDS 1 f", "HPEXPIRE k 3 FIELDS 1 f",
    "HPEXPIREAT k 3 FIELDS 1 f", "HSET k f v f2 v2", "HSETEX k EX 3 FIELDS 1 f v", "HSETNX k f v", "INCR k", "INCRBY k 1", "INCRBYFLOAT k 1",
    "LINSERT k BEFORE p v", "LMOVE k1 k2 LEFT RIGHT", "LMPOP 3 k1 k2 k3 LEFT", "LPOP k 2", "LPUSH k v v", "LPUSHX k v", "LREM k 0 v",
    "LSET k 0 v", "LTRIM k 0 1", "MOVE k 3", "MSET k1 v k2 v", "MSETEX 2 k1 v k2 v EX 3 NX", "MSETNX k1 v", "MULTI", "PERSIST k",
    "PEXPIRE k 3", "PEXPIREAT k 3", "PFADD k e", "PFCOUNT k1 k2", "PFDEBUG GETREG k", "PFMERGE k1 k2 k3", "PING", "PSETEX k 3 v",
    "PUBLISH c m", "RENAME k1 k2", "RENAMENX k1 k2", "REPLCONF GETACK *", "RESTORE k 0 v REPLACE", "RESTORE-ASKING k 0 v", "RPOP k",
    "RPOPLPUSH k1 k2", "RPUSH k v", "RPUSHX k v", "SADD k m", "SCRIPT LOAD s", "SDIFFSTORE k1 k2 k3", "SELECT 3", "SET k v", "SET k v PX 3 KEEPTTL",
    "SETBIT k 1 1", "SETEX k 3 v", "SETNX k v", "SETRANGE k 0 v", "SINTERSTORE k1 k2 k3", "SMOVE k1 k2 m", "SORT k", "SORT k STORE k2",
    "SORT k BY store LIMIT 0 3 GET store GET # DESC ALPHA STORE k2", "SPOP k 3", "SPUBLISH c m", "SREM k m", "SUNIONSTORE k1 k2",
    "SWAPDB 1 2", "UNLINK k1 k2", "VADD k VALUES 1 1 e", "VREM k e", "VSETATTR k e {}", "XACK k g 1-1", "XACKDEL k g KEEPREF IDS 1 1-1",
    "XADD k MAXLEN 3 * f v", "XAUTOCLAIM k g c 0 0", "XCFGSET k IDMP-DURATION 3", "XCLAIM k g c 0 1-1", "XDEL k 1-1", "XDELEX k KEEPREF IDS 1 1-1",
    "XGROUP CREATE k g 0 MKSTREAM", "XGROUP DELCONSUMER k g c", "XIDMPRECORD k p i 1-1", "XREADGROUP GROUP g c STREAMS k >",
    "XREADGROUP GROUP streams c COUNT 3 BLOCK 3 NOACK STREAMS k1 k2 > >", "XSETID k 1-1", "XTRIM k MAXLEN 3", "ZADD k NX 1 m", "ZDIFFSTORE k 2 k1 k2",
    "ZINCRBY k 1 m", "ZINTERSTORE k 1 k1 WEIGHTS 2", "ZMPOP 1 k1 MIN", "ZPOPMAX k 3", "ZPOPMIN k", "ZRANGESTORE k1 k2 0 1", "ZREM k m",
    "ZREMRANGEBYLEX k - +", "ZREMRANGEBYRANK k 0 1", "ZREMRANGEBYSCORE k 0 1", "ZUNIONSTORE k 2 k1 k2 AGGREGATE MAX",
]  # fmt: skip


def split_words(text: str) -> list[bytes]:
    return text.encode().split()


@pytest.fixture(scope="module")
def clients() -> Iterator[list[Client]]:
    servers = [Server(version) for version in SERVERS]
    opened = [Client(endpoint(server.start())) for server in servers]
    yield opened
    for client in opened:
        client.close()
    for server in servers:
        server.close()


def test_there_is_an_example_of_every_command_that_a_source_sends() -> None:
    assert {text.split()[0].encode() for text in EXAMPLES} == set(actions())


@pytest.mark.parametrize("text", EXAMPLES)
def test_keys_are_where_the_examples_have_them(text: str) -> None:
    words = split_words(text)
    assert positions(words) == [place for place, word in enumerate(words) if place and word.startswith(b"k")]
    assert keys_of([words[0].lower(), *words[1:]]) == [words[place] for place in positions(words)]


def test_servers_agree(clients: list[Client]) -> None:
    """Every command that a server knows; one that none of them knows fails."""
    unknown = set(actions())
    for client in clients:
        replies = client.pipeline([("COMMAND", "GETKEYS", *split_words(text)) for text in EXAMPLES])
        for text, reply in zip(EXAMPLES, replies, strict=True):
            words = split_words(text)
            if isinstance(reply, ReplyError):
                if "Invalid command specified" in reply:
                    continue
                # COMMAND GETKEYS takes no command of one word alone; those have no keys.
                assert "no key arguments" in reply or len(words) == 1, (text, reply)
                reply = []
            assert isinstance(reply, list)
            assert sorted(reply) == sorted(keys_of(words)), text  # type: ignore[type-var]
            unknown.discard(words[0])
    assert unknown == set()


def test_servers_agree_on_writes_that_the_table_lacks(clients: list[Client]) -> None:
    """A write command of these servers that is not in the table is one that no replica is sent."""
    never_sent = {b"MIGRATE", b"TRIMSLOTS"}  # travels as DEL; belongs to nodes of a cluster
    for client in clients:
        replies = client.execute("COMMAND")
        assert isinstance(replies, list)
        writes = {reply[0].upper() for reply in replies if b"write" in reply[2]}  # type: ignore[operator]
        assert writes - set(actions()) <= never_sent


@pytest.mark.parametrize(
    "text", ["SET", "DEL", "EVAL s", "EVAL s x k", "EVAL s 3 k1 k2", "EVAL s -1 k", "ZUNIONSTORE d 2 a", "BITOP AND", "XREADGROUP GROUP g c", "RENAME k"]
)  # fmt: skip
def test_what_cannot_be_read_is_named(text: str) -> None:
    with pytest.raises(ProtocolError, match=text.split()[0]):
        positions(split_words(text))


def test_an_unknown_command_is_named() -> None:
    with pytest.raises(UnknownCommand, match="NOSUCH"):
        positions([b"nosuch", b"k"])


def test_slots(clients: list[Client]) -> None:
    keys = [
        b"", b"a", b"foo", b"{user1000}.following", b"foo{}{bar}", b"foo{{bar}}zap", b"foo{bar}{zap}", b"{", b"}{", b"{}", b"a{b", b"a}b{c}",
        bytes(range(256)), b"\xff" * 1000, *(b"key:%d" % number for number in range(500)),
    ]  # fmt: skip
    with (
        Server("redis-7.0", config={"cluster-enabled": "yes", "cluster-port": free_port()}) as server,
        Client(endpoint(server)) as client,
    ):
        assert client.pipeline([("CLUSTER", "KEYSLOT", key) for key in keys]) == [slot(key) for key in keys]


def test_commands_over_several_keys_are_taken_apart() -> None:
    def by(key: bytes) -> int:
        return key[-1] % 2

    def parts(text: str) -> dict[int, bytes] | None:
        made = split(split_words(text), by)
        return None if made is None else {group: b" ".join(args) for group, args in made.items()}

    assert parts("DEL k1 k2 k3") == {1: b"DEL k1 k3", 0: b"DEL k2"}
    assert parts("unlink k2") == {0: b"unlink k2"}
    assert parts("MSET k1 a k2 b k3 c") == {1: b"MSET k1 a k3 c", 0: b"MSET k2 b"}
    assert parts("MSETEX 3 k1 a k2 b k3 c PX 5 NX") == {
        1: b"MSETEX 2 k1 a k3 c PX 5 NX",
        0: b"MSETEX 1 k2 b PX 5 NX",
    }
    for text in ("RENAME k1 k2", "SUNIONSTORE k1 k2", "SET k1 v", "PING"):
        assert parts(text) is None
    assert set(SEPARABLE) <= set(actions())
