"""Access roles: what is refused, what is told to whom, and what follows a revocation."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from portal.choices import Access, RoleState
from portal.errors import Conflict, Invalid, NotFound, NotPermitted
from portal.forms import parse_databases
from portal.models import AccessRole, AuditEntry
from portal.services import roles
from portal.services.roles import Cover
from tests.portal.world import PASSWORD, World, make_instance


@pytest.fixture
def changed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The keys of the roles that were narrowed, as an app that uses roles is told."""
    told: list[int] = []
    monkeypatch.setattr(roles, "_listeners", {"test": told.append})
    return told


def make_role(world: World, **changes: Any) -> AccessRole:
    values: dict[str, Any] = {
        "name": "reader",
        "trusted_account_id": world.partner_account.public_id,
        "coverage": [Cover(world.instance)],
    }
    return roles.create_role(world.user("owner"), world.account, **(values | changes))


class TestCreate:
    def test_is_told_to_both_accounts(self, world: World) -> None:
        role = make_role(world, coverage=[Cover(world.instance, [3, 0, 3])])
        assert role.state is RoleState.VALID
        assert [cover.databases for cover in role.coverage.all()] == [[0, 3]]
        entries = AuditEntry.objects.filter(action="role.created", object_id=role.public_id)
        assert {entry.account for entry in entries} == {world.account, world.partner_account}
        for entry in entries:
            assert entry.actor == world.user("owner")
            text = str(entry.details)
            assert world.instance.public_id in text
            assert world.instance.endpoint.host not in text
            assert PASSWORD not in text

    @pytest.mark.parametrize(
        ("changes", "refusal", "field"),
        [
            ({"name": ""}, "role.bad_name", "name"),
            ({"name": "two words"}, "role.bad_name", "name"),
            ({"name": "x" * 65}, "role.bad_name", "name"),
            ({"trusted_account_id": " "}, "role.account_needed", "trusted_account"),
            ({"trusted_account_id": "acc-00000000"}, "role.unknown_account", "trusted_account"),
            ({"coverage": []}, "role.no_instance", "coverage"),
            ({"expires_at": timezone.now() - timedelta(seconds=1)}, "role.expires_in_past", "expires_at"),
        ],
    )
    def test_refuses(self, world: World, changes: dict[str, Any], refusal: str, field: str) -> None:
        with pytest.raises(Invalid) as raised:
            make_role(world, **changes)
        assert (raised.value.id, raised.value.field) == (refusal, field)
        assert raised.value.advice
        assert not AccessRole.objects.filter(account=world.account).exists()

    def test_refuses_oneself(self, world: World) -> None:
        with pytest.raises(Invalid) as raised:
            make_role(world, trusted_account_id=world.account.public_id)
        assert raised.value.id == "role.own_account"

    def test_refuses_databases_that_cannot_be(self, world: World) -> None:
        world.instance.database_count = 16
        for numbers, refusal in (([], "role.no_database"), ([16], "role.unknown_database"), ([-1], "role.unknown_database")):  # fmt: skip
            with pytest.raises(Invalid) as raised:
                make_role(world, coverage=[Cover(world.instance, numbers)])
            assert raised.value.id == refusal

    def test_a_name_is_given_out_once(self, world: World) -> None:
        roles.revoke_role(world.user("owner"), make_role(world))
        with pytest.raises(Conflict) as raised:
            make_role(world)
        assert (raised.value.id, raised.value.field) == ("role.name_taken", "name")

    def test_covers_instances_of_the_account_only(self, world: World) -> None:
        with pytest.raises(NotFound):
            make_role(world, coverage=[Cover(world.other_instance)])

    def test_only_owners_manage(self, world: World) -> None:
        role = make_role(world)
        for person, refusal in (("operator", NotPermitted), ("viewer", NotPermitted), ("partner", NotFound)):
            user = world.user(person)
            with pytest.raises(refusal):
                roles.create_role(user, world.account, name="x", trusted_account_id="y", coverage=[])
            with pytest.raises(refusal):
                roles.update_role(user, role, coverage=[Cover(world.instance)], access=Access.READ)
            with pytest.raises(refusal):
                roles.revoke_role(user, role)


