"""The types of events: data, not code. `events/catalogue.toml` holds what the product brings along; staff change and add to it."""

from __future__ import annotations

from datetime import timedelta

from django.core.validators import MinValueValidator
from django.db import models

from events.choices import Impact, Level


class EventType(models.Model):
    """What a kind of work is called, why it is done, what it does to clients, and what its owner may choose."""

    code = models.SlugField(max_length=40, unique=True, help_text="For commands and the HTTP API.")
    name = models.CharField(max_length=80)
    level = models.CharField(max_length=2, choices=Level.choices, default=Level.S1)
    cause = models.TextField(
        help_text="Why it is done: what an event says unless staff write something else."
    )
    impacts = models.JSONField(
        default=list,
        help_text="What clients notice: a list of objects with kind (transient, versions, address, none) and text.",
    )
    advice = models.TextField(blank=True, help_text="What the owner should do.")
    has_switchover = models.BooleanField(default=True)
    needs_proxy = models.BooleanField(default=False, help_text="Only for instances that have a proxy.")
    shows_versions = models.BooleanField(
        default=False, help_text="Current and target version are shown, with the release notes."
    )
    same_major = models.BooleanField(
        "same major version", default=False, help_text="The target is of the major version that the instance has, as of a minor update."
    )  # fmt: skip
    notice_hours = models.PositiveIntegerField(
        default=72, help_text="Notice of a maintenance event (S1), in hours."
    )
    may_change = models.BooleanField("time may be changed", default=True)
    may_cancel = models.BooleanField(default=False)
    preparation_seconds = models.PositiveIntegerField(
        default=0, help_text="How long the preparation takes before the switchover."
    )
    switch_seconds = models.PositiveIntegerField(
        default=600, validators=[MinValueValidator(1)],
        help_text="How long the switchover as a whole is planned to take, not its impact.",
    )  # fmt: skip
    impact_seconds = models.PositiveIntegerField(default=30, help_text="Typical impact on clients.")
    open_days = models.PositiveIntegerField(
        default=14, help_text="Days from the announcement to the deadline, unless staff give one."
    )
    max_deferrals = models.PositiveIntegerField(
        null=True, blank=True, help_text="How often the owner may choose a later time; empty: as often as wanted."
    )  # fmt: skip
    max_deferral_days = models.PositiveIntegerField(
        null=True, blank=True, help_text="How much later than first announced; empty: up to the deadline."
    )
    executor = models.CharField(max_length=20, default="manual", help_text="Who carries it out.")
    is_active = models.BooleanField(default=True, help_text="May be chosen for new events.")
    is_customised = models.BooleanField(
        default=False, help_text="Changed here: a new release does not overwrite it."
    )

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def level_badge(self) -> Level:
        return Level(self.level)

    @property
    def notice(self) -> timedelta:
        return timedelta(hours=self.notice_hours)

    @property
    def changes_address(self) -> bool:
        return any(one.get("kind") == Impact.ADDRESS for one in self.impacts)
