from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from django.test import Client

from portal.choices import Architecture, Edition, NodeRole
from portal.redis_control import EndpointParams, NodeInfo, ProbeResult
from tests.portal.world import World, make_world
from tests.support.servers import Server


@pytest.fixture
def world(db: None) -> World:
    return make_world()


@pytest.fixture
def as_role(world: World) -> Callable[[str], Client]:
    """A browser in which the person of the role is logged in."""

    def client(role: str) -> Client:
        browser = Client()
        if role != "anonymous":
            browser.force_login(world.user(role))
        return browser

    return client


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[EndpointParams]:
    """Instead of a server: every probe succeeds. The list holds what was asked for."""
    asked: list[EndpointParams] = []

    def probe(params: EndpointParams) -> ProbeResult:
        asked.append(params)
        return ProbeResult(
            edition=Edition.VALKEY.value,
            version="9.1.2",
            compatible_version="9.1",
            architecture=Architecture.STANDARD,
            role=NodeRole.MASTER.value,
            run_id=f"{len(asked):040x}",
            nodes=[NodeInfo("master", params.host, params.port)],
            databases=[{"index": 0, "keys": 7, "expires": 0}],
        )

    monkeypatch.setattr("portal.services.instances.probe", probe)
    return asked


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server("valkey-9", password="pw-of-the-server", config={"databases": 20}) as running:
        yield running
