"""local: every actor in a thread of this process. Messages and arrays pass without a copy."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from dbgraph.actor import COORDINATOR, THEATRE, Actor, Address, Arrays, Envelope, Hire
from dbgraph.backends.theatre import Cast, Make
from dbgraph.backends.turns import play
from dbgraph.errors import DbgraphError, RunError


@dataclass(frozen=True, slots=True)
class _Letter:
    """What stands in an inbox."""

    sender: Address
    message: Any
    arrays: Arrays = ()


@dataclass(frozen=True, slots=True)
class _Stop:
    """End at once."""


@dataclass(frozen=True, slots=True)
class _Failure:
    """To the coordinator's thread: an actor raised this."""

    who: Address
    error: BaseException


Inbox = SimpleQueue[_Letter | _Stop | _Failure]


class LocalTheatre:
    """See `theatre.Theatre`."""

    def __init__(self) -> None:
        self._inboxes: dict[Address, Inbox] = {}
        self._threads: list[threading.Thread] = []

    def run(self, cast: Cast, coordinator: Actor) -> None:
        inbox = self._inboxes[COORDINATOR] = SimpleQueue()
        self._cast = cast
        try:
            for address in cast.first:
                self._hire(address)
            self._play(COORDINATOR, coordinator, inbox)
        finally:
            self._end()

    def _hire(self, address: Address) -> None:
        self._inboxes[address] = SimpleQueue()
        args = self._cast.make, address
        # A daemon, so that a third Ctrl-C need not wait for a long piece of computing.
        thread = threading.Thread(target=self._perform, args=args, name=str(address), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _perform(self, make: Make, address: Address) -> None:
        """An actor's life, in its own thread."""
        inbox = self._inboxes[address]
        try:
            self._play(address, make(address), inbox)
        except BaseException as error:
            self._inboxes[COORDINATOR].put(_Failure(address, error))

    def _play(self, who: Address, actor: Actor, inbox: Inbox) -> None:
        stage = _Stage(self, who, actor, inbox)
        with suppress(_Stopped):
            play(actor, stage.hear, stage.post)

    def send(self, sender: Address, envelopes: Iterable[Envelope]) -> None:
        """From an actor; what is for one that is over, or never was, is dropped."""
        for to, message, arrays in envelopes:
            if to == THEATRE:
                assert isinstance(message, Hire), "nothing else is said to a theatre"
                for address in self._cast.partitions_of(message.replica):
                    self._hire(address)
            elif to in self._inboxes:
                self._inboxes[to].put(_Letter(sender, message, arrays))

    def _end(self) -> None:
        for inbox in self._inboxes.values():
            inbox.put(_Stop())
        for thread in self._threads:
            thread.join()


class _Stopped(Exception):
    """The run has ended."""


@dataclass(frozen=True, slots=True)
class _Stage:
    """What an actor hears from and speaks to."""

    theatre: LocalTheatre
    who: Address
    actor: Actor
    inbox: Inbox

    def hear(self, patience_s: float | None) -> bool:
        try:
            letter = self.inbox.get(block=patience_s != 0.0, timeout=patience_s)
        except Empty:
            return False
        if isinstance(letter, _Stop):
            raise _Stopped
        if isinstance(letter, _Failure):
            raise _blame(letter)
        sender, message, arrays = letter.sender, letter.message, letter.arrays
        self.post(self.actor.receive(sender, message, arrays, time.monotonic()))
        return True

    def post(self, envelopes: Iterable[Envelope]) -> None:
        self.theatre.send(self.who, envelopes)


def _blame(failure: _Failure) -> BaseException:
    error = failure.error
    if not isinstance(error, Exception):
        return error
    rule = error.rule if isinstance(error, DbgraphError) else f"{type(error).__name__}: {error}"
    hint = error.hint if isinstance(error, DbgraphError) else ""
    raised = RunError(f"{failure.who}: {rule}", hint=hint)
    raised.__cause__ = error
    return raised
