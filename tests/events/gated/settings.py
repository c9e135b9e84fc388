"""Those of the console, and the app of this folder."""

from portal.settings import *  # noqa: F403

INSTALLED_APPS = [*INSTALLED_APPS, "tests.events.gated.apps.GatedConfig"]  # noqa: F405
