"""Statuses, phases and levels of migration tasks, with the badge that shows each."""

from __future__ import annotations

from typing import Final

from django.db import models

from portal.choices import BadgedChoices


class TaskStatus(BadgedChoices):
    """Where a task stands. What may follow and which action is open is the table in `states.py`."""

    NOT_CONFIGURED = "draft", "neutral", "clipboard", "Not configured"
    PRECHECKING = "prechecking", "info", "clock", "Prechecking"
    PRECHECK_FAILED = "precheck-failed", "danger", "x-circle", "Precheck failed"
    READY = "ready", "neutral", "clipboard", "Ready"
    STARTING = "starting", "info", "clock", "Starting"
    FULL = "full", "info", "copy", "Full sync"
    INCREMENTAL = "incremental", "info", "refresh", "Incremental"
    RETRYING = "retrying", "warning", "alert", "Retrying"
    PAUSING = "pausing", "warning", "pause-circle", "Pausing"
    PAUSED = "paused", "neutral", "pause-circle", "Paused"
    STOPPING = "stopping", "warning", "stop-circle", "Stopping"
    STOPPED = "stopped", "neutral", "stop-circle", "Stopped early"
    COMPLETED = "completed", "success", "check-circle", "Successful"
    FAILED = "failed", "danger", "x-circle", "Failed"
    RELEASED = "released", "neutral", "unlock", "Released"

    @property
    def is_active(self) -> bool:
        """A worker has the task's link, or is to take it: the task may write to its target."""
        return self in ACTIVE

    @property
    def is_final(self) -> bool:
        """Nothing happens any more unless somebody acts: live pages stop to poll."""
        return self in FINAL


ACTIVE: Final = frozenset(
    {
        TaskStatus.STARTING,
        TaskStatus.FULL,
        TaskStatus.INCREMENTAL,
        TaskStatus.RETRYING,
        TaskStatus.PAUSING,
        TaskStatus.STOPPING,
    }
)
# A paused task writes nothing, but it will: no other task may take its target meanwhile.
HOLDING: Final = ACTIVE | {TaskStatus.PAUSED}
FINAL: Final = frozenset({TaskStatus.STOPPED, TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.RELEASED})
# Its settings may be changed; what runs or has run keeps those that it was started with, a few apart.
CONFIGURABLE: Final = frozenset({TaskStatus.NOT_CONFIGURED, TaskStatus.PRECHECK_FAILED, TaskStatus.READY})


class Phases(models.TextChoices):
    """What a task does."""

    FULL_INCREMENTAL = "full+incremental", "Full + incremental"
    FULL = "full", "Full only"


class Method(models.TextChoices):
    """How the source is read."""

    PSYNC = "psync", "Replication (PSYNC)"
    SCAN = "scan", "Key scan"
    FILE = "file", "Snapshot file"


class ConflictPolicy(models.TextChoices):
    """What the full phase does with keys that the target has already (R75, R76, R102)."""

    FAIL = "fail", "Check first and report errors"
    KEEP = "keep", "Keep what the target has"
    OVERWRITE = "overwrite", "Overwrite"


class SpeedClass(models.TextChoices):
    """Instance classes (R89): records per second, keys of the snapshot and commands of the stream."""

    SMALL = "small", "Small, 2,000 records/s"
    MEDIUM = "medium", "Medium, 5,000 records/s"
    LARGE = "large", "Large, 6,000 records/s"
    XLARGE = "xlarge", "Extra large, 7,000 records/s"
    XXLARGE = "2xlarge", "2 × extra large, 11,000 records/s"
    UNLIMITED = "unlimited", "Unlimited"


class Desired(models.TextChoices):
    """What is wanted of a link. The worker that owns it looks every second or so."""

    RUN = "run", "Run"
    PAUSE = "pause", "Pause"
    STOP = "stop", "Stop"


class LogLevel(BadgedChoices):
    INFO = "info", "neutral", "info", "Info"
    WARNING = "warning", "warning", "alert", "Warning"
    ERROR = "error", "danger", "x-circle", "Error"


class InspectionKind(models.TextChoices):
    """What a worker can find out about a task (runner/inspections.py)."""

    CONNECTIVITY = "connectivity", "Connectivity test"
    PRECHECK = "precheck", "Precheck"
    REPAIR = "repair", "Repair"
    REHEARSAL = "rehearsal", "Rehearsal"
    VERIFICATION = "verification", "Verification"
    CORRECTION = "correction", "Repair of keys"
    FENCE = "fence", "Fence"


class InspectionStatus(BadgedChoices):
    QUEUED = "queued", "neutral", "clock", "Waiting"
    RUNNING = "running", "info", "refresh", "Running"
    DONE = "done", "success", "check-circle", "Done"
    FAILED = "failed", "danger", "x-circle", "Not carried out"
    CANCELLED = "cancelled", "neutral", "stop-circle", "Cancelled"

    @property
    def is_final(self) -> bool:
        return self not in (InspectionStatus.QUEUED, InspectionStatus.RUNNING)


class Severity(BadgedChoices):
    """How bad it is when a check of a precheck does not pass."""

    NOTICE = "notice", "neutral", "info", "Notice"
    WARNING = "warning", "warning", "alert", "Warning"
    ERROR = "error", "danger", "x-circle", "Error"


class Outcome(BadgedChoices):
    """What became of one check of a precheck."""

    PASSED = "passed", "success", "check-circle", "Passed"
    WARNING = "warning", "warning", "alert", "Warning"
    FAILED = "failed", "danger", "x-circle", "Failed"
    IGNORED = "ignored", "neutral", "eye", "Ignored"
    SKIPPED = "skipped", "neutral", "question-circle", "Not applicable"


class AlertKind(models.TextChoices):
    FAILED = "failed", "Failure"
    LATENCY = "latency", "Latency"
    RETRYING = "retrying", "Retrying"
    PAUSED = "paused", "Paused by the system"
