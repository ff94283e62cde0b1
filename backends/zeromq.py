"""zmq: one process per partition, on this host or on listed hosts, speaking over ZeroMQ.

This is the driver's side. It makes the job's key, starts the workers or greets those that wait
on other hosts, gives each its partition and the job, and then asks for steps. Between steps it
holds nothing of the model. Everything that goes wrong ends the whole job and all its processes.
"""

from __future__ import annotations

import atexit
import os
import sys
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from dbgraph.actor import Awaited
from dbgraph.backends.hosts import Hosts, read_hosts
from dbgraph.backends.keys import read_key_file
from dbgraph.backends.progress import Progress
from dbgraph.backends.states import DRIVER, MachineState, of_progress
from dbgraph.backends.zeromq_feed import Feeder, order
from dbgraph.backends.zeromq_fleet import Member, end_all, when_ended
from dbgraph.backends.zeromq_job import pack, share_of, state_in, state_out
from dbgraph.backends.zeromq_link import Link
from dbgraph.backends.zeromq_lodging import Here, Listed, Lodging
from dbgraph.backends.zeromq_notes import DriverNotes
from dbgraph.backends.zeromq_replies import Kind, Reply, Waiter, result_of
from dbgraph.backends.zeromq_states import state_of
from dbgraph.errors import RunError, UsageError
from dbgraph.job import Job, Step, StepResult
from dbgraph.results import merge_results
from dbgraph.state import State
from dbgraph.wire import Process
from dbgraph.wire import messages as m

_GRACE_S = 1.0


