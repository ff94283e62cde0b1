"""What an actor says to itself: a leader is one of its own partitions."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from dbgraph.actor import Address, Arrays, Envelope

Take = Callable[[Address, Any, Arrays], Iterable[Envelope]]
"""(sender, message, arrays) → what it leads to."""


def delivered(me: Address, envelopes: Iterable[Envelope], take: Take) -> list[Envelope]:
    """The envelopes to others; those to itself are taken at once, and so is what they lead to."""
    found: list[Envelope] = []
    waiting = deque(envelopes)
    while waiting:
        one = waiting.popleft()
        if one.to == me:
            waiting.extend(take(me, one.message, one.arrays))
        else:
            found.append(one)
    return found
