"""Saved views: what is kept of a list, under which names, for whom."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.test import Client
from django.urls import reverse

from portal.errors import Conflict, Invalid, NotFound, ServiceError
from portal.models import SavedView
from portal.services import saved_views
from tests.portal.world import World

LIST = "/instances/"


def test_saved_applied_renamed_and_deleted(world: World, as_role: Callable[[str], Client]) -> None:
    client = as_role("viewer")
    left = f"http://testserver{LIST}?q=sess&status=online&sort=-name&page=2"
    # With htmx the address of the list has changed since the link on it was drawn.
    question = client.get(
        reverse("saved_view_create"), {"list": "instance_list", "query": "q=old"}, headers={"Referer": left}
    ).content.decode()
    assert 'value="q=sess&amp;status=online&amp;sort=-name"' in question
    sent = {"list": "instance_list", "name": " Online  sessions ", "query": "q=sess&status=online&page=2"}
    response = client.post(reverse("saved_view_create"), sent)
    assert response.headers["Location"] == f"{LIST}?q=sess&status=online"
    page = client.get(response.headers["Location"]).content.decode()
    assert "Online sessions</a>" in page
    assert f'href="{LIST}?q=sess&amp;status=online" aria-current="true"' in page
    assert "Online sessions" not in as_role("owner").get(LIST).content.decode()
    view = SavedView.objects.get()
    change = reverse("saved_view_change", args=[view.pk])
    client.post(change, {"name": "Renamed"})
    assert "Renamed" in client.get(reverse("saved_view_list")).content.decode()
    assert as_role("owner").post(change, {"remove": "1"}).status_code == 404
    client.post(change, {"remove": "1"})
    assert not SavedView.objects.exists()


def test_without_a_referrer_the_link_says_what_is_saved(
    world: World, as_role: Callable[[str], Client]
) -> None:
    page = as_role("viewer").get(LIST, {"q": "sess", "page": "3"}).content.decode()
    link = f"{reverse('saved_view_create')}?list=instance_list&amp;query=q%3Dsess"
    assert link in page
    question = as_role("viewer").get(link.replace("&amp;", "&")).content.decode()
    assert 'name="query" value="q=sess"' in question


def test_htmx_gets_the_list_without_the_menu(world: World, as_role: Callable[[str], Client]) -> None:
    fragment = as_role("viewer").get(LIST, headers={"HX-Request": "true"}).content.decode()
    assert "Save this view" not in fragment


@pytest.mark.parametrize(
    ("page", "name", "query", "refusal"),
    [
        ("instance_list", "  ", "", "view.bad_name"),
        ("instance_list", "x" * 81, "", "view.bad_name"),
        ("instance_detail", "x", "", "view.bad_list"),
        ("account_detail", "x", "", "view.bad_list"),
        ("instance_list", "x", "q=" + "y" * 1001, "view.too_long"),
    ],
)
def test_refusals(world: World, page: str, name: str, query: str, refusal: str) -> None:
    with pytest.raises(Invalid) as raised:
        saved_views.save_view(world.user("viewer"), page, name, query)
    assert raised.value.id == refusal
    assert not SavedView.objects.exists()


def test_names_are_given_once_a_person_and_list(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    viewer = world.user("viewer")
    first = saved_views.save_view(viewer, "instance_list", "Mine", "")
    second = saved_views.save_view(viewer, "instance_list", "Other", "")
    for call in (
        lambda: saved_views.save_view(viewer, "instance_list", "Mine", "q=x"),
        lambda: saved_views.rename_view(viewer, second.pk, "Mine"),
    ):
        with pytest.raises(Conflict) as raised:
            call()
        assert raised.value.id == "view.name_taken"
    saved_views.save_view(viewer, "audit_list", "Mine", "")
    saved_views.save_view(world.user("owner"), "instance_list", "Mine", "")
    for call in (
        lambda: saved_views.rename_view(world.user("owner"), first.pk, "Stolen"),
        lambda: saved_views.delete_view(world.user("owner"), first.pk),
    ):
        with pytest.raises(NotFound):
            call()
    monkeypatch.setattr(saved_views, "MOST", 2)
    with pytest.raises(ServiceError) as refused:
        saved_views.save_view(viewer, "instance_list", "Third", "")
    assert refused.value.id == "view.too_many"


def test_what_is_kept_of_an_address() -> None:
    assert saved_views.cleaned("?q=a+b&page=4&status=&x=%C3%A9&x=2") == "q=a+b&x=%C3%A9&x=2"
    assert saved_views.cleaned("") == ""
