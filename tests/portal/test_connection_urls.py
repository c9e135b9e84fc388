"""Connections written as URLs."""

from __future__ import annotations

from typing import Any

import pytest

from portal.choices import EndpointKind
from portal.errors import Invalid
from portal.services.connection_urls import params_of_url


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://cache.internal", {"host": "cache.internal", "port": 6379, "tls": False}),
        ("redis://:s%2Fcret@10.0.0.1:6380/", {"host": "10.0.0.1", "port": 6380, "username": "", "password": "s/cret"}),
        ("redis://app:p%40ss@[::1]:7000", {"host": "::1", "port": 7000, "username": "app", "password": "p@ss"}),
        (
            "rediss://cache.internal:6390?verify=no&server_name=cache",
            {"tls": True, "tls_verify": False, "tls_server_name": "cache"},
        ),
        ("unix://app:x@/run/re%20dis.sock", {"unix_path": "/run/re dis.sock", "username": "app", "password": "x"}),
        ("rdb:///srv/dump%201.rdb", {"kind": EndpointKind.FILE, "file_path": "/srv/dump 1.rdb"}),
        (
            "sentinels://app:x@a,b:26380/main?sentinel_user=u&sentinel_password=p%26w&sentinel_tls=no",
            {
                "kind": EndpointKind.SENTINEL, "sentinels": ("a:26379", "b:26380"), "master_name": "main", "tls": True,
                "sentinel_tls": False, "sentinel_username": "u", "sentinel_password": "p&w", "username": "app", "password": "x",
            },
        ),
    ],
)  # fmt: skip
def test_what_is_read(url: str, expected: dict[str, Any]) -> None:
    params = params_of_url(url)
    assert {name: getattr(params, name) for name in expected} == expected


@pytest.mark.parametrize(
    "url",
    [
        "", "cache.internal:6379", "http://cache", "redis://", "redis://cache:port", "redis://cache:99999", "redis://cache/3",
        "redis://cache?verify=no", "rediss://cache?verify=perhaps", "rediss://cache?colour=red", "redis://u:se#cret@cache",
        "redis://u:se/cret@cache", "unix://", "rdb://dump.rdb", "sentinel:///main", "sentinel://a", "sentinel://a/main?verify=no",
    ],
)  # fmt: skip
def test_what_is_refused(url: str) -> None:
    with pytest.raises(Invalid) as refusal:
        params_of_url(url, "source")
    assert (refusal.value.id, refusal.value.field) == ("connection.bad_url", "source")
    assert "cret" not in str(refusal.value)
