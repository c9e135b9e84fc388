"""Encryption of credentials, rotation of keys, and that a password is never shown anywhere."""

from __future__ import annotations

import io
import json
import logging
import pickle
import re
from collections.abc import Callable

import pytest
import structlog
from cryptography.fernet import Fernet
from django.core import serializers
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from pytest_django import Settings

from portal import keys, logs
from portal.fields import MASK, Secret
from portal.models import AuditEntry, Endpoint
from portal.redis_control import EndpointParams
from tests.portal.world import PASSWORD, World


def raw(endpoint: Endpoint) -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT password FROM portal_endpoint WHERE id = %s", [endpoint.pk])
        return str(cursor.fetchone()[0])


class TestField:
    def test_stored_encrypted_and_read_back(self, world: World) -> None:
        endpoint = world.instance.endpoint
        assert PASSWORD not in raw(endpoint)
        loaded = Endpoint.objects.get(pk=endpoint.pk)
        assert loaded.password.reveal() == PASSWORD
        loaded.password = ""
        loaded.save(update_fields=["password"])
        assert raw(endpoint) == ""
        assert not Endpoint.objects.get(pk=endpoint.pk).password

    def test_saving_something_else_does_not_encrypt_again(self, world: World) -> None:
        before = raw(world.instance.endpoint)
        Endpoint.objects.get(pk=world.instance.endpoint.pk).save()
        assert raw(world.instance.endpoint) == before

    def test_never_formatted(self, world: World) -> None:
        endpoint = world.instance.endpoint
        secret = endpoint.password
        texts = [
            f"{secret} {secret!r} {endpoint!r} {endpoint.__dict__}",
            json.dumps({"x": secret}, default=str),
            serializers.serialize("json", Endpoint.objects.all()),
            repr(pickle.dumps(Secret(PASSWORD))),
        ]
        assert not [text for text in texts if PASSWORD in text]
        assert str(secret) == MASK
        assert pickle.loads(pickle.dumps(Secret(PASSWORD))).reveal() == PASSWORD  # noqa: S301


class TestRotation:
    def test_rotate(self, world: World, settings: Settings) -> None:
        old, new = settings.CREDENTIAL_KEYS[0], Fernet.generate_key().decode()
        endpoint = world.instance.endpoint
        settings.CREDENTIAL_KEYS = [new, old]
        call_command("rotate_credentials", stdout=io.StringIO())
        settings.CREDENTIAL_KEYS = [new]
        assert Endpoint.objects.get(pk=endpoint.pk).password.reveal() == PASSWORD
        assert AuditEntry.objects.get().details == {"rotated": 3, "unreadable": 0}

    def test_a_lost_key_is_told_and_nothing_is_destroyed(self, world: World, settings: Settings) -> None:
        before = raw(world.instance.endpoint)
        old = settings.CREDENTIAL_KEYS
        settings.CREDENTIAL_KEYS = [Fernet.generate_key().decode()]
        with pytest.raises(keys.CredentialUnreadable):
            Endpoint.objects.get(pk=world.instance.endpoint.pk).password.reveal()
        with pytest.raises(CommandError, match="3 credentials could not be decrypted"):
            call_command("rotate_credentials", stdout=io.StringIO(), stderr=io.StringIO())
        assert raw(world.instance.endpoint) == before
        settings.CREDENTIAL_KEYS = old
        assert Endpoint.objects.get(pk=world.instance.endpoint.pk).password.reveal() == PASSWORD

    def test_generate_keys(self) -> None:
        out = io.StringIO()
        call_command("generate_keys", stdout=out)
        values = dict(line.split("=", 1) for line in out.getvalue().splitlines())
        assert len(values["SECRET_KEY"]) >= 50
        keys.parse_keys([values["CREDENTIAL_KEYS"]])


class TestNeverShown:
    def test_pages_and_admin(self, world: World, as_role: Callable[[str], Client]) -> None:
        client = as_role("admin")
        token = raw(world.instance.endpoint)
        pk = world.instance.pk
        for url in (
            "/",
            "/instances/",
            f"/instances/{world.instance.public_id}/",
            f"/instances/{world.instance.public_id}/edit/",
            f"/admin/portal/instance/{pk}/change/",
            "/admin/portal/instance/",
            "/admin/portal/auditentry/",
            "/audit/",
        ):
            response = client.get(url)
            assert response.status_code == 200, url
            html = response.content.decode()
            assert PASSWORD not in html, url
            assert token not in html, url

    def test_refused_forms_and_the_log(
        self,
        world: World,
        as_role: Callable[[str], Client],
        free_port: Callable[[], int],
        caplog: pytest.LogCaptureFixture,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        caplog.set_level(logging.DEBUG)
        client = as_role("operator")
        data = {
            "name": "x",
            "account": world.account.public_id,
            "address": f"127.0.0.1:{free_port()}",
            "password": PASSWORD,
        }
        for extra in ({}, {"test": "1"}):
            response = client.post("/instances/register/", data | extra)
            assert response.status_code == 422
            assert PASSWORD not in response.content.decode()
        captured = capfd.readouterr()
        assert PASSWORD not in caplog.text + captured.out + captured.err

    def test_audit_entries(
        self, world: World, as_role: Callable[[str], Client], answers: list[EndpointParams]
    ) -> None:
        data = {
            "name": "x",
            "account": world.account.public_id,
            "address": "x.internal",
            "username": "u",
            "password": PASSWORD,
        }
        assert as_role("operator").post("/instances/register/", data).status_code == 302
        assert PASSWORD not in "".join(str(entry.details) for entry in AuditEntry.objects.all())
        assert answers[0].password == PASSWORD


class TestLog:
    def lines(self, format: str, capfd: pytest.CaptureFixture[str]) -> str:
        before = logging.getLogger().handlers[:]
        level = logging.getLogger().level
        logging.config.dictConfig(logs.configuration(format, "INFO"))
        try:
            log = structlog.get_logger("test")
            log.info(
                "a.event", password="hidden-1", nested={"api_key": "hidden-2"}, url="redis://u:hidden-3@h:1/0"
            )
            log.info("text", message="AUTH failed: password='hidden-4' requirepass=hidden-5")
            try:
                raise ValueError("redis://:hidden-6@host")
            except ValueError:
                log.exception("failed")
            logging.getLogger("other").warning("connect to redis://x:%s@h", "hidden-7")
        finally:
            logging.getLogger().handlers[:] = before
            logging.getLogger().setLevel(level)
        return capfd.readouterr().err

    @pytest.mark.parametrize("format", ["json", "console"])
    def test_no_secret(self, format: str, capfd: pytest.CaptureFixture[str]) -> None:
        text = self.lines(format, capfd)
        assert "a.event" in text
        assert not re.search(r"hidden-\d", text)

    def test_json_is_one_line_per_event(self, capfd: pytest.CaptureFixture[str]) -> None:
        rows = [json.loads(line) for line in self.lines("json", capfd).splitlines()]
        assert [row["event"] for row in rows][:3] == ["a.event", "text", "failed"]
        assert all(row["level"] and row["timestamp"] for row in rows)
