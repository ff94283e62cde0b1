"""The rules of `dbgraph.actor` about who is called when, for any runtime."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from dbgraph.actor import Actor, Address, Arrays, Envelope
from dbgraph.trace.events import HANDLE, POST, WORK, Recorder

Post = Callable[[Iterable[Envelope]], None]


def play(
    actor: Actor,
    hear: Callable[[float | None], bool],
    post: Post,
    recorder: Recorder | None = None,
) -> None:
    """An actor's life, from its start until it is over.

    Messages go before computing, so that nobody waits longer than one piece of it takes.

    Args:
        hear: waits so many seconds (None: for ever) for something to happen, and brings it to
            the actor; whether something did.
        post: sends what the actor says.
        recorder: notes when it computes; None: nobody asks.
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
            said = _work(actor, recorder)
            busy = said is not None
            post(said or ())


def _work(actor: Actor, recorder: Recorder | None) -> Iterable[Envelope] | None:
    if recorder is None:
        return actor.work()
    began = recorder.clock()
    said = actor.work()
    if said is None:
        return None
    envelopes = list(said)
    recorder.note_message(WORK, "work", "", began, recorder.clock())
    return envelopes


def told(
    actor: Actor,
    sender: Address,
    message: Any,
    arrays: Arrays,
    recorder: Recorder | None,
    arrived_ns: int = 0,
) -> Iterable[Envelope]:
    """A message is brought to an actor; what it says to that.

    Args:
        recorder: notes when it was dealt with.
        arrived_ns: when its last byte was there; 0: just now.
    """
    if recorder is None:
        return actor.receive(sender, message, arrays, time.monotonic())
    began = recorder.clock()
    recorder.arrived_at = arrived_ns or began
    envelopes = list(actor.receive(sender, message, arrays, time.monotonic()))
    about = type(message).__name__, sender, began, recorder.clock(), recorder.arrived_at
    recorder.note_message(HANDLE, *about, sum(a.nbytes for a in arrays))
    return envelopes


def posting(recorder: Recorder | None, envelope: Envelope, send: Callable[[], None]) -> None:
    """Sends it; it is noted when it has been handed over."""
    if recorder is None:
        send()
        return
    began = recorder.clock()
    send()
    about = type(envelope.message).__name__, envelope.to, began, recorder.sent()
    size_bytes = sum(a.nbytes for a in envelope.arrays)
    recorder.note_message(POST, *about, 0, size_bytes)


def _until(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())
