"""One partition's machine among its siblings: runs the program, a piece at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import isfinite

import numpy as np

from dbgraph.actor import Address, Arrays, Awaited, Envelope
from dbgraph.actors.messages import Cargo, Ordinal
from dbgraph.errors import RunError
from dbgraph.job import Step
from dbgraph.machine import Finished, Machine, Outgoing, Waiting
from dbgraph.readahead import ReadAhead
from dbgraph.state import State
from dbgraph.trace.events import Recorder, run_number
from dbgraph.trace.program import ProgramLog

TRAIN = "train"
"""The name of the training plan in a replica's job."""

NEVER: Ordinal = (-1, 0)

Blame = Callable[[State, Step, str], RunError]
"""(parameters of a step, the step, what went wrong) → that, and where in the network it began."""


class Partition:
    """Computes gradients. Values for runs that have not begun here are kept until they do.

    Args:
        machine: of a job without a rule, whose only plan is TRAIN.
        blame: for a loss that is not finite; None where the partition can't tell.
    """

    def __init__(self, machine: Machine, address: Address, blame: Blame | None = None) -> None:
        self._machine, self._address, self._blame = machine, address, blame
        self._step = Step(TRAIN)
        self._reader = ReadAhead(lambda examples: machine.read(Step(TRAIN, examples=examples)))
        self._ordinal = NEVER
        self._early: dict[Ordinal, list[tuple[Cargo, Arrays]]] = {}
        self._waiting: Waiting | None = None
        self.is_running = False

    def record(self, recorder: Recorder) -> None:
        """See `actor.Recordable`."""
        self._machine.log = ProgramLog(recorder)

    def set(self, parameters: Mapping[str, np.ndarray]) -> None:
        """By the leaf's name; who gives them changes them no more."""
        self._machine.set_parameters(parameters)

    def begin(self, ordinal: Ordinal, number: int, examples: np.ndarray) -> None:
        """Begins a run; one that has not ended is called off.

        Args:
            number: as in `Step`.
        """
        if (log := self._machine.log) is not None:
            log.recorder.begin(run_number(ordinal), TRAIN)
        self._step = Step(TRAIN, number, examples=examples, want=frozenset({"loss"}))
        self._machine.begin(self._step, self._reader.take(examples))
        self._ordinal, self.is_running = ordinal, True
        for early in sorted(o for o in self._early if o <= ordinal):
            for cargo, arrays in self._early.pop(early):
                self.deliver(cargo, arrays)

    def expect(self, examples: np.ndarray) -> None:
        """The next run will probably take these examples: they are read while this one computes."""
        self._reader.begin(examples)

    def deliver(self, cargo: Cargo, arrays: Arrays) -> None:
        """A sibling's value; that of a run that is over, or was called off, is dropped."""
        if (log := self._machine.log) is not None:
            at = log.recorder.arrived_at
            log.arrived(run_number(cargo.ordinal), cargo.transfer, cargo.microbatch, at)
        if cargo.ordinal > self._ordinal:
            self._early.setdefault(cargo.ordinal, []).append((cargo, arrays))
        elif cargo.ordinal == self._ordinal:
            self._machine.deliver(cargo.transfer, cargo.microbatch, arrays[0])

    def advance(self) -> list[Envelope] | None:
        """Computes until a value must be sent, is missing, or the run has ended.

        Returns None where there was nothing to do.
        """
        if not self.is_running:
            return None
        event = self._machine.advance()
        self._waiting = event if isinstance(event, Waiting) else None
        if isinstance(event, Outgoing):
            to = self._address._replace(partition=self._machine.receiver(event.transfer))
            cargo = Cargo(self._ordinal, event.transfer, event.microbatch)
            return [Envelope(to, cargo, (np.asarray(event.value),))]
        self.is_running = not isinstance(event, Finished)
        return None if self.is_running else []

    @property
    def awaits(self) -> Awaited | None:
        """The value that a run waits for; None where none does."""
        waiting = self._waiting
        if not self.is_running or waiting is None:
            return None
        sender = self._address._replace(partition=self._machine.sender(waiting.transfer))
        what = self._machine.describe(waiting)
        return Awaited(what, (sender,), waiting.transfer, waiting.microbatch)

    def gradients(self) -> dict[str, np.ndarray]:
        """By the leaf's name, of the run that has ended."""
        return self._machine.gradients()

    def loss(self) -> float:
        """Of that run; 0 where this partition does not hold it."""
        return self._machine.result().losses.get("loss", 0.0)

    def good_loss(self, step: int) -> float:
        """`loss`. Raises RunError where it is not finite and it can be told where that began.

        Args:
            step: of the replica, counted from 1.
        """
        loss = self.loss()
        if self._blame is not None and not isfinite(loss):
            rule = f"the loss is {loss} at its step {step}"
            raise self._blame(self._machine.collect(), self._step, rule)
        return loss


def parameters_of(shards: Iterable[int]) -> Awaited:
    """What a partition waits for whose parameters have not come."""
    return Awaited("parameters", tuple(Address("shard", shard) for shard in shards))
