"""The rules of `dbgraph.actor` about who is called when, for any runtime."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from dbgraph.actor import Actor, Envelope

Post = Callable[[Iterable[Envelope]], None]


def play(actor: Actor, hear: Callable[[float | None], bool], post: Post) -> None:
    """An actor's life, from its start until it is over.

    Messages go before computing, so that nobody waits longer than one piece of it takes.

    Args:
        hear: waits so many seconds (None: for ever) for something to happen, and brings it to
            the actor; whether something did.
        post: sends what the actor says.
    """
    post(actor.start(time.monotonic()))
    busy = True
    while not actor.is_over:
        now = time.monotonic()
        deadline = actor.deadline
        if deadline is not None and now >= deadline:
            post(actor.tick(now))
            busy = True
        if hear(0.0 if busy else _until(actor.deadline)):
            busy = True
        elif busy and not actor.is_over:
            said = actor.work()
            busy = said is not None
            post(said or ())


def _until(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())
