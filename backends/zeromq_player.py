"""The main thread of an actor's process: it is told which actor it is, makes it, and plays it.

Who is where it learns from the driver, before anybody can speak of them; lines to the others are
opened when one of the two first has something to say (`Link.introduce`).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from functools import partial

from dbgraph.actor import (
    COORDINATOR,
    THEATRE,
    Actor,
    Address,
    Awaited,
    Envelope,
    Recordable,
    awaited,
)
from dbgraph.backends.progress import Progress
from dbgraph.backends.states import beat_of
from dbgraph.backends.turns import play, posting, told
from dbgraph.backends.zeromq_cast import unpack_make
from dbgraph.backends.zeromq_events import Arrived, Broken, Happening
from dbgraph.backends.zeromq_failure import report_failure
from dbgraph.backends.zeromq_link import Link
from dbgraph.backends.zeromq_notes import hand_in, hand_in_rest
from dbgraph.trace.events import Recorder
from dbgraph.wire import messages as m
from dbgraph.wire.letter import read_letter, write_letter

_LOOK_S = 0.01
_SAY_GOODBYE_S = 2.0


class Stopped(Exception):
    """The driver said so."""


class Player:
    """One actor of one job; it has the place of `zeromq_service.Service`.

    Args:
        record: whether it notes what it does.
    """

    def __init__(self, record: bool = False) -> None:
        self._recorder = Recorder() if record else None
        self.progress = Progress()
        self._link: Link | None = None
        self._who = {m.DRIVER: COORDINATOR}
        self._process = {COORDINATOR: m.DRIVER, THEATRE: m.DRIVER}
        self._early: deque[Happening] = deque()

    def beat(self) -> m.Heartbeat:
        """Where the main thread is; the I/O thread calls it."""
        progress, link = self.progress, self._link
        counters = dict(link.counters, resent=link.resent, lines=link.lines) if link else {}
        return beat_of(progress, counters)

    def run(self, link: Link) -> None:
        """Plays until the actor is over or the driver says stop; tells the driver what fails."""
        self._link = link
        try:
            actor = self._make(link)
            self.progress.moved("its start")
            if self._recorder is not None and isinstance(actor, Recordable):
                actor.record(self._recorder)
            hear = partial(self._hear, link, actor)
            play(actor, hear, self._post, self._recorder)
            self._leave(link)
        except Stopped:
            self._hand_in_rest(link)
            link.acknowledge()
        except Exception as error:
            self._hand_in_rest(link)
            report_failure(link, error, str(self.progress.doing))
            raise

    # --- before ---

    def _make(self, link: Link) -> Actor:
        """Waits for the part; what comes for the actor meanwhile is kept."""
        while True:
            happening = _happened(link, None)
            if not isinstance(happening, Arrived):
                continue
            message = happening.parcel.message
            if isinstance(message, m.Play):
                break
            if isinstance(message, m.Stop):
                raise Stopped
            if isinstance(message, m.Letter | m.Gone):
                self._early.append(happening)
            elif isinstance(message, m.Enter):
                self._meet(message)
            elif isinstance(message, m.Assign) and message.record:
                self._recorder = Recorder()
        me = Address(message.role, message.number, message.partition)
        self.progress.moved("being made")
        return unpack_make(happening.parcel.arrays[0].tobytes())(me)

    def _meet(self, enter: m.Enter) -> None:
        address = Address(enter.role, enter.number, enter.partition)
        self._who[enter.process] = address
        self._process[address] = enter.process

    # --- on stage ---

    def _hear(self, link: Link, actor: Actor, patience_s: float | None) -> bool:
        if self._recorder is not None:
            hand_in(link, self._recorder)
        if self._early:
            happening: Happening | None = self._early.popleft()
        else:
            if patience_s != 0:
                self.progress.moved(waiting=awaited(actor))
            happening = _happened(link, patience_s)
        if isinstance(happening, Arrived):
            self._bring(actor, happening)
        elif patience_s == 0:
            self.progress.moved("work")
        return happening is not None

    def _bring(self, actor: Actor, arrived: Arrived) -> None:
        parcel = arrived.parcel
        match parcel.message:
            case m.Letter() as letter:
                sender = self._who[arrived.peer]
                message = read_letter(letter)
                self.progress.moved(f"{type(message).__name__} from {sender}")
                about = sender, message, parcel.arrays, self._recorder, arrived.at_ns
                self._post(told(actor, *about))
            case m.Gone(process, lost):
                gone = self._who[process]
                self.progress.moved(f"the loss of {gone}")
                self._post(actor.lost(gone, time.monotonic()) if lost else ())
            case m.Enter() as enter:
                self._meet(enter)
            case m.Stop():
                raise Stopped

    def _post(self, envelopes: Iterable[Envelope]) -> None:
        """What is said to somebody who never was, or is no more, is dropped."""
        assert self._link is not None
        for envelope in envelopes:
            process = self._process.get(envelope.to)
            if process is not None:
                letter = write_letter(envelope.message)
                send = partial(self._link.send, process, letter, envelope.arrays)
                posting(self._recorder, envelope, send)

    # --- after ---

    def _hand_in_rest(self, link: Link) -> None:
        if self._recorder is not None:
            hand_in_rest(link, self._recorder)

    def _leave(self, link: Link) -> None:
        """Goes when all that was said has arrived; those that are lost are not waited for."""
        self.progress.moved("leaving", waiting=Awaited("acknowledgements"))
        self._hand_in_rest(link)
        while link.pending:
            happening = _happened(link, _LOOK_S)
            if isinstance(happening, Arrived) and isinstance(happening.parcel.message, m.Stop):
                raise Stopped
        link.acknowledge()
        link.send(m.DRIVER, m.Over())
        link.drain(_SAY_GOODBYE_S)


def _happened(link: Link, patience_s: float | None) -> Happening | None:
    happening = link.take(patience_s)
    if isinstance(happening, Broken):
        raise happening.error
    return happening
