"""Requests that are carried out once, however often they are sent (the header Idempotency-Key)."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from django.db import IntegrityError, transaction
from django.utils import timezone

from portal.errors import Conflict, Invalid
from portal.models import IdempotentRequest

if TYPE_CHECKING:
    from django.contrib.auth.models import User

KEPT: Final = timedelta(days=1)
ABANDONED: Final = timedelta(
    minutes=2
)  # without an answer: whoever began it has died before anything was stored
MOST: Final = 120  # characters of a key


def digest_of(method: str, path: str, body: bytes) -> str:
    return hashlib.sha256(b"\0".join((method.encode(), path.encode(), body))).hexdigest()


def begin(user: User, key: str, digest: str) -> IdempotentRequest:
    """The row of this key. With a `status` it was answered before: give that answer. Without: carry it out and `store`.

    Raises Conflict (`idempotency.other_request`) if the key was used for something else, (`idempotency.under_way`) while the first one
    has no answer yet, Invalid (`idempotency.bad_key`).
    """
    if not key or len(key) > MOST or not key.isprintable():
        raise Invalid(
            f"The Idempotency-Key is empty, longer than {MOST} characters or not printable. Nothing was changed.",
            advice="Use a UUID.",
            id="idempotency.bad_key",
        )
    IdempotentRequest.objects.filter(user=user, created_at__lt=timezone.now() - KEPT).delete()
    IdempotentRequest.objects.filter(
        user=user, status=None, created_at__lt=timezone.now() - ABANDONED
    ).delete()
    try:
        with transaction.atomic():
            return IdempotentRequest.objects.create(user=user, key=key, digest=digest)
    except IntegrityError:
        row = IdempotentRequest.objects.filter(user=user, key=key).first()
    if row is None:
        raise _under_way()
    if row.digest != digest:
        raise Conflict(
            "This Idempotency-Key was used for another request. Nothing was changed.",
            advice="Use a new key for a new request.",
            id="idempotency.other_request",
        )
    if row.status is None:
        raise _under_way()
    return row


def store(row: IdempotentRequest, status: int, body: str) -> None:
    """The answer that repetitions get."""
    IdempotentRequest.objects.filter(pk=row.pk).update(status=status, body=body)


def forget(row: IdempotentRequest) -> None:
    """It was not carried out: the key may be used again."""
    row.delete()


def _under_way() -> Conflict:
    return Conflict(
        "A request with this Idempotency-Key is being carried out. This one changed nothing.",
        advice="Ask again in a few seconds.",
        id="idempotency.under_way",
    )
