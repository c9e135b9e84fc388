from django.apps import AppConfig


class PortalConfig(AppConfig):
    name = "portal"
    verbose_name = "Fleet"

    def ready(self) -> None:
        from portal import checks, navigation  # noqa: F401  # both register when they are imported
