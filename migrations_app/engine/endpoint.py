"""Where a server is and how to get in: one value, parsed from a URL or built from fields."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from migrations_app.engine.errors import UsageError

DEFAULT_PORT = 6379
DEFAULT_SENTINEL_PORT = 26379
_OPTIONS = {"ca_file", "verify", "server_name"}
_SENTINEL_OPTIONS = {"sentinel_user", "sentinel_password", "sentinel_tls"}
_ENCODE = (
    "special characters of user and password are percent-encoded (/ is %2F, ? is %3F, # is %23, @ is %40)"
)


Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Sentinels:
    """The sentinels that know where the master of this name is, and the credentials for them."""

    addresses: tuple[Address, ...]
    master_name: str
    username: str = ""
    password: str = field(default="", repr=False)
    tls: bool = False

    def __str__(self) -> str:
        return f"{self.master_name} (sentinels {', '.join(shown_address(*one) for one in self.addresses)})"


@dataclass(frozen=True, slots=True)
class SlotOwner:
    """The nodes of a cluster, any of which knows which master serves this slot."""

    addresses: tuple[Address, ...]
    slot: int

    def __str__(self) -> str:
        return f"the owner of slot {self.slot} (nodes {', '.join(shown_address(*one) for one in self.addresses)})"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The address of one server and the credentials for it.

    One of `unix_path`, `host` (with `port`), `file` (a snapshot file, which is a source only) and `lookup` is set. With a `lookup`
    the address is asked for at each connection (`engine/lookup.py`); an endpoint with a host, too, is the server that was found so
    (`at`). `tls_ca_pem` is PEM text; empty means the authorities that the system trusts. `tls_verify` off is for test systems: the
    certificate is then not looked at. Passwords appear neither in `repr()` nor in `str()`.
    """

    host: str = ""
    port: int = DEFAULT_PORT
    unix_path: str = ""
    username: str = ""
    password: str = field(default="", repr=False)
    tls: bool = False
    tls_verify: bool = True
    tls_ca_pem: str = field(default="", repr=False)
    tls_server_name: str = ""
    file: str = ""
    lookup: Sentinels | SlotOwner | None = None

    @classmethod
    def parse(cls, url: str) -> Endpoint:
        """Read `redis://`, `rediss://` (TLS), `unix://`, `sentinel://` or `rdb://` URLs; raise `UsageError` that says what is wrong.

        `redis://[[user][:password]@]host[:port]`; `rediss://` takes `?ca_file=PATH`, `?verify=no` and
        `?server_name=NAME`; `unix://[[user][:password]@]/path/to.sock`; `rdb:///path/to/dump.rdb` is a snapshot
        file. User, password and paths are percent-decoded.

        `sentinel://[[user][:password]@]host[:port][,host[:port]…]/master-name`: user and password are those of the data server;
        `?sentinel_user=` and `?sentinel_password=` are those of the sentinels. `sentinels://` means TLS, with the options of
        `rediss://`, to the data server and the sentinels; `?sentinel_tls=no` (or `yes`) where the sentinels differ.
        """
        shown = _redact(url)
        if url.partition("://")[0] in {"sentinel", "sentinels"}:
            return _parse_sentinels(url)
        try:
            parts = urlsplit(url)
            port, misplaced = parts.port, _misplaced(parts)
        except ValueError:
            # Python's own message can hold a piece of the password; so can what stands where the port belongs.
            scheme = url.partition("://")[0] if "://" in url else ""
            raise UsageError(
                f"{scheme}://…: the URL cannot be read; the port is a number from 1 to 65535, an IPv6 address stands in "
                f"[ ], and {_ENCODE}"
            ) from None
        if parts.scheme == "rdb":
            return cls(file=_snapshot_path(url), port=0)
        if parts.scheme not in {"redis", "rediss", "unix"}:
            raise UsageError(
                f"{shown}: the URL must begin with redis://, rediss://, unix://, sentinel:// or rdb://"
            )
        if misplaced:
            raise UsageError(f"{parts.scheme}://…: the URL is ambiguous: {_ENCODE}")
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        if unknown := set(options) - _OPTIONS:
            raise UsageError(
                f"{shown}: unknown option {sorted(unknown)[0]!r}; known are {', '.join(sorted(_OPTIONS))}"
            )
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        if parts.scheme == "unix":
            if not parts.path:
                raise UsageError(f"{shown}: the path of the socket is missing (unix:///run/redis.sock)")
            if options:
                raise UsageError(f"{shown}: a UNIX socket takes no TLS options")
            return cls(unix_path=unquote(parts.path), username=user, password=password, port=0)
        if not parts.hostname:
            raise UsageError(f"{shown}: the host is missing (redis://HOST:PORT)")
        if parts.path not in {"", "/"}:
            raise UsageError(
                f"{shown}: a database number does not belong in the URL; choose databases with --db"
            )
        if port == 0:
            raise UsageError(f"{shown}: the port must be from 1 to 65535")
        tls = parts.scheme == "rediss"
        if options and not tls:
            raise UsageError(f"{shown}: {sorted(options)[0]} belongs to rediss://")
        return cls(
            host=parts.hostname,
            port=port or DEFAULT_PORT,
            username=user,
            password=password,
            tls=tls,
            tls_verify=_flag(options, "verify", True, shown),
            tls_ca_pem=_read_ca(options["ca_file"]) if "ca_file" in options else "",
            tls_server_name=options.get("server_name", ""),
        )

    def at(self, host: str, port: int) -> Endpoint:
        """The server that the lookup has found."""
        return replace(self, host=host, port=port)

    @property
    def address(self) -> str:
        """`host:port` or the path of the socket or file: how logs and messages name this side."""
        if self.file:
            return self.file
        if self.unix_path:
            return self.unix_path
        if self.lookup is not None and not self.host:
            return str(self.lookup)
        return shown_address(self.host, self.port)

    def __str__(self) -> str:
        """The URL without the password."""
        if self.file:
            return f"rdb://{quote(self.file)}"
        user = f"{quote(self.username)}@" if self.username else ""
        if isinstance(self.lookup, Sentinels) and not self.host:
            places = ",".join(shown_address(*one) for one in self.lookup.addresses)
            scheme = "sentinels" if self.tls else "sentinel"
            return f"{scheme}://{user}{places}/{quote(self.lookup.master_name, safe='')}"
        scheme = "unix" if self.unix_path else "rediss" if self.tls else "redis"
        return f"{scheme}://{user}{self.address}"


