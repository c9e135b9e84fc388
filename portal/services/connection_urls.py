"""Connections written as URLs, as programs and commands name them."""

from __future__ import annotations

from urllib.parse import parse_qs, unquote, urlsplit

from portal.choices import EndpointKind
from portal.errors import Invalid
from portal.services.connections import ConnectionParams, split_address

SCHEMES = ("redis", "rediss", "unix", "sentinel", "sentinels", "rdb")
_TLS_OPTIONS = frozenset({"verify", "server_name"})
_SENTINEL_OPTIONS = frozenset({"sentinel_user", "sentinel_password", "sentinel_tls"})


def params_of_url(url: str, field: str = "url") -> ConnectionParams:
    """`redis://[[user][:password]@]host[:port]`, `rediss://…` (TLS; `?verify=no`, `?server_name=NAME`), `unix://[…@]/path`,
    `sentinel(s)://[…@]host[:port][,host…]/master` (`?sentinel_user=`, `?sentinel_password=`, `?sentinel_tls=`), `rdb:///path`.

    User, password and paths are percent-decoded. Raises Invalid (`connection.bad_url`), which never repeats a secret.
    """
    scheme, separator, rest = url.strip().partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in SCHEMES:
        raise _bad(
            "The URL does not begin with redis://, rediss://, unix://, sentinel://, sentinels:// or rdb://.",
            field,
        )
    if scheme == "rdb":
        if not rest.startswith("/"):
            raise _bad("A snapshot file is named by its whole path: rdb:///path/to/dump.rdb.", field)
        return ConnectionParams(kind=EndpointKind.FILE, file_path=unquote(rest), port=0)
    if scheme in ("sentinel", "sentinels"):
        return _sentinels(scheme, rest, field)
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError:
        raise _bad(
            "The URL cannot be read: the port is a number, and special characters are percent-encoded.", field
        ) from None
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    options = _options(parts.query, _TLS_OPTIONS if scheme == "rediss" else frozenset(), field)
    if parts.fragment or "@" in (parts.path or ""):
        raise _bad(
            "The URL is ambiguous: special characters of user and password are percent-encoded (# is %23, / is %2F).",
            field,
        )
    if scheme == "unix":
        if not parts.path:
            raise _bad("The path of the socket is missing: unix:///run/redis.sock.", field)
        return ConnectionParams(unix_path=unquote(parts.path), port=0, username=user, password=password)
    if not parts.hostname:
        raise _bad("The host is missing: redis://HOST:PORT.", field)
    if parts.path not in ("", "/"):
        raise _bad("A database does not belong in the URL: databases are a setting of the task.", field)
    return ConnectionParams(
        host=parts.hostname,
        port=6379 if port is None else port,
        tls=scheme == "rediss",
        tls_verify=_flag(options, "verify", True, field),
        tls_server_name=options.get("server_name", ""),
        username=user,
        password=password,
    )


def _sentinels(scheme: str, rest: str, field: str) -> ConnectionParams:
    rest, _, query = rest.partition("?")
    credentials, at, places = rest.rpartition("@")
    places, _, master = places.partition("/")
    user, _, password = credentials.partition(":") if at else ("", "", "")
    addresses = [one for one in places.split(",") if one]
    if not addresses or not master:
        raise _bad("Sentinels are named as sentinel://HOST[:PORT][,HOST…]/MASTER-NAME.", field)
    tls = scheme == "sentinels"
    options = _options(query, _SENTINEL_OPTIONS | (_TLS_OPTIONS if tls else frozenset()), field)
    return ConnectionParams(
        kind=EndpointKind.SENTINEL,
        sentinels=tuple("{}:{}".format(*split_address(one)) for one in addresses),
        master_name=unquote(master),
        username=unquote(user),
        password=unquote(password),
        tls=tls,
        tls_verify=_flag(options, "verify", True, field),
        tls_server_name=options.get("server_name", ""),
        sentinel_username=options.get("sentinel_user", ""),
        sentinel_password=options.get("sentinel_password", ""),
        sentinel_tls=_flag(options, "sentinel_tls", tls, field),
    )


def _options(query: str, known: frozenset[str], field: str) -> dict[str, str]:
    options = {name: values[-1] for name, values in parse_qs(query, keep_blank_values=True).items()}
    if unknown := sorted(set(options) - known):
        raise _bad(f"The URL has an option that is not known here: {unknown[0]}.", field)
    return options


def _flag(options: dict[str, str], name: str, default: bool, field: str) -> bool:
    value = options.get(name)
    if value is None:
        return default
    if value.lower() not in ("yes", "no"):
        raise _bad(f"{name} is yes or no.", field)
    return value.lower() == "yes"


def _bad(message: str, field: str) -> Invalid:
    return Invalid(f"{message} Nothing was saved.", id="connection.bad_url", field=field)
