"""Views of lists that a person has saved: search, filters and order under a name. They are the person's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, urlencode

from django.db import IntegrityError, transaction

from portal import navigation
from portal.errors import Conflict, Invalid, NotFound
from portal.models import SavedView

if TYPE_CHECKING:
    from django.contrib.auth.models import User

MOST: Final = 50  # of one list
QUERY_LIMIT: Final = 1000
NAME_LIMIT: Final = 80
NOT_SAVED: Final = "Nothing was saved."


def cleaned(query: str) -> str:
    """What of a query belongs to the view: not the number of the page, and nothing that is empty."""
    pairs = parse_qsl(query.lstrip("?")[: QUERY_LIMIT * 4], max_num_fields=100)
    return urlencode([(key, value) for key, value in pairs if key != "page" and value])


def save_view(user: User, page: str, name: str, query: str) -> SavedView:
    """Raises Invalid (`view.bad_list`, `view.bad_name`, `view.too_long`) and Conflict (`view.name_taken`, `view.too_many`)."""
    if not navigation.list_label(page):
        raise Invalid(f"There is no such list. {NOT_SAVED}", id="view.bad_list")
    name = _name(name)
    query = cleaned(query)
    if len(query) > QUERY_LIMIT:
        raise Invalid(
            f"The search and the filters are too long to be saved. {NOT_SAVED}",
            advice="Shorten the search.",
            id="view.too_long",
        )
    if SavedView.objects.filter(user=user, page=page).count() >= MOST:
        raise Conflict(
            f"You have {MOST} views of this list already. {NOT_SAVED}",
            advice="Delete one that you do not need any more.",
            id="view.too_many",
        )
    try:
        with transaction.atomic():
            return SavedView.objects.create(user=user, page=page, name=name, query=query)
    except IntegrityError as error:
        raise _taken(name) from error


def rename_view(user: User, view_id: int, name: str) -> SavedView:
    """Raises NotFound, Invalid, Conflict."""
    view = _own(user, view_id)
    name = _name(name)
    try:
        with transaction.atomic():
            SavedView.objects.filter(pk=view.pk).update(name=name)
    except IntegrityError as error:
        raise _taken(name) from error
    view.name = name
    return view


def delete_view(user: User, view_id: int) -> SavedView:
    """Returns what was deleted. Raises NotFound."""
    view = _own(user, view_id)
    SavedView.objects.filter(pk=view.pk).delete()
    return view


def _own(user: User, view_id: int) -> SavedView:
    view = SavedView.objects.filter(user=user, pk=view_id).first()
    if view is None:
        raise NotFound("You have no such view.")
    return view


def _name(name: str) -> str:
    name = " ".join(name.split())
    if not name or len(name) > NAME_LIMIT:
        raise Invalid(
            f"A view needs a name of up to {NAME_LIMIT} characters. {NOT_SAVED}",
            advice="For example “Failed in eu-central”.",
            id="view.bad_name",
            field="name",
        )
    return name


def _taken(name: str) -> Conflict:
    return Conflict(
        f"You have a view named {name} of this list already. {NOT_SAVED}",
        advice="Choose another name, or delete the other one first.",
        id="view.name_taken",
        field="name",
    )
