"""Where a server is and how to get in: one value, parsed from a URL or built from fields."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from migrations_app.engine.errors import UsageError

DEFAULT_PORT = 6379
_OPTIONS = {"ca_file", "verify", "server_name"}
_ENCODE = (
    "special characters of user and password are percent-encoded (/ is %2F, ? is %3F, # is %23, @ is %40)"
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The address of one server and the credentials for it.

    One of `unix_path`, `host` (with `port`) and `file` (a snapshot file, which is a source only) is set. `tls_ca_pem` is PEM text; empty means the authorities that the
    system trusts. `tls_verify` off is for test systems: the certificate is then not looked at. The password appears
    neither in `repr()` nor in `str()`.
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

    @classmethod
    def parse(cls, url: str) -> Endpoint:
        """Read `redis://`, `rediss://` (TLS), `unix://` or `rdb://` URLs; raise `UsageError` that says what is wrong.

        `redis://[[user][:password]@]host[:port]`; `rediss://` takes `?ca_file=PATH`, `?verify=no` and
        `?server_name=NAME`; `unix://[[user][:password]@]/path/to.sock`; `rdb:///path/to/dump.rdb` is a snapshot
        file. User, password and paths are percent-decoded.
        """
        shown = _redact(url)
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
            raise UsageError(f"{shown}: the URL must begin with redis://, rediss://, unix:// or rdb://")
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
        verify = options.get("verify", "yes")
        if verify not in {"yes", "no"}:
            raise UsageError(f"{shown}: verify is yes or no")
        return cls(
            host=parts.hostname,
            port=port or DEFAULT_PORT,
            username=user,
            password=password,
            tls=tls,
            tls_verify=verify == "yes",
            tls_ca_pem=_read_ca(options["ca_file"]) if "ca_file" in options else "",
            tls_server_name=options.get("server_name", ""),
        )

    @property
    def address(self) -> str:
        """`host:port` or the path of the socket or file: how logs and messages name this side."""
        if self.file:
            return self.file
        if self.unix_path:
            return self.unix_path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        """The URL without the password."""
        if self.file:
            return f"rdb://{quote(self.file)}"
        user = f"{quote(self.username)}@" if self.username else ""
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
    head, at, tail = url.rpartition("@")
    if not at:
        return url
    scheme, slashes, _ = head.partition("://")
    return f"{scheme}{slashes}…@{tail}"
