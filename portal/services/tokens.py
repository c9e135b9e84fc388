"""Tokens of the HTTP API. A token acts as the person who made it, within its scopes and its account, and never beyond."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from django.db import transaction
from django.utils import timezone

from portal import scopes
from portal.errors import Invalid, NotFound, NotPermitted
from portal.models import Account, ApiToken
from portal.services import audit

if TYPE_CHECKING:
    from django.contrib.auth.models import User

PREFIX: Final = (
    "swy_"  # so that a token is recognised where it does not belong, by people and by scanners of secrets
)
USED_STEP: Final = timedelta(minutes=1)  # how exactly the last use is kept
MOST_DAYS: Final = 3650


def create_token(
    actor: User, name: str, granted: Iterable[str], *, account: Account | None = None, days: int | None = 90
) -> tuple[ApiToken, str]:
    """A new token and its text, which is never shown again. `days` None: it does not expire.

    Raises Invalid (`token.no_name`, `token.no_scope`, `token.unknown_scope`, `token.bad_lifetime`), NotPermitted for an account of others.
    """
    name = " ".join(name.split())[:120]
    wanted = sorted(set(granted))
    if not name:
        raise Invalid(
            "The token has no name. No token was made.",
            advice="Name what will use it.",
            id="token.no_name",
            field="name",
        )
    if not wanted:
        raise Invalid(
            "The token is allowed nothing. No token was made.",
            advice="Choose at least one scope.",
            id="token.no_scope",
            field="scopes",
        )
    if unknown := [one for one in wanted if not scopes.is_known(one)]:
        raise Invalid(
            f"There is no scope {unknown[0]}. No token was made.",
            advice=f"Choose of {', '.join(one for one, _ in scopes.choices())}.",
            id="token.unknown_scope",
            field="scopes",
        )
    if days is not None and not 1 <= days <= MOST_DAYS:
        raise Invalid(
            f"A token cannot be valid for {days} days. No token was made.",
            advice=f"Choose 1 to {MOST_DAYS} days, or no end.",
            id="token.bad_lifetime",
            field="days",
        )
    if account is not None and not Account.objects.visible_to(actor).filter(pk=account.pk).exists():
        raise NotPermitted("You are not a member of that account. No token was made.")
    text = PREFIX + secrets.token_urlsafe(32)
    with transaction.atomic():
        token = ApiToken.objects.create(
            user=actor,
            account=account,
            name=name,
            digest=_digest(text),
            scopes=wanted,
            expires_at=timezone.now() + timedelta(days=days) if days is not None else None,
        )
        audit.record(actor, "token.created", token, account=account, scopes=wanted, days=days)
    return token, text


def revoke_token(actor: User, public_id: str) -> ApiToken:
    """From now on it opens nothing. Raises NotFound for what is not the person's own (an administrator may revoke any)."""
    rows = ApiToken.objects.filter(public_id=public_id)
    token = (rows if actor.is_superuser else rows.filter(user=actor)).first()
    if token is None:
        raise NotFound(f"You have no token {public_id}.")
    with transaction.atomic():
        if ApiToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=timezone.now()):
            audit.record(actor, "token.revoked", token, account=token.account)
    token.refresh_from_db()
    return token


def token_of(text: str) -> ApiToken | None:
    """The valid token of this text, whose owner may still sign in; None otherwise. Notes the use."""
    if not text.startswith(PREFIX):
        return None
    token = ApiToken.objects.select_related("user", "account").filter(digest=_digest(text)).first()
    if token is None or not is_valid(token) or not token.user.is_active:
        return None
    now = timezone.now()
    if token.last_used_at is None or now - token.last_used_at > USED_STEP:
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=now)
    return token


def is_valid(token: ApiToken, now: datetime | None = None) -> bool:
    return token.revoked_at is None and (
        token.expires_at is None or token.expires_at > (now or timezone.now())
    )


def _digest(text: str) -> str:
    # 256 random bits need no salt and no slow hash.
    return hashlib.sha256(text.encode()).hexdigest()
