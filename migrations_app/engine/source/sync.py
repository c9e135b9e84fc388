"""A source that is read with SYNC, the oldest form of replication, where PSYNC is renamed or refused.

Seen on 3.2 to 8.6 and Valkey 8 to 9: a replica that came by SYNC need not acknowledge anything and is not dropped for its silence;
without `capa eof` the snapshot comes with its length, also where the source is set to diskless synchronization. From 4.0 on the
snapshot tells at which offset its stream begins.
"""

from __future__ import annotations

from migrations_app.engine.endpoint import Endpoint
from migrations_app.engine.protocol.psync import SyncDecoder
from migrations_app.engine.protocol.resp import encode
from migrations_app.engine.shards.layout import Scope
from migrations_app.engine.source.psync import PsyncSource


class SyncSource(PsyncSource):
    """No position can be asked for: every connection begins with a snapshot."""

    resumes = False

    def __init__(self, endpoint: Endpoint, name: str, timeout: float, shard: Scope | None = None) -> None:
        super().__init__(endpoint, name, timeout, shard)
        self.decoder = SyncDecoder()
        self.limits = (
            "SYNC: the source cannot be asked to go on at a position, so after a stop or a lost connection only a new full "
            "synchronization helps (where the task allows it)"
        )
        if self.facts.version < (4,):
            self.limits += "; until the source has been quiet for a moment the lag is not known"

    def start(self, replication_id: str, offset: int) -> None:
        if self.facts.valkey_version:
            # Left out where REPLCONF is refused: the source then writes a format that older servers know.
            self._client.pipeline([("REPLCONF", "version", self.facts.valkey_version)])
        self.connection.send_all(encode("SYNC"), self._client.timeout)

    def acknowledge(self, offset: int) -> None:
        pass
