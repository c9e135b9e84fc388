"""What time it is for the source.

Expiries are times of the source's clock. The clock of this machine may say something else, and may be set while a link runs: with it, a
relative expiry of the stream would strike early or late. So the source is asked, and in between the time goes on by the monotonic clock.
"""

from __future__ import annotations

import time

from migrations_app.engine.client import Client


class Clock:
    """`ahead` is by how many ms the source's clock is ahead of the monotonic clock of this machine; None where the source does not
    tell: then the time is that of this machine. It is set anew as often as the source is asked (also from another thread).
    """

    def __init__(self, ahead: int | None) -> None:
        self.ahead = time.time_ns() // 1_000_000 - _monotonic_ms() if ahead is None else ahead

    def now_ms(self) -> int:
        """ms since the epoch."""
        return _monotonic_ms() + self.ahead

    def ask(self, client: Client) -> None:
        """Look at the source's clock again."""
        ahead = ahead_of(client)
        if ahead is not None:
            self.ahead = ahead


def ahead_of(client: Client) -> int | None:
    """By how many ms a server's clock is ahead of the monotonic clock here; None where it does not tell (an ACL without TIME)."""
    before = _monotonic_ms()
    (reply,) = client.pipeline([("TIME",)])
    if not isinstance(reply, list) or len(reply) != 2:
        return None
    # It was read between question and answer: the middle is wrong by half of the way there and back at most.
    seconds, micros = (int(part) for part in reply)  # type: ignore[arg-type]
    return seconds * 1000 + micros // 1000 - (before + _monotonic_ms()) // 2


def _monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000
