"""A role is taken back while a real worker runs the task: nothing is read or written after the pause, and the log tells no address.

Only the cluster `replication` runs here, so what is noticed by itself is noticed by the keeper of the link.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from django.utils import timezone

from migrations_app.choices import TaskStatus
from migrations_app.demo.writer import Writer, check_audit
from migrations_app.models import LogEntry
from migrations_app.services import sharing, tasks
from portal.choices import Access
from portal.errors import Invalid
from portal.models import AccessRole, Account
from portal.services import roles
from portal.services.roles import Cover
from tests.support.servers import Server

from .cases import Case, _registered, wait_until_applied
from .machines import Machine

S = TaskStatus


class AcrossCase(Case):
    """As Case; the source belongs to another account, which lets this one read it."""

    def __init__(self, source: Server, target: Server) -> None:
        self.source, self.target = source, target
        self.account = Account.objects.create(name=f"Account {uuid4().hex}")
        self.owner = Account.objects.create(name=f"Owner {uuid4().hex}")
        theirs, own = _registered(self.owner, source), _registered(self.account, target)
        self.role: AccessRole = roles.create_role(
            None, self.owner, name="reader", trusted_account_id=self.account.public_id, coverage=[Cover(theirs)]
        )  # fmt: skip
        self.task = tasks.create_task(None, self.account, theirs, own, source_role=self.role)

    def stands(self, why: str) -> None:
        """Paused by the system with the reason, without a connection to either side."""
        self.wait(lambda: self.status == S.PAUSED, 20, "not paused")
        assert why in self.row().pause_reason
        assert self.link.owner == ""
        self.nothing_more_arrives()


def test_revoked_in_the_full_phase(shared_machine: Machine, sides: tuple[Server, Server]) -> None:
    source, target = sides
    with source.client() as client:
        client.mset({f"key:{number}": "x" * 100 for number in range(8000)})
        client.config_set("rdb-key-save-delay", 2000)  # a quarter of a minute for all
    case = AcrossCase(source, target)
    case.start()
    case.wait(lambda: case.status == S.FULL and case.progress.keys_done > 20, 20)
    roles.revoke_role(None, case.role)
    assert case.status in (S.PAUSING, S.PAUSED)  # at once, not with the next look
    case.stands("was revoked")
    with pytest.raises(Invalid) as raised:
        case.resume()
    assert raised.value.id == "role.revoked"
    assert case.status == S.PAUSED


def test_less_covered_in_the_incremental_phase_and_given_back(
    shared_machine: Machine, sides: tuple[Server, Server]
) -> None:
    """Paused under a writer; resumed once the role covers the database again, nothing is lost or applied twice."""
    source, target = sides
    case = AcrossCase(source, target)
    theirs, _ = case.task.both_sides()
    with Writer(source.client(), seed=11, rate=1000) as writer:
        case.start()
        case.wait_until_following()
        roles.update_role(None, case.role, coverage=[Cover(theirs, [3])], access=Access.READ)
        case.stands("covers database 3")
        with pytest.raises(Invalid) as raised:
            case.resume()
        assert raised.value.id == "role.database_not_covered"
        epoch = case.link.epoch
        roles.update_role(None, case.role, coverage=[Cover(theirs)], access=Access.READ)
        case.resume()
        case.wait_until_following(after_epoch=epoch)
        expected = writer.stop()
    wait_until_applied(case)
    case.settle()
    assert check_audit(target.client(), expected) == []
    assert case.progress.full_syncs == 1
    assert case.stop() == S.COMPLETED


def test_the_keeper_notices_that_a_role_has_run_out(
    shared_machine: Machine, sides: tuple[Server, Server]
) -> None:
    case = AcrossCase(*sides)
    case.start()
    case.wait_until_following()
    AccessRole.objects.filter(pk=case.role.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    case.stands("expired")


def test_its_owner_ends_the_reading(shared_machine: Machine, sides: tuple[Server, Server]) -> None:
    """And a source that cuts the link is not named by its address in anything that the task's account can read."""
    source, target = sides
    case = AcrossCase(source, target)
    case.start()
    case.wait_until_following()
    with source.client() as client:
        client.client_kill_filter(_type="replica")
    lost = LogEntry.objects.filter(task=case.task, event="connection.lost")
    case.wait(lost.exists, 20, "the loss is not told")
    case.wait_until_following()
    sharing.stop_by_owner(None, case.row(), "The quarter is being closed")
    case.stands("The quarter is being closed")
    lines = LogEntry.objects.filter(task=case.task)
    assert lines.filter(message__contains=source.name).exists()
    for line in lines:
        assert f":{source.port}" not in f"{line.message} {line.fields}"
