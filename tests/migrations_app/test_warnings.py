"""What each combination of settings warns of, as a table. Rows of the database are not needed: nothing is saved."""

from __future__ import annotations

from typing import Any

import pytest

from migrations_app.choices import ConflictPolicy, Method, Phases, Severity, SpeedClass
from migrations_app.models import MigrationTask
from migrations_app.services.warnings import Risk, warnings
from portal.choices import Architecture, Edition, EndpointKind, NodeRole
from portal.models import Account, Endpoint, Instance

FULL, BOTH = Phases.FULL, Phases.FULL_INCREMENTAL
PSYNC, SCAN, FILE = Method.PSYNC, Method.SCAN, Method.FILE


def side(name: str, **values: Any) -> Instance:
    endpoint = {key: values.pop(key) for key in ("kind", "host", "file_path") if key in values}
    standard = {"edition": Edition.REDIS, "compatible_version": "7.0", "version": "7.0.15", "architecture": Architecture.STANDARD, "role": NodeRole.MASTER}  # fmt: skip
    instance = Instance(name=name, **(standard | values))
    instance.endpoint = Endpoint(**({"host": f"{name}.internal"} | endpoint))
    return instance


def task(source: dict[str, Any] | None = None, target: dict[str, Any] | None = None, **settings: Any) -> MigrationTask:  # fmt: skip
    made = MigrationTask(account=Account(name="a"), **settings)
    made.source, made.target = side("orders", **(source or {})), side("orders-new", **(target or {}))
    return made


def of(found: list[Risk], text: str) -> bool:
    return any(text in risk.text for risk in found)


# Requirement, settings, id, whether it is there.
SETTINGS: list[tuple[str, dict[str, Any], str, bool]] = [
    ("R46 R109 R120", {"phases": FULL}, "full-only", True),
    ("R46 R109 R120", {"phases": BOTH}, "full-only", False),
    ("a file cannot be written to", {"phases": FULL, "method": FILE}, "full-only", False),
    ("R55 R56", {"phases": BOTH}, "stop-before-switch", True),
    ("R55 R56", {"phases": FULL}, "stop-before-switch", False),
    ("R111", {"phases": BOTH}, "until-stopped", True),
    ("R43 R44 R45", {"phases": BOTH}, "backlog", True),
    ("R43 R44 R45", {"phases": BOTH, "method": SCAN}, "backlog", False),
    ("R98", {"method": SCAN}, "scan", True),
    ("R98", {"method": PSYNC}, "scan", False),
    ("R76", {"conflict": ConflictPolicy.KEEP}, "keep", True),
    ("R76", {"conflict": ConflictPolicy.FAIL}, "keep", False),
    ("R102", {"conflict": ConflictPolicy.OVERWRITE}, "overwrite", True),
    ("R102", {"conflict": ConflictPolicy.FAIL}, "overwrite", False),
    ("R77", {"databases": [0, 3]}, "databases", True),
    ("R77", {"databases": None}, "databases", False),
    ("R79", {"commands": {"": {"without": ["@stream"]}}}, "commands", True),
    ("R79", {"commands": {"": {"without": ["@stream"]}}, "phases": FULL}, "commands", False),
    ("R60", {"heartbeat": True}, "heartbeat", True),
    ("R59", {"heartbeat": True}, "no-heartbeat", False),
    ("R59", {"heartbeat": False}, "no-heartbeat", True),
    ("R59", {"heartbeat": False, "phases": FULL}, "no-heartbeat", False),
    ("R81", {"retry_minutes": 30}, "short-retry", True),
    ("R81", {"retry_minutes": 31}, "short-retry", False),
    ("R83", {"phases": BOTH}, "holds-slot", True),
    ("R89", {"speed_class": SpeedClass.SMALL}, "speed", True),
    ("R89", {"speed_hours": [{"from": "08:00", "to": "20:00", "class": "small"}]}, "speed", True),
    ("R89", {"speed_class": SpeedClass.UNLIMITED}, "speed", False),
    ("R80", {"alerts": False}, "no-alerts", True),
    ("R80", {"alerts": True}, "no-alerts", False),
]


@pytest.mark.parametrize(
    ("settings", "id", "there"), [row[1:] for row in SETTINGS], ids=[f"{number}-{row[2]}-{row[3]}" for number, row in enumerate(SETTINGS)]
)  # fmt: skip
def test_settings(settings: dict[str, Any], id: str, there: bool) -> None:
    assert (id in {risk.id for risk in warnings(task(**settings))}) is there


SIDES: list[tuple[str, dict[str, Any], dict[str, Any], str, bool]] = [
    ("R16", {"host": "10.0.0.7"}, {}, "source is given by an IP address", True),
    ("R16", {}, {"host": "10.0.0.7"}, "target is given by an IP address", True),
    ("R16", {}, {}, "is given by an IP address", False),
    ("R42 R53 R97", {}, {}, "loaded as by a new replica", True),
    ("R48", {}, {"eviction_policy": "allkeys-lru"}, "allkeys-lru", True),
    ("R48", {}, {"eviction_policy": "noeviction"}, "evicts keys", False),
    ("R49", {}, {}, "results are not reported", True),
    ("R51", {}, {}, "Expired keys", True),
    ("R52", {"compatible_version": "7.0"}, {"compatible_version": "6.2"}, "is older", True),
    ("R52", {"compatible_version": "6.2"}, {"compatible_version": "7.0"}, "is older", False),
    ("R54", {}, {}, "fragmentation", True),
    ("R57", {}, {}, "address and port", True),
    ("R58", {}, {}, "failover", True),
    ("R99", {}, {"architecture": Architecture.CLUSTER}, "database 0 only", True),
    ("a file", {"kind": EndpointKind.FILE, "file_path": "/x.rdb"}, {}, "A snapshot file has no changes", True),
]  # fmt: skip


@pytest.mark.parametrize(
    ("source", "target", "text", "there"), [row[1:] for row in SIDES], ids=[f"{number}-{row[0]}" for number, row in enumerate(SIDES)]
)  # fmt: skip
def test_sides(source: dict[str, Any], target: dict[str, Any], text: str, there: bool) -> None:
    assert of(warnings(task(source, target)), text) is there


def test_the_address_of_another_accounts_server_is_not_told() -> None:
    made = task({"host": "10.0.0.7"})
    assert of(warnings(made), "10.0.0.7")
    assert made.source is not None
    made.source.account = Account(pk=7, name="b")
    assert not of(warnings(made), "10.0.0.7")


def test_warnings_come_first_and_ids_are_unique() -> None:
    found = warnings(task(phases=FULL, conflict=ConflictPolicy.OVERWRITE, commands={"3": {"only": ["SET"]}}))
    severities = [risk.severity for risk in found]
    assert severities == sorted(severities, key=lambda severity: severity != Severity.WARNING)
    assert len({risk.id for risk in found}) == len(found)


def test_what_takes_effect_counts_not_what_was_set() -> None:
    assert of(warnings(task(retry_minutes=120), retry_minutes=20), "lost for 20 minutes")


def test_the_workers_address_is_named_where_it_is_known() -> None:
    assert of(warnings(task(), worker_ip="192.0.2.9"), "connects from 192.0.2.9")
    assert not of(warnings(task()), "connects from")
