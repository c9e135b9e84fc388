"""Lists: search, filters, order by column, pages. All state is in the address, so a list can be sent to a colleague.

In a view:

    listing = Listing(
        request, Task.objects.visible_to(request.user).select_related("account"), columns=[Column("name",
        "Name", ("name",)), Column("status", "Status", ("status", "name")), Column("", "Actions")],
        filters=[Filter("status", "Status", "status", TaskStatus.choices), Filter("region", "Region",
        "source__region")], search=("name", "public_id"), default_sort="-created",
    )
    return render_page(request, "x/task_list.html", "x/_task_table.html", {"listing": listing})

In the page: `{% include "portal/_list_toolbar.html" with target="#tasks" noun="tasks" %}`, then the fragment
in `<div id="tasks">`, which holds `{% include "portal/_list_head.html" %}` as the table's head, the rows from
`listing.rows`, and `{% include "portal/_list_pages.html" with target="#tasks" %}` below the table.

A list costs one query for the count, one for the keys of the rows, one for the rows, and one for each filter whose choices are not
given. The keys are found first, alone: what a page shows of other tables is then joined to 25 rows, not to all that are sorted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import or_
from typing import Any
from urllib.parse import parse_qsl, urlencode

from django.contrib.auth import get_user_model
from django.core.paginator import Page, Paginator
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse

from portal import navigation
from portal.models import SavedView
from portal.services import saved_views

PAGE_SIZE = 25
MAX_KEYS = 20_000  # of what a search has found
MAX_SEARCH = 200  # characters; a longer text is cut, so that no address makes the database work for minutes


@dataclass(frozen=True)
class Column:
    key: str
    """Its name in the address (`?sort=-key`); "" for a column that cannot be sorted."""
    label: str
    order: tuple[str, ...] = ()
    """Fields to order by, ascending. The primary key follows by itself, so that pages do not overlap."""
    css: str = ""
    hidden_label: bool = False
    """The label is for assistive technology only (a column of buttons)."""


@dataclass(frozen=True)
class Filter:
    key: str
    label: str
    field: str
    """The exact lookup that the chosen value is compared with."""
    choices: Sequence[tuple[Any, Any]] | None = None
    """(value, label) pairs; None: the values that occur in the list."""
    where: Callable[[str], Q] | None = None
    """What a value means, where it is more than that one field has it; then `choices` are needed. An unknown value is ignored."""


@dataclass(frozen=True)
class Header:
    """A column as the table's head shows it."""

    column: Column
    url: str
    sorted: str
    """The value of aria-sort: "ascending", "descending", or "" for the others."""


@dataclass(frozen=True)
class FilterField:
    key: str
    label: str
    value: str
    choices: list[tuple[str, str]]


@dataclass(frozen=True)
class ViewEntry:
    """A saved view as the menu of its list shows it."""

    name: str
    url: str
    current: bool


@dataclass(frozen=True)
class ViewMenu:
    entries: list[ViewEntry]
    create_url: str


