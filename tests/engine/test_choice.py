"""Commands as users name them, against what real servers send."""

from __future__ import annotations

from contextlib import suppress

import pytest
import redis

from migrations_app.engine.choice import GROUPS, NAMES, CommandChoice, form_of
from migrations_app.engine.errors import UsageError
from tests.engine.conftest import QUICK
from tests.engine.wire import Wire
from tests.support.servers import Server

SERVERS = ["redis-3.2", "redis-5.0", "redis-6.0", "redis-6.2", "redis-7.0", "redis-7.4", "redis-8.6", "valkey-8.1", "valkey-9.1"]  # fmt: skip

SETUP = """
SET s 10 | SET f 1.5 | SET t 10 EX 1000 | RPUSH l a b c d e f g h i j k l m | RPUSH l2 a b c d e f g h | SADD S a b c d e f g h
SADD S1 a | SADD S2 b | HSET h f 1 | HSET h g 2 | HSET h i 3 | ZADD z 1 a 2 b 3 c 4 d 5 e 6 f 7 g 8 h 9 i | ZADD z1 1 a | XADD x 1-1 f v
XADD x 2-1 f v | XADD x 3-1 f v | XADD x 4-1 f v | XADD x 5-1 f v | XGROUP CREATE x g 0 | PFADD p a b | PFADD p2 c
GEOADD G 1 2 m 1.1 2 n | SET d1 1 | SET d2 1 | SET d3 1 | SET d4 1 | SET d5 v | SET d6 v | SET m 1 | SET r1 1 | SET r2 1 | SET c 1
"""
# Each is sent to each server; one that a server does not know is passed over.
COMMANDS = """
APPEND s x | SETRANGE s 0 9 | SET s 5 | SET s 5 EX 100 | SET s 6 PX 100000 | SET s 7 PXAT 9999999999999 | SET s 7 KEEPTTL | SET s 7 GET
SET q 1 NX EX 100 | SET s 7 IFEQ 7 | SETEX s 100 v | PSETEX s 100000 v | SETNX new v | GETSET s v | GETDEL d1 | GETEX t EX 500
GETEX t PERSIST | SET s 1 | INCR s | INCRBY s 2 | DECR s | DECRBY s 2 | INCRBYFLOAT f 1.25 | MSET a 1 b 2 | MSETNX a1 1 b1 2
MSETEX 2 a 1 b 2 EX 100 | MSETEX 1 s 1 KEEPTTL | SETBIT bit 7 1 | BITFIELD bit SET u8 0 200 | BITOP OR bit2 bit bit | EXPIRE s 100
PEXPIRE s 100000 | EXPIREAT s 9999999999 | PEXPIREAT s 9999999999999 | PERSIST s | EXPIRE d2 -1 | GETEX d3 EXAT 1 | DEL d4 | UNLINK a
DELEX d5 IFEQ v | DELEX d5 | DELIFEQ d6 v | RENAME r1 r3 | RENAMENX r2 r4 | COPY c c2 | MOVE m 3 | RPUSH l f | LPUSH l g | LPUSHX l h
RPUSHX l h | LINSERT l BEFORE a z | LSET l 0 q | LREM l 0 q | LTRIM l 0 15 | LPOP l | RPOP l | RPOPLPUSH l l2 | LMOVE l l2 LEFT RIGHT
BLPOP l2 0 | BRPOP l2 0 | BRPOPLPUSH l l2 0 | BLMOVE l l2 LEFT RIGHT 0 | LMPOP 1 l LEFT COUNT 2 | BLMPOP 0 1 l RIGHT
LMPOP 1 l2 LEFT COUNT 100 | SADD S x y z | SREM S x | SMOVE S S1 y | SPOP S | SPOP S 2 | SPOP S 100 | SADD S a b | SADD S1 a b c
SINTERSTORE S3 S S1 | SUNIONSTORE S3 S S1 | SDIFFSTORE S3 S S2 | SORT S1 ALPHA STORE sorted | HSET h f 2 | HMSET h f 2 | HSETNX h new 2
HDEL h new | HINCRBY h f 2 | HINCRBYFLOAT h f 1.5 | HEXPIRE h 100 FIELDS 1 f | HPEXPIRE h 100000 FIELDS 1 f | HINCRBYFLOAT h f 1.5
HEXPIREAT h 9999999999 FIELDS 1 f | HPEXPIREAT h 9999999999999 FIELDS 1 f | HPERSIST h FIELDS 1 f | HSETEX h EX 100 FIELDS 1 f v
HSETEX h FIELDS 1 f v | HSETEX h PXAT 1 FIELDS 1 j v | HGETEX h EX 100 FIELDS 1 f | HGETEX h PERSIST FIELDS 1 f | HEXPIRE h 0 FIELDS 1 g
HGETEX h PXAT 1 FIELDS 1 i | HGETDEL h FIELDS 1 f | ZADD z 9 e | ZADD z INCR 1 e | ZINCRBY z 1 e | ZREM z e | ZPOPMIN z | ZPOPMAX z
BZPOPMIN z 0 | BZPOPMAX z 0 | ZMPOP 1 z MIN | BZMPOP 0 1 z MAX | ZADD z 1 a 2 b 3 c 4 d 5 e 6 f 7 g | ZREMRANGEBYRANK z 0 0
ZREMRANGEBYSCORE z 0 2 | ZREMRANGEBYLEX z - [z | ZADD z 1 a 2 b 3 c | ZUNIONSTORE zz 2 z z1 | ZINTERSTORE zz 2 z z | ZDIFFSTORE zz 2 z z1
ZRANGESTORE zz z 0 1 | GEOADD G 1 2 k | GEORADIUS G 1 2 100 km STORE gg | GEORADIUSBYMEMBER G m 100 km STORE gg
GEOSEARCHSTORE gg G FROMMEMBER m BYRADIUS 100 km | PFADD p q | PFCOUNT p | PFMERGE p p2 | XADD x * f v | XADD x MAXLEN ~ 100 * f v
XADD x IDMP pid iid * f v | XTRIM x MAXLEN 7 | XGROUP CREATE x g2 0 | XGROUP SETID x g 0 | XGROUP CREATECONSUMER x g c9
XREADGROUP GROUP g c COUNT 2 STREAMS x > | XREADGROUP GROUP g2 c NOACK COUNT 1 STREAMS x > | XCLAIM x g c2 0 2-1 3-1 | XAUTOCLAIM x g c3 0 0
XACK x g 2-1 | XREADGROUP GROUP g c COUNT 5 STREAMS x > | XACKDEL x g IDS 1 4-1 | XDELEX x IDS 1 5-1 | XDEL x 3-1 | XSETID x 9999999999999-1
XCFGSET x IDMP-DURATION 77 | PUBLISH ch m | SPUBLISH ch m | VADD v VALUES 2 1 1 e | VSETATTR v e {} | VREM v e | SWAPDB 1 2 | FLUSHDB
SET a 1 | FLUSHALL
"""
# Listed in R62 of the requirements.
MUST = """
APPEND BITOP BLPOP BRPOP BRPOPLPUSH DECR DECRBY DEL EVAL EVALSHA EXEC EXPIRE EXPIREAT FLUSHALL FLUSHDB GEOADD GETSET HDEL HINCRBY
HINCRBYFLOAT HMSET HSET HSETNX INCR INCRBY INCRBYFLOAT LINSERT LPOP LPUSH LPUSHX LREM LSET LTRIM MOVE MSET MSETNX MULTI PERSIST PEXPIRE
PEXPIREAT PFADD PFMERGE PSETEX PUBLISH RENAME RENAMENX RESTORE RPOP RPOPLPUSH RPUSH RPUSHX SADD SDIFFSTORE SELECT SET SETBIT SETEX SETNX
SETRANGE SINTERSTORE SMOVE SPOP SREM SUNIONSTORE ZADD ZINCRBY ZINTERSTORE ZREM ZREMRANGEBYLEX ZUNIONSTORE ZREMRANGEBYRANK ZREMRANGEBYSCORE
"""
# Never sent under its own name by any of the servers, or takes more than one command to be sent.
NOT_SHOWN = frozenset(
    [
        "DIGEST",
        "EVAL",
        "EVALSHA",
        "FCALL",
        "FUNCTION",
        "PFDEBUG",
        "RESTORE",
        "RESTORE-ASKING",
        "SCRIPT",
        "XIDMPRECORD",
    ]
)

