"""Prefixes and patterns of keys; patterns against what a real server says."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from migrations_app.engine.client import Client
from migrations_app.engine.errors import UsageError
from migrations_app.engine.keyfilter import KeyFilter
from tests.engine.links import endpoint
from tests.support.servers import Server

ALPHABET = "ab]-^\\[*?c\n\xff"
KEYS = sorted(
    {
        first + second + third
        for first in ALPHABET
        for second in ["", *ALPHABET]
        for third in ["", "a", "b", "]", "aab"]
    }
    | {"user:1", "user:22", "abcabcabd"}
)  # not the empty key, which fits `*` and, to the server, not `**`


@pytest.fixture(scope="module", params=["redis-7.0", "redis-8.6", "valkey-9.1"])
def keys(request: pytest.FixtureRequest) -> Iterator[Client]:
    """A server that holds KEYS."""
    with Server(request.param) as server, Client(endpoint(server)) as client:
        client.pipeline([("SET", key.encode("latin-1"), "") for key in KEYS])
        yield client


@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
# Not \xff: what a range over 127 means depends on the machine that the server was built for.
@given(st.text(ALPHABET[:-1], min_size=1, max_size=8))
@example("[^]a")
@example("[b-a]")
@example("[a-]")
@example("[\\]]b")
@example("[abc")
@example("[^")
@example("a\\")
@example("*a*b*")
@example("**a")
@example("*ab")
@example("?*?")
@example("[\\")
@example("a*[")
@example("*[^a]")
@example("[\xff]*")
@example("*\xff")
def test_patterns_mean_what_they_mean_to_the_server(keys: Client, pattern: str) -> None:
    raw = pattern.encode("latin-1")
    told = keys.execute("KEYS", raw)
    assert isinstance(told, list)
    chosen = KeyFilter(include_patterns=(raw,))
    assert sorted(key for key in map(encode, KEYS) if chosen.wants(key)) == sorted(told)  # type: ignore[type-var]


def encode(key: str) -> bytes:
    return key.encode("latin-1")


def test_included_and_excluded() -> None:
    chosen = KeyFilter(
        include_prefixes=(b"user:", b"a.c"), include_patterns=(b"order:*:paid",),
        exclude_prefixes=(b"user:tmp:",), exclude_patterns=(b"*:9", b"user:[xy]"),
    )  # fmt: skip
    assert chosen
    for key in (b"user:", b"user:1", b"user:xy", b"a.c", b"order:1:paid", b"order::paid"):
        assert chosen.wants(key), key
    for key in (
        b"",
        b"User:1",
        b"abc",
        b"user:tmp:1",
        b"user:9",
        b"user:x",
        b"order:1:paid:9",
        b"order:1",
        b" user:1",
    ):
        assert not chosen.wants(key), key


def test_without_inclusion_everything_but_what_is_excluded() -> None:
    chosen = KeyFilter(exclude_prefixes=(b"tmp:",))
    assert chosen
    assert chosen.wants(b"")
    assert chosen.wants(b"a\nb")
    assert not chosen.wants(b"tmp:\n")
    assert not KeyFilter()
    assert KeyFilter().wants(b"tmp:")


@pytest.mark.parametrize(
    "words", [{"include_prefixes": (b"",)}, {"exclude_prefixes": (b"a", b"")}, {"include_patterns": (b"",)}, {"exclude_patterns": (b"",)}]
)  # fmt: skip
def test_an_empty_word_is_refused(words: dict[str, tuple[bytes, ...]]) -> None:
    with pytest.raises(UsageError, match="empty"):
        KeyFilter(**words)


def test_no_pattern_takes_for_ever() -> None:
    chosen = KeyFilter(include_patterns=(b"*a" * 40 + b"*b", b"*[^b]?" * 20))
    begin = time.process_time()
    assert not chosen.wants(b"a" * 39 + b"b" * 3000)
    assert not chosen.wants(b"b" * 50_000)
    assert time.process_time() - begin < 30  # not exponential: some ms in fact