class Listing:
    def __init__(
        self,
        request: HttpRequest,
        queryset: QuerySet[Any],
        *,
        columns: Sequence[Column],
        filters: Sequence[Filter] = (),
        search: Sequence[str] = (),
        default_sort: str,
        page_size: int = PAGE_SIZE,
    ) -> None:
        self.path = request.path
        self._request = request
        self.columns = columns
        self.search_fields = search
        self.page_size = page_size
        self._all = queryset
        self._filters = filters
        self._number = request.GET.get("page", "1")
        self.query = request.GET.get("q", "").strip()[:MAX_SEARCH] if search else ""
        self.values = {each.key: value for each in filters if (value := request.GET.get(each.key, ""))}
        self._orders = {column.key: column.order for column in columns if column.key and column.order}
        self._default_sort = default_sort
        sort = request.GET.get("sort", default_sort)
        self.sort = sort if sort.removeprefix("-") in self._orders else default_sort

    @property
    def rows(self) -> list[Model]:
        return list(self.page.object_list)

    @property
    def is_narrowed(self) -> bool:
        """Whether a search or a filter is on: an empty list then says something else."""
        return bool(self.query or self.values)

    @property
    def is_sorted(self) -> bool:
        """Whether another order than the default was chosen: the filters then carry it along."""
        return self.sort != self._default_sort

    @cached_property
    def page(self) -> Page[Any]:
        """The page asked for; the nearest one for a number that does not exist."""
        rows: Any = _Rows(self.selected(), self._all, once=bool(self.query))
        return Paginator(rows, self.page_size).get_page(self._number)

    @cached_property
    def headers(self) -> list[Header]:
        return [self._header(column) for column in self.columns]

    @cached_property
    def filters(self) -> list[FilterField]:
        return [
            FilterField(each.key, each.label, self.values.get(each.key, ""), self._choices(each))
            for each in self._filters
        ]

    @property
    def clear_url(self) -> str:
        """The whole list, in the order that was chosen."""
        return self._url({"sort": self.sort} if self.is_sorted else {})

    @property
    def previous_url(self) -> str:
        return self.url(page=self.page.previous_page_number()) if self.page.has_previous() else ""

    @property
    def next_url(self) -> str:
        return self.url(page=self.page.next_page_number()) if self.page.has_next() else ""

    @cached_property
    def pages(self) -> list[tuple[str, str, bool]]:
        """(text, address, is this page); address "" for an ellipsis."""
        numbers = self.page.paginator.get_elided_page_range(self.page.number, on_each_side=2, on_ends=1)
        return [
            (
                str(number),
                self.url(page=number) if isinstance(number, int) else "",
                number == self.page.number,
            )
            for number in numbers
        ]

    @cached_property
    def saved_views(self) -> ViewMenu | None:
        """The views that the person has saved of this list (one query); None where none can be saved."""
        match = self._request.resolver_match
        name = match.url_name if match is not None and not match.kwargs else None
        if not name or not navigation.list_label(name):
            return None
        user = self._request.user
        if not isinstance(user, get_user_model()):
            return None
        now = saved_views.cleaned(self.url(page=None).partition("?")[2])
        rows = SavedView.objects.filter(user=user, page=name).values_list("name", "query")
        entries = [
            ViewEntry(label, f"{self.path}?{query}" if query else self.path, _same(query, now))
            for label, query in rows
        ]
        create = f"{reverse('saved_view_create')}?{urlencode({'list': name, 'query': now})}"
        return ViewMenu(entries, create)

    def url(self, **changes: Any) -> str:
        """This list with other values of `q`, `sort`, `page` or a filter; None takes one away."""
        state: dict[str, Any] = {"q": self.query or None, **self.values}
        state["sort"] = self.sort if self.is_sorted else None
        return self._url({key: value for key, value in (state | changes).items() if value is not None})

    def _url(self, state: dict[str, Any]) -> str:
        return f"{self.path}?{urlencode(state)}" if state else self.path

    def selected(self) -> QuerySet[Any]:
        """Every row that the search and the filters leave, in order: for exports and for what is done to all of them."""
        rows = self._all
        for each in self._filters:
            if each.key not in self.values:
                continue
            value = self.values[each.key]
            if each.where is None:
                rows = rows.filter(**{each.field: value})
            elif value in {str(known) for known, _ in each.choices or ()}:
                rows = rows.filter(each.where(value))
        for word in self.query.split():
            rows = rows.filter(
                reduce(or_, (Q(**{f"{field}__icontains": word}) for field in self.search_fields))
            )
        descending = self.sort.startswith("-")
        order = [*self._orders[self.sort.removeprefix("-")], "pk"]
        return rows.order_by(*(_reversed(field) if descending else field for field in order))

    def _header(self, column: Column) -> Header:
        if column.key not in self._orders:
            return Header(column, "", "")
        if self.sort.removeprefix("-") != column.key:
            return Header(column, self.url(sort=column.key), "")
        is_descending = self.sort.startswith("-")
        other = column.key if is_descending else f"-{column.key}"
        return Header(column, self.url(sort=other), "descending" if is_descending else "ascending")

    def _choices(self, each: Filter) -> list[tuple[str, str]]:
        if each.choices is not None:
            return [(str(value), str(label)) for value, label in each.choices]
        values = self._all.order_by(each.field).values_list(each.field, flat=True).distinct()
        return [(str(value), str(value)) for value in values if value not in (None, "")]


class _Rows:
    """What a Paginator takes: counts `selected`, and fetches a slice of it as rows of `everything`.

    `once`: what is looked for is dear to find, so it is found once, with all of its keys, up to MAX_KEYS of them.
    """

    def __init__(self, selected: QuerySet[Any], everything: QuerySet[Any], *, once: bool) -> None:
        self._selected = selected
        self._everything = everything
        self._once = once

    @cached_property
    def _keys(self) -> list[Any] | None:
        if not self._once:
            return None
        keys = list(self._selected.values_list("pk", flat=True)[: MAX_KEYS + 1])
        return keys if len(keys) <= MAX_KEYS else None

    def count(self) -> int:
        return self._selected.count() if self._keys is None else len(self._keys)

    def __len__(self) -> int:
        return self.count()

    def __getitem__(self, part: slice) -> list[Any]:
        keys = (
            self._keys[part] if self._keys is not None else self._selected.values_list("pk", flat=True)[part]
        )
        place = {key: number for number, key in enumerate(keys)}
        if not place:
            return []
        found = self._everything.filter(pk__in=list(place)).order_by()
        return sorted(found, key=lambda row: place[row.pk])


def _same(query: str, other: str) -> bool:
    return sorted(parse_qsl(query)) == sorted(parse_qsl(other))


def _reversed(field: str) -> str:
    return field.removeprefix("-") if field.startswith("-") else f"-{field}"
