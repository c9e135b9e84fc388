"""The admin of the migrations: everything to be looked at, nothing to be changed but through the services."""

from __future__ import annotations

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django_q.models import Schedule

from migrations_app.models import (
    AppliedRepair,
    Difference,
    IgnoredItem,
    Inspection,
    Link,
    LinkProgress,
    LogEntry,
    MigrationTask,
    PhaseSpan,
    PrecheckItem,
    Sample,
    SnapshotFile,
    TaskAlert,
)
from migrations_app.services import tasks
from migrations_app.states import Action
from portal.admin import LookOnly
from portal.templatetags.portal import badge

# A form in which any function of Python can be named and run has no place in a console.
admin.site.unregister(Schedule)


@admin.register(MigrationTask)
class MigrationTaskAdmin(LookOnly):
    list_display = (
        "public_id",
        "name",
        "shown_status",
        "source",
        "target",
        "phases",
        "account",
        "created_at",
    )
    list_filter = ("status", "phases", "account")
    search_fields = ("public_id", "name", "source__name", "target__name")
    list_select_related = ("account", "source", "target")
    date_hierarchy = "created_at"
    actions = ("pause_selected", "resume_selected", "stop_selected", "release_selected")

    @admin.display(description="status", ordering="status")
    def shown_status(self, task: MigrationTask) -> SafeString:
        return badge(task.status_badge)

    @admin.action(description="Pause selected tasks", permissions=["operate"])
    def pause_selected(self, request: HttpRequest, queryset: QuerySet[MigrationTask]) -> None:
        self._do(request, Action.PAUSE, queryset)

    @admin.action(description="Resume selected tasks", permissions=["operate"])
    def resume_selected(self, request: HttpRequest, queryset: QuerySet[MigrationTask]) -> None:
        self._do(request, Action.RESUME, queryset)

    @admin.action(description="Stop selected tasks", permissions=["operate"])
    def stop_selected(self, request: HttpRequest, queryset: QuerySet[MigrationTask]) -> None:
        self._do(request, Action.STOP, queryset)

    @admin.action(description="Release selected tasks", permissions=["operate"])
    def release_selected(self, request: HttpRequest, queryset: QuerySet[MigrationTask]) -> None:
        self._do(request, Action.RELEASE, queryset)

    def _do(self, request: HttpRequest, action: Action, queryset: QuerySet[MigrationTask]) -> None:
        public_ids = list(queryset.values_list("public_id", flat=True))
        for result in tasks.bulk(request.user, action, public_ids):  # type: ignore[arg-type]  # the admin lets staff in only
            level = messages.SUCCESS if result.ok else messages.ERROR
            self.message_user(
                request, f"{result.name or result.public_id} ({result.public_id}): {result.message}", level
            )

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Who may look at tasks here may ask; the service decides for each task by the person's role in its account."""
        return self.has_view_permission(request)


@admin.register(Link)
class LinkAdmin(LookOnly):
    list_display = ("name", "task", "desired", "owner", "epoch", "lease_until")
    list_filter = ("desired",)
    search_fields = ("name", "owner", "task__name")
    list_select_related = ("task",)


@admin.register(LinkProgress)
class LinkProgressAdmin(LookOnly):
    list_display = (
        "link",
        "phase",
        "percent",
        "keys_done",
        "commands",
        "lag_bytes",
        "lag_seconds",
        "updated_at",
    )
    list_filter = ("phase",)
    search_fields = ("link__name", "worker_host")
    list_select_related = ("link",)


@admin.register(LogEntry)
class LogEntryAdmin(LookOnly):
    list_display = ("at", "level", "message", "event", "task")
    list_filter = ("level",)
    search_fields = ("task__public_id", "event", "message")
    list_select_related = ("task",)
    ordering = ("-pk",)


@admin.register(Inspection)
class InspectionAdmin(LookOnly):
    list_display = (
        "public_id",
        "kind",
        "status",
        "passed",
        "task",
        "created_at",
        "finished_at",
        "worker_host",
    )
    list_filter = ("kind", "status")
    search_fields = ("public_id", "task__public_id", "task__name")
    list_select_related = ("task",)


@admin.register(PrecheckItem)
class PrecheckItemAdmin(LookOnly):
    list_display = ("code", "side", "outcome", "severity", "title", "inspection")
    list_filter = ("outcome", "severity")
    search_fields = ("code", "inspection__public_id", "inspection__task__public_id")
    list_select_related = ("inspection",)
    ordering = ("-pk",)


@admin.register(IgnoredItem)
class IgnoredItemAdmin(LookOnly):
    list_display = ("code", "side", "task", "reason", "by", "at")
    search_fields = ("code", "task__public_id", "reason")
    list_select_related = ("task", "by")


@admin.register(AppliedRepair)
class AppliedRepairAdmin(LookOnly):
    list_display = ("setting", "instance", "old", "new", "task", "by", "applied_at", "restored_at")
    search_fields = ("setting", "task__public_id", "instance__name")
    list_select_related = ("task", "instance", "by")


@admin.register(Difference)
class DifferenceAdmin(LookOnly):
    """Which kinds, and where; the keys and values belong to the pages of the task."""

    list_display = ("kind", "database", "inspection", "repaired_at", "repaired_by")
    list_filter = ("kind",)
    search_fields = ("inspection__public_id", "inspection__task__public_id")
    list_select_related = ("inspection", "repaired_by")
    fields = ("kind", "database", "inspection", "repaired_at", "repaired_by", "repair_note")
    ordering = ("-pk",)


@admin.register(PhaseSpan)
class PhaseSpanAdmin(LookOnly):
    list_display = ("task", "status", "began_at", "ended_at")
    list_filter = ("status",)
    search_fields = ("task__public_id", "task__name")
    list_select_related = ("task",)
    ordering = ("-pk",)


@admin.register(Sample)
class SampleAdmin(LookOnly):
    list_display = (
        "link",
        "at",
        "span",
        "lag_bytes",
        "lag_seconds",
        "commands_per_second",
        "bytes_per_second",
    )
    list_filter = ("span",)
    search_fields = ("link__name",)
    list_select_related = ("link",)
    ordering = ("-pk",)


@admin.register(TaskAlert)
class TaskAlertAdmin(LookOnly):
    list_display = ("task", "kind", "since", "raised_at", "last_sent_at", "times_sent", "resolved_at")
    list_filter = ("kind",)
    search_fields = ("task__public_id", "task__name")
    list_select_related = ("task",)


@admin.register(SnapshotFile)
class SnapshotFileAdmin(LookOnly):
    list_display = ("public_id", "name", "account", "size", "version", "uploaded_by", "created_at")
    search_fields = ("public_id", "name", "account__name")
    list_select_related = ("account", "uploaded_by")
