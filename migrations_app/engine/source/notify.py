"""Keyspace notifications of a source: whether they tell enough, and switching them on and back.

Flags: `notify.c` of Redis. K or E: by key or by event; A stands for all classes; n (new keys) and m (misses) are not in it.
"""

from __future__ import annotations

from typing import Final

from migrations_app.engine import errors
from migrations_app.engine.client import Client
from migrations_app.engine.config import Notifications
from migrations_app.engine.protocol.resp import ReplyError

_PARAMETER: Final = "notify-keyspace-events"
_CLASSES: Final = frozenset("g$lshzxe")
BY_EVENT: Final = "__keyevent@*__:*"
BY_KEY: Final = "__keyspace@*__:*"


class NotificationsMissing(errors.UsageError):
    id = "source.notifications_missing"
    advice = (
        "Set notify-keyspace-events to KEA on the source, or let the link do so while it runs (--notifications enable), or copy once "
        "(--phases full)."
    )


class NotificationsOff(errors.ConnectError):
    id = "source.notifications_off"
    advice = "The link reads all keys again. See who changes notify-keyspace-events on the source."


def sufficient(flags: str, version: tuple[int, ...]) -> bool:
    """Whether these flags report every change of a key."""
    needed = _CLASSES | ({"t"} if version >= (5,) else set())
    return bool(set(flags) & {"K", "E"}) and ("A" in flags or needed <= set(flags))


class NotificationSwitch:
    """`prepare` tells the pattern to subscribe to; `restore` takes back what `prepare` has set, if it still is as it was set."""

    def __init__(self) -> None:
        self._before: str | None = None  # to be restored
        self._set = ""
        self._looked_at = False  # whether the source tells its flags
        self._version: tuple[int, ...] = ()

    @property
    def changed(self) -> bool:
        return self._before is not None

    def prepare(self, client: Client, wish: Notifications, version: tuple[int, ...]) -> str:
        address = client.endpoint.address
        self._looked_at, self._version = wish is not Notifications.ASSUME, version
        if wish is Notifications.ASSUME:
            return BY_EVENT
        (reply,) = client.pipeline([("CONFIG", "GET", _PARAMETER)])
        if isinstance(reply, ReplyError) or not isinstance(reply, list) or len(reply) != 2:
            raise NotificationsMissing(
                f"{address}: the source does not tell whether it sends keyspace notifications (CONFIG GET: {reply!r}); "
                "nothing was changed",
                advice="Allow +config|get, or set notify-keyspace-events to KEA and say so (--notifications assume), or copy once "
                "(--phases full).",
            )
        flags = _text(reply[1])
        if sufficient(flags, version):
            return BY_EVENT if "E" in flags else BY_KEY
        if wish is not Notifications.ENABLE:
            raise NotificationsMissing(
                f"{address}: the source sends too few keyspace notifications to follow its changes ({_PARAMETER} is "
                f"{flags!r}); nothing was changed"
            )
        client.execute("CONFIG", "SET", _PARAMETER, "".join(dict.fromkeys(flags + "EA")))
        if self._before is None:
            self._before = flags
        self._set = self._now(client)
        return BY_EVENT

    def question(self) -> list[tuple[str, ...]]:
        """What to ask from time to time, for `check`; nothing where the source does not tell."""
        return [("CONFIG", "GET", _PARAMETER)] if self._looked_at else []

    def check(self, reply: object, address: str) -> None:
        """Raise when the notifications have been switched off under the link."""
        flags = _text(reply[1]) if isinstance(reply, list) and len(reply) == 2 else ""
        if not sufficient(flags, self._version):
            raise NotificationsOff(
                f"{address}: keyspace notifications were switched off ({_PARAMETER} is {flags!r}), so changes may have been missed"
            )

    def restore(self, client: Client) -> None:
        if self._before is None:
            return
        if self._now(client) == self._set:
            client.execute("CONFIG", "SET", _PARAMETER, self._before)
        self._before = None

    @staticmethod
    def _now(client: Client) -> str:
        reply = client.execute("CONFIG", "GET", _PARAMETER)
        return _text(reply[1]) if isinstance(reply, list) and len(reply) == 2 else ""


def changed_key(message: object) -> tuple[int, bytes] | None:
    """(database, key) that a message of the subscription is about; None for anything else."""
    if not isinstance(message, list) or len(message) != 4 or message[0] != b"pmessage":
        return None
    pattern, channel, payload = message[1:]
    if not (isinstance(pattern, bytes) and isinstance(channel, bytes) and isinstance(payload, bytes)):
        return None
    head, _, tail = channel.partition(b"__:")
    database = head.partition(b"@")[2]
    if not database.isdigit():
        return None
    return int(database), payload if channel.startswith(b"__keyevent@") else tail


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
