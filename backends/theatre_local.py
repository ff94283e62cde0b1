"""local: every actor in a thread of this process. Messages and arrays pass without a copy."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

from dbgraph.actor import (
    COORDINATOR,
    THEATRE,
    Actor,
    Address,
    Arrays,
    Envelope,
    Hire,
    Recordable,
    awaited,
)
from dbgraph.backends.progress import Progress
from dbgraph.backends.states import MachineState, of_progress
from dbgraph.backends.theatre import Cast, Make
from dbgraph.backends.turns import play, posting, told
from dbgraph.errors import DbgraphError, RunError
from dbgraph.trace.events import Recorder


@dataclass(frozen=True, slots=True)
class _Letter:
    """What stands in an inbox, since `at_ns`."""

    sender: Address
    message: Any
    arrays: Arrays
    at_ns: int


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

    sign_s = 0.0

    def __init__(self) -> None:
        self._inboxes: dict[Address, Inbox] = {}
        self._progress: dict[Address, Progress] = {}
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

    def machines(self) -> list[MachineState]:
        """See `states.Telling`."""
        played = sorted(self._progress.copy().items())
        return [of_progress(str(address), progress) for address, progress in played]

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
        progress = self._progress[who] = Progress()
        collector = self._cast.collector
        recorder = Recorder() if collector is not None else None
        if recorder is not None and isinstance(actor, Recordable):
            actor.record(recorder)
        stage = _Stage(self, who, actor, inbox, progress, recorder)
        try:
            with suppress(_Stopped):
                play(actor, stage.hear, stage.post, recorder)
        finally:
            if recorder is not None and collector is not None:
                collector.add(str(who), recorder.take(last=True))
        self._progress.pop(who, None)  # it is over

    def send(
        self, sender: Address, envelopes: Iterable[Envelope], recorder: Recorder | None
    ) -> None:
        """From an actor; what is for one that is over, or never was, is dropped."""
        for envelope in envelopes:
            if envelope.to == THEATRE:
                hire = envelope.message
                assert isinstance(hire, Hire), "nothing else is said to a theatre"
                for address in self._cast.partitions_of(hire.replica):
                    self._hire(address)
            elif envelope.to in self._inboxes:
                posting(recorder, envelope, partial(self._put, sender, envelope))

    def _put(self, sender: Address, envelope: Envelope) -> None:
        letter = _Letter(sender, envelope.message, envelope.arrays, time.monotonic_ns())
        self._inboxes[envelope.to].put(letter)

    def take_due(self, who: Address, recorder: Recorder | None) -> None:
        """What an actor has noted, if it is time."""
        if recorder is not None and self._cast.collector is not None:
            self._cast.collector.take_due(str(who), recorder)

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
    progress: Progress
    recorder: Recorder | None

    def hear(self, patience_s: float | None) -> bool:
        self.theatre.take_due(self.who, self.recorder)
        if patience_s != 0.0:
            self.progress.moved(waiting=awaited(self.actor))
        try:
            letter = self.inbox.get(block=patience_s != 0.0, timeout=patience_s)
        except Empty:
            self.progress.moved("work")
            return False
        if isinstance(letter, _Stop):
            raise _Stopped
        if isinstance(letter, _Failure):
            raise _blame(letter)
        sender, message, arrays = letter.sender, letter.message, letter.arrays
        self.progress.moved(f"{type(message).__name__} from {sender}")
        self.post(told(self.actor, sender, message, arrays, self.recorder, letter.at_ns))
        return True

    def post(self, envelopes: Iterable[Envelope]) -> None:
        self.theatre.send(self.who, envelopes, self.recorder)


def _blame(failure: _Failure) -> BaseException:
    error = failure.error
    if not isinstance(error, Exception):
        return error
    if isinstance(error, DbgraphError):
        raised = RunError(f"{failure.who}: {error.rule}", at=error.at, hint=error.hint)
    else:
        raised = RunError(f"{failure.who}: {type(error).__name__}: {error}")
    raised.__cause__ = error
    return raised
