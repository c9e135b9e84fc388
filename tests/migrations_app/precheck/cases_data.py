"""The data itself, and the room for it."""

from __future__ import annotations

from django.conf import settings

from migrations_app.choices import ConflictPolicy, Method, Outcome
from migrations_app.runner.precheck import capacity, data
from portal.choices import EndpointKind
from tests.support.modules import module

from .world import World, case

PASSED, WARNING, FAILED, SKIPPED = Outcome.PASSED, Outcome.WARNING, Outcome.FAILED, Outcome.SKIPPED


def write(
    w: World, side: str, count: int, *, database: int = 0, prefix: str = "key", expiry: int | None = None
) -> None:
    with w.server(side).client(db=database) as client:
        pipe = client.pipeline(transaction=False)
        for number in range(count):
            pipe.set(f"{prefix}:{number}", "x" * 20, ex=expiry)
        pipe.execute()


def snapshot(w: World, version: str = "redis-7.0", content: bytes | None = None) -> None:
    """The source is a snapshot file: of what the server of the source holds, or with this content."""
    if content is None:
        server = w.use("source", version)
        write(w, "source", 100)
        w.do("source", "SAVE")
        content = (server.dir / "dump.rdb").read_bytes()
    path = w.folder / "dump.rdb"
    path.write_bytes(content)
    w.endpoint("source", kind=EndpointKind.FILE, file_path=str(path), host="", port=0)
    w.task(phases="full")


# --- files -----------------------------------------------------------------------------------------------------------------


@case("source.file", SKIPPED, "is a server")
def no_file(w: World) -> None:
    pass


@case("source.file", PASSED, "format Redis 10")
def good_file(w: World) -> None:
    snapshot(w)


@case("source.file", PASSED, "format Valkey 80")
def file_of_valkey(w: World) -> None:
    snapshot(w, "valkey-9")


@case("source.file", FAILED, "no snapshot file")
def other_file(w: World) -> None:
    snapshot(w, content=b"PK\x03\x04 something else")


@case("source.file", FAILED, "cannot be read")
def absent_file(w: World) -> None:
    snapshot(w, content=b"")
    (w.folder / "dump.rdb").unlink()


@case("source.file", WARNING, "newest that was tested is 13")
def file_of_tomorrow(w: World) -> None:
    snapshot(w, content=b"REDIS0099" + b"\xff" + bytes(8))


@case("source.file", FAILED, "cut short")
def file_cut_short(w: World) -> None:
    snapshot(w)
    path = w.folder / "dump.rdb"
    path.write_bytes(path.read_bytes()[:-100])


@case("source.file", PASSED, "Redis 7")
def file_of_3_2(w: World) -> None:
    snapshot(w, "redis-3.2")


# --- databases -------------------------------------------------------------------------------------------------------------


@case("pair.databases", PASSED, "0 and 3")
def databases_there(w: World) -> None:
    write(w, "source", 1, database=3)


@case("pair.databases", FAILED, "no database 12", "it has 8 (0 to 7)")
def database_lacking(w: World) -> None:
    write(w, "source", 1, database=12)
    w.use("target", "redis-7.0", config={"databases": 8})


@case("pair.databases", FAILED, "no database 9")
def chosen_database_lacking(w: World) -> None:
    w.use("target", "redis-7.0", config={"databases": 8})
    w.task(databases=[0, 9])


@case("pair.databases", FAILED, "database 0 only", "database 3 (5 keys)")
def cluster_with_one_database(w: World) -> None:
    write(w, "source", 5, database=3)
    w.use_cluster("target")


@case("pair.databases", FAILED, "database 3 (0 keys) is chosen, too")
def database_chosen_for_a_cluster(w: World) -> None:
    w.use_cluster("target")
    w.task(databases=[0, 3])


@case("pair.databases", PASSED, "Database 0 only")
def database_0_to_a_cluster(w: World) -> None:
    write(w, "source", 5, database=3)
    w.use_cluster("target")
    w.task(databases=[0])


@case("pair.databases", FAILED, "The source is a cluster")
def cluster_without_database_0(w: World) -> None:
    w.use_cluster("source")
    w.task(databases=[3])


# --- modules ---------------------------------------------------------------------------------------------------------------


@case("pair.modules", PASSED, "has no modules")
def no_modules(w: World) -> None:
    pass


@case("pair.modules", FAILED, "lacks the module counting", "Load")
def module_lacking(w: World) -> None:
    w.use("source", "redis-7.0", config={"loadmodule": str(module("counting", 2))})


