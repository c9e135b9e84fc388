"""The app of the migration tasks."""

from __future__ import annotations

from django.apps import AppConfig


class MigrationsAppConfig(AppConfig):
    """Tasks, links, their progress and log; the background work that runs them."""

    name = "migrations_app"
    label = "migrations_app"
    verbose_name = "Migration"
    default_auto_field = "django.db.models.BigAutoField"
