"""The control plane against real servers: what is detected, and an error of its own for each thing that is wrong."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from pytest_django import Settings

from portal import networks
from portal.redis_control import EndpointParams, ProbeError, errors, probe
from tests.support.servers import Server


def params(server: Server, **changes: object) -> EndpointParams:
    values = {"host": server.host, "port": server.port, "password": server.password, "timeout": 3.0}
    return EndpointParams(**(values | changes))


@contextmanager
def listener(answer: bytes | None) -> Iterator[int]:
    """A port that sends `answer` to whoever says something, and closes; None: it says nothing at all."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        stop = threading.Event()
        connections: list[socket.socket] = []

        def serve() -> None:
            while not stop.is_set():
                try:
                    connection, _ = sock.accept()
                except OSError:
                    return
                connections.append(connection)
                if answer is not None:
                    connection.recv(4096)
                    connection.sendall(answer)
                    connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield sock.getsockname()[1]
        stop.set()
        sock.shutdown(socket.SHUT_RDWR)
        thread.join(5)
        for connection in connections:
            connection.close()


class TestDetection:
    def test_valkey(self, server: Server) -> None:
        server.client(db=3).set("a", 1)
        server.client(db=3).set("b", 1, ex=1000)
        found = probe(params(server))
        assert (found.edition, found.compatible_version) == ("valkey", found.version[:3])
        assert (found.architecture, found.role, found.replica_of) == ("standard", "master", "")
        assert found.database_count == 20
        assert found.databases == [{"index": 3, "keys": 2, "expires": 1}]
        assert found.memory_max == 0
        assert found.memory_used
        assert found.memory_host
        assert len(found.run_id) == 40
        assert [(node.role, node.port, node.run_id) for node in found.nodes] == [
            ("master", server.port, found.run_id)
        ]

    @pytest.mark.parametrize("version", ["redis-3.2", "redis-5.0", "redis-6.2", "redis-7.0", "valkey-8"])
    def test_versions(self, version: str) -> None:
        with Server(version, password="pw", config={"maxmemory": "64mb"}) as server:
            found = probe(params(server))
        assert found.edition == version.split("-")[0]
        assert found.version.startswith(version.split("-")[1])
        assert (found.memory_max, found.database_count) == (64 * 2**20, 16)

    def test_replica(self, server: Server) -> None:
        config = {"replicaof": (server.host, server.port), "masterauth": server.password}
        with Server("valkey-9", password="pw", config=config) as replica:
            found = probe(params(replica))
        assert found.role == "replica"
        assert found.replica_of == f"{server.host}:{server.port}"
        assert {node.role for node in found.nodes} == {"master", "replica"}

    def test_unix_socket(self) -> None:
        with Server("valkey-9", unix=True) as server:
            found = probe(EndpointParams(unix_path=str(server.unix_path)))
            assert found.nodes[0].host == str(server.unix_path)

    def test_a_user_without_config_still_registers(self) -> None:
        rules = ("console", "on", ">pw", "resetkeys", "-@all", "+info")
        with Server("redis-7.0", config={"user": [rules]}) as server:
            found = probe(params(server, username="console", password="pw"))
        assert (found.role, found.database_count) == ("master", None)
        assert found.facts["config_readable"] is False

    def test_tls(self) -> None:
        with Server("redis-7.0", tls=True) as server:
            assert server.authority is not None
            ca = server.authority.ca.read_text()
            assert probe(params(server, tls=True, tls_ca_pem=ca)).edition == "redis"
            assert probe(params(server, tls=True, tls_verify=False)).edition == "redis"


