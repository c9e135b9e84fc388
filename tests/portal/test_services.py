"""Services of instances and accounts: permission, refusal, what is stored, what is recorded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from django.db import connection, models

from portal.choices import Role
from portal.errors import Conflict, Invalid, NotFound, NotPermitted
from portal.models import Account, AuditEntry, Instance
from portal.redis_control import EndpointParams, ProbeError
from portal.services import accounts, instances
from tests.portal.world import PASSWORD, World, make_instance, make_user
from tests.support.servers import Server

NEW = EndpointParams(host="new.internal", password=PASSWORD)


class TestRegister:
    def test_against_a_real_server(self, world: World, server: Server) -> None:
        params = EndpointParams(host=server.host, port=server.port, password=server.password)
        instance = instances.register_instance(world.user("operator"), world.account, params, name="real")
        stored = Instance.objects.get(pk=instance.pk)
        assert (stored.status, stored.edition, stored.role) == ("online", "valkey", "master")
        assert stored.endpoint.password.reveal() == server.password
        assert stored.nodes.count() == 1
        entry = AuditEntry.objects.get(action="instance.registered")
        assert (entry.object_id, entry.actor, entry.account) == (
            instance.public_id,
            world.user("operator"),
            world.account,
        )

    def test_what_is_not_reached_is_not_registered(self, world: World, free_port: Callable[[], int]) -> None:
        with pytest.raises(ProbeError):
            instances.register_instance(
                world.user("operator"),
                world.account,
                EndpointParams(host="127.0.0.1", port=free_port()),
                name="gone",
            )
        assert not Instance.objects.filter(name="gone").exists()
        assert not AuditEntry.objects.exists()

    def test_no_transaction_is_open_while_the_server_is_asked(
        self, transactional_db: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        account = Account.objects.create(name="A")
        seen: list[bool] = []

        def probe(params: EndpointParams) -> None:
            seen.append(connection.in_atomic_block)
            raise ProbeError()

        monkeypatch.setattr(instances, "probe", probe)
        instance = make_instance(account, "b")
        for call in (
            lambda: instances.register_instance(None, account, NEW, name="a"),
            lambda: instances.update_instance(None, instance, NEW, name="b"),
        ):
            with pytest.raises(ProbeError):
                call()
        instances.refresh_instance(None, instance)
        assert seen == [False, False, False]

    def test_duplicates(self, world: World, answers: list[EndpointParams]) -> None:
        actor = world.user("operator")
        with pytest.raises(Conflict) as caught:
            instances.register_instance(actor, world.account, NEW, name=world.instance.name)
        assert caught.value.id == "instance.name_taken"
        assert not answers  # the name is refused before the server is asked
        with pytest.raises(instances.DuplicateInstance) as caught:
            instances.register_instance(
                actor, world.account, replace(NEW, host="SESSIONS.internal"), name="same address"
            )
        assert world.instance.public_id in caught.value.advice
        first = instances.register_instance(actor, world.account, NEW, name="first")
        Instance.objects.filter(pk=first.pk).update(run_id=f"{len(answers) + 1:040x}")
        with pytest.raises(instances.DuplicateInstance, match="same run ID"):
            instances.register_instance(
                actor, world.account, replace(NEW, host="alias.internal"), name="alias"
            )

    def test_the_same_server_in_another_account_is_not_disclosed(
        self, world: World, answers: list[EndpointParams]
    ) -> None:
        params = EndpointParams(host=world.other_instance.endpoint.host)
        assert instances.register_instance(world.user("owner"), world.account, params, name="shared").pk

    def test_permission(self, world: World, answers: list[EndpointParams]) -> None:
        for role, error in (("viewer", NotPermitted), ("outsider", NotFound)):
            with pytest.raises(error):
                instances.register_instance(world.user(role), world.account, NEW, name="x")
        world.user("operator").is_active = False
        with pytest.raises(NotFound):
            instances.register_instance(world.user("operator"), world.account, NEW, name="x")
        assert not answers


class TestUpdate:
    def same(self, world: World) -> EndpointParams:
        return EndpointParams(host=world.instance.endpoint.host)

    def test_labels_need_no_contact(self, world: World, answers: list[EndpointParams]) -> None:
        instances.update_instance(
            world.user("operator"),
            world.instance,
            self.same(world),
            name="new name",
            region="us",
            keep_password=True,
        )
        stored = Instance.objects.get(pk=world.instance.pk)
        assert (stored.name, stored.region) == ("new name", "us")
        assert stored.endpoint.password.reveal() == PASSWORD
        assert not answers

    def test_a_kept_password_is_not_sent_elsewhere(self, world: World, answers: list[EndpointParams]) -> None:
        current = self.same(world)
        for elsewhere in (
            replace(current, host="attacker.internal"),
            replace(current, port=7000),
            EndpointParams(unix_path="/tmp/x"),
        ):
            with pytest.raises(Invalid) as caught:
                instances.update_instance(
                    world.user("operator"), world.instance, elsewhere, name="sessions", keep_password=True
                )
            assert caught.value.id == "instance.password_again"
            with pytest.raises(Invalid):
                instances.try_changed_endpoint(
                    world.user("operator"), world.instance, elsewhere, keep_password=True
                )
        world.instance.endpoint.tls = True
        world.instance.endpoint.save()
        for weaker in (current, replace(current, tls=True, tls_verify=False)):
            with pytest.raises(Invalid):
                instances.update_instance(
                    world.user("operator"), world.instance, weaker, name="sessions", keep_password=True
                )
        assert not answers

    def test_a_new_password_is_tried_and_stored(self, world: World, answers: list[EndpointParams]) -> None:
        params = replace(self.same(world), password="another")
        instances.update_instance(world.user("operator"), world.instance, params, name="sessions")
        assert answers[0].password == "another"
        assert Instance.objects.get(pk=world.instance.pk).endpoint.password.reveal() == "another"
        assert "password" in AuditEntry.objects.get().details["changed"]

    def test_clearing(self, world: World, answers: list[EndpointParams]) -> None:
        instances.update_instance(world.user("operator"), world.instance, self.same(world), name="sessions")
        assert not Instance.objects.get(pk=world.instance.pk).endpoint.password


class TestRefresh:
    def test_unreachable_keeps_what_was_detected(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        def probe(params: EndpointParams) -> None:
            raise ProbeError("It did not answer.", advice="Look at it.")

        monkeypatch.setattr(instances, "probe", probe)
        instances.refresh_instance(None, world.instance)
        stored = Instance.objects.get(pk=world.instance.pk)
        assert (stored.status, stored.last_error) == ("unreachable", "It did not answer. Look at it.")
        assert stored.version == "9.1.2"
        instances.refresh_instance(None, world.instance)
        assert AuditEntry.objects.filter(action="instance.status_changed").count() == 1

    def test_an_unreadable_password_is_a_reason(self, world: World, settings: object) -> None:
        world.instance.endpoint.__class__.objects.update(password=world.instance.endpoint.password)
        connection.cursor().execute("UPDATE portal_endpoint SET password = 'gAAAAnonsense'")
        stored = Instance.objects.get(pk=world.instance.pk)
        instances.refresh_instance(None, stored)
        assert "cannot be decrypted" in stored.last_error


class TestDelete:
    def test_deletes_and_records(self, world: World) -> None:
        public_id = world.instance.public_id
        instances.delete_instance(world.user("operator"), world.instance)
        assert not Instance.objects.filter(public_id=public_id).exists()
        entry = AuditEntry.objects.get()
        assert (entry.action, entry.object_id, entry.object_name) == (
            "instance.deleted",
            public_id,
            "sessions",
        )

    def test_refused_while_in_use(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        other = make_instance(world.other_account, "secret name")

        def delete(self: Instance) -> None:
            raise models.ProtectedError("in use", {world.instance, other})

        monkeypatch.setattr(Instance, "delete", delete)
        with pytest.raises(instances.InstanceInUse) as caught:
            instances.delete_instance(world.user("operator"), world.instance)
        assert "sessions" in caught.value.message
        assert "1 of another account" in caught.value.message
        assert "secret name" not in caught.value.message
        assert not AuditEntry.objects.exists()


class TestAccounts:
    def test_create(self, world: World) -> None:
        account = accounts.create_account(world.user("admin"), "New", owner=world.user("viewer"))
        assert account.memberships.get().role == Role.OWNER
        with pytest.raises(Conflict):
            accounts.create_account(world.user("admin"), "New")
        with pytest.raises(NotPermitted):
            accounts.create_account(world.user("owner"), "Mine")

    def test_members(self, world: World) -> None:
        make_user("newcomer")
        owner = world.user("owner")
        membership = accounts.add_member(owner, world.account, "newcomer", "viewer")
        with pytest.raises(Conflict):
            accounts.add_member(owner, world.account, "newcomer", "viewer")
        with pytest.raises(Invalid):
            accounts.add_member(owner, world.account, "nobody", "viewer")
        accounts.change_role(owner, membership, "operator")
        assert world.account.memberships.get(user__username="newcomer").role == Role.OPERATOR
        accounts.remove_member(owner, membership)
        assert not world.account.memberships.filter(user__username="newcomer").exists()

    def test_the_last_owner_stays(self, world: World) -> None:
        membership = world.account.memberships.get(user=world.user("owner"))
        for call in (
            lambda: accounts.remove_member(world.user("owner"), membership),
            lambda: accounts.change_role(world.user("owner"), membership, "viewer"),
        ):
            with pytest.raises(accounts.LastOwner):
                call()
        assert world.account.memberships.get(user=world.user("owner")).role == Role.OWNER


class TestVisibility:
    def test_instances_and_accounts(self, world: World) -> None:
        for role, names in (
            ("outsider", ["search-index"]),
            ("viewer", ["sessions"]),
            ("admin", ["parcels", "search-index", "sessions"]),
        ):
            rows = Instance.objects.visible_to(world.user(role)).order_by("name")
            assert [row.name for row in rows] == names
        assert not Instance.objects.operated_by(world.user("viewer")).exists()
        assert Instance.objects.operated_by(world.user("operator")).get() == world.instance
        inactive = world.user("admin")
        inactive.is_active = False
        assert not Instance.objects.visible_to(inactive).exists()


class TestAudit:
    def test_entries_are_never_changed(self, world: World) -> None:
        instances.delete_instance(None, world.instance)
        entry = AuditEntry.objects.get()
        for call in (
            entry.save,
            entry.delete,
            lambda: AuditEntry.objects.update(action="x"),
            lambda: AuditEntry.objects.all().delete(),
        ):
            with pytest.raises(TypeError):
                call()
