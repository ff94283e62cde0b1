"""The Sandblaster coordinator: an algorithm that holds no vector, over shards and replicas.

| waits for | what comes               | then                                           |
|-----------|--------------------------|------------------------------------------------|
| a start   | start                    | the algorithm's first request                  |
| shards    | all have executed        | an answer, an evaluation, a report, or the end |
| replicas  | the last portion counts  | an answer                                      |
| caller    | go_on                    | an answer                                      |
| nothing   |                          |                                                |

An answer makes the algorithm's next request.

Dean et al., "Large Scale Distributed Deep Networks", NIPS 2012, section 4.2.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeGuard

from dbgraph.coordinate.evaluation import Evaluated, Evaluation
from dbgraph.coordinate.evaluation import Instruction as FromEvaluation
from dbgraph.coordinate.messages import Compute, Computed, Deny, Flush, Flushed, Grant
from dbgraph.optim.vectors import (
    Batch,
    Evaluate,
    Report,
    Request,
    Scalars,
    Steps,
    T,
    Zero,
    combine,
    is_scalar,
)
from dbgraph.ps.messages import Commit, Discard, Execute, Order


class Waiting(Enum):
    """What the algorithm waits for."""

    START = "a start"
    SHARDS = "shards"
    REPLICAS = "replicas"
    CALLER = "the caller, after a report"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Finished(Generic[T]):
    """The algorithm has returned, and the shards have executed all that it asked for."""

    result: T


Instruction = Execute | Compute | Grant | Deny | Flush | Report | Finished[T]


class Sandblaster(Generic[T]):
    """The coordinator. Every method returns instructions: `Execute` goes to all shards, messages
    with a replica to it; after a `Report`, in which a snapshot may be taken or the run be stopped,
    it waits for `go_on`.

    Args:
        algorithm: such as `minimise(LBFGS())`.
        shards: their number; they are numbered from 0.
        executed: the number of the last Execute that the shards have had from others.
    """

    def __init__(
        self, algorithm: Steps[T], evaluation: Evaluation, shards: int, executed: int = 0
    ) -> None:
        self.waiting = Waiting.START
        self._algorithm = algorithm
        self._evaluation = evaluation
        self._shards = shards
        self._number = executed
        self._awaited = executed  # the Execute whose answer the algorithm waits for
        self._batch: Batch = ()  # commands that need no answer wait here for company
        self._answers: dict[int, Scalars] = {}
        self._request: Request | Finished[T] = ()

    # --- what may happen ---

    def start(self) -> list[Instruction[T]]:
        return self._answer(None)

    def executed(
        self, shard: int, number: int, scalars: Scalars, now: float
    ) -> list[Instruction[T]]:
        """A shard has executed an Execute."""
        if self.waiting is not Waiting.SHARDS or number != self._awaited:
            return []
        self._answers[shard] = scalars
        return self._all_executed(now) if len(self._answers) == self._shards else []

    def go_on(self) -> list[Instruction[T]]:
        """After a Report."""
        return self._answer(()) if self.waiting is Waiting.CALLER else []

    def joined(self, replica: int, epoch: int, now: float) -> list[Instruction[T]]:
        return self._passed_on(self._evaluation.joined(replica, epoch, now))

    def lost(self, replica: int, epoch: int, now: float) -> list[Instruction[T]]:
        return self._passed_on(self._evaluation.lost(replica, epoch, now))

    def computed(self, said: Computed, now: float) -> list[Instruction[T]]:
        return self._passed_on(self._evaluation.computed(said, now))

    def flushed(self, said: Flushed, now: float) -> list[Instruction[T]]:
        return self._passed_on(self._evaluation.flushed(said, now))

    def tick(self, now: float) -> list[Instruction[T]]:
        return self._passed_on(self._evaluation.tick(now))

    def deadline(self) -> float:
        """When to call `tick`."""
        return self._evaluation.deadline()

    # --- what it leads to ---

    def _answer(self, answer: Scalars | None) -> list[Instruction[T]]:
        """Answers the algorithm; takes its requests up to one that must be waited for."""
        request = self._next(answer)
        while _is_silent(request):
            self._batch += request
            request = self._next(())
        return self._wait_for_shards(request)

    def _next(self, answer: Scalars | None) -> Request | Finished[T]:
        try:
            return next(self._algorithm) if answer is None else self._algorithm.send(answer)
        except StopIteration as end:
            return Finished(end.value)

    def _wait_for_shards(self, request: Request | Finished[T]) -> list[Instruction[T]]:
        """Also before all else: replicas and snapshots read what the shards have by then."""
        match request:
            case Evaluate(out):
                self._batch += (Zero(out),)
            case tuple():
                self._batch += request
        self._request = request
        self.waiting, self._answers = Waiting.SHARDS, {}
        sent = self._execute(self._batch)
        self._awaited = self._number
        return [sent]

    def _all_executed(self, now: float) -> list[Instruction[T]]:
        answers = [scalars for _, scalars in sorted(self._answers.items())]
        batch, self._batch = self._batch, ()
        match self._request:
            case Evaluate(out):
                self.waiting = Waiting.REPLICAS
                return self._passed_on(self._evaluation.begin(out, now))
            case Report() as report:
                self.waiting = Waiting.CALLER
                return [report]
            case Finished() as finished:
                self.waiting = Waiting.NOTHING
                return [finished]
            case _:
                return self._answer(combine(batch, answers))

    def _passed_on(self, given: Iterable[FromEvaluation]) -> list[Instruction[T]]:
        found: list[Instruction[T]] = []
        for instruction in given:
            match instruction:
                case Commit() | Discard():
                    found.append(self._execute((instruction,)))
                case Evaluated(loss):
                    found += self._answer((loss,))
                case _:
                    found.append(instruction)
        return found

    def _execute(self, orders: tuple[Order, ...]) -> Execute:
        self._number += 1
        return Execute(self._number, orders)


def _is_silent(request: object) -> TypeGuard[Batch]:
    """Whether it needs no answer, so that it can travel with the next."""
    return isinstance(request, tuple) and not any(map(is_scalar, request))
