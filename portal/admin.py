"""The administration of the fleet, for staff. What was detected is shown and never edited; changes go through the services."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from portal.choices import InstanceStatus
from portal.errors import ServiceError
from portal.models import Account, AuditEntry, Endpoint, Instance, MaintenanceWindow, Membership, Node
from portal.services import audit, instances
from portal.services.instances import DETECTED_FIELDS

admin.site.site_title = admin.site.site_header = "Switchyard administration"
admin.site.index_title = "Tables"


class LookOnly(admin.ModelAdmin):  # type: ignore[type-arg]
    """No adding, changing or deleting: that would go around permission, rules and audit."""

    list_per_page = 50
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class MembershipInline(admin.TabularInline):  # type: ignore[type-arg]
    model = Membership
    extra = 0
    autocomplete_fields = ["user"]
    readonly_fields = ["created_at"]


@admin.register(Account)
class AccountAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["name", "public_id", "is_operations", "created_at"]
    list_filter = ["is_operations"]
    search_fields = ["name", "public_id"]
    readonly_fields = ["public_id", "created_at"]
    inlines = [MembershipInline]

    def save_model(
        self, request: HttpRequest, obj: Account, form: forms.ModelForm[Account], change: bool
    ) -> None:
        super().save_model(request, obj, form, change)
        audit.record(request.user, "account.changed" if change else "account.created", obj)  # type: ignore[arg-type]

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        super().save_formset(request, form, formset, change)
        if formset.has_changed():
            members = [f"{each.user.get_username()}: {each.role}" for each in form.instance.memberships.all()]
            audit.record(request.user, "account.members_changed", form.instance, members=members)  # type: ignore[arg-type]

    def delete_model(self, request: HttpRequest, obj: Account) -> None:
        audit.record(request.user, "account.deleted", obj)  # type: ignore[arg-type]
        super().delete_model(request, obj)


class EndpointInline(admin.StackedInline):  # type: ignore[type-arg]
    """Read-only: an address is changed in the console, where the server is asked before anything is saved."""

    model = Endpoint
    can_delete = False
    FIELDS = ("address", "tls", "tls_verify", "tls_server_name", "username", "has_password")
    fields = FIELDS
    readonly_fields = FIELDS

    def has_add_permission(self, request: HttpRequest, obj: Instance | None = None) -> bool:
        return False

    @admin.display(description="Password stored", boolean=True)
    def has_password(self, obj: Endpoint) -> bool:
        return bool(obj.password)


class NodeInline(admin.TabularInline):  # type: ignore[type-arg]
    model = Node
    can_delete = False
    FIELDS = ("address", "role", "version", "run_id")
    fields = FIELDS
    readonly_fields = FIELDS

    def has_add_permission(self, request: HttpRequest, obj: Instance | None = None) -> bool:
        return False


@admin.register(Instance)
class InstanceAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = [
        "name",
        "public_id",
        "account",
        "status",
        "edition",
        "version",
        "role",
        "region",
        "checked_at",
    ]
    list_filter = ["status", "edition", "compatible_version", "role", "region", "account"]
    list_select_related = ["account"]
    search_fields = ["name", "public_id", "endpoint__host"]
    fields = [
        "public_id", "account", "name", "region", "zone", "proxy_version", "description", "status", "checked_at",
        "last_error",
        *DETECTED_FIELDS, "created_at",
    ]  # fmt: skip
    readonly_fields = [
        "public_id", "account", "status", "checked_at", "last_error", *DETECTED_FIELDS, "created_at",
    ]  # fmt: skip
    inlines = [EndpointInline, NodeInline]
    actions = ["check_now"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False  # registering asks the server first: that is a page of the console

    def save_model(
        self, request: HttpRequest, obj: Instance, form: forms.ModelForm[Instance], change: bool
    ) -> None:
        super().save_model(request, obj, form, change)
        audit.record(request.user, "instance.changed", obj, changed=form.changed_data)  # type: ignore[arg-type]

    def delete_model(self, request: HttpRequest, obj: Instance) -> None:
        instances.delete_instance(_actor(request), obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Instance]) -> None:
        for instance in queryset.select_related("account", "endpoint"):
            instances.delete_instance(_actor(request), instance)

    @admin.action(description="Check the selected instances now", permissions=["change"])
    def check_now(self, request: HttpRequest, queryset: QuerySet[Instance]) -> HttpResponse | None:
        checked = failed = 0
        for instance in queryset.select_related("account", "endpoint"):
            try:
                instances.refresh_instance(_actor(request), instance)
            except ServiceError as error:
                self.message_user(request, f"{instance.name}: {error}", messages.ERROR)
                continue
            checked += 1
            failed += instance.status != InstanceStatus.ONLINE
        level = messages.WARNING if failed else messages.SUCCESS
        self.message_user(request, f"{checked} checked, {failed} of them not reached.", level)
        return None


@admin.register(MaintenanceWindow)
class MaintenanceWindowAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """To be looked at: they are set in the console, where what is entered is checked and recorded."""

    list_display = ["__str__", "account", "instance", "time_zone", "changed_at"]
    list_filter = ["time_zone"]
    list_select_related = ["account", "instance"]
    search_fields = ["account__name", "account__public_id", "instance__name", "instance__public_id"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: MaintenanceWindow | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: MaintenanceWindow | None = None) -> bool:
        return False


@admin.register(AuditEntry)
class AuditEntryAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["at", "actor_name", "action", "object_name", "object_id", "account"]
    list_filter = ["action", "account"]
    list_select_related = ["account"]
    search_fields = ["action", "object_id", "object_name", "actor_name"]
    date_hierarchy = "at"

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: AuditEntry | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: AuditEntry | None = None) -> bool:
        return False


def _actor(request: HttpRequest) -> Any:
    """Staff act as the system here: Django's permission for the model has been checked, membership does not matter."""
    return request.user if getattr(request.user, "is_superuser", False) else None
