"""Who the two sides are, and what else is done with them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.utils import timezone

from migrations_app.choices import ConflictPolicy, Method, Outcome, Phases, TaskStatus
from migrations_app.models import MigrationTask
from portal.choices import Access
from portal.models import AccessRole, Account, Endpoint, Instance, RoleCoverage
from tests.support.wait import wait_for

from .world import World, case

PASSED, WARNING, FAILED, SKIPPED = Outcome.PASSED, Outcome.WARNING, Outcome.FAILED, Outcome.SKIPPED


@case("pair.settings", PASSED)
def usual(w: World) -> None:
    pass


@case("pair.settings", PASSED)
def scan_that_keeps(w: World) -> None:
    w.task(method=Method.SCAN, conflict=ConflictPolicy.KEEP)


@case("pair.settings", FAILED, "same address")
def same_address(w: World) -> None:
    w.endpoint("target", port=w.source.port)


@case("pair.settings", PASSED)  # not connected: what a cluster cannot do is not known
def scan(w: World) -> None:
    w.task(method=Method.SCAN)


@case("pair.phases", PASSED)
def both_phases(w: World) -> None:
    pass


@case("pair.phases", WARNING, "is not migrated")
def full_only(w: World) -> None:
    w.task(phases=Phases.FULL)


# --- roles -----------------------------------------------------------------------------------------------------------------


def with_role(w: World, side: str = "target", **changes: Any) -> AccessRole:
    task = w.made_task()
    other = Account.objects.create(name="Warehouse")
    values: dict[str, Any] = {"name": "movers", "access": Access.READ_WRITE, "trusted_account": task.account}
    role = AccessRole.objects.create(account=other, **(values | changes))
    instance = getattr(task, side)
    Instance.objects.filter(pk=instance.pk).update(account=other)
    RoleCoverage.objects.create(role=role, instance=instance)
    setattr(task, f"{side}_role", role)
    return role


@case("pair.roles", SKIPPED, "account of the task")
def one_account(w: World) -> None:
    pass


@case("pair.roles", PASSED, "movers is valid")
def valid_role(w: World) -> None:
    with_role(w, expires_at=timezone.now() + timedelta(days=30))


@case("pair.roles", PASSED)
def reading_role_of_the_source(w: World) -> None:
    with_role(w, "source", access=Access.READ)


@case("pair.roles", WARNING, "expires on", "7 days")
def role_that_expires(w: World) -> None:
    with_role(w, expires_at=timezone.now() + timedelta(days=2))


@case("pair.roles", FAILED, "expired on")
def expired_role(w: World) -> None:
    with_role(w, expires_at=timezone.now() - timedelta(minutes=1))


@case("pair.roles", FAILED, "was revoked")
def revoked_role(w: World) -> None:
    with_role(w, revoked_at=timezone.now())


@case("pair.roles", FAILED, "reading only")
def reading_role_of_the_target(w: World) -> None:
    with_role(w, access=Access.READ)


@case("pair.roles", FAILED, "does not cover the instance orders-new")
def role_that_does_not_cover(w: World) -> None:
    with_role(w)
    RoleCoverage.objects.all().delete()


@case("pair.roles", FAILED, "covers", "not all databases")
def role_of_some_databases(w: World) -> None:
    with_role(w)
    RoleCoverage.objects.update(databases=[0])


@case("pair.roles", FAILED, "does not trust")
def role_of_somebody_else(w: World) -> None:
    role = with_role(w)
    AccessRole.objects.filter(pk=role.pk).update(trusted_account=Account.objects.create(name="Third"))


# --- the servers -----------------------------------------------------------------------------------------------------------


@case("pair.same_server", PASSED, "different servers")
def two_servers(w: World) -> None:
    pass


@case("pair.same_server", FAILED, "run ID")
def one_server_under_two_names(w: World) -> None:
    w.endpoint("source", host="localhost")
    w.endpoint("target", port=w.source.port)


@case("pair.same_server", FAILED, "one and the same cluster")
def one_cluster(w: World) -> None:
    cluster = w.use_cluster("source")
    w.endpoint("target", port=cluster.nodes[1].port)


@case("pair.same_server", FAILED, "one replication")
def source_that_replicates_the_target(w: World) -> None:
    w.use("target", "redis-7.0", config={"repl-diskless-sync-delay": 0})
    replicate(w, "source", "target")


def replicate(w: World, replica: str, master: str) -> None:
    server = w.server(master)
    w.do(replica, "REPLICAOF", server.host, server.port, undo=("REPLICAOF", "NO", "ONE"))
    wait_for(lambda: w.server(replica).info("replication")["master_link_status"] == "up", 30)


@case("pair.versions", PASSED, "Redis 7.0.15 → Valkey 9.1.2: served")
def newer_product(w: World) -> None:
    pass


@case("pair.versions", PASSED, "3.2")
def oldest(w: World) -> None:
    w.use("source", "redis-3.2")


@case("pair.versions", WARNING, "earlier version")
def older_target(w: World) -> None:
    w.use("target", "redis-5.0")


@case("pair.translation", PASSED, "knows all")
def target_that_knows_all(w: World) -> None:
    pass


@case("pair.translation", WARNING, "Redis 5.0.10 lacks", "functions", "EVAL")
def target_that_knows_less(w: World) -> None:
    w.use("target", "redis-5.0")


@case("source.cluster", PASSED, "by 2 masters")
def complete_cluster(w: World) -> None:
    w.use_cluster("source")


@case("source.cluster", SKIPPED, "no cluster")
def no_cluster(w: World) -> None:
    pass


@case("target.cluster", PASSED, "by 2 masters")
def complete_target_cluster(w: World) -> None:
    w.use_cluster("target")


def take_slot_away(w: World, side: str) -> None:
    """No node of the cluster serves slot 7 any more, until the end of the case."""
    cluster = w.pool.cluster("redis-7.0", side)
    (holder,) = [node for node in cluster.nodes if node.port == cluster.holder(7).port]

    def give_back() -> None:
        with holder.client() as client:
            client.execute_command("CLUSTER", "ADDSLOTS", 7)
        cluster.wait_well()

    w.undo.append(give_back)
    for node in cluster.nodes:
        with node.client() as client:
            client.execute_command("CLUSTER", "DELSLOTS", 7)


@case("source.cluster", FAILED, "nobody serves slots 7")
def incomplete_cluster(w: World) -> None:
    w.use_cluster("source")
    take_slot_away(w, "source")


@case("target.cluster", FAILED, "nobody serves slots 7")
def incomplete_target_cluster(w: World) -> None:
    w.use_cluster("target")
    take_slot_away(w, "target")


@case("source.cluster", FAILED, "Slots are being moved")
def cluster_in_motion(w: World) -> None:
    cluster = w.use_cluster("source")
    other = next(node for node in cluster.nodes if node is not cluster.holder(9))
    holder = cluster.open_move(9, other)
    w.undo.append(lambda: [w._execute(node, "CLUSTER", "SETSLOT", 9, "STABLE") for node in (holder, other)])


@case("source.replica", PASSED, "is a master")
def master(w: World) -> None:
    pass


@case("source.replica", WARNING, "is a replica of")
def replica(w: World) -> None:
    w._sides["master"] = w.pool.server("redis-7.0", "master", config={"repl-diskless-sync-delay": 0})
    replicate(w, "source", "master")


@case("source.replica", FAILED, "has lost it")
def replica_without_master(w: World) -> None:
    w.do("source", "REPLICAOF", "127.0.0.1", 1, undo=("REPLICAOF", "NO", "ONE"))


@case("pair.clocks", PASSED)
def one_clock(w: World) -> None:
    pass


@case("pair.clocks", WARNING, "worker's clock", "NTP")
def worker_in_the_future(w: World) -> None:
    from migrations_app.runner.precheck import identity

    now = identity._worker_ms()
    w.patches.setattr(identity, "_worker_ms", lambda: now + 60_000)


@case("pair.clocks", WARNING, "does not tell its time")
def time_forbidden(w: World) -> None:
    w.do("source", "ACL", "SETUSER", "default", "-time", undo=("ACL", "SETUSER", "default", "+@all"))


@case("source.functions", PASSED, "has no functions")
def no_functions(w: World) -> None:
    pass


LIBRARY = "#!lua name=lib\nredis.register_function('one', function() return 1 end)"


@case("source.functions", PASSED, "the target knows functions")
def functions_for_a_newer_target(w: World) -> None:
    w.do("source", "FUNCTION", "LOAD", LIBRARY, undo=("FUNCTION", "FLUSH"))


@case("source.functions", FAILED, "knows none")
def functions_for_an_older_target(w: World) -> None:
    functions_for_a_newer_target(w)
    w.use("target", "redis-6.2")


@case("source.scripts", PASSED, "No script has run")
def no_scripts(w: World) -> None:
    w.do("source", "CONFIG", "RESETSTAT")


@case("source.scripts", PASSED, "sends what they did")
def scripts_as_effects(w: World) -> None:
    w.do("source", "EVAL", "return 1", 0)


@case("source.scripts", WARNING, "calls of EVAL", "not reported")
def scripts_as_they_are(w: World) -> None:
    w.use("source", "redis-3.2")
    w.do("source", "EVAL", "return 1", 0)


# --- other tasks -----------------------------------------------------------------------------------------------------------


def other_task(w: World, source: str, target: str, status: TaskStatus = TaskStatus.INCREMENTAL) -> None:
    """A task between other rows of the same servers (or of none), as self-hosted sides have them."""
    account = w.made_task().account

    def row(side: str) -> Instance:
        made = Instance.objects.create(account=account, name=f"again-{side}")
        server = w.server(side) if side in ("source", "target") else None
        Endpoint.objects.create(instance=made, host="127.0.0.1", port=server.port if server else 1)
        return made

    MigrationTask.objects.create(
        name="other", account=account, source=row(source), target=row(target), status=status
    )


@case("pair.tasks", PASSED, "No other task")
def alone(w: World) -> None:
    other_task(w, "elsewhere", "target", TaskStatus.COMPLETED)


@case("pair.tasks", FAILED, "writes into the same target")
def other_into_the_target(w: World) -> None:
    other_task(w, "elsewhere", "target", TaskStatus.PAUSED)


@case("pair.tasks", FAILED, "opposite direction")
def other_back(w: World) -> None:
    other_task(w, "target", "source")


@case("pair.tasks", WARNING, "reads the same source")
def other_from_the_source(w: World) -> None:
    other_task(w, "source", "elsewhere")


@case("pair.tasks", WARNING, "through a chain")
def other_from_the_target(w: World) -> None:
    other_task(w, "target", "elsewhere")


@case("pair.tasks", FAILED, "A task of another account")
def other_of_another_account(w: World) -> None:
    other_into_the_target(w)
    MigrationTask.objects.filter(name="other").update(account=Account.objects.create(name="Fourth"))