class TestChange:
    def test_takes_and_gives(
        self, world: World, changed: list[int], django_capture_on_commit_callbacks: Any
    ) -> None:
        second = make_instance(world.account, "second")
        role = make_role(world)
        with django_capture_on_commit_callbacks(execute=True):
            roles.update_role(
                world.user("owner"), role, coverage=[Cover(second, [1])], access=Access.READ_WRITE
            )
        assert list(roles.covered(role)) == [second]
        assert role.can_write
        assert changed == [role.pk]
        entries = AuditEntry.objects.filter(action="role.changed")
        assert entries.count() == 2
        assert entries[0].details["access"] == "read-write"

    def test_revocation_is_final(
        self, world: World, changed: list[int], django_capture_on_commit_callbacks: Any
    ) -> None:
        role = make_role(world)
        with django_capture_on_commit_callbacks(execute=True):
            roles.revoke_role(world.user("owner"), role)
        assert (role.state, changed) == (RoleState.REVOKED, [role.pk])
        assert not roles.covered(role).exists()
        assert AuditEntry.objects.filter(action="role.revoked").count() == 2
        with pytest.raises(Conflict):
            roles.revoke_role(world.user("owner"), role)
        with pytest.raises(Conflict):
            roles.update_role(world.user("owner"), role, coverage=[Cover(world.instance)], access=Access.READ)

    def test_a_revocation_that_comes_first_ends_a_change(self, world: World) -> None:
        """Two owners at the same moment: the change was begun with a role that was valid still."""
        role = make_role(world)
        stale = AccessRole.objects.get(pk=role.pk)
        roles.revoke_role(world.user("owner"), role)
        assert stale.state is RoleState.VALID
        with pytest.raises(Conflict):
            roles.update_role(
                world.user("owner"), stale, coverage=[Cover(world.instance)], access=Access.READ
            )
        role.refresh_from_db()
        assert role.state is RoleState.REVOKED

    def test_a_listener_that_fails_does_not_undo_it(
        self, world: World, monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any
    ) -> None:
        told: list[int] = []

        def fails(role_id: int) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(roles, "_listeners", {"first": fails, "second": told.append})
        role = make_role(world)
        with django_capture_on_commit_callbacks(execute=True):
            roles.revoke_role(world.user("owner"), role)
        assert told == [role.pk]


class TestFind:
    """What the trusted account meets: each way to be wrong says which one it is."""

    def find(self, world: World, owner: str | None = None, name: str = "parcels-reader") -> AccessRole:
        return roles.find_role(
            world.account, world.partner_account.public_id if owner is None else owner, name
        )

    def test_finds(self, world: World) -> None:
        assert (
            self.find(world, f" {world.partner_account.public_id} ", " parcels-reader ") == world.access_role
        )

    @pytest.mark.parametrize(
        ("owner", "name", "refusal", "field"),
        [
            ("", "parcels-reader", "role.account_needed", "owner_account"),
            ("acc-00000000", "parcels-reader", "role.unknown_account", "owner_account"),
            (None, "", "role.name_needed", "role_name"),
            (None, "Parcels-Reader", "role.unknown", "role_name"),
        ],
    )
    def test_refuses(self, world: World, owner: str | None, name: str, refusal: str, field: str) -> None:
        with pytest.raises(Invalid) as raised:
            self.find(world, owner, name)
        assert (raised.value.id, raised.value.field) == (refusal, field)
        assert raised.value.advice

    def test_refuses_oneself(self, world: World) -> None:
        with pytest.raises(Invalid) as raised:
            self.find(world, world.account.public_id)
        assert raised.value.id == "role.own_account"

    def test_refuses_a_role_for_somebody_else(self, world: World) -> None:
        with pytest.raises(Invalid) as raised:
            roles.find_role(world.other_account, world.partner_account.public_id, "parcels-reader")
        assert raised.value.id == "role.not_trusted"

    @pytest.mark.parametrize(
        ("field", "refusal"), [("expires_at", "role.expired"), ("revoked_at", "role.revoked")]
    )
    def test_refuses_what_is_over(self, world: World, field: str, refusal: str) -> None:
        AccessRole.objects.update(**{field: timezone.now()})
        with pytest.raises(Invalid) as raised:
            self.find(world)
        assert raised.value.id == refusal
        assert not roles.covered(AccessRole.objects.get(pk=world.access_role.pk)).exists()


class TestCheck:
    def refusal(self, world: World, **changes: Any) -> str:
        values: dict[str, Any] = {
            "role": world.access_role, "account": world.account, "instance": world.partner_instance,
            "databases": None, "write": False,
        }  # fmt: skip
        try:
            roles.check_role(**(values | changes))
        except Invalid as error:
            shown = str(error)
            refusal = error.id
        else:
            return ""
        assert world.partner_instance.endpoint.host not in shown
        return refusal

    def test_by_what_it_covers(self, world: World) -> None:
        assert self.refusal(world) == ""
        assert self.refusal(world, write=True) == "role.read_only"
        assert self.refusal(world, account=world.other_account) == "role.not_trusted"
        assert self.refusal(world, instance=world.other_instance) == "role.not_covered"
        world.access_role.access = Access.READ_WRITE
        world.access_role.save()
        assert self.refusal(world, write=True) == ""

    def test_all_databases_are_more_than_some(self, world: World) -> None:
        assert self.refusal(world, databases=[7]) == ""
        world.access_role.coverage.update(databases=[0, 3])
        assert self.refusal(world, databases=[3]) == ""
        assert self.refusal(world, databases=[3, 4]) == "role.database_not_covered"
        assert self.refusal(world, databases=None) == "role.database_not_covered"

    def test_reads_the_role_anew(self, world: World) -> None:
        AccessRole.objects.filter(pk=world.access_role.pk).update(revoked_at=timezone.now())
        assert world.access_role.state is RoleState.VALID  # as it was loaded
        assert self.refusal(world) == "role.revoked"
        AccessRole.objects.filter(pk=world.access_role.pk).delete()
        assert self.refusal(world) == "role.unknown"


