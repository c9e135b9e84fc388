"""The checkpoint: what is written is read back, and what was tampered with is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrations_app.engine.checkpoint import (
    FULL,
    INCREMENTAL,
    Checkpoint,
    CheckpointError,
    check_name,
    checkpoint_key,
    client_name,
    client_prefix,
    deferred_key,
)
from migrations_app.engine.errors import UsageError

CHECKPOINTS = st.builds(
    Checkpoint,
    epoch=st.integers(0, 2**62),
    phase=st.sampled_from(["", FULL, INCREMENTAL]),
    replication_id=st.text("0123456789abcdef", max_size=40),
    offset=st.integers(-1, 2**62),
    database=st.integers(0, 10_000),
    held=st.frozensets(st.integers(0, 20)),
    fault=st.text(max_size=50).filter(lambda text: text.isprintable()),
)


def fields_of(checkpoint: Checkpoint) -> dict[bytes, bytes]:
    name, key, *rest = checkpoint.command("link")
    assert (name, key) == (b"HMSET", b"switchyard:checkpoint:link")
    return dict(zip(rest[::2], rest[1::2], strict=True))


@given(CHECKPOINTS)
def test_what_is_written_is_read_back(checkpoint: Checkpoint) -> None:
    assert Checkpoint.read(fields_of(checkpoint)) == checkpoint


@given(CHECKPOINTS)
def test_every_write_has_every_field(checkpoint: Checkpoint) -> None:
    """So that a FLUSHALL in the stream before it takes nothing away."""
    assert set(fields_of(checkpoint)) == set(fields_of(Checkpoint(epoch=1)))


def test_no_checkpoint_is_a_beginning() -> None:
    empty = Checkpoint.read({})
    assert (empty.epoch, empty.phase, empty.resumable) == (0, "", False)


@pytest.mark.parametrize(
    ("checkpoint", "resumable"),
    [
        (Checkpoint(1, INCREMENTAL, "id", 5), True),
        (Checkpoint(1, FULL, "id", 5), False),
        (Checkpoint(1, INCREMENTAL, "", 5), False),
        (Checkpoint(1, INCREMENTAL, "id", 5, fault="diverged"), False),
    ],
)
def test_only_a_whole_and_sound_one_is_resumed(checkpoint: Checkpoint, resumable: bool) -> None:
    assert checkpoint.resumable is resumable
    assert checkpoint.at(9, 3).offset == 9
    assert checkpoint.at(9, 3).database == 3
    assert checkpoint.at(9, 3).fault == checkpoint.fault


@pytest.mark.parametrize("name", [b"format", b"epoch", b"phase", b"replid", b"offset", b"db"])
@pytest.mark.parametrize("value", [None, b"x", b"", b"\xff\xfe"])
def test_damage_is_refused(name: bytes, value: bytes | None) -> None:
    fields = fields_of(Checkpoint(1, INCREMENTAL, "id", 5))
    if value is None:
        del fields[name]
    else:
        fields[name] = value
    if name in (b"phase", b"replid") and value in (b"x", b""):
        assert not Checkpoint.read(fields).resumable or value == b"x"
        return
    with pytest.raises(CheckpointError):
        Checkpoint.read(fields)


def test_another_format_is_refused() -> None:
    with pytest.raises(CheckpointError, match="format 2"):
        Checkpoint.read(fields_of(Checkpoint(1)) | {b"format": b"2"})


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a/b", "ä", "x" * 65, "a\n", "*"])
def test_names_that_cannot_be(name: str) -> None:
    with pytest.raises(UsageError):
        check_name(name)


def test_names_and_keys_of_two_links_are_never_mistaken() -> None:
    """Nor is one link's name the beginning of another's client names."""
    assert check_name("orders-2.eu_1") == "orders-2.eu_1"
    assert checkpoint_key("a") != checkpoint_key("a.b")
    assert deferred_key("a").startswith(b"switchyard:")
    assert client_name("a", 3) == "switchyard:a:3"
    assert not client_name("a.b", 3).startswith(client_prefix("a"))
