"""A worker's main thread: it runs the machine of one partition, and speaks with the others."""

from __future__ import annotations

import importlib
import os
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dbgraph.backends.instructions import instruction_words
from dbgraph.backends.progress import Progress
from dbgraph.backends.zeromq_events import Arrived, Broken, Happening
from dbgraph.backends.zeromq_failure import report_failure
from dbgraph.backends.zeromq_job import state_in, state_out, unpack
from dbgraph.backends.zeromq_link import Link
from dbgraph.backends.zeromq_notes import WorkerNotes
from dbgraph.backends.zeromq_player import Player, Stopped
from dbgraph.job import Job, Step
from dbgraph.plan.plan import Plan
from dbgraph.wire import messages as m
from dbgraph.worker import Finished, Outgoing


class Service:
    """One partition of one job, or one actor.

    Args:
        machine: the name of the module with `Machine` (`dbgraph.machine`; tests have others).
    """

    def __init__(self, machine: str) -> None:
        self.progress = Progress()
        self.link: Link | None = None
        self._module_name = machine
        self._machine: Any = None
        self._plan: Plan | None = None
        self._number = 0
        self._partition = -1
        self._player: Player | None = None
        self._early: list[tuple[m.Value, np.ndarray]] = []
        self._notes: WorkerNotes | None = None

    # --- the I/O thread calls it ---

    def beat(self) -> m.Heartbeat:
        """Where the main thread is."""
        if self._player is not None:
            return self._player.beat()
        progress, awaited = self.progress, self.progress.waiting
        doing, waiting = self._instruction(), "" if awaited is None else self._describe(awaited)
        awaits = () if awaited is None else self._source(awaited)
        counters = dict(self.link.counters, resent=self.link.resent) if self.link else {}
        place = self._place(awaited)
        return m.Heartbeat(
            progress.count, doing, waiting, progress.since_s, counters, awaits, place
        )

    def _source(self, waiting: Any) -> tuple[str, ...]:
        plan = self._plan
        return () if plan is None else (f"partition {plan.transfers[waiting.transfer].source}",)

    def _place(self, waiting: Any) -> m.Place:
        if self._plan is None:
            return m.Place()
        position = self._machine.position
        if waiting is None:
            return m.Place(self._number, position)
        return m.Place(self._number, position, waiting.transfer, waiting.microbatch)

    def _describe(self, waiting: Any) -> str:
        plan, link = self._plan, self.link
        if plan is None or link is None:
            return ""
        heard_s = link.last_heard_s(plan.transfers[waiting.transfer].source)
        return f"{self._machine.describe(waiting)} (last heard {heard_s:.1f} s ago)"

    def _instruction(self) -> str:
        """`RUN s3.0 (hidden1, hidden2)`: the current instruction with its layers."""
        plan = self._plan
        if plan is None:
            return self.progress.doing
        words = instruction_words(plan, self._partition, self._machine.position)
        return words or self.progress.doing

    # --- the main thread ---

    def run(self, link: Link) -> None:
        """Serves until the driver says stop; tells the driver what fails."""
        self.link = link
        try:
            # Imports jax: a second or so, while the I/O thread takes the job.
            make = importlib.import_module(self._module_name).Machine
            self._assigned(link)
            if self._player is None:
                self._serve(link, make)
        except Stopped:
            self._hand_in_rest(link)
            link.acknowledge()
        except Exception as error:
            self._hand_in_rest(link)
            report_failure(link, error, self._instruction() if self._plan else "")
            raise
        else:
            if self._player is not None:
                self._player.run(link)

    def _hand_in_rest(self, link: Link) -> None:
        if self._notes is not None:
            self._notes.hand_in_rest(link)

    def _assigned(self, link: Link) -> None:
        """Waits for the first message: what this process is to be."""
        assign = self._next_order(link).parcel.message
        if not isinstance(assign, m.Assign):
            raise RuntimeError(f"a worker got {type(assign).__name__} first")
        self._partition = assign.partition
        self._player = Player(assign.record) if assign.actor else None
        if assign.record and not assign.actor:
            self._notes = WorkerNotes()

    def _serve(self, link: Link, make: Callable[[Job, int], Any]) -> None:
        while True:
            self.progress.moved("idle")
            arrived = self._next_order(link)
            parcel, message = arrived.parcel, arrived.parcel.message
            self.progress.moved(type(message).__name__.lower())
            match message:
                case m.Ship():
                    self._build(make, message, parcel.arrays)
                    link.send(m.DRIVER, m.Ready(os.getpid(), socket.gethostname()))
                case m.Load():
                    self._load(message, parcel.arrays)
                    link.send(m.DRIVER, m.Loaded())
                case m.Run():
                    self._step(link, message, arrived)
                case m.Collect():
                    state = self._machine.collect()
                    boxes, scalars, arrays = state_out(state)
                    link.send(m.DRIVER, m.Collected(state.step, boxes, scalars), arrays)
                case _:
                    raise RuntimeError(f"a worker got {type(message).__name__}")

    def _next_order(self, link: Link) -> Arrived:
        """The driver's next message; values that come early are kept."""
        while True:
            arrived = _arrived(link)
            message = arrived.parcel.message
            if isinstance(message, m.Value):
                if self._notes is not None:
                    self._notes.arrived(message, arrived.at_ns)
                self._early.append((message, arrived.parcel.arrays[0]))
            elif isinstance(message, m.Stop):
                raise Stopped
            else:
                return arrived

    def _build(
        self, make: Callable[[Job, int], Any], ship: m.Ship, arrays: Sequence[np.ndarray]
    ) -> None:
        blobs = {name: a.tobytes() for name, a in zip(ship.names, arrays, strict=True)}
        self._job: Job = unpack(blobs)
        self._machine = make(self._job, self._partition)
        if self._notes is not None:
            self._machine.log = self._notes.log

    def _load(self, load: m.Load, arrays: Sequence[np.ndarray]) -> None:
        state = state_in(load.step, load.boxes, load.scalars, arrays) if load.given else None
        self._machine.load(state)

    def _step(self, link: Link, run: m.Run, arrived: Arrived) -> None:
        machine, notes, arrays = self._machine, self._notes, arrived.parcel.arrays
        taken_ns = time.monotonic_ns()
        step = Step(run.plan, run.number, want=frozenset(run.want))
        feeds = None
        if run.feeds is None:
            step = Step(run.plan, run.number, arrays[0] if arrays else None, want=step.want)
        else:
            feeds = dict(zip(run.feeds, arrays, strict=True))
        if notes is not None:
            notes.recorder.begin(run.ordinal, run.plan)
        machine.begin(step, feeds)
        self._number = step.number
        self._plan = self._job.plans[run.plan]
        self._hand_over_early(run.ordinal)
        while not isinstance(state := machine.advance(), Finished):
            if isinstance(state, Outgoing):
                self.progress.moved()
                to = self._plan.transfers[state.transfer].to
                value = m.Value(run.ordinal, state.transfer, state.microbatch)
                array = np.asarray(state.value)
                if notes is not None and notes.log.open:
                    notes.log.look()
                link.send(to, value, [array])
            else:
                self.progress.moved(waiting=state)
                self._wait_for_value(link, run.ordinal)
                self.progress.moved()
        self._plan = None
        done, results = _done(run.ordinal, machine.result())
        done_ns = time.monotonic_ns()
        link.send(m.DRIVER, done, results)
        if notes is not None:
            notes.ended(link, taken_ns, arrived, done_ns, results)

    def _hand_over_early(self, ordinal: int) -> None:
        early, self._early = self._early, []
        for value, array in early:
            self._hand_over(value, array, ordinal)

    def _hand_over(self, value: m.Value, array: np.ndarray, ordinal: int) -> None:
        if value.ordinal == ordinal:
            self._machine.deliver(value.transfer, value.microbatch, array)
        elif value.ordinal > ordinal:
            self._early.append((value, array))

    def _wait_for_value(self, link: Link, ordinal: int) -> None:
        """Takes one message, and all that wait behind it."""
        happening: Happening | None = _arrived(link)
        while isinstance(happening, Arrived):
            parcel = happening.parcel
            if isinstance(parcel.message, m.Stop):
                raise Stopped
            if not isinstance(parcel.message, m.Value):
                raise RuntimeError(f"{type(parcel.message).__name__} in the middle of a step")
            if self._notes is not None:
                self._notes.arrived(parcel.message, happening.at_ns)
            self._hand_over(parcel.message, parcel.arrays[0], ordinal)
            happening = link.take(0)


def _done(ordinal: int, result: Any) -> tuple[m.Done, list[np.ndarray]]:
    boxes: list[tuple[m.Box, ...]] = []
    arrays: list[np.ndarray] = []
    for pieces in (result.outputs, result.gradients):
        boxes.append(tuple(m.Box(name, region.bounds) for name, region, _ in pieces))
        arrays += [np.asarray(array) for _, _, array in pieces]
    losses = {name: float(value) for name, value in result.losses.items()}
    return m.Done(ordinal, losses, *boxes), arrays


def _arrived(link: Link) -> Arrived:
    """The next parcel; waits."""
    while True:
        happening = link.take()
        if isinstance(happening, Arrived):
            return happening
        if isinstance(happening, Broken):
            raise happening.error
