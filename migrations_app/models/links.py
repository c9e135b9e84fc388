"""Links, which workers own while they carry tasks out, and their counters, over time."""

from __future__ import annotations

from django.db import models

from migrations_app.choices import Desired
from migrations_app.models.tasks import MigrationTask


class Link(models.Model):
    """What a worker owns while it carries a task out. The row is the truth; a message of the broker only rings a bell.

    Whoever has the lease runs the link. `epoch` grows by one with each new owner, and the engine stores it in the target,
    where it shuts out every earlier owner. All times of the lease are the database's clock.
    """

    task = models.OneToOneField(MigrationTask, on_delete=models.CASCADE, related_name="link")
    name = models.CharField(
        max_length=64, unique=True, help_text="Its name in the target, where its checkpoint is kept."
    )
    desired = models.CharField(max_length=8, choices=Desired.choices, default=Desired.STOP)
    owner = models.CharField(max_length=160, blank=True, help_text="host:pid:cluster; empty: nobody.")
    epoch = models.PositiveBigIntegerField(default=0)
    lease_until = models.DateTimeField(null=True, blank=True)
    rung_at = models.DateTimeField(
        null=True, blank=True, help_text="When a worker was last asked for; empty: not since."
    )

    class Meta:
        indexes = [models.Index(fields=["desired", "lease_until"], name="link_waiting")]

    def __str__(self) -> str:
        return self.name


class LinkProgress(models.Model):
    """The counters of a link over all its runs. Bytes, seconds, and numbers per second.

    Updated about once a second. A worker that is killed takes what it counted since then with it; the data are not
    affected, the checkpoint in the target decides where a link goes on.
    """

    link = models.OneToOneField(Link, on_delete=models.CASCADE, related_name="progress")
    phase = models.CharField(max_length=16, blank=True)
    percent = models.FloatField(null=True, blank=True)
    keys_done = models.BigIntegerField(default=0)
    keys_total = models.BigIntegerField(null=True, blank=True)
    keys_skipped = models.BigIntegerField(default=0)
    keys_kept = models.BigIntegerField(
        default=0, help_text="Of names that the target had already, and left as they were."
    )
    commands = models.BigIntegerField(default=0)
    bytes_in = models.BigIntegerField(default=0)
    bytes_out = models.BigIntegerField(default=0)
    snapshot_bytes = models.BigIntegerField(default=0)
    snapshot_size = models.BigIntegerField(null=True, blank=True)
    replication_id = models.CharField(max_length=64, blank=True)
    received_offset = models.BigIntegerField(null=True, blank=True)
    applied_offset = models.BigIntegerField(null=True, blank=True)
    source_offset = models.BigIntegerField(null=True, blank=True)
    lag_bytes = models.BigIntegerField(null=True, blank=True)
    lag_seconds = models.FloatField(null=True, blank=True)
    caught_up = models.BooleanField(default=False)
    full_syncs = models.PositiveIntegerField(default=0)
    partial_syncs = models.PositiveIntegerField(default=0)
    reconnects = models.PositiveIntegerField(default=0)
    keys_per_second = models.FloatField(default=0)
    commands_per_second = models.FloatField(default=0)
    bytes_per_second = models.FloatField(default=0)
    latency_ms = models.PositiveIntegerField(null=True, blank=True, help_text="Of the heartbeat.")
    spool_bytes = models.BigIntegerField(default=0, help_text="Received, and waiting on disk for the target.")
    spool_limit = models.BigIntegerField(default=0)
    spool_full = models.BooleanField(
        default=False, help_text="The source is not read until there is room again."
    )
    backlog_bytes = models.BigIntegerField(
        null=True, blank=True, help_text="repl-backlog-size of the source: what an interruption may cost it."
    )
    written_per_second = models.FloatField(
        null=True, blank=True, help_text="Bytes that the source adds to its stream, over a minute."
    )
    databases = models.JSONField(
        default=dict, blank=True, help_text="Database → keys of the snapshot written."
    )
    worker_host = models.CharField(max_length=255, blank=True)
    worker_ip = models.CharField(max_length=64, blank=True)
    worker_pid = models.PositiveIntegerField(null=True, blank=True)
    worker_compiled = models.BooleanField(
        null=True, blank=True, help_text="Whether the engine's hot path is compiled on the worker's machine."
    )
    updated_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name_plural = "link progress"

    def __str__(self) -> str:
        return f"Progress of {self.link}"


class Sample(models.Model):
    """The counters of a link at one moment, for the charts. Older rows are thinned: each stands for `span` seconds then.

    Rates and lag are means over the span; None where nothing was known.
    """

    link = models.ForeignKey(Link, on_delete=models.CASCADE, related_name="samples", db_index=False)
    at = models.DateTimeField(help_text="The beginning of the span.")
    span = models.PositiveIntegerField(default=10, help_text="Seconds: 10, 60 or 600.")
    lag_bytes = models.BigIntegerField(null=True, blank=True)
    lag_seconds = models.FloatField(null=True, blank=True)
    keys_per_second = models.FloatField(default=0)
    commands_per_second = models.FloatField(default=0)
    bytes_per_second = models.FloatField(default=0)

    class Meta:
        ordering = ["at", "pk"]
        # Where the thinning finds what is old enough.
        indexes = [models.Index(fields=["span", "at"], name="sample_age")]
        constraints = [
            # It serves the pages and the foreign key as well.
            models.UniqueConstraint(fields=["link", "span", "at"], name="sample_once"),
        ]

    def __str__(self) -> str:
        return f"{self.link} at {self.at}"
