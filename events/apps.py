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
        from events import catalogue, executors
        from events import checks as checks  # registers them
        from events.executors.manual import Manual
        from events.executors.simulated import Simulated
        from portal import scopes

        post_migrate.connect(catalogue.after_migrate, sender=self, dispatch_uid="events.catalogue")
        executors.register(Manual())
        executors.register(Simulated())
        scopes.register("events:read", "See O&M events")
        scopes.register("events:write", "Reschedule, acknowledge and cancel O&M events")
        scopes.register("events:publish", "Publish O&M events (staff)")
        _add_to_console()


def _add_to_console() -> None:
    from events import panels, prompts
    from portal import navigation

    navigation.register(navigation.Entry("Events", "event_list", "calendar", "Operations", 15, ("event_",)))
    navigation.register_list("event_history", "History of events")
    navigation.register_home_panel("events", panels.home_panel)
    navigation.register_instance_panel("events", panels.instance_panel)
    navigation.register_banner("events", prompts.banner)
    navigation.register_count("event_list", prompts.count)
