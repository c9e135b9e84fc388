"""Which instances an event is published for: a list, or all that fit a filter; and where events are searched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from django.db.models import Q

from portal.choices import Edition
from portal.errors import Invalid, NotFound
from portal.models import Account, Instance
from portal.models.instances import InstanceQuerySet

NOTHING: Final = "Nothing was published."
MOST: Final = 10_000
SEARCH: Final = (
    "instance_name",
    "instance_public_id",
    "public_id",
    "type__name",
    "campaign__name",
    "campaign__public_id",
)
"""Where words that are searched for are found, of events."""


@dataclass(frozen=True, slots=True)
class Selection:
    """All instances of the fleet for which everything holds that is given."""

    edition: str = ""
    version: str = ""
    """In whole parts: 6.2 is 6.2 and 6.2.14, not 6.20."""
    region: str = ""
    account: str = ""
    """ID or name of the account."""
    name: str = ""
    """Part of the name or of the ID of the instance."""
    proxy: bool = False
    """Only those that have a proxy."""
    everything: bool = False
    """All of the fleet: said, so that a form that was sent empty, or a condition that was forgotten, is not taken for it."""

    @property
    def words(self) -> list[str]:
        """For people: what is asked for, one condition each."""
        found = []
        product = f"{Edition(self.edition).label} " if self.edition in Edition.values else ""
        if product or self.version:
            found.append(f"{product}{self.version}".strip())
        if self.region:
            found.append(f"region {self.region}")
        if self.account:
            found.append(f"account {self.account}")
        if self.name:
            found.append(f"name with “{self.name}”")
        if self.proxy:
            found.append("with a proxy")
        return found or ["all instances"]

    def values(self) -> dict[str, Any]:
        """What is given, as JSON."""
        return {name: value for name, value in asdict(self).items() if value}

    def rows(self) -> InstanceQuerySet:
        rows = Instance.objects.fleet()
        if self.edition:
            rows = rows.filter(edition=self.edition)
        if version := self.version.strip().rstrip("."):
            rows = rows.filter(Q(version=version) | Q(version__startswith=f"{version}."))
        if self.region:
            rows = rows.filter(region=self.region)
        if self.account:
            rows = rows.filter(Q(account__public_id=self.account) | Q(account__name=self.account))
        for word in self.name.split():
            rows = rows.filter(Q(name__icontains=word) | Q(public_id__icontains=word))
        if self.proxy:
            rows = rows.exclude(proxy_version="")
        return rows.order_by("name", "pk")


FILTERS: Final = tuple(one.name for one in fields(Selection) if one.name != "everything")
"""The conditions."""
Chosen = Selection | Sequence[str]
"""A filter, or the IDs of instances in the order in which they are switched over."""


def keys_of(chosen: Chosen, account: Account | None = None) -> list[tuple[int, str]]:
    """Primary key and region of each instance, in their order. `account`: only of this one.

    Raises NotFound for an ID that is not there, Invalid (`event.no_condition`, `event.no_instance`, `event.too_many`).
    """
    found = _of_filter(chosen, account) if isinstance(chosen, Selection) else _of_list(chosen, account)
    if not found:
        raise Invalid(
            f"No instance is chosen, or none fits the filter. {NOTHING}",
            advice="Name instances, or a filter that some instance fits.",
            id="event.no_instance",
            field="instances",
        )
    if len(found) > MOST:
        raise Invalid(
            f"These are {len(found):,} instances, and one publication reaches {MOST:,} at most. {NOTHING}",
            advice="Narrow the filter, for example to a region at a time.",
            id="event.too_many",
            field="instances",
        )
    return found


def _of_filter(selection: Selection, account: Account | None) -> list[tuple[int, str]]:
    if not selection.values():
        raise Invalid(
            f"The filter has no condition. {NOTHING}",
            advice="Name a condition, or say that all instances are meant.",
            id="event.no_condition",
            field="instances",
        )
    rows = selection.rows()
    if account is not None:
        rows = rows.filter(account=account)
    return list(rows.values_list("pk", "region")[: MOST + 1])


def _of_list(ids: Sequence[str], account: Account | None) -> list[tuple[int, str]]:
    wanted = list(dict.fromkeys(ids))
    there: dict[str, tuple[int, str]] = {}
    for begin in range(0, len(wanted), 1000):
        rows = Instance.objects.fleet().filter(public_id__in=wanted[begin : begin + 1000])
        if account is not None:
            rows = rows.filter(account=account)
        there |= {name: (pk, region) for name, pk, region in rows.values_list("public_id", "pk", "region")}
    missing = [name for name in wanted if name not in there]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise NotFound(
            f"There is no instance {', '.join(missing[:3])}{more}. {NOTHING}",
            advice="Name instances by their IDs, such as r-7k2m9qwe.",
            id="event.no_instance",
            field="instances",
        )
    return [there[name] for name in wanted]
