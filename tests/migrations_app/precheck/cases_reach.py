"""Reaching both sides."""

from __future__ import annotations

from migrations_app.choices import Outcome
from portal.choices import EndpointKind
from tests.support.ports import free_port

from .world import World, case, for_each

PASSED, WARNING, FAILED, SKIPPED = Outcome.PASSED, Outcome.WARNING, Outcome.FAILED, Outcome.SKIPPED


@for_each("network", PASSED, "127.0.0.1")
def loopback(w: World, side: str) -> None:
    pass


@for_each("network", FAILED, "203.0.114.7", "ALLOWED_NETWORKS")
def public(w: World, side: str) -> None:
    w.endpoint(side, host="203.0.114.7")


@for_each("network", FAILED, "no host named nowhere.invalid")
def unknown_name(w: World, side: str) -> None:
    w.endpoint(side, host="nowhere.invalid")


@for_each("network", SKIPPED, "socket")
def unix(w: World, side: str) -> None:
    w.endpoint(side, unix_path="/run/redis.sock", host="", port=0)


@for_each("raw_ip", WARNING, "10.1.2.3", "domain name")
def address(w: World, side: str) -> None:
    w.endpoint(side, host="10.1.2.3")


@for_each("raw_ip", PASSED, "this machine's own")
def own_address(w: World, side: str) -> None:
    pass


@for_each("raw_ip", PASSED, "localhost")
def name(w: World, side: str) -> None:
    w.endpoint(side, host="localhost")


@for_each("reachable", PASSED, "answers the worker")
def running(w: World, side: str) -> None:
    pass


@for_each("reachable", PASSED, "All 2 masters")
def running_cluster(w: World, side: str) -> None:
    w.use_cluster(side)


@for_each("reachable", FAILED, "allowlist")
def nobody_there(w: World, side: str) -> None:
    w.endpoint(side, port=free_port())


@for_each("reachable", FAILED, "TLS")
def tls_without_tls(w: World, side: str) -> None:
    w.endpoint(side, tls=True)


@case("source.reachable", FAILED, "no file /nowhere/dump.rdb")
def no_file(w: World) -> None:
    w.endpoint("source", kind=EndpointKind.FILE, file_path="/nowhere/dump.rdb", host="", port=0)


@case("source.reachable", PASSED, "can be read on the worker")
def file(w: World) -> None:
    path = w.folder / "dump.rdb"
    path.write_bytes(b"REDIS0011")
    w.endpoint("source", kind=EndpointKind.FILE, file_path=str(path), host="", port=0)


@for_each("authenticated", PASSED, "Signed in as default")
def password(w: World, side: str) -> None:
    w.use(side, password="a long word")


@for_each("authenticated", PASSED, "asks for no password")
def no_password(w: World, side: str) -> None:
    pass


@for_each("authenticated", FAILED, "refuses the credentials")
def wrong_password(w: World, side: str) -> None:
    w.use(side, password="a long word")
    w.endpoint(side, password="another word")


@for_each("tls", PASSED, "valid until")
def certificate(w: World, side: str) -> None:
    w.use(side, "redis-7.2", tls=True)
    w.patches.setattr(
        "migrations_app.runner.precheck.reach.CERTIFICATE_DAYS", 20
    )  # those of the tests are valid for 30


@for_each("tls", WARNING, "expires on", "in 29 days", "at least 30 days")
def certificate_that_expires(w: World, side: str) -> None:
    w.use(side, "redis-7.2", tls=True)


@for_each("tls", WARNING, "not encrypted")
def plain(w: World, side: str) -> None:
    # Servers of tests listen on this machine only.
    w.patches.setattr("migrations_app.runner.precheck.reach.is_loopback", lambda host: False)


@for_each("tls", PASSED, "nothing leaves it")
def plain_on_this_machine(w: World, side: str) -> None:
    pass


@for_each("tls", WARNING, "is not checked")
def certificate_not_checked(w: World, side: str) -> None:
    certificate(w, side)
    w.endpoint(side, tls_verify=False)
