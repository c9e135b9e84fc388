"""The entries of the sidebar. Apps add theirs in `AppConfig.ready()`, so that portal need not know them:

navigation.register(navigation.Entry("Migrations", "task_list", "arrow-left-right", "Operations", 20, ("task_",)))
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from portal.htmx import HtmxHttpRequest
    from portal.models import Instance


@dataclass(frozen=True)
class Entry:
    """One link. It is the current one on every page whose URL name starts with one of `prefixes`."""

    label: str
    url_name: str
    icon: str
    """A name in portal/icons.py."""
    section: str
    """The heading under which it stands: "", "Fleet", "Operations" or "Organisation"."""
    order: int
    """Ascending, over all sections; a section stands where its first entry does."""
    prefixes: tuple[str, ...] = ()
    staff_only: bool = False

    def is_current(self, url_name: str) -> bool:
        return url_name == self.url_name or url_name.startswith(self.prefixes or ("\0",))


_entries: dict[str, Entry] = {}


def register(entry: Entry) -> None:
    """Adds the entry, or replaces the one with the same URL name."""
    _entries[entry.url_name] = entry


def entries() -> list[Entry]:
    return sorted(_entries.values(), key=lambda entry: entry.order)


register(Entry("Overview", "home", "grid", "", 0))
register(Entry("Instances", "instance_list", "server", "Fleet", 10, ("instance_",)))
register(Entry("Accounts", "account_list", "people", "Organisation", 50, ("account_",)))
register(Entry("Audit log", "audit_list", "clipboard", "Organisation", 60))


# --- Lists ------------------------------------------------------------------------------------------------------------
# Of these a person saves views: of the lists in the menu (their URL names end with "_list"), and of those below them.

_lists: dict[str, str] = {}


def register_list(url_name: str, label: str) -> None:
    """A list that has no entry of its own."""
    _lists[url_name] = label


def list_label(url_name: str) -> str:
    """The name of the list with this URL name; "" if it is none."""
    of_menu = {one.url_name: one.label for one in entries() if one.url_name.endswith("_list")}
    return (of_menu | _lists).get(url_name, "")


# --- Panels -----------------------------------------------------------------------------------------------------------
# Apps also add panels to the overview and to the page of an instance. A panel is a function that returns HTML
# (`render_to_string("migrations_app/_home_panel.html", …)`), or "" to show nothing. It is called on every
# view of the page: a constant number of queries, and no network.

HomePanel = Callable[["HtmxHttpRequest"], str]
InstancePanel = Callable[["HtmxHttpRequest", "Instance"], str]

_home_panels: dict[str, HomePanel] = {}
_instance_panels: dict[str, InstancePanel] = {}


def register_home_panel(name: str, panel: HomePanel) -> None:
    """Adds a panel to the overview, or replaces the one of this name."""
    _home_panels[name] = panel


def register_instance_panel(name: str, panel: InstancePanel) -> None:
    """Adds a panel to the page of an instance, or replaces the one of this name."""
    _instance_panels[name] = panel


def home_panels() -> list[HomePanel]:
    return list(_home_panels.values())


def instance_panels() -> list[InstancePanel]:
    return list(_instance_panels.values())


# --- Banners and counts -----------------------------------------------------------------------------------------------
# Apps also add banners, which stand above the content of every page, and counts beside entries of the sidebar. They are asked when a
# whole page is rendered, never for a fragment: a constant, small number of queries, and no network.

Banner = Callable[["HtmxHttpRequest"], str]
Count = Callable[["HtmxHttpRequest"], int]

_banners: dict[str, Banner] = {}
_counts: dict[str, Count] = {}


def register_banner(name: str, banner: Banner) -> None:
    """Adds a function that returns HTML, or "" to show nothing; or replaces the one of this name."""
    _banners[name] = banner


def register_count(url_name: str, count: Count) -> None:
    """Adds the number of things that need somebody to the entry with this URL name; 0 shows none."""
    _counts[url_name] = count


def banners(request: HtmxHttpRequest) -> list[str]:
    return [html for banner in _banners.values() if (html := banner(request))]


def count_of(entry: Entry, request: HtmxHttpRequest) -> int:
    count = _counts.get(entry.url_name)
    return count(request) if count else 0
