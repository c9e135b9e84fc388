"""A cluster as target: taking all of its masters over, and how far each slot has come.

The checkpoint is a hash in its own slot, as at one server. Beside it every slot that the stream writes has a mark, a key of that slot
that is written in the same transaction as the data (`applied_key`): the offset of the stream up to which the slot has come.
It moves with the slot, and it fails over with it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from migrations_app.engine import errors
from migrations_app.engine.checkpoint import (
    OWN_PREFIX,
    Checkpoint,
    checkpoint_key,
    client_name,
    client_prefix,
    kept_key,
    scripts_key,
    staged_key,
    written_key,
)
from migrations_app.engine.client import Client, Command
from migrations_app.engine.endpoint import Endpoint
from migrations_app.engine.facts import ServerFacts
from migrations_app.engine.keys import slot
from migrations_app.engine.protocol.resp import Reply, ReplyError
from migrations_app.engine.target.base import names_of_stream
from migrations_app.engine.target.node import Node
from migrations_app.engine.target.router import NOTES, in_slot, placed
from migrations_app.engine.target.slots import REDIRECTS, Address, SlotMap, redirected
from migrations_app.engine.target.standalone import has_modules, kill_earlier, stamp_of

_PAUSE = 0.05  # seconds before a question that a moving slot has refused is asked again
_REDIRECTIONS = 5  # that are followed without a pause
_AT_ONCE = 1024  # commands
_REFRESH_EVERY = 1.0  # seconds
_REPLICAS_WITHIN_MS = 10_000


def applied_key(link: str, slot: int) -> bytes:
    """Of the mark of a slot: the offset, and behind it the names by which an opposite link knows the transaction (`loop.py`)."""
    return in_slot(OWN_PREFIX + b"applied:" + link.encode(), slot)


@dataclass(slots=True)
class ClusterMemory:
    """What a link remembers of its target from one attempt to the next.

    `marks` are those that the cluster has confirmed; `settled` the ones of them that the stored checkpoint has passed, so that they must
    never be found older.
    """

    addresses: list[Address] = field(default_factory=list)
    marks: dict[int, int] = field(default_factory=dict)
    settled: dict[int, int] = field(default_factory=dict)


class ClusterTarget:
    """Owns the connections of one link to the masters, from the takeover on."""

    def __init__(
        self, client: Client, facts: ServerFacts, link: str, epoch: int | None, memory: ClusterMemory
    ) -> None:
        self.link = link
        self.key = checkpoint_key(link)
        self.slot = slot(self.key)
        self.endpoint = client.endpoint
        self.memory = memory
        self.facts = facts
        self.last_marks: dict[int, int] = {}  # of some slots, as the checkpoint knows them
        self._timeout = client.timeout
        self._name = client_prefix(link)
        self._clients: dict[Address, Client] = {}
        self._side: dict[Address, Client] = {}  # for questions while the others are busy
        self._owner: int | None = None  # the epoch, once it is stored
        self._scripts: list[bytes] = []  # that every master has to know, also one that is met later
        self._refreshed = time.monotonic()
        try:
            self.map = self._read_map(client)
            client.close()
            self._need_all()
            for address in self.map.masters:
                self._clients[address] = self._connect(address)
            versions = [ServerFacts.of(one) for one in self._clients.values()]
            if any(one.loading for one in versions):
                raise errors.ServerLoading("a master of the target cluster is loading its data")
            self._versions = {one.version for one in versions}
            self.facts = min(versions, key=lambda one: one.version)
            memory.addresses = [*self.map.masters, *self.map.replicas]
            self.checkpoint = self._claim(epoch)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        for client in [*self._clients.values(), *self._side.values()]:
            client.close()

    # --- nodes ------------------------------------------------------------------------------------------------------

    def refresh(self, *, at_once: bool = False) -> None:
        """Ask again who serves what."""
        now = time.monotonic()
        if not at_once and now - self._refreshed < _REFRESH_EVERY:
            return
        self._refreshed = now
        self.map = self.read_map(self._timeout)

    def read_map(self, timeout: float) -> SlotMap:
        """What a master says now, over a connection of its own; may be called from any thread."""
        failure: errors.EngineError | None = None
        for address in self.map.masters:
            try:
                with Client(self.endpoint_at(address), timeout=timeout, name=self._name) as client:
                    return self._read_map(client)
            except errors.ConnectError as error:
                failure = error
        raise failure or errors.ClusterNotReady("no node of the target cluster can be reached")

    def client_at(self, address: Address) -> Client:
        """The connection to a node. A new one is used only if the link still belongs to this owner."""
        client = self._clients.get(address)
        if client is None:
            client = self._clients[address] = self._connect(address)
            self._check_owner()
            for script in self._scripts:
                client.execute("SCRIPT", "LOAD", script)
        return client

    def _side_client(self, address: Address) -> Client:
        client = self._side.get(address)
        if client is None:
            client = self._side[address] = self._connect(address)
        return client

    def check_role(self, slot: int, before: Node) -> None:
        """In the full phase: a slot moved by resharding has lost nothing, one that failed over may have."""
        with self._connect(_address_of(before.connection.endpoint)) as client:
            if not ServerFacts.of(client).master:
                raise errors.ClusterChanged(
                    f"{client.endpoint.address}: a replica took over from this master of the target cluster (slot {slot})"
                )

    def check_mark(self, slot: int, before: Node) -> None:
        """In the incremental phase: what the slot had confirmed must be where it is found now."""
        expected = self.memory.marks.get(slot)
        if expected is None:
            return
        (reply,) = self.ask(slot, [("GET", applied_key(self.link, slot))], following=True, beside=True)
        found = _offset(reply)
        if found < expected:
            raise errors.ClusterChanged(
                f"slot {slot} has lost changes on its way from {before.connection.endpoint.address} (a failover): it stands at "
                f"byte {found}, {expected} was confirmed"
            )

    def _read_map(self, client: Client) -> SlotMap:
        try:
            return SlotMap.parse(client.execute("CLUSTER", "SLOTS"), client.endpoint.host)
        except ValueError as error:
            raise errors.ProtocolError(
                f"{client.endpoint.address}: CLUSTER SLOTS cannot be read: {error}"
            ) from None

    def _need_all(self) -> None:
        if not self.map.complete:
            raise errors.ClusterNotReady(
                f"{self.endpoint.address}: the target cluster does not serve all of its slots; nothing was written"
            )

    def endpoint_at(self, address: Address) -> Endpoint:
        return replace(self.endpoint, host=address[0], port=address[1], unix_path="")

    def _connect(self, address: Address) -> Client:
        try:
            return Client(self.endpoint_at(address), timeout=self._timeout, name=self._name)
        except errors.ConnectError as error:
            raise type(error)(
                f"{error.message} (the address that the target cluster announces for one of its nodes)"
            ) from None

    def _check_owner(self) -> None:
        """A connection that a newer owner could not see when it closed all others must not be used any more."""
        if self._owner is None:
            return
        (reply,) = self.ask(self.slot, [("HGET", self.key, "epoch")], beside=True)
        if not isinstance(reply, bytes) or int(reply) != self._owner:
            raise errors.Fenced(f"{self.endpoint.address}: link {self.link} belongs to a newer owner")

    # --- questions ----------------------------------------------------------------------------------------------------

    def ask(
        self, slot: int, commands: list[Command], *, following: bool = False, beside: bool = False
    ) -> list[Reply]:
        """Commands on keys of one slot, at the node that serves it; again while the slot moves, within the time-out.

        `following`: a key that has moved ahead of its slot is looked for where it is. `beside`: over other connections than those of the pipeline.
        """
        redirections = 0
        deadline = time.monotonic() + self._timeout
        while True:
            address = self.map.of(slot)
            if address is None:
                raise errors.ClusterNotReady(f"no node of the target cluster serves slot {slot}")
            client = self._side_client(address) if beside else self.client_at(address)
            try:
                replies = client.pipeline(commands)
            except errors.ConnectError:
                self._side.pop(address, None)
                raise
            refused = [
                reply for reply in replies if isinstance(reply, ReplyError) and reply.code in REDIRECTS
            ]
            if not refused:
                return replies
            place = redirected(refused[0], address[0])
            if place is not None and refused[0].code == "MOVED":
                self.map.moved(*place)
                redirections += 1
                if redirections < _REDIRECTIONS:
                    continue
            elif place is not None and following:
                with self._connect(place[1]) as other:
                    asked = [one for command in commands for one in (("ASKING",), command)]
                    replies = other.pipeline(asked)[1::2]
                if not any(isinstance(reply, ReplyError) for reply in replies):
                    return replies
            if time.monotonic() > deadline:
                raise client.error(refused[0], str(commands[0][0]))
            time.sleep(_PAUSE)

    def run(
        self, commands: list[list[bytes]], *, slot: int | None = None, marker: list[bytes] | None = None
    ) -> None:
        """Commands on keys of one slot (None: that of the checkpoint), in one transaction, each checked. Only while the pipeline is idle.

        `marker` is what an opposite link knows the transaction by.
        """
        place = self.slot if slot is None else slot
        if marker is not None:
            commands = [placed(marker, place), *commands]
        if len(commands) == 1:
            (reply,) = self.ask(place, [*commands])
            if isinstance(reply, ReplyError):
                raise self._error(reply, commands[0])
            return
        replies = self.ask(place, [[b"MULTI"], *commands, [b"EXEC"]])
        results = replies[-1]
        for command, reply in zip([[b"MULTI"], *commands], replies, strict=False):
            if isinstance(reply, ReplyError):
                raise self._error(reply, command)
        for command, result in zip(commands, results if isinstance(results, list) else [], strict=True):
            if isinstance(result, ReplyError):
                raise self._error(result, command)

    def at_keys(self, commands: Sequence[Command], *, beside: bool = False) -> list[Reply]:
        """Commands that each concern one key of the product, at the nodes that serve them, each checked."""
        found: list[Reply] = []
        for command in commands:
            key = command[1] if isinstance(command[1], bytes) else str(command[1]).encode()
            (reply,) = self.ask(slot(key), [command], beside=beside)
            if isinstance(reply, ReplyError):
                raise self._error(reply, command)
            found.append(reply)
        return found

    def notice(self, command: list[bytes]) -> None:
        """A command on one key of the product, at each master, in a slot of it."""
        self.refresh(at_once=True)
        for numbers in self.map.by_master().values():
            self.at_keys([placed(command, numbers[0])])

    def stream_names(self, *, beside: bool = False) -> frozenset[bytes]:
        """What the streams of all masters are called."""
        self.refresh(at_once=True)
        names: frozenset[bytes] = frozenset()
        for address in self.map.masters:
            names |= names_of_stream(self._side_client(address) if beside else self.client_at(address))
        return names

    def mark_fault(self, message: str) -> None:
        """Note in the checkpoint, over a connection of its own, why the data cannot be trusted."""
        self.ask(self.slot, [("HSET", self.key, "fault", message)], beside=True)

    def _error(self, reply: ReplyError, command: Command) -> errors.EngineError:
        name = command[0].decode() if isinstance(command[0], bytes) else str(command[0])
        return next(iter(self._clients.values())).error(reply, name)

    # --- takeover -----------------------------------------------------------------------------------------------------

    def _claim(self, epoch: int | None) -> Checkpoint:
        """Become the one writer, as at one server: the epoch is stored, then earlier owners lose their connections, to all nodes."""
        deadline = time.monotonic() + self._timeout
        while (mine := self._store_epoch(epoch)) is None:
            if time.monotonic() > deadline:
                raise errors.ClusterNotReady(
                    f"{self.endpoint.address}: the slot of the checkpoint takes no writes"
                )
            time.sleep(_PAUSE)
        self._owner = mine
        self._name = client_name(self.link, mine)
        for client in self._clients.values():
            client.execute("CLIENT", "SETNAME", self._name)
            kill_earlier(client, self.link, self.facts.version)
        for address in self.map.replicas:  # they were masters, perhaps, when an earlier owner connected
            try:
                with self._connect(address) as client:
                    kill_earlier(client, self.link, self.facts.version)
            except errors.ConnectError:
                continue  # one that is down has no connections
        return self._read()

    def _store_epoch(self, epoch: int | None) -> int | None:
        """The epoch that is stored now; None if that could not be, because the slot moves or somebody wrote the checkpoint."""
        address = self.map.of(self.slot)
        assert address is not None
        client = self.client_at(address)
        replies = client.pipeline([("WATCH", self.key), ("HGETALL", self.key)])
        if not any(isinstance(reply, ReplyError) for reply in replies):
            stored = self._checkpoint(replies[1])
            mine = stored.epoch + 1 if epoch is None else epoch
            if stored.epoch > mine:
                raise errors.Fenced(
                    f"{self.endpoint.address}: link {self.link} belongs to a newer owner (epoch {stored.epoch}, this one {mine})"
                )
            replies = client.pipeline([("MULTI",), replace(stored, epoch=mine).command(self.link), ("EXEC",)])
            if not any(isinstance(reply, ReplyError) for reply in replies):
                return None if replies[-1] is None else mine
        client.execute("UNWATCH")
        refused = next(reply for reply in replies if isinstance(reply, ReplyError))
        if refused.code not in REDIRECTS:
            raise client.error(refused, "HMSET")
        place = redirected(refused, address[0])
        if place is not None and refused.code == "MOVED":
            self.map.moved(*place)
        return None

    def _read(self) -> Checkpoint:
        (reply,) = self.ask(self.slot, [("HGETALL", self.key)], following=True)
        if isinstance(reply, ReplyError):
            raise self._error(reply, ("HGETALL",))
        return self._checkpoint(reply)

    def _checkpoint(self, reply: Reply) -> Checkpoint:
        if not isinstance(reply, list):
            raise errors.ProtocolError(f"{self.endpoint.address}: HGETALL did not answer with a list")
        fields: dict[bytes, bytes] = dict(zip(reply[::2], reply[1::2], strict=True))  # type: ignore[arg-type]
        pairs = (part.partition(b":") for part in fields.get(b"marks", b"").split(b",") if part)
        self.last_marks = {int(number): int(offset) for number, _, offset in pairs}
        return Checkpoint.read(fields)

    # --- marks --------------------------------------------------------------------------------------------------------

    def marks(self) -> dict[int, int]:
        """How far the slots have come that the stream has written to."""
        found = {}
        for number, reply in self.of_all_slots("GET", OWN_PREFIX + b"applied:" + self.link.encode()):
            if (offset := _offset(reply)) >= 0:
                found[number] = offset
        return found

    def forget(self, *names: bytes) -> None:
        """Delete own keys in all slots."""
        for _ in self.of_all_slots("DEL", *names):
            pass

    def of_all_slots(self, command: str, *names: bytes) -> Iterator[tuple[int, Reply]]:
        """One command on some of the product's own keys, for each slot. A key that has moved ahead of its slot is found, too."""
        for address, numbers in self.map.by_master().items():
            client = self.client_at(address)
            for start in range(0, len(numbers), _AT_ONCE):
                some = numbers[start : start + _AT_ONCE]
                questions: list[Command] = [
                    (command, *(in_slot(name, number) for name in names)) for number in some
                ]
                replies = client.pipeline(questions)
                for number, question, reply in zip(some, questions, replies, strict=True):
                    if isinstance(reply, ReplyError) and reply.code in REDIRECTS:
                        place = redirected(reply, address[0])
                        if place is not None and reply.code == "MOVED":
                            self.map.moved(*place)
                        (reply,) = self.ask(number, [question], following=True)
                    if isinstance(reply, ReplyError):
                        raise client.error(reply, command)
                    yield number, reply

    # --- the full phase -----------------------------------------------------------------------------------------------

    def load_script(self, script: bytes) -> bytes:
        """Make a script known at every master, also at one that gets slots later; its digest, for EVALSHA."""
        self._scripts.append(script)
        digests = {self.client_at(address).execute("SCRIPT", "LOAD", script) for address in self.map.masters}
        digest = digests.pop()
        if not isinstance(digest, bytes) or digests:
            raise errors.ProtocolError(f"{self.endpoint.address}: SCRIPT LOAD gave no digest")
        return digest

    def widening(self) -> list[bytes]:
        """None: to each master goes a part only."""
        return []

    def stamp(self) -> int:
        """The version number of the DUMP payloads that the masters write."""
        address = self.map.of(self.slot)
        assert address is not None
        return stamp_of(self.client_at(address), self.key)

    def has_modules(self) -> bool:
        """Whether modules are loaded that may hold values; also where a master does not say."""
        return all(has_modules(self.client_at(address)) for address in self.map.masters)

    def stored_scripts(self) -> dict[bytes, bytes]:
        """What is kept under `scripts_key`: digest → code."""
        key = scripts_key(self.link)
        (reply,) = self.ask(slot(key), [("HGETALL", key)], following=True)
        items = reply if isinstance(reply, list) else []
        return dict(zip(items[::2], items[1::2], strict=True))  # type: ignore[arg-type]

    def knows_script(self, digest: bytes) -> bool:
        """Whether EVALSHA would find it at every master. Asked over connections beside those of the pipeline."""
        return all(
            self._side_client(address).execute("SCRIPT", "EXISTS", digest) == [1]
            for address in self.map.masters
        )

    def has_databases(self, databases: frozenset[int]) -> None:
        """Raise when one of them is not database 0, or when the masters do not take the same data."""
        if beyond := sorted(databases - {0}):
            raise errors.UsageError(
                f"{self.endpoint.address}: the target is a cluster, which has database 0 only, and the source holds keys in "
                f"database {beyond[0]}",
                advice="Choose database 0 alone (--db 0), move those keys, or choose a standalone target. Nothing was written.",
            )
        if len({version[:2] for version in self._versions}) > 1:
            found = ", ".join(".".join(map(str, version)) for version in sorted(self._versions))
            raise errors.UsageError(
                f"{self.endpoint.address}: the masters of the target cluster have different versions ({found})",
                advice="Finish the upgrade of the cluster, then start the task again. Nothing was written.",
            )

    def keyspace(self) -> dict[int, tuple[int, int]]:
        """Database 0 → (keys of all masters, the product's own among them; 0: those with an expiry are not counted)."""
        sizes = [self.client_at(address).execute("DBSIZE") for address in self.map.masters]
        keys = sum(size for size in sizes if isinstance(size, int))
        return {0: (keys, 0)} if keys else {}

    def names(self, database: int) -> Iterator[list[bytes]]:
        """All keys, in pages; a key may come more than once."""
        for address in self.map.masters:
            yield from self.client_at(address).scan()

    def existing(self, database: int, names: list[bytes]) -> list[bytes]:
        """Those of the names that are keys there."""
        by_master: dict[Address, list[bytes]] = {}
        for name in names:
            address = self.map.of(slot(name))
            if address is None:
                raise errors.ClusterNotReady(f"no node of the target cluster serves slot {slot(name)}")
            by_master.setdefault(address, []).append(name)
        found = []
        for address, some in by_master.items():
            replies = self.client_at(address).pipeline([("EXISTS", name) for name in some])
            for name, reply in zip(some, replies, strict=True):
                if isinstance(reply, ReplyError) and reply.code in REDIRECTS:
                    (reply,) = self.ask(slot(name), [("EXISTS", name)], following=True)
                if isinstance(reply, ReplyError):
                    raise self._error(reply, ("EXISTS", name))
                if reply:
                    found.append(name)
        return found

    def occupied(self) -> frozenset[int]:
        """Database 0 if a master holds keys other than the product's own, else nothing."""
        for address in self.map.masters:
            for page in self.client_at(address).scan():
                if any(not key.startswith(OWN_PREFIX) for key in page):
                    return frozenset({0})
        return frozenset()

    def other_links(self) -> list[bytes]:
        """Checkpoints of other links in this target."""
        pattern = OWN_PREFIX + b"checkpoint:*"
        return [
            key
            for address in self.map.masters
            for page in self.client_at(address).scan(pattern)
            for key in page
            if key != self.key
        ]

    def start_over(
        self,
        clear: list[int],
        command: list[bytes],
        marker: list[bytes] | None = None,
        *,
        forget_written: bool = True,
    ) -> None:
        """Begin a full phase: store the checkpoint, empty the cluster if database 0 is in `clear`, forget marks and notes.

        The checkpoint comes first: whatever interrupts this, the next attempt begins it again.
        """
        command = [*command, b"marks", b""]
        self.run([command], marker=marker)
        self.memory.marks.clear()
        self.memory.settled.clear()
        self.last_marks = {}
        if clear:
            flush = [b"FLUSHALL", b"ASYNC"] if self.facts.version >= (4,) else [b"FLUSHALL"]
            self.flush(flush, command, marker)
        names = [kind + self.link.encode() for kind in (OWN_PREFIX + b"applied:", *NOTES)]
        names += [kept_key(self.link), staged_key(self.link)]
        self.forget(*names, *([written_key(self.link)] if forget_written else []))
        scripts = scripts_key(self.link)
        self.ask(slot(scripts), [("DEL", scripts)], following=True)

    def flush(self, flush: list[bytes], command: list[bytes], marker: list[bytes] | None = None) -> None:
        """Empty all masters, and store the checkpoint in the same transaction as the last of them. `marker` begins each transaction.

        A slot that moves meanwhile may bring keys to a master that is empty already: it is looked at again.
        """
        deadline = time.monotonic() + self._timeout
        while True:
            self.refresh(at_once=True)
            last = self.map.of(self.slot)
            for address in self.map.masters:
                if address != last:
                    self._at_master(address, flush, marker)
            if not any(
                self.client_at(address).execute("DBSIZE") for address in self.map.masters if address != last
            ):
                break
            if time.monotonic() > deadline:
                raise errors.ClusterChanged("the target cluster does not become empty")
        self.secure()
        # The marker stands in front of the checkpoint once more: the flush takes it away.
        again = [] if marker is None else [placed(marker, self.slot)]
        self.run([flush, *again, command], marker=marker)

    def everywhere(self, command: list[bytes], forgiven: str = "", marker: list[bytes] | None = None) -> None:
        """A command without keys, at every master. An error that holds `forgiven` tells that it was carried out before."""
        self.refresh(at_once=True)
        for address in self.map.masters:
            self._at_master(address, command, marker, forgiven)

    def _at_master(
        self, address: Address, command: list[bytes], marker: list[bytes] | None, forgiven: str = ""
    ) -> None:
        """A command without keys; with a marker it stands behind that in a transaction."""
        client = self.client_at(address)
        commands = [command]
        if marker is not None:
            first = self.map.by_master()[address][0]
            commands = [[b"MULTI"], placed(marker, first), command, [b"EXEC"]]
        replies = client.pipeline(commands)
        results = replies[-1] if isinstance(replies[-1], list) else []
        for reply in (*replies, *results):
            if isinstance(reply, ReplyError) and not (forgiven and forgiven in reply):
                raise client.error(reply, command[0].decode())

    def secure(self) -> list[str]:
        """Wait until the replicas of all masters have what was written; the addresses of masters whose replicas have not."""
        behind = []
        for address in self.map.masters:
            client = self.client_at(address)
            info = client.info("replication")
            if info.get("role") != "master":
                raise errors.ClusterChanged(
                    f"{client.endpoint.address}: this node of the target cluster is no master any more"
                )
            replicas = sum(
                name.startswith("slave") and name[5:].isdigit() and "state=online" in value
                for name, value in info.items()
            )
            if replicas:
                within = int(min(self._timeout * 500, _REPLICAS_WITHIN_MS))
                (confirmed,) = client.pipeline([("WAIT", replicas, within)])
                if isinstance(confirmed, ReplyError) and confirmed.code == "UNBLOCKED":
                    raise errors.ClusterChanged(f"{client.endpoint.address}: {confirmed}")
                if isinstance(confirmed, ReplyError):
                    raise client.error(confirmed, "WAIT")
                if not isinstance(confirmed, int) or confirmed < replicas:
                    behind.append(client.endpoint.address)
        return behind


def _offset(reply: Reply) -> int:
    if isinstance(reply, bytes) and reply.partition(b" ")[0].isdigit():
        return int(reply.partition(b" ")[0])
    if reply is None:
        return -1
    raise errors.ProtocolError(f"the mark of a slot holds {reply!r}")


def _address_of(endpoint: Endpoint) -> Address:
    return endpoint.host, endpoint.port
