"""Notes of what the machines of the local backend do, for a trace."""

from __future__ import annotations

from collections.abc import Sequence

import jax

from dbgraph.backends.states import DRIVER
from dbgraph.job import Step
from dbgraph.machine import Machine, Outgoing
from dbgraph.trace.collect import Collector
from dbgraph.trace.events import Recorder
from dbgraph.trace.program import ProgramLog


class LocalNotes:
    """Each machine notes for itself, as if it had a process of its own; and the driver."""

    def __init__(self, collector: Collector, machines: Sequence[Machine]) -> None:
        self._collector = collector
        self._driver = Recorder()
        self._logs = [ProgramLog(Recorder()) for _ in machines]
        named = {f"partition {p}": log.recorder for p, log in enumerate(self._logs)}
        self._recorders = {DRIVER: self._driver, **named}
        self._run = self._began = 0
        for machine, log in zip(machines, self._logs, strict=True):
            machine.log = log

    def begins(self, step: Step) -> None:
        """A step begins, on all machines."""
        self._run, self._began = self._run + 1, self._driver.clock()
        for log in self._logs:
            log.recorder.begin(self._run, step.plan)

    def delivered(self, source: int, to: int, event: Outgoing) -> None:
        """A value goes over from one machine to another, once it is there."""
        log = self._logs[source]
        if log.open:
            if isinstance(event.value, jax.Array):
                event.value.block_until_ready()
            log.look()
        self._logs[to].arrived(self._run, event.transfer, event.microbatch)

    def ended(self, step: Step) -> None:
        """The step is done."""
        for log in self._logs:
            log.settle()
        about = step.plan, self._run, step.number, self._began, self._driver.clock()
        self._driver.note_order(*about)
        if self._driver.is_due:  # it notes every step, so that the others wait no longer
            self._take(last=False)

    def take_rest(self) -> None:
        """The machines end."""
        self._take(last=True)

    def _take(self, *, last: bool) -> None:
        for name, recorder in self._recorders.items():
            self._collector.add(name, recorder.take(last=last))
