"""Statuses and other choices of the events, each with the badge that shows it."""

from __future__ import annotations

from typing import Final

from django.db import models

from portal.choices import BadgedChoices


class Level(BadgedChoices):
    """How pressing an event is."""

    S0 = "S0", "danger", "shield", "S0 · Risk fix"
    S1 = "S1", "info", "wrench", "S1 · Maintenance"


class EventStatus(BadgedChoices):
    """Where an event stands. The last three are final."""

    WAITING = "waiting", "warning", "clock", "Waiting for a time"
    PENDING = "pending", "info", "calendar", "Pending"
    RUNNING = "running", "info", "spinner", "In progress"
    SUCCEEDED = "succeeded", "success", "check-circle", "Succeeded"
    FAILED = "failed", "danger", "x-circle", "Failed"
    CANCELLED = "cancelled", "neutral", "stop-circle", "Cancelled"

    @property
    def is_open(self) -> bool:
        """Announced and not begun: its time may be changed, or it may be cancelled, if the event allows it."""
        return self in OPEN

    @property
    def is_final(self) -> bool:
        return self in FINAL


OPEN: Final = (EventStatus.WAITING, EventStatus.PENDING)
UNFINISHED: Final = (*OPEN, EventStatus.RUNNING)
FINAL: Final = (EventStatus.SUCCEEDED, EventStatus.FAILED, EventStatus.CANCELLED)


class Impact(models.TextChoices):
    """What an event does to clients, in the words of R9 to R15."""

    TRANSIENT = "transient", "Transient connections"
    VERSIONS = "versions", "Differences between versions"
    ADDRESS = "address", "Change of the virtual IP address"
    NONE = "none", "No impact on connections"


class Via(models.TextChoices):
    """The way by which somebody changed an event."""

    CONSOLE = "console", "the console"
    MAIL = "mail", "a link in a message"
    ADMIN = "admin", "the administration"
    API = "api", "the HTTP API"
    COMMAND = "command", "a command on the server"
    SYSTEM = "system", "the system"


class Phase(models.TextChoices):
    """The two parts of the work: only the second one is felt."""

    PREPARE = "prepare", "Preparation"
    SWITCH = "switch", "Switchover"


class StageStatus(BadgedChoices):
    WAITING = "waiting", "neutral", "clock", "Not begun"
    RUNNING = "running", "info", "spinner", "In progress"
    DONE = "done", "success", "check-circle", "Done"
    FAILED = "failed", "danger", "x-circle", "Failed"
    SKIPPED = "skipped", "neutral", "chevron-right", "Skipped"


class LogLevel(BadgedChoices):
    INFO = "info", "neutral", "info", "Info"
    WARNING = "warning", "warning", "alert", "Warning"
    ERROR = "error", "danger", "x-circle", "Error"


class OccasionKind(models.TextChoices):
    """What contacts are told of an event."""

    PUBLISHED = "published", "Announced"
    CHANGED = "changed", "New time"
    POSTPONED = "postponed", "Postponed by the system"
    REMINDER = "reminder", "Reminder"
    ESCALATION = "escalation", "Not seen by anybody yet"
    STARTED = "started", "Begun"
    SUCCEEDED = "succeeded", "Done"
    FAILED = "failed", "Failed"
    CANCELLED = "cancelled", "Cancelled"
    WORK = "work", "Work for staff"
    """Told to the contacts of operations, not to those of the event's instance."""


class BulkAction(models.TextChoices):
    """What can be done to many events at once."""

    TO_TIME = "to-time", "Reschedule to a time"
    TO_WINDOW = "to-window", "Reschedule to each instance's next maintenance window"
    STAGGER = "stagger", "Reschedule, staggered by minutes"
    CANCEL = "cancel", "Cancel"
    ACKNOWLEDGE = "acknowledge", "Acknowledge"
    UNDO = "undo", "Undo an earlier change"


class BulkStatus(BadgedChoices):
    PLANNING = "planning", "info", "spinner", "Being previewed"
    PLANNED = "planned", "neutral", "eye", "Previewed"
    APPLYING = "applying", "info", "spinner", "Being applied"
    DONE = "done", "success", "check-circle", "Done"
    FAILED = "failed", "danger", "x-circle", "Broken off"


class RowOutcome(BadgedChoices):
    PLANNED = "planned", "info", "calendar", "Will be changed"
    REFUSED = "refused", "warning", "x-circle", "Left out"
    DONE = "done", "success", "check-circle", "Done"
    LOST = "lost", "warning", "alert", "Changed by somebody else meanwhile"
    UNDONE = "undone", "neutral", "refresh", "Undone"