Sent = dict[str, set[str]]


def lines(text: str) -> list[str]:
    return [command.strip() for line in text.strip().splitlines() for command in line.split("|")]


def record(server: Server) -> Sent:
    """Command of a client → the forms in which this server has sent it."""
    sent: Sent = {}
    with server.client() as client, Wire(server) as wire:
        for command in lines(SETUP):
            tell(client, command)
        wire.sent()
        for command in lines(COMMANDS):
            known = tell(client, command)
            forms = {form_of(args) for args in wire.sent()}
            if known:
                sent.setdefault(command.split()[0], set()).update(forms)
            else:
                assert not forms
    return sent


def tell(client: redis.Redis, command: str) -> bool:
    try:
        client.execute_command(*command.split())
    except redis.ResponseError:
        return False
    return True


@pytest.fixture(scope="module")
def sent() -> dict[str, Sent]:
    """Of all servers. No key expires or is evicted meanwhile."""
    told = {}
    for version in SERVERS:
        with Server(version, config=QUICK) as server:
            told[version] = record(server)
    return told


def test_every_name_was_shown(sent: dict[str, Sent]) -> None:
    shown = {name for forms in sent.values() for name, some in forms.items() if some}
    assert NAMES - NOT_SHOWN - shown == set()


def test_what_is_chosen_covers_what_it_becomes(sent: dict[str, Sent]) -> None:
    for version, forms in sent.items():
        for name, some in forms.items():
            choice = CommandChoice(only=frozenset({name}))
            assert all(map(choice.lets, some)), (version, name, some)


