"""Many rows updated in one statement, each with values of its own."""

from __future__ import annotations

from datetime import UTC, datetime

from django.db import connection
from django.test.utils import CaptureQueriesContext

from portal.many import update_many
from portal.models import Account, Instance
from tests.events.test_concurrency import shared  # noqa: F401 - a fixture: SQLite and PostgreSQL
from tests.portal.world import World


def test_each_row_gets_its_own_values(shared: World) -> None:  # noqa: F811
    """Texts, numbers, moments, JSON, foreign keys, and columns of nothing but NULL."""
    untouched = Instance.objects.get(pk=shared.instance.pk)
    made = Instance.objects.bulk_create(
        Instance(account=shared.account, name=f"many-{number}") for number in range(1500)
    )
    moment = datetime(2026, 3, 29, 1, 30, 0, 123456, tzinfo=UTC)
    for number, row in enumerate(made):
        row.name = f'o\'Neill %s "{number}"'
        row.memory_used = number if number % 2 else None
        row.checked_at = moment
        row.databases = [{"index": number}]
        row.last_error = "not written"
        row.account = shared.other_account
    with CaptureQueriesContext(connection) as queries:
        update_many(made, ["name", "memory_used", "checked_at", "databases", "account"])
    assert len(queries) == 2
    for number, row in enumerate(Instance.objects.filter(pk__in=[one.pk for one in made]).order_by("pk")):
        assert row.name == f'o\'Neill %s "{number}"'
        assert row.memory_used == (number if number % 2 else None)
        assert (row.checked_at, row.databases, row.last_error) == (moment, [{"index": number}], "")
        assert row.account_id == shared.other_account.pk
    for row in made:
        row.checked_at = row.memory_used = None
    update_many(made, ["checked_at", "memory_used"])
    assert Instance.objects.filter(checked_at__isnull=True, name__startswith="o'Neill").count() == 1500
    assert Instance.objects.get(pk=untouched.pk).name == untouched.name


def test_of_no_rows_nothing(shared: World) -> None:  # noqa: F811
    update_many([], ["name"])
    assert Account.objects.exists()
