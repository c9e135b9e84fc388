"""The app of the migration tasks."""

from __future__ import annotations

from django.apps import AppConfig


class MigrationsAppConfig(AppConfig):
    """Tasks, links, their progress and log; the background work that runs them."""

    name = "migrations_app"
    label = "migrations_app"
    verbose_name = "Migration"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from migrations_app import panels

        # Every process knows what follows an inspection, and which commands there are.
        from migrations_app.runner import configuration as configuration
        from migrations_app.services import alerts as alerts
        from migrations_app.services import connectivity as connectivity
        from migrations_app.services import prechecks as prechecks
        from migrations_app.services import sharing
        from portal import navigation, scopes
        from portal.services import roles

        scopes.register("migrations:read", "See migrations, their log and their checks")
        scopes.register("migrations:write", "Create, check, run, verify and stop migrations")
        navigation.register(
            navigation.Entry("Migrations", "task_list", "arrow-left-right", "Operations", 20, ("task_",))
        )
        roles.register("migrations", uses=sharing.uses, changed=sharing.role_changed)
        navigation.register_home_panel("migrations", panels.home_panel)
        navigation.register_instance_panel("migrations", panels.instance_panel)
