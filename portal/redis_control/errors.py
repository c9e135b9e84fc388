"""What can go wrong on the way to a server, as seen by the person who entered the address.

`field` names the field of the form that has to change.
"""

from __future__ import annotations

from portal.errors import ServiceError


class ProbeError(ServiceError):
    """The server was not reached, or is not one that the console can use."""

    id = "probe.failed"
    message = "The server could not be asked."
    field = "address"


class NoSuchHost(ProbeError):
    id = "probe.no_such_host"
    advice = "Check the spelling, and that the machine Switchyard runs on can resolve the name."


class AddressNotAllowed(ProbeError):
    id = "probe.address_not_allowed"
    advice = "Use a private address, or have the network added to ALLOWED_NETWORKS in Switchyard's settings."


class Refused(ProbeError):
    id = "probe.refused"
    advice = "Check the port, that the server runs, and that its bind directive includes this address."


class TimedOut(ProbeError):
    id = "probe.timed_out"
    advice = "Check the address, and that no firewall drops connections from the machine Switchyard runs on."


class Unreachable(ProbeError):
    id = "probe.unreachable"
    advice = "Check the address and the route from the machine Switchyard runs on."


class NoSuchSocket(ProbeError):
    id = "probe.no_such_socket"
    field = "address"
    advice = "Enter the path of the server's unixsocket directive, on the machine Switchyard runs on."


class Closed(ProbeError):
    id = "probe.closed"
    advice = (
        "Check the server's log, its maxclients, and that what listens there is a Redis or Valkey server."
    )


class NotRedis(ProbeError):
    id = "probe.not_redis"
    message = "Something answers there, but it is not a Redis or Valkey server."
    advice = "Check the port: 6379 is the usual one."


class TlsNeeded(ProbeError):
    id = "probe.tls_needed"
    message = "The port expects TLS, and the connection was made without it."
    advice = "Switch TLS on."
    field = "tls"


class TlsNotSpoken(ProbeError):
    id = "probe.tls_not_spoken"
    message = "The server answers without TLS on this port, and TLS is switched on."
    advice = "Switch TLS off, or enter the server's TLS port (tls-port)."
    field = "tls"


class TlsFailed(ProbeError):
    id = "probe.tls_failed"
    advice = "Check the server's TLS settings and its log."
    field = "tls"


class ClientCertificateNeeded(ProbeError):
    id = "probe.client_certificate_needed"
    message = "The server asks for a client certificate (tls-auth-clients yes)."
    advice = "Set tls-auth-clients optional on the server; Switchyard signs in with user and password."
    field = "tls"


class CertificateNotTrusted(ProbeError):
    id = "probe.certificate_not_trusted"
    advice = "Paste the certificate of the authority that signed it under CA certificates."
    field = "tls_ca_pem"


class CertificateName(ProbeError):
    id = "probe.certificate_name"
    advice = "Connect by a name that the certificate holds, or enter that name as server name."
    field = "tls_server_name"


class BadCaCertificates(ProbeError):
    id = "probe.bad_ca"
    message = "The CA certificates cannot be read."
    advice = "Paste certificates in PEM form, from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----."
    field = "tls_ca_pem"


class PasswordNeeded(ProbeError):
    id = "probe.password_needed"
    message = "The server asks for a password and none was given."
    advice = "Enter the password, and the user if it is not the default one."
    field = "password"


class WrongPassword(ProbeError):
    id = "probe.wrong_password"
    message = "The server refused the user name and password."
    advice = "Enter them again. Leave the user empty for the default user."
    field = "password"


class PasswordNotExpected(ProbeError):
    id = "probe.password_not_expected"
    message = "A password was given, but the server has none for the default user."
    advice = "Leave the password empty, or set requirepass on the server."
    field = "password"


class NoUsers(ProbeError):
    id = "probe.no_users"
    message = "The server has no users: it is older than 6.0 and knows a password only."
    advice = "Leave the user empty."
    field = "username"


class NoPermission(ProbeError):
    id = "probe.no_permission"
    field = "username"


class ProtectedMode(ProbeError):
    id = "probe.protected_mode"
    message = "The server is in protected mode: it accepts connections from its own machine only."
    advice = "Set a password (requirepass) or protected-mode no on the server."


class Loading(ProbeError):
    id = "probe.loading"
    advice = "Wait until the server has loaded its data, then try again."


class IsSentinel(ProbeError):
    id = "probe.sentinel"
    message = "This is a Sentinel, which watches servers and holds no data itself."


class Unexpected(ProbeError):
    id = "probe.unexpected"
    advice = "Check the server's log."
