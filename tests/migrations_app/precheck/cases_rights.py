"""What the users may do, and whether the target takes writes."""

from __future__ import annotations

from migrations_app.choices import ConflictPolicy, Method, Outcome

from .world import World, case, for_each

PASSED, WARNING, FAILED, SKIPPED = Outcome.PASSED, Outcome.WARNING, Outcome.FAILED, Outcome.SKIPPED
WORD = "a word for tests"


def user(w: World, side: str, *rules: str, version: str = "redis-7.0") -> None:
    """The task signs in as `mover` with these rules."""
    w.use(side, version)
    w.do(side, "ACL", "SETUSER", "mover", "reset", "on", f">{WORD}", *rules, undo=("ACL", "DELUSER", "mover"))
    w.endpoint(side, username="mover", password=WORD)


def for_versions(
    code: str, outcome: Outcome, *words: str, versions: tuple[str, ...], rules: tuple[str, ...], name: str
) -> None:
    side = code.partition(".")[0]
    for version in versions:

        def one(w: World, version: str = version) -> None:
            user(w, side, *rules, version=version)

        one.__name__ = f"{name}_{version}"
        case(code, outcome, *words)(one)


ACL = ("redis-6.0", "redis-6.2", "redis-7.0", "valkey-9")
READER = (
    "~*",
    "&*",
    "+@read",
    "+@connection",
    "+info",
    "+psync",
    "+replconf",
    "+multi",
    "+discard",
    "+exec",
    "+time",
    "+config",
    "+select",
)
WRITER = (*READER, "+@write", "+@scripting", "+@pubsub", "+watch", "+unwatch", "+client", "+flushall", "+flushdb", "+module", "+script",
          "+wait", "+command", "+restore", "+swapdb", "+sort", "+function")  # fmt: skip
OLD_READER = tuple(rule for rule in READER if rule != "&*")
OLD_WRITER = tuple(rule for rule in WRITER if rule not in ("&*", "+function"))

for_versions(
    "source.rights",
    PASSED,
    "may run",
    versions=("redis-6.2", "redis-7.0", "valkey-9"),
    rules=READER,
    name="reader",
)
for_versions("source.rights", PASSED, "may run", versions=("redis-6.0",), rules=OLD_READER, name="reader")
for_versions(
    "target.rights", PASSED, "may run", versions=("redis-7.0", "valkey-9"), rules=WRITER, name="writer"
)
for_versions(
    "target.rights", PASSED, "may run", versions=("redis-6.0", "redis-6.2"), rules=OLD_WRITER, name="writer"
)
for_versions(
    "source.rights", FAILED, "lacks the right to DUMP", "ACL SETUSER mover +dump",
    versions=("redis-6.2", "redis-7.0", "valkey-9"), rules=(*READER, "-dump"), name="reader_without_dump",
)  # fmt: skip
for_versions(
    "source.rights", FAILED, "all keys", "~*", versions=("redis-6.2", "redis-7.0", "valkey-9"),
    rules=("~app:*", *READER[1:]), name="reader_of_some_keys",
)  # fmt: skip
for_versions(
    "target.rights", FAILED, "RESTORE", "ZADD", "+restore", versions=("redis-6.2", "redis-7.0", "valkey-9"),
    rules=(*OLD_WRITER, "-restore", "-zadd"), name="writer_without_restore",
)  # fmt: skip
for_versions(
    "target.rights", FAILED, "CLIENT LIST", "+client|list", versions=("redis-7.0", "valkey-9"),
    rules=(*WRITER, "-client", "+client|setname", "+client|id", "+client|kill"), name="writer_without_client_list",
)  # fmt: skip
for_versions(
    "source.rights", WARNING, "not TIME", "+time", versions=ACL, rules=(*OLD_READER, "-time"), name="reader_without_time"
)  # fmt: skip

