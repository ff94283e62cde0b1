"""The coordinator's actor under Sandblaster: around `coordinate.sandblaster.Sandblaster`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import msgspec
import numpy as np

from dbgraph.actor import Address, Envelope
from dbgraph.actors.audience import Audience, Company
from dbgraph.actors.director import Phase
from dbgraph.actors.gradients import EPOCH
from dbgraph.actors.membership import BatchDirector
from dbgraph.coordinate.evaluation import Evaluation
from dbgraph.coordinate.messages import Compute, Computed, Deny, Flush, Flushed, Grant
from dbgraph.coordinate.options import Sandblaster as Options
from dbgraph.coordinate.portions import cut
from dbgraph.coordinate.sandblaster import Finished, Instruction, Sandblaster
from dbgraph.errors import CheckpointError, RunError
from dbgraph.optim.lbfgs import LBFGS
from dbgraph.optim.minimise import Result, Status, Stop, minimise
from dbgraph.optim.vectors import Report
from dbgraph.ps.messages import Execute, Executed
from dbgraph.ps.snapshot import Snapshot
from dbgraph.state import State

PROGRESS = "sandblaster"
"""The name of the record among a state's scalars."""


class Progress(msgspec.Struct, frozen=True):
    """What a checkpoint keeps of the algorithm.

    Attributes:
        pairs: of L-BFGS, whose vectors are in the checkpoint, oldest first.
    """

    report: Report
    pairs: tuple[int, ...] = ()


def progress_of(state: State | None) -> Progress | None:
    """None where it was not Sandblaster that made the state.

    Raises CheckpointError where the record can't be read.
    """
    array = state.scalars.get(PROGRESS) if state is not None else None
    if array is None:
        return None
    try:
        return msgspec.json.decode(array.tobytes(), type=Progress)
    except msgspec.DecodeError as error:
        raise CheckpointError(f"the checkpoint's Sandblaster record is broken: {error}") from error


class SandblasterDirector(BatchDirector):
    """Args:
        examples: in the batch, which is all of the training data.
        portion: examples of a portion.
        stop: counts the iterations of this algorithm alone.

    Attributes:
        result: how it ended; None while it has not, and where it was stopped.
    """

    def __init__(
        self,
        company: Company,
        audience: Audience,
        options: Options,
        examples: int,
        portion: int,
        stop: Stop,
    ) -> None:
        super().__init__(company, audience)
        before = progress_of(company.begin)
        self._method = options.make_method(before.pairs if before else ())
        self._last = before.report if before else None
        self._examples, self._ranges = examples, cut(examples, portion)
        flush, patience, duplicate = options.flush_every, options.patience, options.duplicate
        self._core: Sandblaster[Result] = Sandblaster(
            minimise(self._method, stop, self._last),
            Evaluation(self._ranges, flush, patience, duplicate),
            len(company.layout.shards),
        )
        self._is_at_report = False
        self.result: Result | None = None

    # From the bases

    @property
    def next_s(self) -> float:
        return self._core.deadline()

    def opened(self, now: float) -> Iterable[Envelope]:
        return self._carried_out(self._core.start(), now)

    def ticked(self, now: float) -> Iterable[Envelope]:
        if self.phase is not Phase.TRAINING:
            return []
        return self._carried_out(self._core.tick(now), now)

    def joined(self, replica: int, now: float) -> Iterable[Envelope]:
        return self._carried_out(self._core.joined(replica, EPOCH, now), now)

    def left(self, replica: int, now: float) -> Iterable[Envelope]:
        return self._carried_out(self._core.lost(replica, EPOCH, now), now)

    def answered(self, sender: Address, message: object, now: float) -> Iterable[Envelope]:
        match message:
            case Computed():
                start, stop = self._ranges[message.portion]
                self.audience.computed(message.replica, stop - start, now)
                return self._carried_out(self._core.computed(message, now), now)
            case Flushed():
                return self._carried_out(self._core.flushed(message, now), now)
            case Executed(number, scalars):
                done = self._core.executed(sender.number, number, scalars, now)
                return self._carried_out(done, now)
        raise AssertionError(f"{sender} says {message}")

    def held(self, now: float) -> Iterable[Envelope]:
        return self._go_on(now)

    def snapshot_vectors(self) -> tuple[str, ...]:
        return self._method.vectors if isinstance(self._method, LBFGS) else ()

    def snapshot_begins(self) -> None:
        assert self._last is not None
        pairs = tuple(self._method.pairs) if isinstance(self._method, LBFGS) else ()
        self._recorded = Progress(self._last, pairs)

    def recorded(self, snapshot: Snapshot) -> State:
        array = np.frombuffer(msgspec.json.encode(self._recorded), np.uint8)
        state = snapshot.state
        scalars = {**state.scalars, PROGRESS: array}
        return replace(state, step=self.snapshot_step, scalars=scalars)

    # Inside

    def _carried_out(
        self, instructions: Iterable[Instruction[Result]], now: float
    ) -> list[Envelope]:
        found: list[Envelope] = []
        for instruction in instructions:
            match instruction:
                case Execute():
                    found += self.to_all_shards(instruction)
                case Compute() | Grant() | Deny() | Flush():
                    found.append(Envelope(Address("replica", instruction.replica), instruction))
                case Report():
                    found += self._report(instruction, now)
                case Finished(result):
                    found += self._finish(result)
        return found

    def _report(self, report: Report, now: float) -> list[Envelope]:
        before, self._last = self._last, report
        if before is None or report.iteration > before.iteration:
            steps = report.iteration - (before.iteration if before else 0)
            evaluations = report.evaluations - (before.evaluations if before else 0)
            if steps:
                self.stepped(steps, report.loss, evaluations * self._examples)
        self._is_at_report = True
        found = self.after_steps(now)
        if self.is_stopping:
            return [*found, *self.ended()]
        return found if self.is_fetching else [*found, *self._go_on(now)]

    def _go_on(self, now: float) -> list[Envelope]:
        if not self._is_at_report or self.phase is not Phase.TRAINING:
            return []
        self._is_at_report = False
        return self._carried_out(self._core.go_on(), now)

    def _finish(self, result: Result) -> list[Envelope]:
        self.result = result
        if result.status is Status.ABNORMAL:
            if not np.isfinite(result.fun + result.max_gradient):
                raise RunError(result.message)
            self.audience.note(f"{result.message}; the best parameters are kept")
        return self.ended()
