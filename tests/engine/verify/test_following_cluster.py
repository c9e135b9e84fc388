"""The same with a cluster on one side: differences are found and repaired, quick counts leave out the product's own keys."""

from __future__ import annotations

from migrations_app.engine.ports import Phase
from migrations_app.engine.verify import Difference, verify
from migrations_app.engine.verify.quick import count
from migrations_app.engine.verify.repair import Repaired, Repairer
from tests.engine.conftest import QUICK
from tests.engine.links import RunningLink, endpoint
from tests.engine.verify.following import Following
from tests.engine.verify.steps import apply
from tests.support.cluster import Cluster
from tests.support.servers import Server


def test_a_cluster_as_the_target() -> None:
    with Server("redis-7.0", config=QUICK) as source, Cluster("redis-7.0") as cluster:
        node = cluster.nodes[0]
        apply(source, [("SET", f"key:{number}", number) for number in range(300)])
        apply(source, [("HSET", "h", "f", "1"), ("SET", "t", "1", "EX", 1000)])
        with RunningLink(source, node) as link:
            link.wait_until(Phase.INCREMENTAL)
            link.wait_caught_up()
            follow = Following(link)
            sides = endpoint(source), endpoint(node)
            assert verify(*sides, follow=follow).equal
            (quick,) = count(*sides, ["test"])
            assert (quick.equal, quick.source.keys, quick.target.keys) == (True, 302, 302)

            cluster.execute("key:5", "DEL", "key:5")
            cluster.execute("h", "HSET", "h", "f", "2")
            cluster.execute("t", "PERSIST", "t")
            cluster.execute("extra", "SET", "extra", "1")
            found: list[Difference] = []
            verify(*sides, follow=follow, on_difference=found.append)
            assert {one.key: one.aspect for one in found} == {
                b"key:5": "missing", b"h": "field", b"t": "ttl", b"extra": "extra",
            }  # fmt: skip
            repairer = Repairer(*sides, "test", follow=follow)
            try:
                outcomes = {one.key: repairer.repair(0, one.key).outcome for one in found}
            finally:
                repairer.close()
            assert outcomes[b"extra"] is Repaired.DELETED
            assert set(outcomes.values()) == {Repaired.DELETED, Repaired.WRITTEN}
            after = verify(*sides, follow=follow)
            assert after.equal, after.items
            assert link.running, link.told()
