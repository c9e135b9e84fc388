"""Phone, SMS, chat and paging, through apprise: one URL per channel.

The URL holds the token of the service. What apprise logs, and what it says of a failure, can repeat parts of it: so nothing of
that is handed on but the service's status.
"""

from __future__ import annotations

import logging
import re
from typing import Final

import apprise

from portal import networks
from portal.delivery.errors import NotSent
from portal.delivery.links import absolute
from portal.models import Delivery

# What would reach into the machine or its network instead of a service: webhooks have a channel of their own, which checks addresses.
REFUSED: Final = frozenset(
    {
        "apprise", "apprises", "blink1", "dbus", "form", "forms", "gio", "glib", "gnome", "growl", "json", "jsons", "kde", "macosx",
        "mailto", "mailtos", "mqtt", "mqtts", "qt", "rsyslog", "smpp", "smpps", "syslog", "windows", "xml", "xmls",
    }
)  # fmt: skip

_STATUS: Final = re.compile(r"\berror=([1-5][0-9]{2})\b")

logging.getLogger("apprise").propagate = False


def problem_of(url: str) -> str:
    """Why this is no URL of a channel; "" if it is one."""
    scheme = url.partition("://")[0].strip().lower()
    if scheme in REFUSED:
        return f"{scheme}:// is not served as a channel."
    return "" if _plugin(url) else "This is no URL that apprise knows."


def send(delivery: Delivery) -> None:
    told = delivery.notification
    url = delivery.channel.address.reveal() if delivery.channel else ""
    plugin = None if problem_of(url) else _plugin(url)
    if plugin is None:
        raise NotSent(problem_of(url), for_good=True)
    _check_host(plugin)
    target = apprise.Apprise()
    target.add(plugin)
    body = fitting(told.subject, told.text, absolute(told.url), plugin)
    with apprise.LogCapture(level=logging.WARNING, fmt="%(message)s") as log:  # type: ignore[no-untyped-call]
        ok = target.notify(
            title=told.subject,
            body=body,
            notify_type=apprise.NotifyType.WARNING if told.urgent else apprise.NotifyType.INFO,
            body_format=apprise.NotifyFormat.TEXT,
        )
        said = log.getvalue()
    if not ok:
        status = _STATUS.search(said)
        reason = f"It answered {status[1]}" if status else "It could not be reached, or refused the message"
        raise NotSent(f"The service did not take the message. {reason}.")


def fitting(subject: str, text: str, link: str, plugin: apprise.NotifyBase) -> str:
    """As many paragraphs as the service takes, and the link: a message by SMS that is too long is refused, and nobody is woken by it."""
    room = int(plugin.body_maxlen) - (0 if plugin.title_maxlen else len(subject) + 2)
    whole = f"{text}\n\n{link}" if link else text
    if len(whole) <= room:
        return whole
    kept = ""
    for paragraph in text.split("\n\n"):
        longer = f"{kept}{paragraph}\n\n"
        if len(longer) + len(link) > room:
            break
        kept = longer
    return (kept + link).strip() or text[: max(room, 0)]


def _plugin(url: str) -> apprise.NotifyBase | None:
    # A redirect would lead past the check of the host.
    asset = apprise.AppriseAsset(async_mode=False, http_redirects=False)
    found = apprise.Apprise.instantiate(url, asset=asset, suppress_exceptions=True)
    if not isinstance(found, apprise.NotifyBase):
        return None
    found.redirects = False  # whatever the URL asks for
    return found


def _check_host(plugin: apprise.NotifyBase) -> None:
    """Of the services that run at an address of their own. Public ones are what this channel is for; those of the machine's own
    surroundings (metadata of clouds) are not."""
    host = getattr(plugin, "host", None)
    if not isinstance(host, str) or not host:
        return
    try:
        addresses = networks.resolve(host, 0)
    except networks.NoSuchHost:
        raise NotSent("The host in the channel's URL does not resolve.") from None
    if not all(networks.is_allowed(one) or networks.is_public(one) for one in addresses):
        raise NotSent("The host in the channel's URL is an address that is not served.")
