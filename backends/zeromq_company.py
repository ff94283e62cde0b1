"""The actors' processes as the driver sees them: who plays what, where, and who is gone.

A process is numbered in the order in which it enters, and no number is used twice: what a process
sends that was given up, and wakes up, is refused by everybody.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue

import numpy as np

from dbgraph.actor import COORDINATOR, Address, Envelope
from dbgraph.backends.theatre import Cast
from dbgraph.backends.turns import posting
from dbgraph.backends.zeromq_cast import pack_make
from dbgraph.backends.zeromq_fleet import Member, end_all, when_ended
from dbgraph.backends.zeromq_link import Link
from dbgraph.backends.zeromq_lodging import Lodging
from dbgraph.backends.zeromq_notes import DriverNotes
from dbgraph.errors import DbgraphError
from dbgraph.wire import Process
from dbgraph.wire import messages as m
from dbgraph.wire.letter import write_letter

_EPOCH = 1  # numbers are not used twice
_GRACE_S = 1.0


@dataclass(slots=True)
class Performer:
    """An actor and its process.

    Attributes:
        waiting: what was said to it before its process listened.
        gone: lost, or over.
    """

    address: Address
    member: Member
    waiting: list[Envelope] = field(default_factory=list)
    entered: bool = False
    gone: bool = False


@dataclass(frozen=True, slots=True)
class Hired:
    """Processes that were started in a thread of their own; or why they could not be."""

    players: tuple[Performer, ...]
    error: DbgraphError | None = None


class Company:
    """The processes of one run.

    Args:
        cast: its `make` makes the actors, its `collector` takes what they note.
        job: 16 random bytes.
        silence_s: a process that gives no sign of life for so long is lost.
    """

    def __init__(
        self, cast: Cast, job: bytes, lodging: Lodging, *, heartbeat_s: float, silence_s: float
    ) -> None:
        self._make = np.frombuffer(pack_make(cast.make, lodging.folder), np.uint8)
        self._lodging = lodging
        self._heartbeat_s, self._silence_s = heartbeat_s, silence_s
        self._players: list[Performer] = []
        self._by_address: dict[Address, Performer] = {}
        self._starting: list[threading.Thread] = []
        self._hired: SimpleQueue[Hired] = SimpleQueue()
        self.link = Link(
            lodging.key,
            lodging.driver,
            me=Process(job, m.DRIVER, _EPOCH),
            memory=lodging.memory,
            heartbeat_s=heartbeat_s,
        )
        collector, name = cast.collector, str(COORDINATOR)
        self.notes = DriverNotes(collector, self.link, name) if collector is not None else None
        self.link.start()

    # --- entering ---

    def hire(self, addresses: Sequence[Address]) -> None:
        """Starts processes and waits for them. Raises what `Lodging.start` does."""
        players = self._enlist(addresses)
        self._start(players)
        self.admit(players)

    def hire_meanwhile(self, addresses: Sequence[Address]) -> None:
        """Starts processes in a thread; `hired` gives them when they can be admitted."""
        players = self._enlist(addresses)

        def start() -> None:
            error = None
            try:
                self._start(players)
            except DbgraphError as problem:
                error = problem
            self._hired.put(Hired(players, error))

        thread = threading.Thread(target=start, name="dbgraph-hire")
        self._starting.append(thread)
        thread.start()

    def hired(self) -> Iterator[Hired]:
        """Of whom it has become known since the last call whether they could be started."""
        while not self._hired.empty():
            yield self._hired.get()

    def _enlist(self, addresses: Sequence[Address]) -> tuple[Performer, ...]:
        first = len(self._players)
        players = tuple(
            Performer(address, Member(first + i, name=str(address)))
            for i, address in enumerate(addresses)
        )
        self._players += players
        self._by_address.update((player.address, player) for player in players)
        return players

    def _start(self, players: Sequence[Performer]) -> None:
        self._lodging.start([player.member for player in players])

    def admit(self, players: Sequence[Performer]) -> None:
        """Tells everybody who and where they are, and then them to begin."""
        others = self.present
        for player in players:
            player.entered = True
            self._greet(player.member)
        for player in players:
            entering = _enter(player)
            for other in others:
                self.link.send(other.member.number, entering)
        for player in players:
            number = player.member.number
            for other in self.present:
                if other is not player:
                    self.link.send(number, _enter(other))
            self.link.send(number, m.Play(*_words(player.address)), [self._make])
            self.post(player.waiting)
            player.waiting.clear()

    def _greet(self, member: Member) -> None:
        assert self.link.me is not None
        peer = Process(self.link.me.job, member.number, _EPOCH)
        self.link.connect(peer, member.endpoint, self._silence_s)
        assign = m.Assign(
            member.number,
            self.link.endpoint,
            _EPOCH,
            (),
            self._heartbeat_s,
            self._lodging.driver_silence_s,
            actor=True,
            record=self.notes is not None,
        )
        self.link.send(member.number, assign)
        if watched := when_ended(member, self.link.give_up):
            self.link.watch(*watched)
        if self.notes is not None:
            self.notes.enter(member.number, member.name)

    # --- playing ---

    @property
    def present(self) -> list[Performer]:
        """Those who have entered and are not gone."""
        return [p for p in self._players if p.entered and not p.gone]

    @property
    def known(self) -> list[Performer]:
        """Those who are not gone, whether they have entered or not."""
        return [p for p in tuple(self._players) if not p.gone]

    def player(self, number: int) -> Performer:
        return self._players[number]

    def post(self, envelopes: Iterable[Envelope]) -> None:
        """Sends; what is said to somebody who never was, or is no more, is dropped."""
        for envelope in envelopes:
            player = self._by_address.get(envelope.to)
            if player is None or player.gone:
                continue
            if player.entered:
                letter = write_letter(envelope.message)
                send = partial(self.link.send, player.member.number, letter, envelope.arrays)
                posting(self.notes.recorder if self.notes else None, envelope, send)
            else:
                player.waiting.append(envelope)

    # --- leaving ---

    def part_with(self, player: Performer, *, lost: bool) -> None:
        """Takes nothing from it any more, and tells the others so."""
        player.gone = True
        player.waiting.clear()
        player.member.let_go()
        if player.entered:
            self.link.forget(player.member.number)
            for other in self.present:
                self.link.send(other.member.number, m.Gone(player.member.number, lost))

    def end(self) -> None:
        """Ends all processes, frees the port."""
        for thread in self._starting:
            thread.join()
        if self.notes is not None:
            self.notes.compare_clocks()
        for player in self.present:
            self.link.send(player.member.number, m.Stop())
        if self.notes is not None:
            self.notes.take_rest()
        if self._lodging.folder is None:
            self.link.drain(_GRACE_S)
        self.link.close()
        end_all([player.member for player in self._players], _GRACE_S)

    @property
    def processes(self) -> dict[Address, int]:
        """Process ids of all that were started."""
        return {
            p.address: p.member.process.pid for p in self._players if p.member.process is not None
        }


def _enter(player: Performer) -> m.Enter:
    member = player.member
    return m.Enter(member.number, member.endpoint, _EPOCH, *_words(player.address))


def _words(address: Address) -> tuple[str, int, int]:
    return address.kind, address.number, address.partition
