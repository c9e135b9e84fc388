"""Calendar feeds: a secret address under which a person's calendar program reads the events that the person may see."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from django.db import transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Coalesce
from django.utils import timezone

from events.choices import FINAL
from events.models import CalendarFeed, Event
from portal.errors import Conflict, Invalid, NotFound, NotPermitted
from portal.models import Account
from portal.services import audit

if TYPE_CHECKING:
    from django.contrib.auth.models import User

KEPT: Final = timedelta(days=60)
"""So long a calendar shows what has ended."""
MOST_EVENTS: Final = 2000
MOST_FEEDS: Final = 20  # in use, of one person
USED_STEP: Final = timedelta(minutes=10)  # how exactly the last use is kept


def create_feed(actor: User, name: str, *, account: Account | None = None) -> tuple[CalendarFeed, str]:
    """A new feed and its secret, which is never shown again. Without an account it has whatever the person sees.

    Raises Invalid (`feed.no_name`), Conflict (`feed.too_many`), NotPermitted for an account of others.
    """
    name = " ".join(name.split())[:120]
    if not name:
        raise Invalid(
            "The calendar has no name. It was not made.",
            advice="Name the program or the machine that will read it.",
            id="feed.no_name",
            field="name",
        )
    if account is not None and not Account.objects.visible_to(actor).filter(pk=account.pk).exists():
        raise NotPermitted("You are not a member of that account. The calendar was not made.", advice="")
    text = secrets.token_urlsafe(24)
    with transaction.atomic():
        if feeds_of(actor).filter(revoked_at=None).count() >= MOST_FEEDS:
            raise Conflict(
                f"You have {MOST_FEEDS} calendars already. Another one was not made.",
                advice="Revoke one that nothing reads any more.",
                id="feed.too_many",
            )
        feed = CalendarFeed.objects.create(user=actor, account=account, name=name, digest=_digest(text))
        audit.record(actor, "feed.created", feed, account=account)
    return feed, text


def revoke_feed(actor: User, public_id: str) -> CalendarFeed:
    """From now on the address gives nothing. Raises NotFound for what is not the person's own."""
    feed = find_feed(actor, public_id)
    with transaction.atomic():
        if CalendarFeed.objects.filter(pk=feed.pk, revoked_at=None).update(revoked_at=timezone.now()):
            audit.record(actor, "feed.revoked", feed, account=feed.account)
    feed.refresh_from_db(fields=["revoked_at"])
    return feed


def feeds_of(user: User) -> QuerySet[CalendarFeed]:
    return CalendarFeed.objects.filter(user=user).select_related("account")


def find_feed(user: User, public_id: str) -> CalendarFeed:
    """Raises NotFound."""
    feed = feeds_of(user).filter(public_id=public_id).first()
    if feed is None:
        raise NotFound(f"You have no calendar {public_id}.")
    return feed


def feed_of(text: str) -> CalendarFeed | None:
    """The feed of this secret, if it is in use and its person may still sign in. Notes the use."""
    feed = (
        CalendarFeed.objects.select_related("user", "account")
        .filter(digest=_digest(text), revoked_at=None, user__is_active=True)
        .first()
    )
    if feed is None:
        return None
    now = timezone.now()
    if feed.last_used_at is None or now - feed.last_used_at > USED_STEP:
        CalendarFeed.objects.filter(pk=feed.pk).update(last_used_at=now)
    return feed


def events_of(feed: CalendarFeed) -> list[Event]:
    """What its person may see at this moment: nothing of an account that they have left. The newest first."""
    rows = Event.objects.visible_to(feed.user)
    if feed.account_id is not None:
        rows = rows.filter(account=feed.account_id)
    gone = Q(status__in=FINAL, finished_at__lt=timezone.now() - KEPT)
    ordered = rows.exclude(gone).order_by(Coalesce("switch_at", "deadline").desc(), "-pk")
    return list(ordered.select_related("type", "account", "instance")[:MOST_EVENTS])


def _digest(text: str) -> str:
    # 192 random bits need no salt and no slow hash.
    return hashlib.sha256(text.encode()).hexdigest()
