"""Whether the source lets itself be replicated, for long enough and through interruptions."""

from __future__ import annotations

from migrations_app.choices import Method, Outcome, Phases, TaskStatus
from migrations_app.models import MigrationTask
from tests.support.wait import wait_for

from .world import World, case

PASSED, WARNING, FAILED, SKIPPED = Outcome.PASSED, Outcome.WARNING, Outcome.FAILED, Outcome.SKIPPED
VERSIONS = ["redis-3.2", "redis-5.0", "redis-6.0", "redis-6.2", "redis-7.0", "redis-7.2", "redis-7.4", "redis-8.0", "redis-8.6",
            "valkey-8.0", "valkey-8.1", "valkey-9"]  # fmt: skip


def of_version(version: str) -> None:
    def psync_of(w: World) -> None:
        w.use("source", version)

    psync_of.__name__ = f"psync_of_{version}"
    case("source.psync", PASSED, "answers")(psync_of)


for version in VERSIONS:
    of_version(version)


@case("source.psync", PASSED, "each")
def psync_of_a_cluster(w: World) -> None:
    w.use_cluster("source")


@case("source.psync", SKIPPED)
def psync_that_is_not_needed(w: World) -> None:
    w.task(method=Method.SCAN)


@case("source.psync", FAILED, "refuses PSYNC", "rename-command PSYNC")
def psync_renamed(w: World) -> None:
    w.use("source", "redis-5.0", config={"rename-command": ("PSYNC", "psync-of-ours")})


@case("source.psync", FAILED, "refuses REPLCONF", "rename-command REPLCONF")
def replconf_disabled(w: World) -> None:
    w.use("source", "redis-7.0", config={"rename-command": ("REPLCONF", "")})


def without_psync(version: str) -> None:
    def psync_forbidden(w: World) -> None:
        w.use("source", version)
        w.do("source", "ACL", "SETUSER", "default", "-psync", undo=("ACL", "SETUSER", "default", "+@all"))

    psync_forbidden.__name__ = f"psync_forbidden_{version}"
    case("source.psync", FAILED, "refuses PSYNC", "ACL SETUSER default +psync")(psync_forbidden)


for version in ("redis-6.0", "redis-6.2", "redis-7.0", "redis-8.6", "valkey-9"):
    without_psync(version)


@case("source.psync", FAILED, "NOMASTERLINK", "lost its master")
def replica_without_master(w: World) -> None:
    w.do("source", "REPLICAOF", "127.0.0.1", 1, undo=("REPLICAOF", "NO", "ONE"))


@case("source.repl_timeout", PASSED, "600 s")
def long_timeout(w: World) -> None:
    w.configure("source", repl_timeout=600)


@case("source.repl_timeout", WARNING, "is 60 s; advised: 300 s", "CONFIG SET repl-timeout 300", "The button")
def short_timeout(w: World) -> None:
    w.configure("source", repl_timeout=60)


@case("source.repl_timeout", WARNING, "is 60 s", "CONFIG SET repl-timeout 300")
def short_timeout_of_a_cluster(w: World) -> None:
    w.use_cluster("source")


@case("source.repl_timeout", WARNING, "not known")
def config_forbidden(w: World) -> None:
    w.do("source", "ACL", "SETUSER", "default", "-config", undo=("ACL", "SETUSER", "default", "+@all"))


@case("source.repl_timeout", WARNING, "ask the operator")
def config_set_forbidden(w: World) -> None:
    w.do("source", "ACL", "SETUSER", "default", "-config|set", undo=("ACL", "SETUSER", "default", "+@all"))


@case("source.output_buffer", WARNING, "advised: 200 MiB (20 % of maxmemory", "slave 209715200 209715200 60")
def small_buffer(w: World) -> None:
    w.configure("source", maxmemory="1000mb", client_output_buffer_limit="slave 100mb 50mb 60")


@case("source.output_buffer", PASSED, "unlimited")
def unlimited_buffer(w: World) -> None:
    w.configure("source", client_output_buffer_limit="slave 0 0 0")


@case("source.output_buffer", PASSED, "256 MiB")
def large_buffer(w: World) -> None:
    w.configure("source", maxmemory="100mb", client_output_buffer_limit="slave 256mb 64mb 60")


@case("source.output_buffer", WARNING, "20 % of the host's memory")
def buffer_without_maxmemory(w: World) -> None:
    w.configure("source", maxmemory=0, client_output_buffer_limit="slave 100mb 50mb 60")


@case("source.backlog", WARNING, "1 MiB covers any time", "Advised: 64 MiB", "repl-backlog-size 67108864")
def small_backlog(w: World) -> None:
    w.configure("source", repl_backlog_size="1mb")


@case("source.backlog", WARNING, "kept for 60 min (repl-backlog-ttl); advised: 2 h", "repl-backlog-ttl 7200")
def backlog_that_is_thrown_away(w: World) -> None:
    w.configure("source", repl_backlog_size="64mb", repl_backlog_ttl=3600)


@case("source.backlog", PASSED, "64 MiB covers any time", "120 min")
def large_backlog(w: World) -> None:
    w.configure("source", repl_backlog_size="64mb", repl_backlog_ttl=0)


@case("source.backlog", PASSED, "64 MiB covers")
def large_backlog_without_config(w: World) -> None:
    large_backlog(w)
    config_forbidden(w)


@case("source.backlog", WARNING, "1 MiB covers", "ask the operator")
def small_backlog_without_config(w: World) -> None:
    small_backlog(w)
    config_forbidden(w)


@case("source.backlog", SKIPPED)
def nothing_is_followed(w: World) -> None:
    w.task(phases=Phases.FULL)


@case("source.backlog", PASSED, "retry time is 30 min")
def backlog_of_a_shorter_retry_time(w: World) -> None:
    """That of another task at the same source holds for both (R82)."""
    w.configure("source", repl_backlog_size="64mb", repl_backlog_ttl=3600)
    task = w.made_task()
    MigrationTask.objects.create(
        name="beside", account=task.account, source=task.source, status=TaskStatus.FULL, retry_minutes=30
    )


@case("source.notifications", SKIPPED)
def no_scan(w: World) -> None:
    pass


@case("source.notifications", PASSED, "AKE")
def notifications_on(w: World) -> None:
    w.task(method=Method.SCAN)
    w.configure("source", notify_keyspace_events="KEA")


@case(
    "source.notifications",
    WARNING,
    "is empty; needed: EA",
    "CONFIG SET notify-keyspace-events EA",
    "switches them on",
)
def notifications_off(w: World) -> None:
    w.task(method=Method.SCAN)


@case("source.notifications", FAILED, "is empty", "Ask the operator")
def notifications_that_stay_off(w: World) -> None:
    notifications_off(w)
    config_set_forbidden(w)


@case("source.notifications", FAILED, "does not tell")
def notifications_unknown(w: World) -> None:
    notifications_off(w)
    config_forbidden(w)


@case("source.persistence", PASSED, "last snapshot has worked")
def snapshots_work(w: World) -> None:
    pass


@case("source.persistence", WARNING, "has failed (rdb_last_bgsave_status)", "free space")
def snapshots_fail(w: World) -> None:
    server = w.use("source", "redis-6.2", config={"dbfilename": "blocked.rdb"})
    (server.dir / "blocked.rdb").mkdir(exist_ok=True)  # the finished file cannot take this name
    w.do("source", "BGSAVE")
    wait_for(lambda: server.info("persistence")["rdb_last_bgsave_status"] == "err", 20)
