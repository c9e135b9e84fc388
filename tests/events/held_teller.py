"""`python -m tests.events.held_teller MOMENT FILE`: tells what is due, as a worker does, and stops in the middle until it is killed.

It makes FILE when it has come to the moment: `composing` (within the transaction, some messages are made), `written` (they are stored,
the occasions are not yet marked), `committed` (all of it is stored, no worker has been asked to send it).
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import django


def main(moment: str, file: Path) -> None:
    django.setup()

    from django.utils import timezone

    from events import messages
    from events.services import telling
    from portal.services import deliveries

    module, name, call = {
        "composing": (messages, "compose", 3),
        "written": (telling, "_settle", 1),
        "committed": (deliveries, "ring", 1),
    }[moment]
    genuine, calls = getattr(module, name), 0

    def held(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            file.touch()
            threading.Event().wait()
        return genuine(*args, **kwargs)

    setattr(module, name, held)
    telling.tell_due(now=timezone.now())


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
