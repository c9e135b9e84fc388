"""Connections that people enter: what is refused at which field, templates as copies, secrets that stay where they are."""

from __future__ import annotations

import socket
from dataclasses import replace
from typing import Any

import pytest
from pytest_django import Settings

from portal.choices import EndpointKind, Origin, Role
from portal.connection_forms import ConnectionForm
from portal.errors import Invalid, NotFound, NotPermitted
from portal.models import Account, AuditEntry, ConnectionTemplate, Endpoint, Instance, Membership
from portal.services import connections
from portal.services.connections import ConnectionParams
from tests.portal.world import World, make_user

pytestmark = pytest.mark.django_db
HERE = ConnectionParams(host="127.0.0.1", port=6401, password="first:secret")


def refusal(**values: Any) -> Invalid:
    with pytest.raises(Invalid) as caught:
        connections.check(replace(HERE, **values))
    assert "Nothing was saved." in caught.value.message
    return caught.value


class TestWrongInput:
    """R94, R100: what can never be reached is refused at its field."""

    @pytest.mark.parametrize("port", [0, 65536, -1])
    def test_a_bad_port(self, port: int) -> None:
        error = refusal(port=port)
        assert (error.id, error.field) == ("connection.bad_port", "address")

    def test_a_name_that_does_not_resolve(self) -> None:
        error = refusal(host="no-such-host.invalid")
        assert (error.id, error.field) == ("connection.no_such_host", "address")
        assert "no-such-host.invalid" in error.message and "spelling" in error.advice

    @pytest.mark.parametrize("host", ["8.8.8.8", "2001:4860:4860::8888", "169.254.169.254"])
    def test_a_public_address(self, host: str) -> None:
        error = refusal(host=host)
        assert (error.id, error.field) == ("connection.address_not_allowed", "address")
        assert "ALLOWED_NETWORKS" in error.advice

    def test_a_name_that_leads_to_a_public_address(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(
            socket, "getaddrinfo", lambda *_, **__: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.4.4", 0))]
        )  # fmt: skip
        error = refusal(host="cache.example")
        assert error.id == "connection.address_not_allowed" and "cache.example is at 8.8.4.4" in error.message

    def test_an_allowed_network(self, settings: Settings) -> None:
        settings.ALLOWED_NETWORKS = ["8.8.8.0/24"]
        connections.check(replace(HERE, host="8.8.8.8"))

    def test_sentinels(self) -> None:
        sentinels = {"kind": EndpointKind.SENTINEL, "host": "", "port": 0}
        assert refusal(**sentinels).id == "connection.no_sentinels"
        assert refusal(**sentinels, sentinels=("127.0.0.1:26379",)).field == "master_name"
        named = sentinels | {"master_name": "orders"}
        assert refusal(**named, sentinels=("127.0.0.1:nonsense",)).field == "sentinels"
        assert refusal(**named, sentinels=("8.8.8.8:26379",)).id == "connection.address_not_allowed"
        assert refusal(**named, sentinels=("gone.invalid",)).id == "connection.no_such_host"
        # One of several that is down does not matter.
        connections.check(replace(HERE, **named, sentinels=("gone.invalid", "127.0.0.1")))

    def test_a_custom_account_without_password(self) -> None:
        assert refusal(username="mig", password="").field == "password"

    @pytest.mark.parametrize(
        "path",
        ["", "dump.rdb", "/etc/passwd", "/snaps", "/snaps/../etc/passwd", "/snapshots/x.rdb", "/snaps//x"],
    )
    def test_a_file_elsewhere(self, path: str, settings: Settings) -> None:
        settings.SNAPSHOT_FOLDER = "/snaps"
        assert refusal(kind=EndpointKind.FILE, file_path=path).field == "file_path"

    def test_paths_are_off_unless_a_folder_is_configured(self, settings: Settings) -> None:
        settings.SNAPSHOT_FOLDER = ""
        assert refusal(kind=EndpointKind.FILE, file_path="/x/dump.rdb").id == "connection.no_snapshot_folder"
        settings.SNAPSHOT_FOLDER = "/x"
        connections.check(ConnectionParams(kind=EndpointKind.FILE, file_path="/x/dump.rdb"))


def test_ip_addresses_are_flagged() -> None:
    assert HERE.raw_addresses == []  # of the machine itself: it does not change
    assert replace(HERE, host="10.0.0.7").raw_addresses == ["10.0.0.7"]
    assert replace(HERE, host="cache.internal").raw_addresses == []
    sentinels = ConnectionParams(kind=EndpointKind.SENTINEL, sentinels=("10.0.0.1:26379", "s.internal"))
    assert sentinels.raw_addresses == ["10.0.0.1"]


def posted(**values: str) -> dict[str, str]:
    return {
        "server_kind": "server",
        "address": "127.0.0.1:6401",
        "login": "default",
        "tls_verify": "on",
    } | values


class TestForm:
    @pytest.mark.parametrize(
        "address", ["cache:0", "cache:65536", "cache:port", "cache:", "redis://cache:6379", "a b"]
    )
    def test_a_bad_address(self, address: str) -> None:
        assert set(ConnectionForm(posted(address=address)).errors) == {"address"}

    def test_a_missing_address(self) -> None:
        assert set(ConnectionForm(posted(address="")).errors) == {"address"}

    def test_a_socket(self) -> None:
        form = ConnectionForm(posted(address="unix:///run/redis.sock"))
        assert form.is_valid() and form.params().unix_path == "/run/redis.sock"

    def test_a_custom_account_is_split_at_the_first_colon(self) -> None:
        form = ConnectionForm(posted(login="custom", password="mig:pass:word"))
        assert form.is_valid()
        assert (form.params().username, form.params().password) == ("mig", "pass:word")

    @pytest.mark.parametrize("password", ["", "mig", "mig:", ":pass"])
    def test_a_custom_account_needs_both(self, password: str) -> None:
        assert set(ConnectionForm(posted(login="custom", password=password)).errors) == {"password"}

    def test_a_password_with_colons_of_the_default_account(self) -> None:
        form = ConnectionForm(posted(password="a:b"))
        assert form.is_valid() and (form.params().username, form.params().password) == ("", "a:b")

    def test_a_password_without_an_account(self) -> None:
        assert set(ConnectionForm(posted(login="none", password="x")).errors) == {"password"}

    def test_stored_secrets_are_kept_and_never_shown(self, world: World) -> None:
        side = connections.create_self_hosted(None, world.account, replace(HERE, username="mig"))
        form = ConnectionForm(stored=side.endpoint)
        assert "first:secret" not in str(form) and "leave this empty" in str(form)
        form = ConnectionForm(posted(login="custom"), stored=side.endpoint)
        assert form.is_valid()
        assert (form.params().username, form.params().password) == ("mig", None)


class TestSelfHosted:
    def test_is_no_part_of_the_fleet(self, world: World) -> None:
        side = connections.create_self_hosted(world.user("operator"), world.account, HERE)
        assert side.origin == Origin.SELF_HOSTED and side.name == "127.0.0.1:6401"
        assert side not in Instance.objects.fleet()
        assert side.endpoint.password.reveal() == "first:secret"
        assert "first:secret" not in str(list(AuditEntry.objects.values_list("details", flat=True)))
        # The same name twice: another task may have the same side.
        connections.create_self_hosted(world.user("operator"), world.account, HERE)

    def test_needs_an_operator(self, world: World) -> None:
        with pytest.raises(NotPermitted):
            connections.create_self_hosted(world.user("viewer"), world.account, HERE)
        with pytest.raises(NotFound):
            connections.create_self_hosted(world.user("outsider"), world.account, HERE)
        assert not Instance.objects.exclude(origin=Origin.FLEET).exists()

    def test_keeps_its_password_at_its_address_only(self, world: World) -> None:
        side = connections.create_self_hosted(None, world.account, replace(HERE, tls=True))
        kept = replace(HERE, tls=True, password=None)
        assert not connections.update_self_hosted(None, side, kept)
        assert connections.update_self_hosted(None, side, replace(kept, username="mig"))
        assert side.endpoint.password.reveal() == "first:secret"
        for change in (
            {"port": 6402},
            {"host": "127.0.0.2"},
            {"tls": False},
            {"tls_verify": False},
            {"tls_server_name": "x"},
        ):
            with pytest.raises(Invalid) as caught:
                connections.update_self_hosted(None, side, replace(kept, username="mig", **change))
            assert (caught.value.id, caught.value.field) == ("connection.password_again", "password")
        assert Endpoint.objects.get(instance=side).port == 6401


class TestTemplates:
    def test_is_a_copy_and_no_link(self, world: World) -> None:
        actor = world.user("operator")
        template = connections.save_template(actor, world.account, HERE, "  Orders,  read  ")
        assert template.name == "Orders, read"
        side = connections.create_self_hosted(actor, world.account, connections.params_of_template(template))
        connections.update_template(actor, template, replace(HERE, port=6402), name="Other")
        side.endpoint.refresh_from_db()
        assert (side.endpoint.port, side.endpoint.password.reveal()) == (6401, "first:secret")
        assert connections.params_of_template(ConnectionTemplate.objects.get()).port == 6402
        connections.delete_template(actor, template)
        assert Endpoint.objects.filter(instance=side).exists()

    def test_its_secret_is_encrypted_and_not_sent_elsewhere(self, world: World) -> None:
        template = connections.save_template(None, world.account, HERE, "Orders")
        stored = ConnectionTemplate.objects.filter(pk=template.pk).values_list("password", flat=True)[0]
        assert "first:secret" not in stored.token()
        with pytest.raises(Invalid) as caught:
            connections.update_template(None, template, replace(HERE, port=6402, password=None))
        assert caught.value.id == "connection.password_again"
        with pytest.raises(Invalid):
            connections.save_template(
                None, world.account, replace(HERE, host="127.0.0.2", password=None), "Thief", stored=template
            )  # fmt: skip

    def test_names_need_not_be_unique_but_be_there(self, world: World) -> None:
        for _ in range(2):
            connections.save_template(None, world.account, HERE, "Orders")
        for name in ("", "  ", "x" * 121):
            with pytest.raises(Invalid) as caught:
                connections.save_template(None, world.account, HERE, name)
            assert caught.value.field == "name"

    def test_of_another_account(self, world: World) -> None:
        template = connections.save_template(None, world.account, HERE, "Orders")
        stranger = make_user("stranger")
        Membership.objects.create(
            account=Account.objects.create(name="Third"), user=stranger, role=Role.OWNER
        )
        for act in (
            lambda: connections.update_template(stranger, template, name="x"),
            lambda: connections.delete_template(stranger, template),
            lambda: connections.save_template(stranger, world.account, HERE, "x"),
        ):
            with pytest.raises(NotFound):
                act()
