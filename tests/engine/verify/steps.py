"""Short ways to say what the tests of the comparison say often."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from migrations_app.engine.endpoint import Endpoint
from migrations_app.engine.verify import VerifyReport, verify
from tests.engine.verify.plants import Command
from tests.support.servers import Server


def apply(server: Server, commands: Iterable[Command], db: int = 0) -> None:
    """Run commands, each of which must succeed."""
    with server.client(db=db) as client:
        pipeline = client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        pipeline.execute()


def compare(source: Server, target: Server, **options: Any) -> VerifyReport:
    return verify(Endpoint.parse(source.url), Endpoint.parse(target.url), **options)