@case("pair.modules", PASSED, "has counting, too")
def module_on_both(w: World) -> None:
    module_lacking(w)
    w.use("target", "redis-7.0", config={"loadmodule": str(module("counting", 2))})


@case("pair.modules", WARNING, "counting 1 (source: 2)")
def older_module(w: World) -> None:
    module_lacking(w)
    w.use("target", "redis-7.0", config={"loadmodule": str(module("counting", 1))})


@case("pair.modules", PASSED, "knows no vector sets; none was found")
def built_in_module_without_use(w: World) -> None:
    w.use("source", "redis-8.0")


@case("pair.modules", FAILED, "holds vector sets")
def vector_sets(w: World) -> None:
    w.use("source", "redis-8.0")
    w.do("source", "VADD", "vectors", "VALUES", 2, 1.0, 2.0, "one")


# --- keys ------------------------------------------------------------------------------------------------------------------


@case("source.big_keys", PASSED, "50 keys that were looked at")
def small_keys(w: World) -> None:
    write(w, "source", 50)


@case("source.big_keys", WARNING, "“big” (string, 80 MiB, database 0)")
def big_string(w: World) -> None:
    w.do("source", "SETRANGE", "big", 70 * 2**20, "x")


@case("source.big_keys", WARNING, "“big” (string, 70 MiB, database 2)")
def big_string_without_memory_usage(w: World) -> None:
    w.use("source", "redis-3.2")
    with w.source.client(db=2) as client:
        client.setrange("big", 70 * 2**20, b"x")


@case("source.big_keys", WARNING, "“many” (hash")
def big_hash(w: World) -> None:
    w.patches.setattr(data, "BIG_BYTES", 100_000)
    with w.source.client() as client:
        client.hset("many", mapping={f"field:{number}": "x" * 20 for number in range(10_000)})


@case("source.big_keys", FAILED, "Too big for a key scan")
def too_big_for_a_scan(w: World) -> None:
    w.task(method=Method.SCAN)
    w.patches.setattr(data, "DUMP_MOST", 66 * 2**20)
    big_string(w)


@case("source.expiring", PASSED, "None of 10 keys expires")
def lasting_keys(w: World) -> None:
    write(w, "source", 10)


@case("source.expiring", WARNING, "4 of 14 keys expire", "minus expires")
def expiring_keys(w: World) -> None:
    lasting_keys(w)
    write(w, "source", 4, prefix="short", expiry=1000)


@case("target.empty", PASSED, "has no keys")
def empty_target(w: World) -> None:
    pass


@case("target.empty", PASSED)
def target_with_keys_of_the_product(w: World) -> None:
    w.do("target", "HSET", "switchyard:checkpoint:other", "a", "1")


@case(
    "target.empty",
    WARNING,
    "3 keys in database 0 and 1 key in database 5",
    "they stay beside",
    "asks you to type the name orders-new",
)
def target_with_keys(w: World) -> None:
    write(w, "target", 3)
    write(w, "target", 1, database=5)


@case("target.empty", PASSED)
def target_with_keys_in_another_database(w: World) -> None:
    write(w, "target", 1, database=5)
    w.task(databases=[0])


@case("target.empty", WARNING, "overwritten by those of the source")
def target_with_keys_that_are_overwritten(w: World) -> None:
    write(w, "target", 3)
    w.task(conflict=ConflictPolicy.OVERWRITE)


@case("target.empty", WARNING, "are not migrated")
def target_with_keys_that_are_kept(w: World) -> None:
    write(w, "target", 3)
    w.task(conflict=ConflictPolicy.KEEP)


@case("target.empty", WARNING, "3 keys")
def cluster_with_keys(w: World) -> None:
    cluster = w.use_cluster("target")
    for number in range(3):
        cluster.set(f"key:{number}", "x")


@case("target.same_names", PASSED, "No name is on both sides")
def other_names(w: World) -> None:
    write(w, "source", 3000)
    write(w, "target", 2000, prefix="other")


@case("target.same_names", FAILED, "5 keys of the source are in the target already", "“key:0”")
def same_names(w: World) -> None:
    other_names(w)
    write(w, "target", 5)


@case("target.same_names", FAILED, "1 key of the source is in the target already", "“key:0” (database 4)")
def same_name_in_another_database(w: World) -> None:
    other_names(w)
    write(w, "source", 10, database=4)
    write(w, "target", 1, database=4)


