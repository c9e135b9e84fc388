"""The admin of the migrations: everything to be looked at, nothing to be changed but through the services."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django_q.models import Schedule

from migrations_app.models import Link, LinkProgress, LogEntry, MigrationTask
from migrations_app.services import tasks
from portal.templatetags.portal import badge

# A form in which any function of Python can be named and run has no place in a console.
admin.site.unregister(Schedule)


class LookOnly(admin.ModelAdmin):  # type: ignore[type-arg]
    """No adding, changing or deleting: that would go around permission, state table and audit."""

    list_per_page = 50
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


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
    actions = ("stop_selected",)

    @admin.display(description="status", ordering="status")
    def shown_status(self, task: MigrationTask) -> SafeString:
        return badge(task.status_badge)

    @admin.action(description="Stop selected tasks", permissions=["stop"])
    def stop_selected(self, request: HttpRequest, queryset: QuerySet[MigrationTask]) -> None:
        public_ids = list(queryset.values_list("public_id", flat=True))
        for result in tasks.stop_tasks(request.user, public_ids):  # type: ignore[arg-type]  # the admin lets staff in only
            level = messages.SUCCESS if result.ok else messages.ERROR
            self.message_user(
                request, f"{result.name or result.public_id} ({result.public_id}): {result.message}", level
            )

    def has_stop_permission(self, request: HttpRequest) -> bool:
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
