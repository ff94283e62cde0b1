"""zmq: every actor in a process of its own; the coordinator in the caller's thread.

Any two actors that talk have lines of their own (`Link`). The driver starts the processes, says
who is where, and watches: a process that ends, gives no sign of life, or whose actor stays at one
thing for too long, is lost.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from dbgraph.actor import COORDINATOR, THEATRE, Actor, Address, Awaited, Envelope, Hire, awaited
from dbgraph.backends.hosts import Hosts, read_hosts
from dbgraph.backends.keys import read_key_file
from dbgraph.backends.progress import Progress
from dbgraph.backends.states import MachineState, of_progress
from dbgraph.backends.theatre import Cast
from dbgraph.backends.turns import play, told
from dbgraph.backends.zeromq_company import Company, Hired, Performer
from dbgraph.backends.zeromq_events import Arrived, Broken, Happening, Lost
from dbgraph.backends.zeromq_failure import blame
from dbgraph.backends.zeromq_fleet import ENDED
from dbgraph.backends.zeromq_lodging import Here, Listed, Lodging
from dbgraph.backends.zeromq_states import state_of
from dbgraph.backends.zeromq_watch import Watch
from dbgraph.errors import UsageError
from dbgraph.wire import messages as m
from dbgraph.wire.letter import read_letter

_LOOK_S = 0.25
_TURN_S = 0.0005


class ZmqTheatre:
    """See `theatre.Theatre`.

    Args:
        hosts: a hosts file (see `hosts`); None: the processes are started on this host.
        key: the key file that the hosts' workers were started with; needed with `hosts`.
        port: there is none to choose.
        pin: run each process on this host on one core.
        heartbeat_s: all processes give a sign of life this often.
        silence_s: a process that gives none for so long is lost.
        stall_s: an actor that stays at one piece of computing for so long is lost, though its
            process answers. Long: the first one compiles.
        log: takes lines for people; by default they go to stderr.
    """

    def __init__(
        self,
        hosts: str | Path | Hosts | None = None,
        key: str | Path | None = None,
        *,
        port: int = 0,
        pin: bool = False,
        heartbeat_s: float = 1.0,
        silence_s: float = 10.0,
        stall_s: float = 1800.0,
        log: Callable[[str], None] | None = None,
    ) -> None:
        if (hosts is None) != (key is None):
            raise UsageError(
                "workers on other hosts need a key file, and those on this host have none",
                hint="make one with `dbgraph key FILE`; driver and hosts need the same",
            )
        if port:
            raise UsageError(
                f"port {port} is given, but the processes of replicas on this host listen on none",
                hint="leave it out; on other hosts the hosts file says the ports",
            )
        self._hosts = read_hosts(hosts) if isinstance(hosts, str | Path) else hosts
        self._key = read_key_file(key) if key is not None else None
        self._pin = pin
        self._heartbeat_s, self._silence_s = heartbeat_s, silence_s
        self._watch = Watch(silence_s, stall_s)
        self._log = log or _to_stderr
        self._company: Company | None = None
        self._progress = Progress()

    def run(self, cast: Cast, coordinator: Actor) -> None:
        """See `Theatre.run`."""
        with _short_turns(), closing(self._lodging(job := os.urandom(16))) as lodging:
            company = self._company = Company(
                cast,
                job,
                lodging,
                heartbeat_s=self._heartbeat_s,
                silence_s=self._silence_s,
            )
            try:
                run = _Run(cast, coordinator, company, self._watch, self._log, self._progress)
                run.run()
            finally:
                company.end()

    def _lodging(self, job: bytes) -> Lodging:
        if self._hosts is None or self._key is None:
            return Here(job.hex(), self._pin)
        return Listed(self._hosts, self._key)

    @property
    def processes(self) -> Mapping[Address, int]:
        """Process ids of the actors on this host, of the present run or of the last one."""
        return self._company.processes if self._company else {}

    @property
    def sign_s(self) -> float:
        return self._heartbeat_s

    def machines(self) -> list[MachineState]:
        """See `states.Telling`."""
        company = self._company
        players = [] if company is None else [(company.link, p.member) for p in company.known]
        coordinator = of_progress(str(COORDINATOR), self._progress)
        return [coordinator, *(state_of(link, member) for link, member in players)]

    def counters(self) -> Mapping[Address, Mapping[str, int]]:
        """Of each that plays, as of its last heartbeat: frames refused by reason, frames sent
        again, lines to others."""
        if self._company is None:
            return {}
        beat_of = self._company.link.beat_of
        return {p.address: beat_of(p.member.number)[0].counters for p in self._company.present}


class _Run:
    """One run, in the coordinator's thread."""

    def __init__(
        self,
        cast: Cast,
        coordinator: Actor,
        company: Company,
        watch: Watch,
        log: Callable[[str], None],
        progress: Progress,
    ) -> None:
        self._cast, self._coordinator, self._company = cast, coordinator, company
        self._watch, self._log, self._progress = watch, log, progress
        self._next_look = time.monotonic() + _LOOK_S

    def run(self) -> None:
        self._progress.moved(
            "starting", waiting=Awaited("the processes to start", tuple(self._cast.first))
        )
        self._company.hire(self._cast.first)
        notes = self._company.notes
        play(self._coordinator, self._hear, self._post, notes.recorder if notes else None)

    def _post(self, envelopes: Iterable[Envelope]) -> None:
        for envelope in envelopes:
            if envelope.to == THEATRE:
                self._hire(envelope.message)
            else:
                self._company.post((envelope,))

    def _hire(self, hire: Hire) -> None:
        self._company.hire_meanwhile(self._cast.partitions_of(hire.replica))

    # --- what happens ---

    def _hear(self, patience_s: float | None) -> bool:
        if time.monotonic() >= self._next_look:
            self._look()
        wait_s = _LOOK_S if patience_s is None else min(patience_s, _LOOK_S)
        if wait_s and self._progress.waiting is None:
            self._progress.moved(waiting=awaited(self._coordinator))
        happening = self._company.link.take(wait_s)
        if happening is not None:
            self._progress.moved("work")
            self._bring(happening)
        return happening is not None

    def _bring(self, happening: Happening) -> None:
        match happening:
            case Arrived(peer):
                self._arrived(self._company.player(peer), happening)
            case Lost(peer, reason):
                self._lost(self._company.player(peer), reason)
            case Broken(error):
                raise error

    def _arrived(self, player: Performer, arrived: Arrived) -> None:
        parcel, notes = arrived.parcel, self._company.notes
        match parcel.message:
            case m.Letter() as letter:
                message = read_letter(letter)
                if isinstance(message, Hire):
                    self._hire(message)
                else:
                    about = player.address, message, parcel.arrays
                    recorder = notes.recorder if notes is not None else None
                    self._post(told(self._coordinator, *about, recorder, arrived.at_ns))
                    if notes is not None:
                        notes.take_due()
            case m.Over():
                self._company.part_with(player, lost=False)
            case m.Failed() as failed:
                raise blame(str(player.address), failed)

    def _hired(self, hired: Hired) -> None:
        if hired.error is None:
            self._company.admit(hired.players)
            return
        for player in hired.players:
            self._lost(player, str(hired.error))

    def _lost(self, player: Performer, reason: str) -> None:
        """Tells the others first: what the coordinator says of the loss comes after it."""
        if player.gone:
            return
        ending = player.member.ending() if reason == ENDED else ""
        self._log(f"{player.member} is lost: {ending or reason}")
        self._company.part_with(player, lost=True)
        self._post(self._coordinator.lost(player.address, time.monotonic()))

    def _look(self) -> None:
        """Who has been started meanwhile; whose process answers, but whose actor stands still."""
        self._next_look = time.monotonic() + _LOOK_S
        for hired in self._company.hired():
            self._hired(hired)
        for player in self._company.present:
            if reason := self._watch.stuck(*self._company.link.beat_of(player.member.number)):
                self._lost(player, reason)


@contextmanager
def _short_turns() -> Iterator[None]:
    """The I/O thread does not wait long for its turn while a coordinator is busy."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(_TURN_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def _to_stderr(text: str) -> None:
    with suppress(BrokenPipeError):
        print(f"dbgraph: {text}", file=sys.stderr, flush=True)