for_versions(
    "source.rights", PASSED, "may run", versions=("redis-6.2", "redis-7.0"),
    rules=(*READER, "-multi"), name="reader_without_transactions",
)  # fmt: skip
for_versions(
    "source.rights", FAILED, "lacks the right to DUMP", versions=("redis-7.0",),
    rules=(*READER, "-multi", "-dump"), name="reader_without_transactions_and_dump",
)  # fmt: skip


@case("source.rights", PASSED, "The user default may run")
def everything(w: World) -> None:
    pass


@case("source.rights", PASSED)
def before_users(w: World) -> None:
    w.use("source", "redis-3.2")


@case("source.rights", PASSED)
def scanning(w: World) -> None:
    w.task(method=Method.SCAN)


@case("source.rights", PASSED)
def of_a_cluster(w: World) -> None:
    w.use_cluster("source")


@case("source.rights", FAILED, "does not know DUMP")
def renamed(w: World) -> None:
    w.use("source", "redis-5.0", config={"rename-command": ("DUMP", "")})


@case("target.rights", PASSED)
def everything_at_the_target(w: World) -> None:
    pass


@case("target.rights", PASSED)
def target_before_users(w: World) -> None:
    w.use("target", "redis-3.2")


@case("target.rights", PASSED)
def target_cluster(w: World) -> None:
    w.use_cluster("target")


@case("target.rights", FAILED, "does not know RESTORE", "rename-command")
def restore_disabled(w: World) -> None:
    w.use("target", "redis-7.0", config={"rename-command": ("RESTORE", "")})


@case("target.rights", FAILED, "all channels", "&*")
def no_channels(w: World) -> None:
    user(w, "target", *(rule for rule in WRITER if rule != "&*"), "resetchannels")


@case("target.writable", PASSED, "takes writes")
def takes_writes(w: World) -> None:
    pass


@case("target.writable", PASSED)
def cluster_takes_writes(w: World) -> None:
    w.use_cluster("target")


@case("target.writable", FAILED, "is a replica of 127.0.0.1:1")
def replica(w: World) -> None:
    w.do("target", "REPLICAOF", "127.0.0.1", 1, undo=("REPLICAOF", "NO", "ONE"))


@case("target.writable", FAILED, "NOREPLICAS", "min-replicas-to-write")
def too_few_replicas(w: World) -> None:
    w.configure("target", min_replicas_to_write=1)


@case("target.writable", FAILED, "NOREPLICAS")
def too_few_slaves(w: World) -> None:
    w.use("target", "redis-3.2")
    w.configure("target", min_slaves_to_write=1)


@case("target.writable", FAILED, "OOM", "raise maxmemory")
def out_of_memory(w: World) -> None:
    w.configure("target", maxmemory_policy="noeviction", maxmemory=1)


@case("target.writable", FAILED, "no answer within")
def writes_paused(w: World) -> None:
    w.use("target", "redis-7.0")
    w.patches.setattr("django.conf.settings.INSTANCE_TIMEOUT", 1)
    w.do("target", "CLIENT", "PAUSE", 100_000, "WRITE", undo=("CLIENT", "UNPAUSE"))


@for_each("maxclients", PASSED, "needs up to 16")
def room_for_clients(w: World, side: str) -> None:
    pass


@for_each("maxclients", FAILED, "clients of 10 (maxclients)", "needs up to 16")
def few_clients(w: World, side: str) -> None:
    w.configure(side, maxclients=10)


NO_SCRIPTS = (*WRITER, "-@scripting", "+function")


@case("target.rights", PASSED)
def overwriting_without_scripts(w: World) -> None:
    user(w, "target", *NO_SCRIPTS)
    w.task(conflict=ConflictPolicy.OVERWRITE)


@case("target.rights", FAILED, "EVALSHA", "SCRIPT LOAD")
def comparing_without_scripts(w: World) -> None:
    user(w, "target", *NO_SCRIPTS)


@case("target.rights", FAILED, "EVAL")
def older_target_without_scripts(w: World) -> None:
    w.use("source", "redis-7.0")
    user(w, "target", *OLD_WRITER, "-@scripting", version="redis-6.0")
    w.task(conflict=ConflictPolicy.OVERWRITE)
