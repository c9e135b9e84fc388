"""URLs of servers: what they mean, what is wrong with them, and that no password comes out again."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrations_app.engine.endpoint import Endpoint, Sentinels
from migrations_app.engine.errors import UsageError

PASSWORD = "s3cr3t-pa55"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://example.org", Endpoint(host="example.org", port=6379)),
        ("redis://example.org/", Endpoint(host="example.org", port=6379)),
        ("redis://10.0.0.1:7000", Endpoint(host="10.0.0.1", port=7000)),
        ("redis://[::1]:7000", Endpoint(host="::1", port=7000)),
        ("redis://:pw@h:1", Endpoint(host="h", port=1, password="pw")),
        ("redis://eve:pw@h:1", Endpoint(host="h", port=1, username="eve", password="pw")),
        ("redis://eve@h:1", Endpoint(host="h", port=1, username="eve")),
        ("redis://e%40ve:p%3A%2F%40w%25@h:1", Endpoint(host="h", port=1, username="e@ve", password="p:/@w%")),
        ("redis://:p+w@h", Endpoint(host="h", password="p+w")),
        ("rediss://h", Endpoint(host="h", tls=True)),
        ("rediss://h?verify=no", Endpoint(host="h", tls=True, tls_verify=False)),
        ("rediss://h?verify=yes", Endpoint(host="h", tls=True)),
        (
            "rediss://h:1/?server_name=db.example.org",
            Endpoint(host="h", port=1, tls=True, tls_server_name="db.example.org"),
        ),
        ("unix:///run/redis.sock", Endpoint(unix_path="/run/redis.sock", port=0)),
        (
            "unix://eve:pw@/run/a%20b.sock",
            Endpoint(unix_path="/run/a b.sock", username="eve", password="pw", port=0),
        ),
        ("sentinel://h/orders", Endpoint(port=0, lookup=Sentinels((("h", 26379),), "orders"))),
        (
            "sentinel://eve:p%40w@h:1,[::1]:2/orders?sentinel_user=s&sentinel_password=a%26+b",
            Endpoint(
                port=0,
                username="eve",
                password="p@w",
                lookup=Sentinels((("h", 1), ("::1", 2)), "orders", username="s", password="a&+b"),
            ),
        ),
        (
            "sentinels://h/orders?verify=no",
            Endpoint(
                port=0, tls=True, tls_verify=False, lookup=Sentinels((("h", 26379),), "orders", tls=True)
            ),
        ),
        (
            "sentinels://h/orders?sentinel_tls=no",
            Endpoint(port=0, tls=True, lookup=Sentinels((("h", 26379),), "orders")),
        ),
    ],
)
def test_urls(url: str, expected: Endpoint) -> None:
    assert Endpoint.parse(url) == expected


def test_the_authority_is_read_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("-----BEGIN CERTIFICATE-----\n")
    assert Endpoint.parse(f"rediss://h?ca_file={file}").tls_ca_pem == "-----BEGIN CERTIFICATE-----\n"


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ("http://{}h:1", "must begin with redis://"),
        ("h:6379", "must begin with redis://"),
        ("", "must begin with redis://"),
        ("redis://{}", "host is missing"),
        ("redis://{}:6379", "host is missing"),
        ("redis://{}h:0", "port"),
        ("redis://{}h:65536", "[Pp]ort"),
        ("redis://{}h:-1", "[Pp]ort"),
        ("redis://{}h:abc", "[Pp]ort"),
        ("redis://{}[::1", "IPv6"),
        ("redis://{}h/3", "database number"),
        ("redis://{}h?db=3", "unknown option 'db'"),
        ("redis://{}h?verify=no", "verify belongs to rediss://"),
        ("rediss://{}h?verify=maybe", "verify is yes or no"),
        ("rediss://{}h?verify=", "verify is yes or no"),
        ("rediss://{}h?ca_file=/does/not/exist", "cannot be read"),
        ("unix://{}", "path of the socket is missing"),
        ("unix://run/s", "ambiguous"),
        ("redis://{}h#x", "ambiguous"),
        ("unix://{}/run/s?verify=no", "no TLS options"),
        ("sentinel://{}h", "name of the master is missing"),
        ("sentinel://{}h/a/b", "name of the master is missing"),
        ("sentinel://{}/orders", "sentinels are missing"),
        ("sentinel://{}h:0,i/orders", "cannot be read"),
        ("sentinel://{}h:x/orders", "cannot be read"),
        ("sentinel://{}[::1/orders", "cannot be read"),
        ("sentinel://{}h/orders?db=3", "unknown option 'db'"),
        ("sentinel://{}h/orders?verify=no", "verify belongs to sentinels://"),
        ("sentinels://{}h/orders?sentinel_tls=maybe", "sentinel_tls is yes or no"),
    ],
)
@pytest.mark.parametrize("credentials", ["", f":{PASSWORD}@", f"eve:{PASSWORD}@"])
def test_errors_say_what_is_wrong_and_no_password(rest: str, message: str, credentials: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        Endpoint.parse(rest.format(credentials))
    assert PASSWORD not in str(caught.value)
    assert PASSWORD not in caught.value.advice
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


# Characters that belong percent-encoded into a URL, and what people enter instead.
@pytest.mark.parametrize(
    "password",
    [
        f"{PASSWORD}/x",
        f"{PASSWORD}?x",
        f"{PASSWORD}#x",
        f"a/{PASSWORD}",
        f"a[{PASSWORD}",
        f"a@{PASSWORD}",
        f"1:{PASSWORD}",
        f"12/{PASSWORD}",
        f"12?{PASSWORD}",
        f"12#{PASSWORD}",
        f"\u2100{PASSWORD}",
    ],
)
@pytest.mark.parametrize(
    "url",
    [
        "redis://:{}@h:1",
        "redis://eve:{}@h:1",
        "redis://eve:{}@h:99999",
        "unix://:{}@/run/s",
        "ftp://:{}@h",
        "sentinel://:{}@h:1,i/orders",
        "sentinel://eve:{}@h:99999/orders",
    ],
)
def test_a_password_that_breaks_the_url_is_not_shown(url: str, password: str) -> None:
    shown = ""
    try:
        endpoint = Endpoint.parse(url.format(password))
    except UsageError as error:
        shown = f"{error} {error.advice}"
    else:
        assert endpoint.password == password
        shown = f"{endpoint!r} {endpoint} {endpoint.address}"
    assert PASSWORD not in shown


@pytest.mark.parametrize("rest", ["", "/x", "#x", "&x", "@x", "?x"])
def test_the_password_of_the_sentinels_is_not_shown(rest: str) -> None:
    word = f"{PASSWORD}{rest}"
    for url in (f"sentinel://h/orders?sentinel_password={word}", f"redis://h?sentinel_password={word}"):
        try:
            endpoint = Endpoint.parse(url)
        except UsageError as error:
            shown = f"{error} {error.advice}"
        else:
            shown = f"{endpoint!r} {endpoint} {endpoint.address}"
        assert PASSWORD not in shown


@given(st.text(min_size=8).filter(lambda text: "…" not in text))
def test_no_password_in_any_form(password: str) -> None:
    marked = "pa55" + password
    endpoint = Endpoint(host="h", username="eve", password=marked, tls=True, tls_ca_pem="PEM-TEXT")
    shown = f"{endpoint!r} {endpoint} {endpoint.address}"
    assert "pa55" not in shown
    assert "PEM-TEXT" not in shown


@pytest.mark.parametrize(
    ("endpoint", "text", "address"),
    [
        (Endpoint(host="h", port=1), "redis://h:1", "h:1"),
        (Endpoint(host="::1", port=1, tls=True), "rediss://[::1]:1", "[::1]:1"),
        (Endpoint(host="h", username="e@ve", password="x"), "redis://e%40ve@h:6379", "h:6379"),
        (Endpoint(unix_path="/run/s", username="eve"), "unix://eve@/run/s", "/run/s"),
        (
            Endpoint(username="eve", password="x", lookup=Sentinels((("h", 1), ("::1", 2)), "orders")),
            "sentinel://eve@h:1,[::1]:2/orders",
            "orders (sentinels h:1, [::1]:2)",
        ),
        (
            Endpoint(tls=True, lookup=Sentinels((("h", 1),), "a b", tls=True)).at("i", 3),
            "rediss://i:3",
            "i:3",
        ),
    ],
)
def test_shown(endpoint: Endpoint, text: str, address: str) -> None:
    assert str(endpoint) == text
    assert endpoint.address == address