def test_what_is_left_out_is_not_applied_and_the_rest_is_or_is_named(sent: dict[str, Sent]) -> None:
    deletions = {
        "DEL",
        "UNLINK",
        "HDEL",
    }  # as which travels what an expiry of the past deletes; a note says so
    choices = {}
    for name in NAMES:
        with suppress(UsageError):
            choices[name] = CommandChoice(without=frozenset({name}))
    for name, choice in choices.items():
        named = {name} | set(" ".join(choice.notes).replace(":", "").split()) | same_as(name)
        for version, forms in sent.items():
            for other, some in forms.items():
                lost = {form for form in some if not choice.lets(form)}
                if other == name:
                    assert lost >= some - deletions, (version, name, some)
                elif name in deletions:
                    lost -= deletions
                assert not lost or other in named, (version, name, other, lost)
    refused = NAMES - choices.keys()
    assert refused == {
        "BLMOVE", "BLMPOP", "BLPOP", "BRPOP", "BRPOPLPUSH", "BZMPOP", "BZPOPMAX", "BZPOPMIN", "DELEX", "DELIFEQ", "GEOADD", "GETDEL", "GETEX",
        "GETSET", "HGETDEL", "HGETEX", "HINCRBYFLOAT", "INCRBYFLOAT", "LMPOP", "SPOP", "XAUTOCLAIM", "XREADGROUP", "ZMPOP",
    }  # fmt: skip


def same_as(name: str) -> set[str]:
    """Whoever names the one means the others, too."""
    groups = (
        "EXPIRE PEXPIRE EXPIREAT PEXPIREAT",
        "HEXPIRE HPEXPIRE HEXPIREAT HPEXPIREAT",
        "SETEX PSETEX",
        "DEL UNLINK",
    )
    return next((set(names.split()) for names in groups if name in names.split()), set())


@pytest.mark.parametrize("name", ["SPOP", "GETDEL", "INCRBYFLOAT", "LMPOP", "GEOADD", "XREADGROUP", "spop"])
def test_what_cannot_be_told_apart_is_refused_with_the_name_that_it_travels_by(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name.upper()} cannot be left out alone: it travels as"):
        CommandChoice(without=frozenset({name}))


