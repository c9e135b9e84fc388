"""The app of the O&M events."""

from __future__ import annotations

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class EventsConfig(AppConfig):
    """Events, campaigns and their catalogue; who is told; who carries them out."""

    name = "events"
    label = "events"
    verbose_name = "O&M events"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from events import catalogue
        from portal import scopes

        post_migrate.connect(catalogue.after_migrate, sender=self, dispatch_uid="events.catalogue")
        scopes.register("events:read", "See O&M events")
        scopes.register("events:write", "Reschedule, acknowledge and cancel O&M events")
        scopes.register("events:publish", "Publish O&M events (staff)")
