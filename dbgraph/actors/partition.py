"""One partition's machine among its siblings: runs the program, a piece at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

import numpy as np

from dbgraph.actor import Address, Arrays, Awaited, Envelope
from dbgraph.actors.messages import Cargo, Ordinal
from dbgraph.job import Step
from dbgraph.machine import Finished, Machine, Outgoing, Waiting
from dbgraph.readahead import ReadAhead
from dbgraph.trace.events import Recorder, run_number
from dbgraph.trace.program import ProgramLog

TRAIN = "train"
"""The name of the training plan in a replica's job."""

NEVER: Ordinal = (-1, 0)


class Partition:
    """Computes gradients. Values for runs that have not begun here are kept until they do.

    Args:
        machine: of a job without a rule, whose only plan is TRAIN.
        keep: how many settings of the parameters are kept, the present one included.

    Attributes:
        ordinal, step: of the run that was begun last.
    """

    def __init__(self, machine: Machine, address: Address, keep: int = 1) -> None:
        self._machine, self._address = machine, address
        self.ordinal, self.step = NEVER, Step(TRAIN)
        self._settings: deque[tuple[Ordinal, Mapping[str, np.ndarray]]] = deque(maxlen=keep)
        self._reader = ReadAhead(lambda examples: machine.read(Step(TRAIN, examples=examples)))
        self._early: dict[Ordinal, list[tuple[Cargo, Arrays]]] = {}
        self._waiting: Waiting | None = None
        self.is_running = False

    def record(self, recorder: Recorder) -> None:
        """See `actor.Recordable`."""
        self._machine.log = ProgramLog(recorder)

    def set(self, parameters: Mapping[str, np.ndarray]) -> None:
        """By the leaf's name; who gives them changes them no more."""
        self._settings.append((self.ordinal, parameters))
        self._machine.set_parameters(parameters)

    def parameters(self, ordinal: Ordinal) -> Mapping[str, np.ndarray]:
        """By the leaf's name those of a run; nothing where they are not kept any more."""
        settings = reversed(self._settings)
        return next((parameters for after, parameters in settings if after < ordinal), {})

    def begin(self, ordinal: Ordinal, number: int, examples: np.ndarray) -> None:
        """Begins a run; one that has not ended is called off.

        Args:
            number: as in `Step`.
        """
        if (log := self._machine.log) is not None:
            log.recorder.begin(run_number(ordinal), TRAIN)
        self.step = Step(TRAIN, number, examples=examples, want=frozenset({"loss"}))
        self._machine.begin(self.step, self._reader.take(examples))
        self.ordinal, self.is_running = ordinal, True
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
        if cargo.ordinal > self.ordinal:
            self._early.setdefault(cargo.ordinal, []).append((cargo, arrays))
        elif cargo.ordinal == self.ordinal:
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
            cargo = Cargo(self.ordinal, event.transfer, event.microbatch)
            array = np.asarray(event.value)
            if (log := self._machine.log) is not None:
                log.look()
            return [Envelope(to, cargo, (array,))]
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


def parameters_of(shards: Iterable[int]) -> Awaited:
    """What a partition waits for whose parameters have not come."""
    return Awaited("parameters", tuple(Address("shard", shard) for shard in shards))
