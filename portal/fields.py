"""A model field for secrets: encrypted in the database, wrapped in memory.

What the attribute gives is a `Secret`, whose `str()` and `repr()` are dots; only `.reveal()` gives the text.
So a secret cannot get into a page, a log line or a traceback by being formatted.
"""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models.query_utils import DeferredAttribute

from portal import keys

MASK = "••••••••"


class Secret:
    """A secret text. True if there is one. Decrypted only by `reveal()`, so rows load without the key as well."""

    __slots__ = ("_plain", "_token")

    def __init__(self, plain: str | None = None, *, token: str = "") -> None:
        self._plain = plain
        self._token = token

    def reveal(self) -> str:
        """The text, or "" if there is none. Raises keys.CredentialUnreadable if no configured key decrypts it."""
        if self._plain is not None:
            return self._plain
        return keys.decrypt(self._token) if self._token else ""

    def token(self) -> str:
        """The encrypted form, as it is stored; "" if there is no secret."""
        if not self._token and self._plain:
            self._token = keys.encrypt(self._plain)
        return self._token

    def __bool__(self) -> bool:
        return bool(self._plain or self._token)

    def __str__(self) -> str:
        return MASK if self else ""

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self.reveal() == other.reveal()

    __hash__ = None  # type: ignore[assignment]  # equal by content, so it may not be hashed by identity

    def __reduce__(self) -> Any:
        # A pickle (a job's payload, a cache entry) carries the encrypted form only.
        return _from_token, (self.token(),)


def _from_token(token: str) -> Secret:
    return Secret(token=token)


class _SecretAttribute(DeferredAttribute):
    """Wraps whatever is assigned, so that the attribute is a Secret from the first moment on."""

    def __set__(self, instance: models.Model, value: Any) -> None:
        instance.__dict__[self.field.attname] = value if isinstance(value, Secret) else Secret(value or "")


class EncryptedTextField(models.TextField):  # type: ignore[type-arg]
    """Text that is stored as a Fernet token. Cannot be searched: the same text is encrypted differently each time."""

    descriptor_class = _SecretAttribute

    def from_db_value(self, value: str | None, expression: Any, connection: Any) -> Secret:
        return Secret(token=value or "")

    def get_prep_value(self, value: Any) -> str:
        secret = value if isinstance(value, Secret) else Secret(value or "")
        return secret.token()

    def to_python(self, value: Any) -> Secret:
        return value if isinstance(value, Secret) else Secret(value or "")

    def value_to_string(self, obj: models.Model) -> str:
        return MASK if self.value_from_object(obj) else ""

    def get_lookup(self, lookup_name: str) -> Any:
        return super().get_lookup(lookup_name) if lookup_name in ("isnull", "exact") else None
