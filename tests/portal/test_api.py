"""Tokens, refusals and repeated requests of the HTTP API."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from portal.errors import Conflict, Invalid, NotFound, NotPermitted
from portal.models import ApiToken, AuditEntry, IdempotentRequest, Instance
from portal.services import idempotency, tokens
from tests.portal.world import PASSWORD, World


def get(path: str, token: str = "") -> Any:
    return Client().get(f"/api/v1{path}", headers={"Authorization": f"Bearer {token}"} if token else {})


class TestTokens:
    def test_it_is_stored_as_a_digest_only(self, world: World) -> None:
        token, text = tokens.create_token(world.user("owner"), "  script ", ["fleet:read"])
        assert text.startswith("swy_") and len(text) > 40
        assert text not in str(vars(ApiToken.objects.get()))
        assert (token.name, token.scopes) == ("script", ["fleet:read"])
        assert text not in str([vars(entry) for entry in AuditEntry.objects.all()])

    @pytest.mark.parametrize(
        ("name", "scopes", "days", "id"),
        [
            (" ", ["fleet:read"], 30, "token.no_name"),
            ("x", [], 30, "token.no_scope"),
            ("x", ["everything"], 30, "token.unknown_scope"),
            ("x", ["fleet:read"], 0, "token.bad_lifetime"),
            ("x", ["fleet:read"], 3651, "token.bad_lifetime"),
        ],
    )
    def test_wrong_input(self, world: World, name: str, scopes: list[str], days: int, id: str) -> None:
        with pytest.raises(Invalid) as refusal:
            tokens.create_token(world.user("owner"), name, scopes, days=days)
        assert refusal.value.id == id
        assert not ApiToken.objects.exists()

    def test_not_for_an_account_of_others(self, world: World) -> None:
        with pytest.raises(NotPermitted):
            tokens.create_token(world.user("owner"), "x", ["fleet:read"], account=world.other_account)

    def test_what_no_longer_opens_anything(self, world: World) -> None:
        owner = world.user("owner")
        for spoil in (
            lambda token: tokens.revoke_token(owner, token.public_id),
            lambda token: ApiToken.objects.filter(pk=token.pk).update(
                expires_at=timezone.now() - timedelta(seconds=1)
            ),
            lambda token: type(owner).objects.filter(pk=owner.pk).update(is_active=False),
        ):
            token, text = tokens.create_token(owner, "x", ["fleet:read"])
            assert get("/me", text).status_code == 200
            spoil(token)
            refused = get("/me", text)
            assert (refused.status_code, refused.json()["id"]) == (401, "token.invalid")
            assert refused.headers["WWW-Authenticate"] == "Bearer"
            type(owner).objects.filter(pk=owner.pk).update(is_active=True)

    def test_only_ones_own_is_revoked(self, world: World) -> None:
        token, _ = tokens.create_token(world.user("owner"), "x", ["fleet:read"])
        with pytest.raises(NotFound):
            tokens.revoke_token(world.user("viewer"), token.public_id)
        assert tokens.revoke_token(world.user("admin"), token.public_id).revoked_at

    def test_a_token_for_one_account_sees_no_other(self, world: World) -> None:
        admin = world.user("admin")
        _, text = tokens.create_token(admin, "x", ["fleet:read"], account=world.other_account)
        assert [one["id"] for one in get("/instances", text).json()] == [world.other_instance.public_id]
        assert get(f"/instances/{world.instance.public_id}", text).status_code == 404
        assert [one["id"] for one in get("/me", text).json()["accounts"]] == [world.other_account.public_id]

    def test_a_session_opens_no_operation(self, world: World) -> None:
        client = Client()
        client.force_login(world.user("owner"))
        assert client.get("/api/v1/instances").status_code == 401

    def test_the_page_shows_it_once(self, world: World) -> None:
        client = Client()
        client.force_login(world.user("owner"))
        page = client.post("/profile/tokens/", {"name": "script", "scopes": "fleet:read", "days": "30"})
        text = page.context["made"][1]
        assert text in page.content.decode()
        assert text not in client.get("/profile/tokens/").content.decode()
        assert "no-store" in page.headers["Cache-Control"]


def test_no_password_is_told(world: World) -> None:
    _, text = tokens.create_token(world.user("owner"), "x", ["fleet:read"])
    page = get(f"/instances/{world.instance.public_id}", text)
    assert page.status_code == 200
    assert PASSWORD not in page.content.decode()


def test_pages_by_id(world: World) -> None:
    _, text = tokens.create_token(world.user("admin"), "x", ["fleet:read"])
    found: list[str] = []
    while page := get(f"/instances?limit=1&after={found[-1] if found else ''}", text).json():
        found += [one["id"] for one in page]
    assert found == sorted(Instance.objects.values_list("public_id", flat=True)) and len(found) > 1


def test_a_wrong_parameter_is_named(world: World) -> None:
    _, text = tokens.create_token(world.user("owner"), "x", ["fleet:read"])
    refused = get("/instances?limit=1000", text)
    assert refused.status_code == 422
    assert (refused.json()["id"], refused.json()["field"]) == ("input.invalid", "limit")


@pytest.mark.parametrize(
    ("path", "field", "takes"),
    [
        ("/instances?regoin=eu", "regoin", "after, limit, q, region"),
        ("/events?after=ev-1", "after", "before, campaign, instance"),
        ("/migrations?state=failed", "state", "before, limit, q, status"),
        ("/events/types?level=S0", "level", "takes nothing"),
        ("/instances/{id}?instance_id=other", "instance_id", "takes nothing"),
        ("/instances?data=1", "data", "after, limit"),
    ],
)
def test_a_condition_that_is_not_known_is_refused(world: World, path: str, field: str, takes: str) -> None:
    """Left aside it would be none, and the answer everything."""
    _, text = tokens.create_token(world.user("owner"), "x", ["fleet:read", "events:read", "migrations:read"])
    refused = get(path.replace("{id}", world.instance.public_id), text)
    assert refused.status_code == 422
    assert (refused.json()["id"], refused.json()["field"]) == ("input.unknown", field)
    assert takes in refused.json()["advice"]


def test_a_name_in_a_body_that_is_not_known_is_refused(world: World) -> None:
    _, text = tokens.create_token(world.user("owner"), "x", ["fleet:write", "migrations:write"])
    side = {"instance": world.instance.public_id}
    window = {"days": ["mon"], "from": "01:00", "to": "02:00", "time_zone": "UTC"}
    for method, path, body, field in (
        ("post", "/migrations", {"source": side, "targte": side}, "targte"),
        ("post", "/migrations", {"source": side | {"rol": "x"}}, "source.rol"),
        ("put", f"/instances/{world.instance.public_id}/maintenance-window", window | {"zone": "x"}, "zone"),
    ):
        refused = getattr(Client(), method)(
            f"/api/v1{path}",
            body,
            content_type="application/json",
            headers={"Authorization": f"Bearer {text}"},
        )
        assert refused.status_code == 422, refused.content
        assert (refused.json()["id"], refused.json()["field"]) == ("input.invalid", field)


def test_a_method_that_an_address_does_not_have_is_refused_like_the_rest(world: World) -> None:
    _, text = tokens.create_token(world.user("owner"), "x", ["fleet:read"])
    refused = Client().delete("/api/v1/instances", headers={"Authorization": f"Bearer {text}"})
    assert (refused.status_code, refused.headers["Allow"]) == (405, "GET")
    assert refused.json()["id"] == "method.unknown"
    assert "GET" in refused.json()["advice"]


def test_who_may_read_the_description(world: World) -> None:
    """Whoever is signed in, and whoever writes a program: the token that it has."""
    path = "/openapi.json"
    assert get(path).json()["id"] == "token.invalid"
    _, text = tokens.create_token(world.user("viewer"), "x", ["fleet:read"])
    client = Client()
    client.force_login(world.user("viewer"))
    for described in (get(path, text), client.get(f"/api/v1{path}")):
        assert described.status_code == 200
        assert described.json()["info"]["title"] == "Switchyard"


class TestIdempotency:
    def test_the_answer_is_kept(self, world: World) -> None:
        user = world.user("owner")
        row = idempotency.begin(user, "k", "digest")
        with pytest.raises(Conflict) as refusal:
            idempotency.begin(user, "k", "digest")
        assert refusal.value.id == "idempotency.under_way"
        idempotency.store(row, 201, "{}")
        assert idempotency.begin(user, "k", "digest").status == 201

    def test_a_key_is_for_one_request(self, world: World) -> None:
        user = world.user("owner")
        idempotency.store(idempotency.begin(user, "k", "one"), 201, "{}")
        with pytest.raises(Conflict) as refusal:
            idempotency.begin(user, "k", "another")
        assert refusal.value.id == "idempotency.other_request"
        assert idempotency.begin(world.user("operator"), "k", "another").status is None, (
            "keys are a person's own"
        )

    @pytest.mark.parametrize("key", ["", "x" * 121, "a\nb"])
    def test_bad_keys(self, world: World, key: str) -> None:
        with pytest.raises(Invalid):
            idempotency.begin(world.user("owner"), key, "digest")

    def test_one_whose_worker_died_is_begun_anew(self, world: World) -> None:
        user = world.user("owner")
        row = idempotency.begin(user, "k", "digest")
        IdempotentRequest.objects.filter(pk=row.pk).update(
            created_at=timezone.now() - idempotency.ABANDONED - timedelta(seconds=1)
        )
        assert idempotency.begin(user, "k", "digest").pk != row.pk

    def test_old_ones_go(self, world: World) -> None:
        user = world.user("owner")
        row = idempotency.begin(user, "k", "digest")
        idempotency.store(row, 201, "{}")
        IdempotentRequest.objects.filter(pk=row.pk).update(
            created_at=timezone.now() - idempotency.KEPT - timedelta(seconds=1)
        )
        assert idempotency.begin(user, "k", "other").status is None
