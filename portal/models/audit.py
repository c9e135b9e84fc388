"""Who did what, when. Rows are added and never changed."""

from __future__ import annotations

from typing import Any, NoReturn

from django.conf import settings
from django.db import models

from portal.models.accounts import Account


class AuditQuerySet(models.QuerySet["AuditEntry"]):
    def visible_to(self, user: Any) -> AuditQuerySet:
        if not user.is_active or not user.pk:
            return self.none()
        return self if user.is_superuser else self.filter(account__members=user)

    def update(self, **kwargs: Any) -> NoReturn:
        raise TypeError("Audit entries are not changed.")

    def delete(self) -> NoReturn:
        raise TypeError("Audit entries are not deleted.")


class AuditEntry(models.Model):
    """One action. Names are copied, so that the entry can be read after its actor, account or object is gone."""

    at = models.DateTimeField(auto_now_add=True, db_index=True)
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    actor_name = models.CharField(max_length=150, blank=True, help_text="Empty: the system.")
    account = models.ForeignKey(
        Account, null=True, blank=True, on_delete=models.SET_NULL, related_name="audit_entries"
    )
    action = models.CharField(max_length=64, db_index=True, help_text="For example instance.registered.")
    object_type = models.CharField(max_length=64, blank=True)
    object_id = models.CharField(max_length=64, blank=True)
    object_name = models.CharField(max_length=200, blank=True)
    details = models.JSONField(default=dict, blank=True)

    objects = AuditQuerySet.as_manager()

    class Meta:
        ordering = ["-at", "-pk"]
        verbose_name_plural = "audit entries"
        indexes = [models.Index(fields=["object_type", "object_id", "-at"], name="audit_of_object")]

    def __str__(self) -> str:
        return f"{self.action} {self.object_name}".strip()

    def save(self, *args: Any, **kwargs: Any) -> None:
        if self.pk is not None:
            raise TypeError("Audit entries are not changed.")
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError("Audit entries are not deleted.")

    @property
    def detail_items(self) -> list[tuple[str, str]]:
        """The details that say something, as (name, text) for people."""
        return [
            (name.replace("_", " "), ", ".join(map(str, value)) if isinstance(value, list) else str(value))
            for name, value in self.details.items()
            if value not in (None, "", [], False)
        ]