@pytest.mark.parametrize(
    ("command", "form"),
    [
        ("set k v", "SET"), ("SET k EX", "SET"), ("SET k v KEEPTTL", "SET"), ("SET k v px 5", "SET …EX"), ("SET k v NX EXAT 5", "SET …EX"),
        ("SET k v IFEQ PX", "SET"), ("SET k v IFEQ PX PXAT 5", "SET …EX"), ("zadd k 1 m", "ZADD"), ("EXPIRE k 1", "EXPIRE"),
    ],
)  # fmt: skip
def test_forms(command: str, form: str) -> None:
    assert form_of(command.encode().split()) == form


def test_every_command_that_must_be_migrated_can_be_chosen() -> None:
    choice = CommandChoice(only=frozenset(MUST.split()))
    assert all(choice.lets(name) for name in MUST.split())
    assert not choice.lets("XADD")


def test_expiries() -> None:
    """One name stands for all four; values with an expiry go by SETEX; a value without one stays."""
    chosen = CommandChoice(only=frozenset({"expire"}))
    assert all(map(chosen.lets, ["EXPIRE", "PEXPIREAT", "DEL", "UNLINK"]))
    assert not any(map(chosen.lets, ["SET", "SET …EX", "PERSIST", "HDEL"]))
    left_out = CommandChoice(without=frozenset({"EXPIRE", "SETEX"}))
    assert not any(map(left_out.lets, ["EXPIRE", "PEXPIREAT", "SET …EX", "SETEX", "PSETEX"]))
    assert all(map(left_out.lets, ["SET", "DEL", "PERSIST"]))
    assert "SET with an expiry" in " ".join(left_out.notes)


def test_what_shares_a_form_goes_together() -> None:
    assert CommandChoice(without=frozenset({"SPOP", "SREM"})).lets("SADD")
    note = " ".join(CommandChoice(without=frozenset({"SET"})).notes)
    assert all(name in note for name in ("INCRBYFLOAT", "GETSET", "SETEX", "PSETEX"))
    assert not CommandChoice(without=frozenset({"SET"})).lets("SETEX")
    assert "INCRBYFLOAT" in " ".join(CommandChoice(only=frozenset({"SET"})).notes)
    with pytest.raises(UsageError, match="INCRBYFLOAT cannot be left out alone: it travels as SET, like SET"):
        CommandChoice(only=frozenset({"@string"}), without=frozenset({"INCRBYFLOAT"}))
    chosen = CommandChoice(only=frozenset({"INCRBYFLOAT", "APPEND"}), without=frozenset({"INCRBYFLOAT"}))
    assert not chosen.lets("SET")
    assert chosen.lets("APPEND")


def test_deletion() -> None:
    assert "expire or are evicted" in " ".join(CommandChoice(without=frozenset({"del"})).notes)
    assert "expire or are evicted" in " ".join(CommandChoice(only=frozenset({"@hash", "@list"})).notes)
    assert "expire or are evicted" not in " ".join(CommandChoice(only=frozenset({"@expire"})).notes)


def test_groups() -> None:
    assert frozenset().union(*GROUPS.values()) == NAMES
    choice = CommandChoice(
        only=frozenset({"@Hash", "@sortedset", "lpush"}), without=frozenset({"@geo", "ZADD"})
    )
    assert all(map(choice.lets, ["HSET", "ZREM", "LPUSH", "SELECT", "MULTI", "EXEC"]))
    assert not any(map(choice.lets, ["ZADD", "SET", "GEOSEARCHSTORE", "RPUSH"]))


@pytest.mark.parametrize(
    ("words", "said"), [("@nosuch", "@nosuch.*@hash"), ("GET", "GET.*only what changes data"), ("NOSUCH", "NOSUCH"), ("", "''")]
)  # fmt: skip
def test_unknown_names(words: str, said: str) -> None:
    for given in ({"only": frozenset({words})}, {"without": frozenset({words})}):
        with pytest.raises(UsageError, match=said):
            CommandChoice(**given)


def test_nothing_chosen() -> None:
    for words in (frozenset[str](), frozenset({"EXEC"})):
        with pytest.raises(UsageError, match="no command is chosen"):
            CommandChoice(only=words)
