"""The administration: what is detected cannot be edited, and changes go through the services."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from django.test import Client

from portal.models import Account, AuditEntry, Instance
from portal.redis_control import EndpointParams
from tests.portal.world import World

As = Callable[[str], Client]


@pytest.mark.parametrize("model", ["account", "instance", "auditentry"])
def test_lists_open(model: str, world: World, as_role: As) -> None:
    assert as_role("admin").get(f"/admin/portal/{model}/?q=x").status_code == 200
    assert as_role("owner").get(f"/admin/portal/{model}/").status_code == 302


def test_times_are_on_a_clock_of_24_hours(world: World, as_role: As) -> None:
    Account.objects.update(created_at=datetime(2026, 12, 7, 18, 5, tzinfo=UTC))
    html = as_role("admin").get("/admin/portal/account/").content.decode()
    assert "2026-12-07 18:05" in html and "p.m." not in html


def test_detected_fields_are_read_only(world: World, as_role: As) -> None:
    url = f"/admin/portal/instance/{world.instance.pk}/change/"
    html = as_role("admin").get(url).content.decode()
    for name in ("status", "version", "run_id", "account", "password", "endpoint-0-host"):
        assert f'name="{name}"' not in html
    data = {
        "name": "renamed",
        "status": "unreachable",
        "version": "1",
        "region": "",
        "zone": "",
        "description": "",
    }
    for prefix in ("endpoint", "nodes"):
        data |= {f"{prefix}-TOTAL_FORMS": "0", f"{prefix}-INITIAL_FORMS": "0"}
    assert as_role("admin").post(url, data).status_code == 302
    stored = Instance.objects.get(pk=world.instance.pk)
    assert (stored.name, stored.status, stored.version) == ("renamed", "online", "9.1.2")
    assert AuditEntry.objects.get().action == "instance.changed"


def test_audit_entries_are_read_only(world: World, as_role: As) -> None:
    as_role("owner").post(f"/instances/{world.instance.public_id}/delete/")
    entry = AuditEntry.objects.get()
    client = as_role("admin")
    assert client.get("/admin/portal/auditentry/add/").status_code == 403
    assert client.post(f"/admin/portal/auditentry/{entry.pk}/delete/", {"post": "yes"}).status_code == 403
    assert client.post(f"/admin/portal/auditentry/{entry.pk}/change/", {"action": "x"}).status_code == 403
    assert AuditEntry.objects.get() == entry


def test_check_now_goes_through_the_service(world: World, as_role: As, answers: list[EndpointParams]) -> None:
    data = {"action": "check_now", "_selected_action": [world.instance.pk, world.other_instance.pk]}
    response = as_role("admin").post("/admin/portal/instance/", data, follow=True)
    assert "2 checked, 0 of them not reached." in response.content.decode()
    assert len(answers) == 2


def test_deleting_is_recorded(world: World, as_role: As) -> None:
    data = {"action": "delete_selected", "_selected_action": [world.instance.pk], "post": "yes"}
    as_role("admin").post("/admin/portal/instance/", data)
    assert not Instance.objects.filter(pk=world.instance.pk).exists()
    assert AuditEntry.objects.get().action == "instance.deleted"
