"""What every channel raises."""

from __future__ import annotations


class NotSent(Exception):
    """The message has not left, or nobody knows. `for_good`: no further attempt can help."""

    def __init__(self, message: str, *, for_good: bool = False) -> None:
        self.message = message
        self.for_good = for_good
        super().__init__(message)