class TestPages:
    def test_the_form_creates(self, world: World, as_role: Callable[[str], Client]) -> None:
        client = as_role("owner")
        url = reverse("account_role_create", args=[world.account.public_id])
        sent = {
            "name": "for-logistics",
            "trusted_account": world.partner_account.public_id,
            "access": "read-write",
            "expires_at": "2100-01-31T08:30",
            "cover": world.instance.public_id,
            f"databases-{world.instance.public_id}": "0, 2-3",
        }
        response = client.post(url, sent, follow=True)
        role = AccessRole.objects.get(name="for-logistics")
        assert role.coverage.get().databases == [0, 2, 3]
        assert role.expires_at is not None
        page = response.content.decode()
        assert "Databases 0, 2, 3" in page
        assert "2100-01-31 08:30" in page
        edit = client.get(reverse("account_role_edit", args=[role.public_id])).content.decode()
        assert 'value="0, 2, 3"' in edit
        assert 'value="2100-01-31T08:30"' in edit

    def test_the_form_keeps_what_was_entered(self, world: World, as_role: Callable[[str], Client]) -> None:
        url = reverse("account_role_create", args=[world.account.public_id])
        sent = {
            "name": "x",
            "trusted_account": "acc-00000000",
            "access": "read",
            "cover": world.instance.public_id,
            f"databases-{world.instance.public_id}": "first",
        }
        response = as_role("owner").post(url, sent)
        assert response.status_code == 422
        page = response.content.decode()
        assert "“first” is no database" in page
        assert 'value="first"' in page
        sent[f"databases-{world.instance.public_id}"] = "1"
        page = as_role("owner").post(url, sent).content.decode()
        assert "There is no account with the ID acc-00000000" in page
        assert 'value="1"' in page

    def test_the_trusted_side_sees_no_address(self, world: World, as_role: Callable[[str], Client]) -> None:
        """Name, region and version, nothing else: on the page of the account, of the role, and in the audit log."""
        roles.update_role(
            world.user("partner"),
            world.access_role,
            coverage=[Cover(world.partner_instance)],
            access=Access.READ,
        )
        client = as_role("owner")
        urls = [
            reverse("account_detail", args=[world.account.public_id]),
            reverse("account_role", args=[world.access_role.public_id]),
            reverse("audit_list"),
        ]
        for url in urls:
            page = client.get(url).content.decode()
            assert "parcels-reader" in page
            assert world.partner_instance.endpoint.host not in page
            assert PASSWORD not in page
            assert world.partner_instance.get_absolute_url() not in page
        page = client.get(urls[1]).content.decode()
        assert all(text in page for text in ("parcels", "Valkey 9.1.2", "eu-central"))
        assert reverse("account_role_edit", args=[world.access_role.public_id]) not in page
        assert client.get(world.partner_instance.get_absolute_url()).status_code == 404

    def test_a_revoked_role_can_only_be_looked_at(
        self, world: World, as_role: Callable[[str], Client]
    ) -> None:
        roles.revoke_role(None, world.access_role)
        client = as_role("partner")
        for name in ("account_role_edit", "account_role_revoke"):
            url = reverse(name, args=[world.access_role.public_id])
            assert client.post(url, {"access": "read"}).status_code == 409
        page = client.get(reverse("account_role", args=[world.access_role.public_id])).content.decode()
        assert "Revoked" in page
        assert "Edit" not in page


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("", None), (" All ", None), ("0", [0]), ("3, 1;2", [1, 2, 3]), ("0 5-7", [0, 5, 6, 7]), (",", [])],
)
def test_databases_as_people_write_them(text: str, numbers: list[int] | None) -> None:
    assert parse_databases(text) == numbers


@pytest.mark.parametrize("text", ["x", "-1", "3-1", "1.5", "1-", "999999"])
def test_what_is_no_list_of_databases(text: str) -> None:
    from django.core.exceptions import ValidationError

    with pytest.raises(ValidationError):
        parse_databases(text)