def _snapshot_path(url: str) -> str:
    path = url.partition("://")[2]
    if not path.startswith("/") or path == "/":
        raise UsageError(
            f"{url}: rdb:// takes the absolute path of a snapshot file on this machine (rdb:///var/lib/redis/dump.rdb)"
        )
    if "?" in path or "#" in path:
        raise UsageError(f"{url}: ? and # in the path of a file are percent-encoded (%3F, %23)")
    return unquote(path)


def shown_address(host: str, port: int) -> str:
    """`host:port`, or `[host]:port` for IPv6."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _parse_sentinels(url: str) -> Endpoint:
    scheme, _, rest = url.partition("://")
    head, _, query = rest.partition("?")
    netloc, _, path = head.partition("/")
    login, at, places = netloc.rpartition("@")
    if "#" in rest or "@" in path or "@" in query:
        raise UsageError(f"{scheme}://…: the URL is ambiguous: {_ENCODE}")
    shown = f"{scheme}://{'…@' if at else ''}{places}/{path}"
    options = dict(parse_qsl(query.replace("+", "%2B"), keep_blank_values=True))
    if unknown := set(options) - _OPTIONS - _SENTINEL_OPTIONS:
        # What follows an & that belongs into a password must not be shown.
        name = "" if "sentinel_password" in options else f" {sorted(unknown)[0]!r}"
        known = ", ".join(sorted(_OPTIONS | _SENTINEL_OPTIONS))
        raise UsageError(f"{shown}: unknown option{name}; known are {known}")
    addresses = tuple(_sentinel_address(place, login, scheme) for place in places.split(",") if place)
    if not addresses:
        raise UsageError(f"{shown}: the sentinels are missing (sentinel://HOST:PORT,HOST:PORT/MASTER-NAME)")
    name = unquote(path)
    if not name or "/" in name:
        raise UsageError(
            f"{shown}: the name of the master is missing (sentinel://HOST:PORT,HOST:PORT/MASTER-NAME)"
        )
    tls = scheme == "sentinels"
    sentinel_tls = _flag(options, "sentinel_tls", tls, shown)
    if not tls and not sentinel_tls and (misplaced := sorted(set(options) & _OPTIONS)):
        raise UsageError(f"{shown}: {misplaced[0]} belongs to sentinels://")
    user, _, password = login.partition(":")
    return Endpoint(
        port=0,
        username=unquote(user),
        password=unquote(password),
        tls=tls,
        tls_verify=_flag(options, "verify", True, shown),
        tls_ca_pem=_read_ca(options["ca_file"]) if "ca_file" in options else "",
        tls_server_name=options.get("server_name", ""),
        lookup=Sentinels(
            addresses,
            name,
            username=options.get("sentinel_user", ""),
            password=options.get("sentinel_password", ""),
            tls=sentinel_tls,
        ),
    )


def _sentinel_address(place: str, login: str, scheme: str) -> Address:
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%]+)\]|([^\[\]:\s]+))(?::([0-9]{1,5}))?", place)
    port = int(match[3] or DEFAULT_SENTINEL_PORT) if match else 0
    if match is None or not 1 <= port <= 65535:
        # With an unencoded / ? or # in it, a password ends up where an address belongs.
        shown = "" if login else f" ({place})" if match else ""
        raise UsageError(
            f"{scheme}://…: the address of a sentinel cannot be read{shown}: HOST or HOST:PORT, the port from 1 to 65535, an "
            f"IPv6 address in [ ], several separated by commas; {_ENCODE}"
        )
    return match[1] or match[2], port


def _flag(options: dict[str, str], name: str, default: bool, shown: str) -> bool:
    value = options.get(name, "yes" if default else "no")
    if value not in {"yes", "no"}:
        raise UsageError(f"{shown}: {name} is yes or no")
    return value == "yes"


def _read_ca(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"ca_file {path} cannot be read: {error}") from None


def _misplaced(parts: SplitResult) -> bool:
    """Whether an unencoded / ? or # in the password may have ended the part with the credentials early."""
    if parts.scheme == "unix" and parts.netloc and "@" not in parts.netloc:
        return True  # unix://pass/word@/run/s
    return bool(parts.fragment) or "@" in parts.query or (parts.scheme != "unix" and "@" in parts.path)


def _redact(url: str) -> str:
    url = re.sub(r"(sentinel_password=)[^&#]*", r"\1…", url)
    head, at, tail = url.rpartition("@")
    if not at:
        return url
    scheme, slashes, _ = head.partition("://")
    return f"{scheme}{slashes}…@{tail}"
