"""Keys: making them, and encrypting credentials with them.

`CREDENTIAL_KEYS` is a list of Fernet keys. The first encrypts, each of them decrypts: to rotate, put a new key in
front, run `manage.py rotate_credentials`, then take the old key away.
"""

from __future__ import annotations

import secrets
from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from portal.errors import ServiceError


class CredentialUnreadable(ServiceError):
    """A stored credential was encrypted with a key that is not in CREDENTIAL_KEYS."""

    id = "credential.unreadable"
    message = "A stored password cannot be decrypted with the configured keys."
    advice = "Add the key that encrypted it to CREDENTIAL_KEYS, or enter the password again."


def generate_secret_key() -> str:
    """A SECRET_KEY: 64 URL-safe characters, 384 bits."""
    return secrets.token_urlsafe(48)


def generate_credential_key() -> str:
    """A key for CREDENTIAL_KEYS: 32 random bytes, URL-safe base64."""
    return Fernet.generate_key().decode()


def encrypt(plain: str) -> str:
    return _fernet().encrypt(plain.encode()).decode()


def decrypt(token: str) -> str:
    """Raises CredentialUnreadable if none of the keys fits."""
    try:
        return _fernet().decrypt(token.encode()).decode()
    except InvalidToken as error:
        raise CredentialUnreadable() from error


def rotate(token: str) -> str:
    """The same secret, encrypted with the first key. Raises CredentialUnreadable if none of the keys fits."""
    try:
        return _fernet().rotate(token.encode()).decode()
    except InvalidToken as error:
        raise CredentialUnreadable() from error


def parse_keys(keys: list[str]) -> MultiFernet:
    """Raises ImproperlyConfigured, naming the position (never the value) of a key that is none."""
    if not keys:
        raise ImproperlyConfigured(
            "CREDENTIAL_KEYS is empty, so passwords of instances cannot be stored. Set it to a key printed by "
            "`python manage.py generate_keys`."
        )
    fernets = []
    for position, key in enumerate(keys, start=1):
        try:
            fernets.append(Fernet(key))
        except ValueError as error:
            raise ImproperlyConfigured(
                f"Key {position} of CREDENTIAL_KEYS is not a Fernet key (32 bytes, URL-safe base64). "
                "`python manage.py generate_keys` prints a valid one."
            ) from error
    return MultiFernet(fernets)


def _fernet() -> MultiFernet:
    return _cached(tuple(settings.CREDENTIAL_KEYS))


@lru_cache(maxsize=8)
def _cached(keys: tuple[str, ...]) -> MultiFernet:
    return parse_keys(list(keys))
