"""Where a thread that runs a machine or an actor is: written by it, read by others."""

from __future__ import annotations

import time
from typing import Any


class Progress:
    """Attributes:
    count: grows with each thing that was done.
    since: when the last one was done.
    doing: what it is at, for people.
    waiting: what it waits for; None while it computes.
    """

    def __init__(self) -> None:
        self.count = 0
        self.since = time.monotonic()
        self.doing = "starting"
        self.waiting: Any = None

    @property
    def since_s(self) -> float:
        return time.monotonic() - self.since

    def moved(self, doing: str | None = None, waiting: Any = None) -> None:
        self.count += 1
        self.since = time.monotonic()
        self.waiting = waiting
        if doing is not None:
            self.doing = doing
