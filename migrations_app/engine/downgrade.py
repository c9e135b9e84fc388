"""Commands of the stream for a target that lacks them, or lacks an option of theirs. Pure.

What a newer server sends is expressed by commands whose effect is the same. A condition that the source has found to hold (NX, GT, IFEQ)
is left out: the target's data is that of the source at this moment. Where no command of the target has the effect, a small script
has it; it reads nothing but the data, so it does the same on the target's own replicas. What cannot be expressed stops the link.

What travels was measured (`tests/engine/test_wire.py`): GETEX, GETDEL, LMPOP, BLMOVE, FCALL and others never come under their names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NoReturn

from migrations_app.engine.abilities import Abilities
from migrations_app.engine.errors import UnsupportedData
from migrations_app.engine.rdb.base import arguments
from migrations_app.engine.rdb.convert import stamped
from migrations_app.engine.rdb.rewrite import rewriter_for
from migrations_app.engine.rdb.stream import touch_consumer

Args = list[bytes]
_CONDITIONS: Final = {b"IFEQ": "IFEQ", b"IFNE": "IFNE", b"IFDEQ": "IFNE", b"IFDNE": "IFNE"}
_TIMES: Final = frozenset({b"EX", b"PX", b"EXAT", b"PXAT"})
_REFERENCES: Final = frozenset({b"KEEPREF", b"DELREF", b"ACKED"})
_SENTINEL: Final = b"__sentinel__:hello"
_LAST: Final = (1 << 64) - 1


class Downgrade:
    """`names` are the commands that it has to see; `split` them first, then `apply` what other rules have made of each.

    `source` and `target` are what the two servers know, `stamp` the version number of the target's DUMP payloads, `warn` takes what a
    person should know: once for each sentence. `modules`: the target has modules, which may hold values of their own.
    """

    def __init__(
        self,
        source: Abilities,
        target: Abilities,
        stamp: int,
        warn: Callable[[str], None] = lambda text: None,
        *,
        modules: bool = True,
    ) -> None:
        self._target = target
        self._modules = modules
        self._stamp = stamp
        self._warn = warn
        self._warned: set[str] = set()
        self._handlers = self._table(source)

    @property
    def names(self) -> frozenset[bytes]:
        return frozenset(self._handlers)

    @property
    def with_options(self) -> frozenset[bytes]:
        """Those of `names` that it leaves as they are where no option stands in the place of the third argument."""
        return frozenset({b"XADD"} if self._handlers.get(b"XADD") == self._xadd else ())

    def split(self, args: Args) -> list[Args]:
        """A command that sets several keys with one expiry, as one command for each key."""
        if args[0].upper() != b"MSETEX" or self._target.knows("MSETEX"):
            return [args]
        behind = 2 + 2 * int(args[1])
        options = [option for option in args[behind:] if option.upper() not in (b"NX", b"XX")]
        return [[b"SET", args[place], args[place + 1], *options] for place in range(2, behind, 2)]

    def apply(self, args: Sequence[bytes]) -> list[Args]:
        """What the command becomes; `UnsupportedData` where nothing has its effect."""
        handler = self._handlers.get(args[0].upper())
        return [list(args)] if handler is None else handler(list(args))

    def _table(self, source: Abilities) -> dict[bytes, Callable[[Args], list[Args]]]:
        knows = self._target.knows
        table: dict[bytes, Callable[[Args], list[Args]]] = {
            b"RESTORE": self._restore,
            b"FUNCTION": self._function,
            b"PUBLISH": self._publish,
        }
        lacking: list[tuple[str, str, Callable[[Args], list[Args]]]] = [
            # The first feature that is lacking decides; the handlers look at the others themselves.
            ("streams", "XACK XACKDEL XADD XCFGSET XCLAIM XDEL XDELEX XGROUP XIDMPRECORD XSETID XTRIM", self._no_streams),
            ("UNLINK", "UNLINK", lambda args: [[b"DEL", *args[1:]]]),
            ("HSET many", "HSET", lambda args: [[b"HMSET" if len(args) > 4 else b"HSET", *args[1:]]]),
            ("HSET many", "LPUSHX RPUSHX", lambda args: [[*args[:2], element] for element in args[2:]]),
            ("SWAPDB", "SWAPDB", self._refuse),
            ("SYNC", "FLUSHALL FLUSHDB", self._flush),
            ("SYNC", "SCRIPT", self._script),
            ("ZPOPMIN", "ZPOPMIN ZPOPMAX", self._zpop),
            ("IFNE", "SET", self._set),
            ("EXPIRE GT", "PEXPIREAT", lambda args: [args[:3]]),
            ("LMOVE", "LMOVE BLMOVE", self._lmove),
            ("LPOP count", "LPOP RPOP", self._pop),
            ("COPY", "COPY", self._copy),
            ("ZADD GT", "ZADD", self._zadd),
            ("ZRANGESTORE", "ZRANGESTORE", self._zrangestore),
            ("ZDIFFSTORE", "ZDIFFSTORE", self._zdiffstore),
            ("BYPOLYGON", "GEOSEARCHSTORE", self._geosearchstore),
            ("GEOSEARCHSTORE", "GEORADIUS GEORADIUSBYMEMBER", self._georadius),
            ("CREATECONSUMER", "XGROUP", self._xgroup),
            ("ENTRIESREAD", "XGROUP", self._xgroup),
            ("ENTRIESREAD", "XSETID", lambda args: [args[:3]]),
            ("KEEPREF", "XDELEX", self._xdelex),
            ("KEEPREF", "XACKDEL", self._xackdel),
            ("IDMP", "XIDMPRECORD", self._refuse),
            ("IDMP", "XCFGSET", self._xcfgset),
            ("SPUBLISH", "SPUBLISH", self._spublish),
            ("DELEX", "DELEX", lambda args: [[b"DEL", args[1]]]),
            ("HGETDEL", "HGETDEL", lambda args: [[b"HDEL", args[1], *args[4:]]]),
            ("HSETEX", "HSETEX", self._hsetex),
            ("field expiry", "HPEXPIREAT HEXPIREAT HPEXPIRE HEXPIRE", self._refuse),
            ("field expiry", "HPERSIST", lambda args: []),  # there is nothing to take away
            ("BITOP DIFF", "BITOP", self._bitop),
            ("vector sets", "VADD VREM VSETATTR", self._refuse),
            ("MSETEX", "MSETEX", self._refuse),  # `split` leaves none
        ]  # fmt: skip
        for feature, names, handler in lacking:
            for name in names.encode().split():
                if not knows(feature):
                    table.setdefault(name, handler)
        if knows("streams") and source.knows("MINID"):
            # LIMIT, and identifiers beside IDMP, are for a server's own replicas only: no target takes them.
            table |= {b"XADD": self._xadd, b"XTRIM": self._xtrim}
        if knows("streams") and not knows("ENTRIESREAD") and source.knows("ENTRIESREAD"):
            table[b"XCLAIM"] = self._xclaim
        return table

    def _refuse(self, args: Args, why: str = "") -> NoReturn:
        name = args[0].decode("utf-8", "replace").upper()
        where = "" if name == "SWAPDB" else f" of key {args[2 if name == 'BITOP' else 1][:128]!r}"
        raise UnsupportedData(
            f"{name}{where} cannot be expressed on the target ({self._target})" + (why and f": {why}"),
            advice="Use a newer target, or take the command out of use on the source and start a full synchronization.",
        )

    def _say(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            self._warn(text)

    def _eval(self, script: str, keys: Sequence[bytes], args: Sequence[bytes]) -> Args:
        """A script; before 7.0 it has to ask that its effects are replicated, not itself."""
        lines = "" if self._target.knows("functions") else _EFFECTS
        return [b"EVAL", (lines + script).encode(), b"%d" % len(keys), *keys, *args]

    # --- keys and strings -------------------------------------------------------------------------------------------

    def _set(self, args: Args) -> list[Args]:
        options, keep = [], False
        place = 3
        while place < len(args):
            option = args[place].upper()
            if option in _CONDITIONS:
                if self._target.knows(_CONDITIONS[option]):
                    options += args[place : place + 2]
                place += 2
                continue
            if option == b"KEEPTTL" and not self._target.knows("KEEPTTL"):
                keep = True
            else:
                options.append(args[place])
            place += 1
        if keep:
            return [self._eval(_EXPIRY_OF + _KEEPTTL, [args[1]], [args[2]])]
        return [[*args[:3], *options]]

    def _copy(self, args: Args) -> list[Args]:
        database = next((args[at + 1] for at in range(3, len(args) - 1) if args[at].upper() == b"DB"), b"")
        return [self._eval(_EXPIRY_OF + _COPY, args[1:3], [database])]

    def _restore(self, args: Args) -> list[Args]:
        """A payload of another version gets the target's number, or is rewritten. (Valkey takes no later ones of Redis as they are.)"""
        _, key, ttl, payload, *options = args
        if len(payload) < 11:
            return [args]
        if not self._target.knows("ABSTTL"):
            options = [option for option in options if option.upper() == b"REPLACE"]
        kind = payload[0]
        if self._target.loads(kind) and (kind != 7 or self._modules):
            if int.from_bytes(payload[-10:-8], "little") != self._stamp:
                payload = stamped(payload[:-10], self._stamp)
            return [[b"RESTORE", key, ttl, payload, *options]]
        rewriter = rewriter_for(kind, key, target=self._target, stamp=self._stamp)
        if rewriter is None:
            self._refuse(args, f"the target does not know values of type {kind}")
        built = arguments([*rewriter.feed(payload[1:-10]), *rewriter.finish()])
        commands = [[b"DEL", key], *built]
        if int(ttl):
            absolute = any(option.upper() == b"ABSTTL" for option in options)
            commands.append([b"PEXPIREAT" if absolute else b"PEXPIRE", key, ttl])
        return commands

    def _flush(self, args: Args) -> list[Args]:
        known = [
            option
            for option in args[1:]
            if self._target.knows("SYNC" if option.upper() == b"SYNC" else "ASYNC")
        ]
        return [[args[0], *known]]

    def _bitop(self, args: Args) -> list[Args]:
        if args[1].upper() not in (b"AND", b"OR", b"XOR", b"NOT"):
            self._refuse(args, f"the operation {args[1].decode('utf-8', 'replace')} is not known there")
        return [args]

    # --- lists, hashes ----------------------------------------------------------------------------------------------

    def _lmove(self, args: Args) -> list[Args]:
        source, target = args[3].upper(), args[4].upper()
        if (source, target) == (b"RIGHT", b"LEFT"):
            return [[b"RPOPLPUSH", *args[1:3]]]
        words = [b"0" if source == b"LEFT" else b"-1", source[:1] + b"POP", target[:1] + b"PUSH"]
        return [self._eval(_LMOVE, args[1:3], words)]

    def _pop(self, args: Args) -> list[Args]:
        if len(args) < 3:
            return [args]
        count = int(args[2])
        left = args[0].upper() == b"LPOP"
        return [[b"LTRIM", args[1], *([b"%d" % count, b"-1"] if left else [b"0", b"%d" % (-count - 1)])]]

    def _hsetex(self, args: Args) -> list[Args]:
        at = next(place for place in range(2, len(args)) if args[place].upper() == b"FIELDS")
        options, pairs = [option.upper() for option in args[2:at]], args[at + 2 :]
        when = next((args[3 + place] for place, option in enumerate(options) if option in _TIMES), None)
        unit = next((option for option in options if option in _TIMES), b"")
        command = [b"HSET" if self._target.knows("HSET many") else b"HMSET", args[1], *pairs]
        if not self._target.knows("field expiry"):
            if when is not None:
                self._refuse(args, "fields of hashes have no expiry of their own there")
            return [command]
        if b"KEEPTTL" in options:
            return [self._eval(_HSET_KEEPTTL, [args[1]], pairs)]
        if when is None:
            return [command]
        expire = {b"EX": b"HEXPIRE", b"PX": b"HPEXPIRE", b"EXAT": b"HEXPIREAT", b"PXAT": b"HPEXPIREAT"}[unit]
        return [command, [expire, args[1], when, b"FIELDS", b"%d" % (len(pairs) // 2), *pairs[::2]]]

    # --- sorted sets ------------------------------------------------------------------------------------------------

    def _zpop(self, args: Args) -> list[Args]:
        count = int(args[2]) if len(args) > 2 else 1
        ranks = (0, count - 1) if args[0].upper() == b"ZPOPMIN" else (-count, -1)
        return [[b"ZREMRANGEBYRANK", args[1], b"%d" % ranks[0], b"%d" % ranks[1]]]

    def _zadd(self, args: Args) -> list[Args]:
        place = 2
        while args[place].upper() in (b"NX", b"XX", b"GT", b"LT", b"CH", b"INCR"):
            place += 1
        options = {option.upper() for option in args[2:place]}
        if not options & {b"GT", b"LT"}:
            return [args]
        pairs = args[place:]
        if len(pairs) == 2:
            # One element: it would not have travelled if the condition had not held.
            return [[b"ZINCRBY" if b"INCR" in options else b"ZADD", args[1], *pairs]]
        words = [b"GT" if b"GT" in options else b"LT", b"XX" if b"XX" in options else b""]
        return [self._eval(_ZADD_GT, [args[1]], [*words, *pairs])]

    def _zrangestore(self, args: Args) -> list[Args]:
        _, store, key, start, stop, *options = args
        words = [option.upper() for option in options]
        by = next((word for word in words if word in (b"BYSCORE", b"BYLEX")), b"")
        limit = words.index(b"LIMIT") if b"LIMIT" in words else -1
        name = (b"ZREVRANGE" if b"REV" in words else b"ZRANGE") + by
        command = [name, key, start, stop, *([] if by == b"BYLEX" else [b"WITHSCORES"])]
        if limit >= 0:
            command += options[limit : limit + 3]
        return [self._eval(_ZRANGESTORE, [store, key], [b"lex" if by == b"BYLEX" else b"", *command])]

    def _zdiffstore(self, args: Args) -> list[Args]:
        return [self._eval(_ZDIFFSTORE, [args[1], *args[3 : 3 + int(args[2])]], [])]

    def _geosearchstore(self, args: Args) -> list[Args]:
        _, store, key, *rest = args
        words = [word.upper() for word in rest]
        if b"BYPOLYGON" not in words and self._target.knows("GEOSEARCHSTORE"):
            return [args]
        centre: Args = []
        size: Args = []
        more: Args = []
        member = distances = False
        place = 0
        while place < len(rest):
            word = words[place]
            if word == b"FROMLONLAT":
                centre, place = rest[place + 1 : place + 3], place + 3
            elif word == b"FROMMEMBER":
                centre, member, place = rest[place + 1 : place + 2], True, place + 2
            elif word == b"BYRADIUS":
                size, place = rest[place + 1 : place + 3], place + 3
            elif word == b"COUNT" and words[place + 2 : place + 3] != [b"ANY"]:
                more, place = [*more, *rest[place : place + 2]], place + 2
            elif word in (b"ASC", b"DESC"):
                more, place = [*more, word], place + 1
            elif word == b"STOREDIST":
                distances, place = True, place + 1
            else:
                self._refuse(args, f"{word.decode('utf-8', 'replace')} has no counterpart there")
        name = b"GEORADIUSBYMEMBER" if member else b"GEORADIUS"
        return self._georadius(
            [name, key, *centre, *size, *more, b"STOREDIST" if distances else b"STORE", store]
        )

    def _georadius(self, args: Args) -> list[Args]:
        """Before 6.2 the result of an earlier one stays where the key is missing."""
        store = next(
            (args[at + 1] for at in range(5, len(args) - 1) if args[at].upper() in (b"STORE", b"STOREDIST")),
            None,
        )
        return [args] if store in (None, args[1]) else [[b"DEL", store], args]

    # --- streams ----------------------------------------------------------------------------------------------------

    def _no_streams(self, args: Args) -> NoReturn:
        key = args[2] if args[0].upper() == b"XGROUP" and len(args) > 2 else args[1]
        raise UnsupportedData(
            f"{args[0].decode('utf-8', 'replace').upper()} of key {key[:128]!r}: the target ({self._target}) does not know streams"
        )

    def _xadd(self, args: Args) -> list[Args]:
        knows = self._target.knows
        head, place = args[:2], 2
        trim: Args = []
        again: Args = []
        while True:
            option = args[place].upper()
            if option == b"NOMKSTREAM":
                place += 1  # the stream is there: else nothing would have travelled
            elif option in _REFERENCES:
                head += self._reference(args, option)
                place += 1
            elif option == b"IDMP":
                again, place = args[place + 1 : place + 3], place + 3
            elif option == b"IDMPAUTO":
                self._refuse(
                    args, "IDMPAUTO cannot be repeated by another server; IDMP with an identifier can"
                )
            elif option in (b"MAXLEN", b"MINID"):
                trim, place = self._trimming(args, place)
            else:
                break
        if again and not knows("IDMP"):
            self._refuse(args, "producers are not remembered there")
        identifier = args[place]
        if trim and trim[0] == b"MINID" and not knows("MINID"):
            return [[*head, *args[place:]], self._trim_before(args[1], trim[-1])]
        commands = [[*head, *trim, *args[place:]]]
        if again:
            commands.append([b"XIDMPRECORD", args[1], *again, identifier])
        return commands

    def _xtrim(self, args: Args) -> list[Args]:
        trim, place = self._trimming(args, 2)
        reference = [word for option in args[place:] for word in self._reference(args, option.upper())]
        if trim[0] == b"MINID" and not self._target.knows("MINID"):
            return [self._trim_before(args[1], trim[-1])]
        return [[*args[:2], *trim, *reference]]

    @staticmethod
    def _trimming(args: Args, place: int) -> tuple[Args, int]:
        """MAXLEN or MINID with its threshold, exact: a server tells its replicas what it has really kept."""
        word = args[place].upper()
        mark = [args[place + 1]] if args[place + 1] in (b"=", b"~") else []
        place += 1 + len(mark)
        threshold = args[place]
        place += 3 if place + 1 < len(args) and args[place + 1].upper() == b"LIMIT" else 1
        return [word, *mark, threshold], place

    def _reference(self, args: Args, option: bytes) -> Args:
        if self._target.knows("KEEPREF"):
            return [option]
        if option != b"KEEPREF":
            self._refuse(args, f"{option.decode('utf-8', 'replace')} is not known there")
        return []

    def _trim_before(self, key: bytes, threshold: bytes) -> Args:
        milliseconds, _, sequence = threshold.partition(b"-")
        first = (int(milliseconds), int(sequence or 0))
        last = (first[0], first[1] - 1) if first[1] else (first[0] - 1, _LAST)
        return self._eval(_TRIM_BEFORE, [key], [b"%d-%d" % last if last[0] >= 0 else b"0-0"])

    def _xgroup(self, args: Args) -> list[Args]:
        word = args[1].upper()
        if word == b"CREATECONSUMER" and not self._target.knows("CREATECONSUMER"):
            return [touch_consumer(*args[2:5])]
        if word in (b"CREATE", b"SETID"):
            for place in range(5, len(args) - 1):
                if args[place].upper() == b"ENTRIESREAD":
                    return [[*args[:place], *args[place + 2 :]]]
        return [args]

    def _xclaim(self, args: Args) -> list[Args]:
        """From 7.0 on, an entry whose message is gone leaves the pending entries; before, it stays there."""
        return [self._eval(_XCLAIM, [args[1]], args[2:])]

    def _xdelex(self, args: Args) -> list[Args]:
        option, identifiers = self._references(args, 2)
        if option == b"ACKED":
            self._refuse(args, "ACKED is not known there")
        return [self._eval(_XDELEX, [args[1]], [option, *identifiers])]

    def _xackdel(self, args: Args) -> list[Args]:
        option, identifiers = self._references(args, 3)
        if option == b"ACKED":
            self._refuse(args, "ACKED is not known there")
        return [self._eval(_XACKDEL, [args[1]], [option, args[2], *identifiers])]

    @staticmethod
    def _references(args: Args, place: int) -> tuple[bytes, Args]:
        """(KEEPREF, DELREF or ACKED, identifiers): the option may stand before or behind the identifiers."""
        words = [arg.upper() for arg in args]
        at = words.index(b"IDS", place)
        count = int(args[at + 1])
        others = words[place:at] + words[at + 2 + count :]
        return (others[0] if others else b"KEEPREF"), args[at + 2 : at + 2 + count]

    def _xcfgset(self, args: Args) -> list[Args]:
        self._say(
            "how long streams remember their producers (XCFGSET) is not carried: the target does not know it"
        )
        return []

    # --- scripts, functions, channels -------------------------------------------------------------------------------

    def _script(self, args: Args) -> list[Args]:
        return [args[:2]] if args[1].upper() == b"FLUSH" else [args]

    def _function(self, args: Args) -> list[Args]:
        if not self._target.knows("functions"):
            raise UnsupportedData(
                f"FUNCTION {args[1].decode('utf-8', 'replace').upper()}: the target ({self._target}) does not know functions",
                advice="Choose a target of version 7.0 or later, or use no functions on the source.",
            )
        if args[1].upper() == b"RESTORE" and int.from_bytes(args[2][-10:-8], "little") != self._stamp:
            return [[*args[:2], stamped(args[2][:-10], self._stamp), *args[3:]]]
        return [args]

    def _publish(self, args: Args) -> list[Args]:
        """What Sentinel tells the other Sentinels of the source is not for those of the target."""
        return [] if args[1] == _SENTINEL else [args]

    def _spublish(self, args: Args) -> list[Args]:
        self._say("messages of sharded channels (SPUBLISH) are not carried: the target does not know them")
        return []


# --- scripts --------------------------------------------------------------------------------------------------------

_EFFECTS: Final = "if redis.replicate_commands then redis.replicate_commands() end "
# When a key expires, in ms since the epoch: PTTL counts from the same millisecond that TIME tells before and after it.
_EXPIRY_OF: Final = (
    "local function expiry(k) local a, b, t repeat a = redis.call('TIME') t = redis.call('PTTL', k) b = redis.call('TIME') "
    "until a[1] == b[1] and math.floor(a[2] / 1000) == math.floor(b[2] / 1000) "
    "if t >= 0 then return string.format('%.0f', a[1] * 1000 + math.floor(a[2] / 1000) + t) end end "
)
_KEEPTTL: Final = "local at = expiry(KEYS[1]) redis.call('SET', KEYS[1], ARGV[1]) if at then redis.call('PEXPIREAT', KEYS[1], at) end"
_COPY: Final = (
    "local v = redis.call('DUMP', KEYS[1]) if not v then return end local at = expiry(KEYS[1]) "
    "if ARGV[1] ~= '' then redis.call('SELECT', ARGV[1]) end redis.call('RESTORE', KEYS[2], 0, v, 'REPLACE') "
    "if at then redis.call('PEXPIREAT', KEYS[2], at) end"
)
# The element is added before it is taken away: a list that is moved onto itself is never empty, and keeps its expiry.
_LMOVE: Final = (
    "local v = redis.call('LINDEX', KEYS[1], ARGV[1]) if not v then return end "
    "if KEYS[1] == KEYS[2] and string.sub(ARGV[2], 1, 1) == string.sub(ARGV[3], 1, 1) then return end "
    "redis.call(ARGV[3], KEYS[2], v) redis.call(ARGV[2], KEYS[1])"
)
_HSET_KEEPTTL: Final = (
    "for i = 1, #ARGV, 2 do local at = redis.call('HPEXPIRETIME', KEYS[1], 'FIELDS', 1, ARGV[i]) "
    "redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) "
    "if type(at) == 'table' and at[1] > 0 then "
    "redis.call('HPEXPIREAT', KEYS[1], string.format('%.0f', at[1]), 'FIELDS', 1, ARGV[i]) end end"
)
_ZADD_GT: Final = (
    "for i = 3, #ARGV, 2 do local old = redis.call('ZSCORE', KEYS[1], ARGV[i + 1]) local new, ok = tonumber(ARGV[i]), ARGV[2] == '' "
    "if old then old = tonumber(old) if ARGV[1] == 'GT' then ok = new > old else ok = new < old end end "
    "if ok then redis.call('ZADD', KEYS[1], ARGV[i], ARGV[i + 1]) end end"
)
_STORE: Final = (
    "redis.call('DEL', KEYS[1]) for i = 1, #r, 1000 do "
    "local part = {} for j = i, math.min(i + 999, #r), 2 do part[#part + 1] = r[j + 1] part[#part + 1] = r[j] end "
    "redis.call('ZADD', KEYS[1], unpack(part)) end"
)
_ZRANGESTORE: Final = (
    "local c = {} for i = 2, #ARGV do c[i - 1] = ARGV[i] end local r = redis.call(unpack(c)) "
    "if ARGV[1] == 'lex' then local s = {} for _, m in ipairs(r) do s[#s + 1] = m s[#s + 1] = redis.call('ZSCORE', KEYS[2], m) end "
    "r = s end " + _STORE
)
_ZDIFFSTORE: Final = (
    "local function all(k) local t = redis.call('TYPE', k).ok "
    "if t == 'zset' then return redis.call('ZRANGE', k, 0, -1, 'WITHSCORES') end "
    "local s = {} if t == 'set' then for _, m in ipairs(redis.call('SMEMBERS', k)) do s[#s + 1] = m s[#s + 1] = '1' end end return s end "
    "local out = {} for k = 3, #KEYS do local o = all(KEYS[k]) for i = 1, #o, 2 do out[o[i]] = true end end "
    "local first, r = all(KEYS[2]), {} for i = 1, #first, 2 do if not out[first[i]] then "
    "r[#r + 1] = first[i] r[#r + 1] = first[i + 1] end end " + _STORE
)
_TRIM_BEFORE: Final = (
    "while true do local r = redis.call('XRANGE', KEYS[1], '-', ARGV[1], 'COUNT', 500) if #r == 0 then return end "
    "local ids = {} for i, e in ipairs(r) do ids[i] = e[1] end redis.call('XDEL', KEYS[1], unpack(ids)) end"
)
_XCLAIM: Final = (
    "redis.call('XCLAIM', KEYS[1], unpack(ARGV)) if #redis.call('XRANGE', KEYS[1], ARGV[4], ARGV[4]) == 0 then "
    "redis.call('XACK', KEYS[1], ARGV[1], ARGV[4]) end"
)
_GROUPS: Final = (
    "local function forget(id) for _, g in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do "
    "for i = 1, #g, 2 do if g[i] == 'name' then redis.call('XACK', KEYS[1], g[i + 1], id) end end end end "
)
_XDELEX: Final = (
    _GROUPS
    + "for i = 2, #ARGV do if redis.call('XDEL', KEYS[1], ARGV[i]) == 1 and ARGV[1] == 'DELREF' then forget(ARGV[i]) end end"
)
_XACKDEL: Final = (
    _GROUPS
    + "for i = 3, #ARGV do if redis.call('XACK', KEYS[1], ARGV[2], ARGV[i]) == 1 then redis.call('XDEL', KEYS[1], ARGV[i]) "
    "if ARGV[1] == 'DELREF' then forget(ARGV[i]) end end end"
)
