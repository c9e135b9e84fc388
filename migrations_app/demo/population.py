"""The bulk of the sample data: what a shop keeps in Redis, under names as people give them.

`commands` yields exactly one new key per step, so that a fill reaches the number of keys that was asked for.
Five databases hold the same names with different values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

from .clients import Capabilities, Command
from .corners import text

Maker = Callable[["Shop", int], Iterator[Command]]

ITEMS = (
    "lamp",
    "kettle",
    "chair",
    "clock",
    "scarf",
    "notebook",
    "bicycle",
    "teapot",
    "rug",
    "mirror",
    "basket",
    "candle",
)
PAGES = ("home", "search", "item", "basket", "checkout", "help")
CITIES = (
    ("Lisbon", -9.1393, 38.7223),
    ("Oslo", 10.7522, 59.9139),
    ("Accra", -0.187, 5.6037),
    ("Quito", -78.4678, -0.1807),
)
LANGUAGES = ("en", "de", "fr", "pt", "ja", "uk")
MIX_SCRAMBLE = 0x9E3779B97F4A7C15
ODD_MS = 137
"""Added to expiries, so that they do not end on whole seconds."""


class Shop:
    """The state of one database's fill: its random numbers, its clock (ms since 1970), what its server
    knows."""

    def __init__(self, random: Random, caps: Capabilities, now_ms: int) -> None:
        self.random = random
        self.caps = caps
        self.now_ms = now_ms
        self.noise = random.randbytes(1 << 16)

    def below(self, limit: int) -> int:
        """A number in [0, limit). Some five times as quick as `Random.randrange`."""
        return int(self.random.random() * limit)

    def bytes(self, length: int) -> bytes:
        """Incompressible bytes."""
        start = self.below(len(self.noise) - length)
        return self.noise[start : start + length]

    def expiry(self) -> int:
        """A moment (ms since 1970) between two minutes and a month from now, mostly hours."""
        minutes = (2, 10, 60, 1440, 43200)[self.below(5)]
        return self.now_ms + minutes * 60_000 + self.below(minutes * 60_000) + ODD_MS


def token(number: int) -> str:
    """16 hexadecimal digits that look random and never repeat for different numbers."""
    return f"{(number + 1) * MIX_SCRAMBLE % 2**64:016x}"


def commands(shop: Shop, keys: int) -> Iterator[Command]:
    """Commands that make exactly ``keys`` new keys."""
    makers = [maker for weight, needs, maker in MAKERS if shop.caps.has(*needs) for _ in range(weight)]
    # A stride that shares no factor with the length visits all makers in the same proportion.
    for number in range(keys):
        yield from makers[number * 37 % len(makers)](shop, number)


def session(shop: Shop, n: int) -> Iterator[Command]:
    """A signed-in visitor: small hash with an expiry."""
    key = f"session:{token(n)}"
    yield (
        "HMSET",
        key,
        "user",
        n,
        "ip",
        f"10.{n % 256}.{n // 256 % 256}.7",
        "csrf",
        shop.bytes(16),
        "lang",
        LANGUAGES[n % 6],
    )
    yield "PEXPIREAT", key, shop.expiry()


def profile(shop: Shop, n: int) -> Iterator[Command]:
    """What is known of a user: small hash without expiry; now and then a long text in it (hashtable)."""
    about = text(20 + shop.below(40)) if n % 20 else text(300) + shop.bytes(40)
    yield (
        "HMSET",
        f"user:{n}:profile",
        "name",
        f"user {n}",
        "city",
        CITIES[n % 4][0],
        "visits",
        shop.below(500),
        "about",
        about,
    )


def cart(shop: Shop, n: int) -> Iterator[Command]:
    """Items and how many."""
    items = [
        part
        for i in range(1 + n % 5)
        for part in (f"{ITEMS[(n + i) % 12]}:{shop.below(900)}", 1 + shop.below(4))
    ]
    yield "HMSET", f"cart:{n}", *items


def rate(shop: Shop, n: int) -> Iterator[Command]:
    """Request counters per client, gone after some minutes: the keys whose expiry a writer keeps renewing."""
    left = 95_000 + shop.below(600_000)
    yield "PSETEX", f"rate:10.{n % 256}.{n // 256 % 256}.{n // 65536}", left, shop.below(1000)


def page(shop: Shop, n: int) -> Iterator[Command]:
    """A rendered page: compressible text of 100 bytes to 2 KB."""
    yield (
        "SET",
        f"page:{LANGUAGES[n % 6]}:{PAGES[n % 5]}:{n}",
        b"<html>" + text(100 + shop.below(1900)) + b"%d</html>" % n,
    )


def token_key(shop: Shop, n: int) -> Iterator[Command]:
    """An access token: short incompressible string, half of them with an expiry in seconds."""
    value = shop.bytes(32)
    if n % 2:
        yield "SETEX", f"token:{token(n)}", 120 + shop.below(86_400), value
    else:
        yield "SET", f"token:{token(n)}", value


def counter(shop: Shop, n: int) -> Iterator[Command]:
    """A plain counter: int."""
    yield "SET", f"stats:{PAGES[n % 6]}:{n}", shop.below(10_000_000) - 1000


def thumbnail(shop: Shop, n: int) -> Iterator[Command]:
    """Binary data of up to 8 KB that does not compress."""
    yield "SET", f"thumb:{n}.webp", shop.bytes(500 + shop.below(7500))


def feed(shop: Shop, n: int) -> Iterator[Command]:
    """The latest messages of a user: list."""
    yield "RPUSH", f"feed:{n}", *(b"%d:" % (n + i) + text(10 + shop.below(60)) for i in range(1 + n % 12))


def queue(shop: Shop, n: int) -> Iterator[Command]:
    """Jobs that wait: list of incompressible entries, many nodes now and then."""
    yield "LPUSH", f"queue:{PAGES[n % 6]}:{n}", *(shop.bytes(40) for _ in range(400 if n % 997 == 0 else 3))


def followers(shop: Shop, n: int) -> Iterator[Command]:
    """Numbers of users: intset, hashtable for a few well-known ones."""
    yield "SADD", f"followers:{n}", *(shop.below(10**6) for _ in range(700 if n % 499 == 0 else 8))


def tags(shop: Shop, n: int) -> Iterator[Command]:
    """Words: small set."""
    yield "SADD", f"tags:item:{n}", *(ITEMS[(n + i * 5) % 12] for i in range(1 + n % 6))


def board(shop: Shop, n: int) -> Iterator[Command]:
    """A leaderboard with fractional points: sorted set, skiplist now and then."""
    size = 300 if n % 211 == 0 else 6
    yield (
        "ZADD",
        f"board:week:{n}",
        *(part for i in range(size) for part in (round(shop.random.gauss(0, 1000), 3), f"player:{n + i}")),
    )


def timeline(shop: Shop, n: int) -> Iterator[Command]:
    """Moments as scores (whole milliseconds), with an expiry."""
    key = f"timeline:{n}"
    yield (
        "ZADD",
        key,
        *(part for i in range(5) for part in (shop.now_ms - shop.below(10**9), f"{ITEMS[(n + i) % 12]}")),
    )
    yield "PEXPIREAT", key, shop.expiry()


def visitors(shop: Shop, n: int) -> Iterator[Command]:
    """Unique visitors of a page: HyperLogLog."""
    yield "PFADD", f"visitors:{PAGES[n % 6]}:{n}", *(shop.bytes(6) for _ in range(15))


def active(shop: Shop, n: int) -> Iterator[Command]:
    """Which users were active on a day: bitmap."""
    key = f"active:day:{n}"
    yield "SETBIT", key, shop.below(20_000), 1
    yield "SETBIT", key, shop.below(20_000), 1


def shops(shop: Shop, n: int) -> Iterator[Command]:
    """Places around a city: geo."""
    name, longitude, latitude = CITIES[n % 4]
    spots = [
        part
        for i in range(4)
        for part in (longitude + shop.random.random(), latitude + shop.random.random(), f"{name}:{i}")
    ]
    yield "GEOADD", f"shops:{name}:{n}", *spots


def orders(shop: Shop, n: int) -> Iterator[Command]:
    """The orders of a branch: stream with a group that has read some of them."""
    key = f"orders:branch:{n}"
    for i in range(6):
        yield (
            "XADD",
            key,
            f"{shop.now_ms - 10**7 + i}-{i}",
            "item",
            ITEMS[(n + i) % 12],
            "price",
            shop.below(9000) / 100,
        )
    if n % 3 == 0:
        yield "XGROUP", "CREATE", key, "billing", "0"
        yield "XREADGROUP", "GROUP", "billing", f"worker{n % 4}", "COUNT", 3, "STREAMS", key, ">"


MAKERS: tuple[tuple[int, tuple[str, ...], Maker], ...] = (
    # Weight (of some hundred), commands it needs, maker.
    (14, (), session), (12, (), profile), (8, (), cart), (10, (), rate), (10, (), page), (10, (), token_key),
    (10, (), counter), (1, (), thumbnail), (6, (), feed), (2, (), queue), (4, (), followers), (3, (), tags),
    (4, (), board), (2, (), timeline), (1, (), visitors), (1, (), active), (1, (), shops),
    (1, ("XADD",), orders),
)  # fmt: skip