class TestRefusals:
    def fails(self, expected: type[ProbeError], asked: EndpointParams) -> ProbeError:
        with pytest.raises(ProbeError) as caught:
            probe(asked)
        assert type(caught.value) is expected, caught.value
        assert caught.value.message
        assert caught.value.advice
        return caught.value

    def test_passwords(self, server: Server) -> None:
        self.fails(errors.WrongPassword, params(server, password="wrong"))
        self.fails(errors.PasswordNeeded, params(server, password=""))
        self.fails(errors.WrongPassword, params(server, username="nobody", password="x"))

    @pytest.mark.parametrize("version", ["redis-5.0", "redis-7.0"])
    def test_passwords_of_older_servers(self, version: str) -> None:
        with Server(version, password="pw") as server:
            self.fails(errors.WrongPassword, params(server, password="wrong"))
            self.fails(errors.PasswordNeeded, params(server, password=""))
        with Server(version) as server:
            self.fails(errors.PasswordNotExpected, params(server, password="pw"))

    def test_a_user_on_a_server_without_users(self) -> None:
        with Server("redis-5.0", password="pw") as server:
            self.fails(errors.NoUsers, params(server, username="console", password="pw"))

    def test_a_user_without_info(self) -> None:
        rules = ("console", "on", ">pw", "-@all", "+ping")
        with Server("redis-7.0", config={"user": [rules]}) as server:
            error = self.fails(errors.NoPermission, params(server, username="console", password="pw"))
        assert "INFO" in error.message

    def test_addresses(self, free_port: Callable[[], int]) -> None:
        self.fails(errors.NoSuchHost, EndpointParams(host="no-such-host.invalid"))
        self.fails(errors.Refused, EndpointParams(host="127.0.0.1", port=free_port()))
        self.fails(errors.NoSuchSocket, EndpointParams(unix_path="/nonexistent/socket"))
        self.fails(errors.AddressNotAllowed, EndpointParams(host="203.0.114.1"))
        self.fails(errors.AddressNotAllowed, EndpointParams(host="169.254.169.254"))
        self.fails(errors.AddressNotAllowed, EndpointParams(host="::ffff:169.254.169.254"))

    def test_what_is_no_redis(self) -> None:
        with listener(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
            self.fails(errors.NotRedis, EndpointParams(host="127.0.0.1", port=port, timeout=2))
        with listener(b"") as port:
            self.fails(errors.Closed, EndpointParams(host="127.0.0.1", port=port, timeout=2))
        with listener(None) as port:
            self.fails(errors.TimedOut, EndpointParams(host="127.0.0.1", port=port, timeout=0.5))

    def test_tls_against_plain_and_plain_against_tls(self, server: Server) -> None:
        self.fails(errors.TlsNotSpoken, params(server, tls=True))
        with Server("redis-7.0", tls=True) as secure:
            self.fails(errors.TlsNeeded, params(secure))
            self.fails(errors.CertificateNotTrusted, params(secure, tls=True))
            assert secure.authority is not None
            ca = secure.authority.ca.read_text()
            self.fails(
                errors.CertificateName,
                params(secure, tls=True, tls_ca_pem=ca, tls_server_name="other.internal"),
            )
            self.fails(errors.BadCaCertificates, params(secure, tls=True, tls_ca_pem="no certificate"))

    def test_client_certificate_needed(self) -> None:
        with Server("redis-7.0", tls=True, client_certs=True) as server:
            self.fails(errors.ClientCertificateNeeded, params(server, tls=True, tls_verify=False))

    def test_allowed_networks(self, settings: Settings) -> None:
        settings.ALLOWED_NETWORKS = ["203.0.114.0/24"]
        with pytest.raises(ProbeError) as caught:
            probe(EndpointParams(host="203.0.114.1", timeout=0.2))
        assert not isinstance(caught.value, errors.AddressNotAllowed)

    @pytest.mark.parametrize("address", ["127.0.0.1", "::1", "10.0.0.1", "fd00::1", "::ffff:127.0.0.1"])
    def test_loopback_and_private_networks_need_no_leave(self, address: str) -> None:
        assert networks.is_allowed(address)

    @pytest.mark.parametrize(
        "address", ["8.8.8.8", "169.254.169.254", "0.0.0.0", "::", "fe80::1", "224.0.0.1"]
    )
    def test_public_and_special_addresses_do(self, address: str) -> None:
        assert not networks.is_allowed(address)


def test_parameters_never_show_their_password() -> None:
    assert "hidden" not in repr(EndpointParams(host="a", password="hidden"))