class ZmqBackend:
    """Runs each partition in a process of its own.

    Args:
        hosts: a hosts file (see `hosts`); None: the workers are started on this host.
        key: the key file that the hosts' workers were started with; needed with `hosts`.
        port: with local workers, partition p listens on port + p, encrypted; 0: on none, all goes
            by files and shared memory that are their owner's alone.
        pin: run local worker p on one core, number p modulo the cores there are.
        heartbeat_s: all processes send a sign of life this often.
        silence_s: a worker that gives none for so long is lost.
        stall_s: a worker whose program makes no progress for so long is lost, though its
            process answers. Long: the first step compiles.
        report_s: a worker that waits longer than that is reported, with what it waits for.
        start_s: workers must be ready within that time.
        log: takes lines for people; by default they go to stderr.
        machine: the module that has the workers' `Machine`; for tests.
    """

    def __init__(
        self,
        hosts: str | Path | Hosts | None = None,
        key: str | Path | None = None,
        *,
        port: int = 0,
        pin: bool = False,
        heartbeat_s: float = 1.0,
        silence_s: float = 20.0,
        stall_s: float = 1800.0,
        report_s: float = 5.0,
        start_s: float = 120.0,
        log: Callable[[str], None] | None = None,
        machine: str = "dbgraph.machine",
    ) -> None:
        if hosts is not None and key is None:
            raise UsageError(
                "workers on other hosts need a key file",
                hint="make one with `dbgraph key FILE`; driver and hosts need the same",
            )
        self._hosts = read_hosts(hosts) if isinstance(hosts, str | Path) else hosts
        self._key = read_key_file(key) if key is not None else None
        self._port, self._pin = port, pin
        self._heartbeat_s, self._silence_s = heartbeat_s, silence_s
        self._stall_s, self._report_s, self._start_s = stall_s, report_s, start_s
        self._log = log or _to_stderr
        self._machine = machine
        self._job = Job({})
        self._members: tuple[Member, ...] = ()
        self._lodging: Lodging | None = None
        self._link: Link | None = None
        self._feeder = Feeder(self._job, here=True)
        self._ordinal = 0
        self._epoch = 0
        self._ended = ""
        self._progress = Progress()
        self._notes: DriverNotes | None = None
        _stop_at_exit(self)

    # --- Backend ---

    def start(self, job: Job) -> None:
        """Starts or greets the workers and gives them the job; see `Backend.start`."""
        if self._link is not None:
            raise UsageError("this backend runs a job already", hint="stop it first")
        self._job, self._ended = job, ""
        self._epoch += 1
        with self._all_or_nothing("the start"):
            count = max(plan.partitions for plan in job.plans.values())
            self._feeder = Feeder(job, here=self._hosts is None)
            job_id = os.urandom(16)
            self._lodging = lodging = self._lodge(job_id)
            self._link = self._listen(lodging, job_id)
            self._notes = DriverNotes(job.collector, self._link) if job.collector else None
            self._members = tuple(Member(p) for p in range(count))
            names = tuple(member.title for member in self._members)
            self._progress.moved(waiting=Awaited("the processes to start", names))
            lodging.start(self._members)
            for member in self._members:
                if watched := when_ended(member, self._link.give_up):
                    self._link.watch(*watched)
            self._link.start()
            self._greet(self._link, lodging.driver_silence_s)
            for member, ready in zip(
                self._members, self._gather(m.Ready, self._start_s), strict=True
            ):
                member.answered = f"pid {ready[0].pid} on {ready[0].host}"
                if self._notes is not None:
                    self._notes.enter(member.number, f"partition {member.number}")

    def load(self, state: State | None) -> None:
        """See `Backend.load`. Raises CheckpointError where the state lacks something."""
        shares = [
            None if state is None else share_of(state, self._job.plans.values(), p)
            for p in range(len(self._members))
        ]
        with self._all_or_nothing("loading"):
            for p, share in enumerate(shares):
                boxes, scalars, arrays = state_out(share or State())
                load = m.Load(share is not None, share.step if share else 0, boxes, scalars)
                self._live.send(p, load, arrays)
            self._gather(m.Loaded)

    def step(self, step: Step) -> StepResult:
        """See `Backend.step`."""
        plan, feeds = self._feeder.prepare(step)
        with self._all_or_nothing(f"step {step.number} of {step.plan}"):
            self._ordinal += 1
            notes, began_ns = self._notes, time.monotonic_ns()
            send = self._live.send if notes is None else notes.send_order
            for p in range(len(self._members)):
                send(p, *order(step, self._ordinal, plan, p, feeds))
            waiter = self._waiter()
            replies = waiter.gather(m.Done)
            if notes is not None:
                notes.stepped(step, self._ordinal, began_ns, waiter.arrived_ns)
        return merge_results(plan, map(result_of, replies))

    def collect(self) -> State:
        """See `Backend.collect`."""
        with self._all_or_nothing("collecting"):
            for p in range(len(self._members)):
                self._live.send(p, m.Collect())
            replies = self._gather(m.Collected)
        return State.merge(state_in(c.step, c.boxes, c.scalars, a) for c, a in replies)

    def stop(self) -> None:
        """Ends all processes; see `Backend.stop`."""
        link, self._link = self._link, None
        members, self._members = self._members, ()
        lodging, self._lodging = self._lodging, None
        self._ended = self._ended or "it was stopped"
        try:
            if link is not None:
                self._dismiss(link, members)
        finally:
            end_all(members, _GRACE_S)
            self._feeder.close()
            if lodging is not None:
                lodging.close()

    @property
    def sign_s(self) -> float:
        return self._heartbeat_s

    def machines(self) -> list[MachineState]:
        """See `states.Telling`."""
        link, members = self._link, self._members
        workers = [] if link is None else [state_of(link, member) for member in members]
        return [of_progress(DRIVER, self._progress), *workers]

    def counters(self) -> Mapping[str, Mapping[str, int]]:
        """Per process what was refused, by reason, and how much was sent again: "driver",
        "partition 0", … Those of the workers are as of their last heartbeat."""
        link = self._live
        found: dict[str, Mapping[str, int]] = {"driver": {**link.counters, "resent": link.resent}}
        for member in self._members:
            beat, _ = link.beat_of(member.number)
            found[f"partition {member.number}"] = dict(beat.counters)
        return found

    @property
    def processes(self) -> tuple[int, ...]:
        """Process ids of the workers on this host."""
        return tuple(mem.process.pid for mem in self._members if mem.process is not None)

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Where everybody listens: the driver, then the partitions."""
        return (self._live.endpoint, *(member.endpoint for member in self._members))

    # --- starting ---

    def _lodge(self, job_id: bytes) -> Lodging:
        if self._hosts is None or self._key is None:
            return Here(job_id.hex(), self._pin, self._machine, self._port)
        return Listed(self._hosts, self._key)

    def _listen(self, lodging: Lodging, job_id: bytes) -> Link:
        return Link(
            lodging.key,
            lodging.driver,
            me=Process(job_id, m.DRIVER, self._epoch),
            memory=lodging.memory,
            heartbeat_s=self._heartbeat_s,
        )

    def _greet(self, link: Link, silence_s: float) -> None:
        blobs = pack(self._job, self._feeder.travelling)
        arrays = [np.frombuffer(blob, np.uint8) for blob in blobs.values()]
        ship = m.Ship(tuple(blobs))
        everyone = [m.Address(mem.number, mem.endpoint, self._epoch) for mem in self._members]
        for member in self._members:
            p = member.number
            peer = Process(link.me.job if link.me else b"", p, self._epoch)
            link.connect(peer, member.endpoint, self._silence_s)
            others = tuple(address for address in everyone if address.process != p)
            assign = m.Assign(
                p,
                link.endpoint,
                self._epoch,
                others,
                self._heartbeat_s,
                silence_s,
                record=self._notes is not None,
            )
            link.send(p, assign)
            link.send(p, ship, arrays)

    # --- waiting ---

    @property
    def _live(self) -> Link:
        if self._link is None:
            why = f": {self._ended}" if self._ended else ""
            raise RunError(f"the job does not run{why}", hint="start it (again)")
        return self._link

    def _gather(self, kind: type[Kind], within_s: float = float("inf")) -> list[Reply[Kind]]:
        return self._waiter().gather(kind, within_s)

    def _waiter(self) -> Waiter:
        return Waiter(
            self._live, self._members, self._report_s, self._stall_s, self._log, self._progress
        )

    # --- ending ---

    @contextmanager
    def _all_or_nothing(self, doing: str) -> Iterator[None]:
        """What goes wrong, Ctrl-C included, ends the job and leaves no process."""
        self._progress.moved(doing)
        try:
            yield
            self._progress.moved(f"what comes after {doing}")
        except BaseException as error:
            self._ended = self._ended or str(error).split("\n")[0] or type(error).__name__
            self.stop()
            raise

    def _dismiss(self, link: Link, members: tuple[Member, ...]) -> None:
        notes, self._notes = self._notes, None
        try:
            if notes is not None:
                notes.compare_clocks()
            for member in members:
                link.send(member.number, m.Stop())
            if notes is not None:
                notes.take_rest()
            if self._hosts is not None:  # local workers end when their stdin closes
                link.drain(_GRACE_S)
        except (KeyError, OSError):
            pass  # it had not come so far
        finally:
            link.close()
            refused = {name: n for name, n in link.counters.items() if n}
            if refused:
                found = ", ".join(f"{n} {name}" for name, n in sorted(refused.items()))
                self._log(f"frames refused at the driver's port: {found}")


def _stop_at_exit(backend: ZmqBackend) -> None:
    """Also where nobody calls `stop`; without keeping the backend alive."""
    held = weakref.ref(backend)

    def stop() -> None:
        found = held()
        if found is not None:
            found.stop()

    atexit.register(stop)


def _to_stderr(text: str) -> None:
    print(f"dbgraph: {text}", file=sys.stderr, flush=True)