@case("target.same_names", FAILED, "3 keys of the source")
def same_names_in_clusters(w: World) -> None:
    for side in ("source", "target"):
        cluster = w.use_cluster(side)
        for number in range(3):
            cluster.set(f"key:{number}", "x")
    w._execute(w.target, "DBSIZE")


@case("target.same_names", FAILED, "4 keys of the source")
def same_names_in_a_file(w: World) -> None:
    snapshot(w)
    write(w, "target", 4)


@case("target.same_names", SKIPPED, "overwrites")
def names_that_are_overwritten(w: World) -> None:
    same_names(w)
    w.task(conflict=ConflictPolicy.OVERWRITE)


# --- room ------------------------------------------------------------------------------------------------------------------


@case("target.memory", PASSED, "advised are", "20%")
def enough_memory(w: World) -> None:
    write(w, "source", 1000)
    w.configure("target", maxmemory="100mb")


@case("target.memory", PASSED, "no maxmemory")
def memory_of_the_host(w: World) -> None:
    write(w, "source", 1000)


def fill(w: World) -> None:
    for number in range(20):
        w.do("source", "SETRANGE", f"value:{number}", 2**20, "x")


@case("target.memory", FAILED, "Raise maxmemory")
def too_little_memory(w: World) -> None:
    fill(w)
    w.configure("target", maxmemory="10mb")


@case("target.memory", WARNING, "without the margin")
def memory_without_margin(w: World) -> None:
    fill(w)
    used = w.target.info("memory")["used_memory"]
    data_size = w.source.info("memory")["used_memory_dataset"]
    w.configure("target", maxmemory=used + int(data_size * 1.1))


@case("target.memory", PASSED)
def memory_for_the_chosen_database(w: World) -> None:
    fill(w)
    w.task(databases=[1])
    w.configure("target", maxmemory="10mb")


@case("target.memory", PASSED, "three times the file")
def memory_for_a_file(w: World) -> None:
    snapshot(w)


@case("target.eviction", PASSED, "noeviction")
def noeviction(w: World) -> None:
    w.configure("target", maxmemory_policy="noeviction")


@case(
    "target.eviction", WARNING, "allkeys-lru; advised: noeviction", "CONFIG SET maxmemory-policy noeviction"
)
def evicting(w: World) -> None:
    w.configure("target", maxmemory_policy="allkeys-lru")


@case("target.eviction", WARNING, "volatile-ttl")
def evicting_before_4(w: World) -> None:
    w.use("target", "redis-3.2")
    w.configure("target", maxmemory_policy="volatile-ttl")


@case("target.persistence", WARNING, "saves neither")
def nothing_is_saved(w: World) -> None:
    pass


@case("target.persistence", PASSED, "saves its data")
def snapshots_are_saved(w: World) -> None:
    w.configure("target", save="3600 1")


@case("target.persistence", PASSED)
def append_only(w: World) -> None:
    w.use("target", "redis-7.0", config={"appendonly": "yes"})


def spool(w: World, folder: str, megabytes: int) -> None:
    w.patches.setattr(settings, "SPOOL_FOLDER", folder)
    w.patches.setattr(settings, "SPOOL_LIMIT_MB", megabytes)


@case("pair.spool", PASSED, "4 MiB may wait there")
def disk_of_the_worker(w: World) -> None:
    spool(w, str(w.folder), 4)


@case("pair.spool", WARNING, "SPOOL_FOLDER")
def small_disk_of_the_worker(w: World) -> None:
    spool(w, str(w.folder), 2**40)


@case("pair.spool", WARNING, "switched off")
def no_spool(w: World) -> None:
    spool(w, "", 0)


@case("pair.spool", FAILED, "cannot be used")
def no_folder_of_the_worker(w: World) -> None:
    spool(w, "/nowhere", 4)


@case("source.load", PASSED, "commands/s")
def quiet(w: World) -> None:
    w.patches.setattr(
        capacity, "QUIET_OPERATIONS", 10**9
    )  # what the case before has done is counted for some seconds


@case("source.load", WARNING, "low demand")
def large_source(w: World) -> None:
    w.patches.setattr(capacity, "SMALL_BYTES", 1000)


@case("source.egress", PASSED, "100 Mbit/s")
def little_to_send(w: World) -> None:
    write(w, "source", 100)


@case("source.egress", WARNING, "to spare")
def much_to_send(w: World) -> None:
    little_to_send(w)
    w.patches.setattr(capacity, "SMALL_BYTES", 1000)
