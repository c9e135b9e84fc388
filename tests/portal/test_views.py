"""The pages: a class per view, each with somebody of another account."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries

from portal.models import Account, AuditEntry, Instance, UserProfile
from portal.redis_control import EndpointParams, errors
from portal.services import audit, tokens
from tests.portal.world import PASSWORD, World, make_instance

As = Callable[[str], Client]
HTMX = {"HX-Request": "true"}


def text(response: object) -> str:
    return response.content.decode()


class TestEveryPage:
    def test_headers_and_no_inline_code(self, world: World, as_role: As) -> None:
        client = as_role("admin")
        for name in ("home", "instance_list", "instance_register", "account_list", "audit_list", "profile"):
            response = client.get(reverse(name))
            policy = response.headers["Content-Security-Policy"]
            assert "default-src 'self'" in policy
            assert "unsafe" not in policy
            html = text(response)
            assert not re.search(r"<script(?![^>]*\bsrc=)", html), name
            assert not re.search(r"\s(style|on[a-z]+)=", html), name
            assert not re.search(r"(src|href)=\"(https?:)?//", html), name
            assert html.count("<h1") == 1, name

    def test_a_fragment_sends_the_page_to_the_login(self, world: World) -> None:
        on = {"HX-Current-URL": "http://testserver/instances/?q=a"}
        response = Client().get(reverse("instance_list"), headers=HTMX | on)
        assert response.headers["HX-Redirect"] == "/login/?next=/instances/%3Fq%3Da"

    @pytest.mark.parametrize("host", ["testserver", "elsewhere.example"])
    def test_after_an_expired_login_a_form_leads_back_to_its_page(self, world: World, host: str) -> None:
        url = reverse("instance_refresh", args=[world.instance.public_id])
        response = Client().post(url, headers={"Referer": f"http://{host}/instances/x/"})
        own = host == "testserver"
        assert response.headers["Location"] == f"/login/?next={'/instances/x/' if own else '/'}"

    @pytest.mark.parametrize(
        ("came_from", "back"),
        [
            ("", "/accounts/{0}/"),
            ("/login/?next=/accounts/{0}/contacts/new/", "/accounts/{0}/"),
            ("/accounts/{0}/contacts/new/", "/accounts/{0}/"),
            ("/instances/?q=a", "/instances/?q=a"),
        ],
    )
    def test_a_refusal_leads_back(self, came_from: str, back: str, world: World, as_role: As) -> None:
        url = reverse("account_contact_create", args=[world.account.public_id])
        headers = {"Referer": f"http://testserver{came_from.format(world.account.public_id)}"}
        refused = as_role("viewer").get(url, headers=headers if came_from else {})
        assert refused.status_code == 403
        assert f'href="{back.format(world.account.public_id)}">Back</a>' in text(refused)

    def test_a_form_that_was_refused_leads_back_to_its_page(self, world: World, as_role: As) -> None:
        url = reverse("account_contact_create", args=[world.account.public_id])
        refused = as_role("viewer").post(url, headers={"Referer": f"http://testserver{url}"})
        assert f'href="{url}">Back</a>' in text(refused)
        assert 'href="/">Back to the overview</a>' in text(as_role("viewer").post(url))

    def test_what_only_takes_forms_says_so(self, world: World, as_role: As) -> None:
        response = as_role("owner").get(reverse("instance_refresh", args=[world.instance.public_id]))
        assert response.status_code == 405
        assert response.headers["Allow"] == "POST"
        assert "nothing was changed" in text(response)


class TestLogin:
    def test_login_and_logout(self, world: World) -> None:
        user = world.user("viewer")
        user.set_password("a-long-password-1")
        user.save()
        client = Client()
        page = client.get("/instances/")
        assert page.headers["Location"] == "/login/?next=/instances/"
        bad = client.post("/login/", {"username": "viewer", "password": "wrong"})
        assert "correct username and password" in text(bad)
        good = client.post(
            "/login/?next=/instances/", {"username": "viewer", "password": "a-long-password-1"}
        )
        assert good.headers["Location"] == "/instances/"
        assert client.post("/logout/").headers["Location"] == "/login/"
        assert client.get("/").status_code == 302


class TestHome:
    def test_on_a_new_site_the_first_step_is_an_account(self, admin_client: Client) -> None:
        assert reverse("account_create") in text(admin_client.get("/"))

    def test_counts_own_accounts_only(self, world: World, as_role: As) -> None:
        make_instance(world.account, "gone", status="unreachable", last_error="It did not answer.")
        html = text(as_role("viewer").get("/"))
        assert "It did not answer." in html
        assert "search-index" not in html
        outsider = text(as_role("outsider").get("/"))
        assert "gone" not in outsider

    def test_empty(self, world: World, as_role: As) -> None:
        Instance.objects.all().delete()
        assert "No instances yet" in text(as_role("operator").get("/"))


class TestInstanceList:
    def test_wrong_account(self, world: World, as_role: As) -> None:
        html = text(as_role("outsider").get("/instances/"))
        assert "search-index" in html
        assert "sessions" not in html

    def test_search_filter_and_order(self, world: World, as_role: As) -> None:
        make_instance(
            world.account, "alpha", region="us-east", memory_used=5, version="7.0.1", edition="redis"
        )
        make_instance(world.account, "beta", region="us-east", memory_used=9, compatible_version="8.1")
        client = as_role("viewer")

        def names(query: str) -> list[str]:
            return [row.name for row in client.get(f"/instances/?{query}").context["listing"].rows]

        assert names("") == ["alpha", "beta", "sessions"]
        assert names("sort=-name") == ["sessions", "beta", "alpha"]
        assert names("region=us-east&sort=-memory") == ["beta", "alpha"]
        assert names("version=8.1") == ["beta"]
        assert names("edition=redis&status=online&role=master") == ["alpha"]
        assert names("q=BETA.internal") == ["beta"]
        assert names("q=us&region=nowhere") == []
        assert names("sort=password&page=zero") == ["alpha", "beta", "sessions"]

    def test_fragment(self, world: World, as_role: As) -> None:
        response = as_role("viewer").get("/instances/", headers=HTMX)
        assert "<html" not in text(response)
        assert "HX-Request" in response.headers["Vary"]
        whole = as_role("viewer").get("/instances/", headers=HTMX | {"HX-History-Restore-Request": "true"})
        assert "<html" in text(whole)

    def test_queries_do_not_grow_with_the_rows(
        self, world: World, as_role: As, django_assert_num_queries: DjangoAssertNumQueries
    ) -> None:
        client = as_role("viewer")
        client.get("/instances/")  # the session learns the time zone
        with django_assert_num_queries(11):
            client.get("/instances/")
        for number in range(30):
            make_instance(world.account, f"i{number}", region=f"r{number}")
        with django_assert_num_queries(11):
            response = client.get("/instances/?sort=region")
        assert response.context["listing"].page.paginator.num_pages == 2
        assert 'href="/instances/?sort=region&amp;page=2"' in text(response)
        assert '<input type="hidden" name="sort" value="region" form="list-filter">' in text(response)

    def test_empty_states_tell_what_to_do(self, world: World, as_role: As) -> None:
        assert "Show all instances" in text(as_role("viewer").get("/instances/?q=nothing-like-it"))
        Instance.objects.all().delete()
        assert reverse("instance_register") in text(as_role("operator").get("/instances/"))
        assert "owner or operator" in text(as_role("viewer").get("/instances/"))


class TestRegister:
    def data(self, world: World, **changes: str) -> dict[str, str]:
        base = {"name": "new", "account": world.account.public_id, "address": "new.internal:7000"}
        return base | {"password": PASSWORD, "tls_verify": "on"} | changes

    def test_registers(self, world: World, as_role: As, answers: list[EndpointParams]) -> None:
        response = as_role("operator").post("/instances/register/", self.data(world, tls="on"), follow=True)
        instance = Instance.objects.get(name="new")
        assert response.redirect_chain[-1][0] == instance.get_absolute_url()
        assert "new was registered: Valkey 9.1.2, 7 keys." in text(response)
        assert (instance.endpoint.host, instance.endpoint.port, instance.endpoint.tls) == (
            "new.internal",
            7000,
            True,
        )

    def test_wrong_account(self, world: World, as_role: As, answers: list[EndpointParams]) -> None:
        response = as_role("outsider").post("/instances/register/", self.data(world))
        assert response.status_code == 422
        assert not Instance.objects.filter(name="new").exists()
        assert not answers

    @pytest.mark.parametrize(
        ("address", "message"),
        [
            ("host:0", "0 is not a port"),
            ("host:65536", "65536 is not a port"),
            ("host:http", "http is not a port"),
            ("host:", "An empty text is not a port"),
            ("redis://host:1", "without redis://"),
            ("2001:db8::1", "in brackets"),
            ("[2001:db8::x]:1", "IPv6"),
            ("bad host", "host name"),
            ("/" + "x" * 120, "107 characters"),
            ("", "required"),
        ],
    )
    def test_addresses(
        self, address: str, message: str, world: World, as_role: As, answers: list[EndpointParams]
    ) -> None:
        response = as_role("operator").post("/instances/register/", self.data(world, address=address))
        assert response.status_code == 422
        assert message in text(response)
        assert not answers

    @pytest.mark.parametrize(
        ("address", "expected"),
        [
            ("cache", ("cache", 6379, "")),
            ("10.0.0.1:1", ("10.0.0.1", 1, "")),
            ("[fd00::1]:7", ("fd00::1", 7, "")),
            ("[fd00::1]", ("fd00::1", 6379, "")),
            ("unix:///run/redis.sock", ("", 0, "/run/redis.sock")),
        ],
    )
    def test_forms_of_address(
        self,
        address: str,
        expected: tuple[str, int, str],
        world: World,
        as_role: As,
        answers: list[EndpointParams],
    ) -> None:
        as_role("operator").post("/instances/register/", self.data(world, address=address))
        endpoint = Instance.objects.get(name="new").endpoint
        assert (endpoint.host, endpoint.port, endpoint.unix_path) == expected

    def test_a_refusal_stands_at_its_field(
        self, world: World, as_role: As, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def probe(params: EndpointParams) -> None:
            raise errors.WrongPassword()

        monkeypatch.setattr("portal.services.instances.probe", probe)
        response = as_role("operator").post("/instances/register/", self.data(world))
        assert response.status_code == 422
        assert list(response.context["form"].errors) == ["password"]
        assert 'id="id_password_error"' in text(response)

    def test_test_connection(self, world: World, as_role: As, answers: list[EndpointParams]) -> None:
        data = self.data(world, test="1", name="")
        before = set(Instance.objects.values_list("pk", flat=True))
        page = as_role("operator").post("/instances/register/", data)
        assert "<html" in text(page)
        assert "Valkey 9.1.2, master, 7 keys" in text(page)
        fragment = as_role("operator").post("/instances/register/", data, headers=HTMX)
        assert text(fragment).lstrip().startswith('<div class="notice tone-success"')
        assert not Instance.objects.exclude(pk__in=before).exists()

    def test_a_viewer_cannot_make_the_server_connect(
        self, world: World, as_role: As, answers: list[EndpointParams]
    ) -> None:
        data = self.data(world, test="1", account="")
        response = as_role("viewer").post("/instances/register/", data, headers=HTMX)
        assert "Your role does not allow this" in text(response)
        assert not answers


class TestDetail:
    def test_shows_what_was_detected(self, world: World, as_role: As) -> None:
        html = text(as_role("viewer").get(world.instance.get_absolute_url()))
        for expected in ("Valkey 9.1.2", "sessions.internal:6379", "DB 0", "eu-central", "stored, encrypted"):
            assert expected in html
        assert "Edit" not in html  # a viewer changes nothing
        assert "IP address" not in html

    def test_raw_ip(self, world: World, as_role: As) -> None:
        instance = make_instance(world.account, "ip", host="10.0.0.7")
        assert "The endpoint is an IP address." in text(as_role("viewer").get(instance.get_absolute_url()))

    def test_wrong_account(self, world: World, as_role: As) -> None:
        response = as_role("outsider").get(world.instance.get_absolute_url())
        assert response.status_code == 404
        missing = as_role("outsider").get("/instances/r-aaaaaaaa/")
        assert text(missing) == text(response)  # nothing tells whether it exists


class TestRefresh:
    def test_page_and_fragment(self, world: World, as_role: As, answers: list[EndpointParams]) -> None:
        url = reverse("instance_refresh", args=[world.instance.public_id])
        assert as_role("operator").post(url).headers["Location"] == world.instance.get_absolute_url()
        assert "<html" not in text(as_role("operator").post(url, headers=HTMX))
        assert answers[0].password == PASSWORD

    def test_wrong_account(self, world: World, as_role: As, answers: list[EndpointParams]) -> None:
        url = reverse("instance_refresh", args=[world.instance.public_id])
        assert as_role("outsider").post(url).status_code == 404
        assert as_role("viewer").post(url).status_code == 403
        assert not answers


class TestEdit:
    def url(self, world: World) -> str:
        return reverse("instance_edit", args=[world.instance.public_id])

    def test_an_empty_password_keeps_it(
        self, world: World, as_role: As, answers: list[EndpointParams]
    ) -> None:
        data = {"name": "renamed", "address": "sessions.internal:6379", "tls_verify": "on"}
        assert as_role("operator").post(self.url(world), data).status_code == 302
        stored = Instance.objects.get(pk=world.instance.pk)
        assert stored.name == "renamed"
        assert stored.endpoint.password.reveal() == PASSWORD
        assert as_role("operator").post(self.url(world), data | {"clear_password": "on"}).status_code == 302
        assert not Instance.objects.get(pk=world.instance.pk).endpoint.password

    def test_a_proxy_is_entered_and_shown(self, world: World, as_role: As) -> None:
        data = {"name": "sessions", "address": "sessions.internal:6379", "tls_verify": "on"}
        response = as_role("operator").post(self.url(world), data | {"proxy_version": "2.8.3"})
        assert response.status_code == 302
        world.instance.refresh_from_db()
        assert world.instance.proxy_version == "2.8.3"
        assert "2.8.3" in text(as_role("viewer").get(world.instance.get_absolute_url()))
        assert 'value="2.8.3"' in as_role("operator").get(self.url(world)).content.decode()

    def test_a_new_address_asks_for_the_password(
        self, world: World, as_role: As, answers: list[EndpointParams]
    ) -> None:
        data = {"name": "sessions", "address": "elsewhere.internal", "tls_verify": "on"}
        response = as_role("operator").post(self.url(world), data)
        assert response.status_code == 422
        assert "Enter the password again" in text(response)
        tested = as_role("operator").post(self.url(world), data | {"test": "1"}, headers=HTMX)
        assert "Enter the password again" in text(tested)
        assert not answers

    def test_wrong_account(self, world: World, as_role: As, answers: list[EndpointParams]) -> None:
        data = {"name": "stolen", "address": "sessions.internal:6379"}
        assert as_role("outsider").post(self.url(world), data).status_code == 404
        assert not Instance.objects.filter(name="stolen").exists()


class TestDelete:
    def test_confirmation_then_deletion(self, world: World, as_role: As) -> None:
        url = reverse("instance_delete", args=[world.instance.public_id])
        assert "are not touched" in text(as_role("operator").get(url))
        assert Instance.objects.filter(pk=world.instance.pk).exists()
        assert as_role("operator").post(url).headers["Location"] == "/instances/"
        assert not Instance.objects.filter(pk=world.instance.pk).exists()

    def test_wrong_account(self, world: World, as_role: As) -> None:
        url = reverse("instance_delete", args=[world.instance.public_id])
        assert as_role("outsider").post(url).status_code == 404
        assert Instance.objects.filter(pk=world.instance.pk).exists()


class TestAccounts:
    def test_wrong_account(self, world: World, as_role: As) -> None:
        html = text(as_role("outsider").get("/accounts/"))
        assert "Search" in html
        assert "Payments" not in html
        membership = world.account.memberships.get(user=world.user("viewer"))
        for public_id in (world.account.public_id, world.other_account.public_id):
            # The second one names the own account and a membership of the other.
            url = reverse("account_member_change", args=[public_id, membership.pk])
            assert as_role("outsider").post(url, {"remove": "1"}).status_code == 404
        assert world.account.memberships.count() == 3

    def test_members(self, world: World, as_role: As) -> None:
        owner = as_role("owner")
        url = reverse("account_member_add", args=[world.account.public_id])
        response = owner.post(url, {"username": "nobody", "role": "viewer"})
        assert "There is no user named nobody" in text(response)
        assert owner.post(url, {"username": "outsider", "role": "viewer"}).status_code == 302
        membership = world.account.memberships.get(user=world.user("owner"))
        change = reverse("account_member_change", args=[world.account.public_id, membership.pk])
        assert "only owner" in text(owner.post(change, {"role": "viewer"}, follow=True))

    def test_leaving(self, world: World, as_role: As) -> None:
        world.account.memberships.filter(user=world.user("viewer")).update(role="owner")
        membership = world.account.memberships.get(user=world.user("viewer"))
        change = reverse("account_member_change", args=[world.account.public_id, membership.pk])
        assert as_role("viewer").post(change, {"remove": "1"}).headers["Location"] == "/accounts/"

    def test_name_taken(self, world: World, as_role: As) -> None:
        response = as_role("owner").post(world.account.get_absolute_url(), {"name": "Search"})
        assert response.status_code == 409
        assert Account.objects.get(pk=world.account.pk).name == "Payments"


class TestProfile:
    def test_times_in_the_readers_zone_and_utc(self, world: World, as_role: As) -> None:
        client = as_role("viewer")
        assert "UTC</span></time>" in text(client.get(world.instance.get_absolute_url()))
        response = client.post("/profile/", {"time_zone": "Asia/Tokyo", "theme": "dark"})
        assert response.cookies["theme"].value == "dark"
        assert UserProfile.objects.get().time_zone == "Asia/Tokyo"
        html = text(client.get(world.instance.get_absolute_url()))
        assert '<span class="zone">JST</span> <span class="utc">' in html
        assert 'data-bs-theme="dark"' in html
        # Another session of the same person learns it as well.
        assert "JST" in text(as_role("viewer").get(world.instance.get_absolute_url()))

    def test_refuses_what_is_no_zone(self, world: World, as_role: As) -> None:
        assert (
            as_role("viewer").post("/profile/", {"time_zone": "../etc", "theme": "auto"}).status_code == 422
        )

    def test_password(self, world: World, as_role: As) -> None:
        user = world.user("viewer")
        user.set_password("old-password-1")
        user.save()
        client = as_role("viewer")
        new = "a-better-password-2"
        data = {"old_password": "old-password-1", "new_password1": new, "new_password2": new}
        assert client.post("/profile/password/", data).status_code == 302
        assert client.get("/profile/").status_code == 200
        assert AuditEntry.objects.get().action == "user.password_changed"


class TestAuditLog:
    def test_rows_lead_to_what_stays(self, world: World, as_role: As) -> None:
        audit.record(world.user("owner"), "account.renamed", world.account)
        audit.record(world.user("owner"), "instance.changed", world.instance, at="2026-03-01T09:00:00+00:00")
        UserProfile.objects.create(user=world.user("viewer"), time_zone="Europe/Berlin")
        html = text(as_role("viewer").get("/audit/"))
        assert f'<a href="{world.account.get_absolute_url()}">Payments</a>' in html
        assert world.instance.get_absolute_url() not in html  # it may be deleted by now
        assert "2026-03-01 10:00 CET" in html

    def test_wrong_account(self, world: World, as_role: As) -> None:
        as_role("owner").post(reverse("instance_delete", args=[world.instance.public_id]))
        assert "instance.deleted" in text(as_role("viewer").get("/audit/"))
        assert "instance.deleted" not in text(as_role("outsider").get("/audit/"))


class TestHealth:
    def test_database_down(self, db: None, monkeypatch: pytest.MonkeyPatch) -> None:
        from django.db import DatabaseError

        def cursor() -> None:
            raise DatabaseError("gone")

        with monkeypatch.context() as patch:
            patch.setattr("portal.views.health.connection.cursor", cursor)
            response = Client().get("/healthz")
        assert (response.status_code, response.json()) == (503, {"status": "database unreachable"})


class TestErrorPages:
    def test_not_found(self, world: World) -> None:
        response = Client().get("/no/such/page/")
        assert response.status_code == 404
        assert "Not found" in text(response)

    def test_csrf(self, world: World) -> None:
        response = Client(enforce_csrf_checks=True).post("/login/", {"username": "x"})
        assert response.status_code == 403
        assert "The form has expired" in text(response)

    def test_server_error_needs_nothing(
        self, world: World, as_role: As, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*args: object, **kwargs: object) -> None:
            raise RuntimeError("internal detail")

        monkeypatch.setattr("portal.views.home.home_panels", broken)
        client = as_role("viewer")
        client.raise_request_exception = False
        response = client.get("/")
        assert response.status_code == 500
        assert "Something went wrong in Switchyard" in text(response)
        assert "internal detail" not in text(response)

    def test_programs_are_answered_with_json(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*args: object, **kwargs: object) -> None:
            raise RuntimeError("internal detail")

        client = Client(raise_request_exception=False)
        _, token = tokens.create_token(world.user("owner"), "tests", ["fleet:read"])
        headers = {"Authorization": f"Bearer {token}"}
        gone = client.get("/api/v1/nothing", headers=headers)
        large = client.put(
            f"/api/v1/instances/{world.instance.public_id}/maintenance-window",
            data=f'{{"time_zone": "{"x" * 3_000_000}"}}',
            content_type="application/json",
            headers=headers,
        )
        monkeypatch.setattr("portal.api.Instance.objects.visible_to", broken)
        defect = client.get("/api/v1/instances", headers=headers)
        found = [(one.status_code, one.json()["id"]) for one in (gone, large, defect)]
        assert found == [(404, "object.not_found"), (400, "input.unreadable"), (500, "error.internal")]
        assert all(set(one.json()) == {"id", "message", "advice", "field"} for one in (gone, large, defect))
        assert "internal detail" not in defect.content.decode()

    def test_bad_host(self, world: World) -> None:
        response = Client().get("/login/", headers={"host": "evil.example"})
        assert response.status_code == 400
        assert "could not be understood" in text(response)


@pytest.mark.parametrize(
    ("method", "path", "content"),
    [
        ("get", "/instances/?q=%00", None),
        ("get", "/instances/a%00b/", None),
        ("post", "/views/new/", ("application/x-www-form-urlencoded", "name=a%00b")),
        ("post", "/api/v1/migrations", ("application/json", '{"name": "\\u0000"}')),
    ],
)
def test_nul_has_no_place_in_a_request(
    as_role: Callable[[str], Client], method: str, path: str, content: tuple[str, str] | None
) -> None:
    sent = {"content_type": content[0], "data": content[1]} if content else {}
    assert getattr(as_role("owner"), method)(path, **sent).status_code == 400
