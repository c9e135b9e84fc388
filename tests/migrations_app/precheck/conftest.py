from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .world import Pool, World


@pytest.fixture(scope="package")
def pool() -> Iterator[Pool]:
    made = Pool()
    yield made
    made.close()


@pytest.fixture
def world(db: None, pool: Pool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[World]:
    made = World(pool, patches=monkeypatch, folder=tmp_path)
    yield made
    made.close()
