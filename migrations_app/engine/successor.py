"""Whether a server that was looked up is still the one: a master that was replaced may go on answering, cut off from its own."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Final

from migrations_app.engine.client import Client
from migrations_app.engine.endpoint import Endpoint
from migrations_app.engine.errors import EngineError, NotTheMaster
from migrations_app.engine.facts import ServerFacts

_INTERVAL: Final = 2.0  # seconds between two questions
_NAMED: Final = 2  # a successor has to be named so often in a row: some may not have heard of a failover yet


class SuccessorWatch:
    """Asks in a thread, where `endpoint` (of an open connection to the server with this run ID) was looked up.

    `found` is then the error that sends the next connection to the master that has been named in its place.
    """

    def __init__(self, endpoint: Endpoint, run_id: str, timeout: float) -> None:
        self._endpoint = endpoint
        self._run_id = run_id
        self._timeout = timeout
        self._stop = threading.Event()
        self.found: NotTheMaster | None = None
        if endpoint.lookup is not None and run_id:
            threading.Thread(target=self._run, name="successor-watch", daemon=True).start()

    def close(self) -> None:
        """Stop asking; does not wait for a question that is under way."""
        self._stop.set()

    def _run(self) -> None:
        endpoint = self._endpoint
        named = 0
        while not self._stop.wait(_INTERVAL):
            try:
                with Client(replace(endpoint, host="", port=0), timeout=min(5.0, self._timeout)) as client:
                    new = client.endpoint.address
                    named = named + 1 if ServerFacts.of(client).run_id != self._run_id else 0
            except EngineError:
                continue  # nobody else is there: the link's own connections tell whether this one is
            if named >= _NAMED:
                self.found = NotTheMaster(f"{endpoint.address}: {new} has become the master in its place")
                return
