"""One partition of a replica under the batch methods, Sandblaster and synchronous SGD; that of
number 0 leads: what the coordinator says, it passes on to all, and it answers when all are done.

| to a partition | then                                                                         |
|----------------|------------------------------------------------------------------------------|
| Compute        | fetch, if the evaluation is new; compute the portion; Summed; keep the gradient |
| Grant          | add weight × gradient to the accumulator of that sequence                    |
| Deny           | forget the gradient                                                          |
| Flush          | stage the accumulator on the shards; Stowed, when all have it                |
| Lesson         | fetch; compute; Summed; stage examples × gradient; Stowed                    |

A portion is computed in runs of the plan's batch. One that it does not divide is filled up with
copies of its last example, and what these add is taken away again: since a loss is a mean over
the batch of each example's own, plus penalties, this is exact but for rounding (see `runs_of`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import numpy as np

from dbgraph.actor import COORDINATOR, Address, Arrays, Envelope
from dbgraph.actors.inquiry import Blame
from dbgraph.actors.leading import Leading
from dbgraph.actors.member import Member
from dbgraph.actors.messages import Exit, Lesson, Ordinal, Stowed, Summed
from dbgraph.actors.partition import Partition
from dbgraph.actors.runs import RunOf, runs_of
from dbgraph.coordinate.messages import (
    Compute,
    Deny,
    Flush,
    Grant,
)
from dbgraph.errors import RunError
from dbgraph.ps.compress import Compression
from dbgraph.ps.messages import End, Fetch, Fetched, Reason, Refused, Stage, Staged
from dbgraph.ps.packing import pack, part_of
from dbgraph.ps.routes import Routes
from dbgraph.sampler import Batches

Gradients = dict[str, np.ndarray]
PLAIN = Compression()
START = 1
"""The number of a batch method's first evaluation, which is no trial."""
EPOCH = 1
"""No replica's number is ever used twice, so each has but one epoch."""


@dataclass
class Task:
    """A sum to be computed.

    Attributes:
        name: of what it is for, in Summed.
        fetch: the number of the fetch whose parameters it needs.
        number: of the step, as in `job.Step`.
        stage: the sequence to stage it under, times the number of examples; None: it is kept.
        likely: the run that will probably follow the last one, of another task.
    """

    name: tuple[int, int]
    fetch: int
    number: int
    runs: deque[RunOf]
    examples: int
    stage: int | None = None
    likely: RunOf | None = None
    loss: float = 0.0
    gradients: Gradients = field(default_factory=dict)

    @property
    def is_trial(self) -> bool:
        """Whether it may well be that a line search has tried a step that is too far."""
        return self.stage is None and self.name[0] > START

    @property
    def when(self) -> str:
        """For people."""
        return "at the start" if self.stage is None else f"at its step {self.name[0] + 1}"


class BatchReplica(Member):
    """See above.

    Args:
        address: its replica's number is that under which shards have admitted it, in epoch 1.
    """

    def __init__(
        self,
        address: Address,
        partitions: int,
        fingerprint: str,
        partition: Partition,
        batches: Batches,
        blame: Blame,
        routes: Routes,
    ) -> None:
        super().__init__(address, partitions, fingerprint, partition, batches, blame)
        self._routes = routes
        self._who = (address.number, address.partition, EPOCH)
        self._ordinal: Ordinal = (0, 0)
        self._task: Task | None = None
        self._fetched = 0
        self._arrays: dict[int, Arrays] = {}
        self._kept: dict[tuple[int, int], Gradients] = {}
        self._sums: tuple[int, Gradients] = (0, {})
        self._unstaged: dict[int, set[int]] = {}
        self._leading = Leading(partitions)

    def missing(self) -> Iterable[int]:
        if self._task is None or self._fetched == self._task.fetch:
            return ()
        return (shard for shard in self._routes.fetched if shard not in self._arrays)

    # Messages

    def take(self, sender: Address, message: Any, arrays: Arrays) -> Iterable[Envelope]:
        match message:
            case Summed() | Stowed():
                return self._leading.told(message)
            case Fetched():
                return self._take_fetched(sender.number, message, arrays)
            case Staged():
                return self._staged(sender.number, message)
            case Refused():
                return self._refused(sender, message)
        if sender == COORDINATOR:
            return self._pass_on(message)
        return self._do(message)

    def _refused(self, sender: Address, message: Refused) -> Iterable[Envelope]:
        if message.reason is not Reason.CLOSED:
            raise RunError(f"{sender}: {message.what}: {message.reason} {message.detail}")
        self.is_over = True  # it was taken for dead
        return []

    def _pass_on(self, message: Any) -> Iterable[Envelope]:
        if isinstance(message, End):
            message = Exit()
        else:
            self._leading.asked(message)
        return [Envelope(one, message) for one in self._all]

    def _do(self, message: Any) -> Iterable[Envelope]:
        match message:
            case Compute():
                return self._begin(self._task_of(message))
            case Lesson():
                examples = self._batches.examples(message.batch)
                name, sequence = (message.step, 0), message.sequence
                runs = deque(runs_of(examples, self._batches.batch))
                task = Task(name, sequence, message.batch, runs, len(examples), sequence)
                return self._begin(task)
            case Grant():
                self._grant(message)
            case Deny():
                self._kept.pop((message.evaluation, message.portion), None)
            case Flush():
                sequence, sums = self._sums
                assert sequence == message.sequence, "what is sent for was granted last"
                return self._stage(sequence, sums)
        return []

    # Computing

    def _task_of(self, asked: Compute) -> Task:
        runs = self._portion(asked.start, asked.stop)
        likely = self._portion(*asked.likely)[0] if asked.likely else None
        name, size = (asked.evaluation, asked.portion), asked.stop - asked.start
        return Task(name, asked.evaluation, 0, deque(runs), size, likely=likely)

    def _portion(self, start: int, stop: int) -> list[RunOf]:
        return runs_of(np.arange(start, stop, dtype=np.int64), self._batches.batch)

    def _begin(self, task: Task) -> Iterable[Envelope]:
        """A new task calls off one that has not ended."""
        self._task, fetch = task, task.fetch
        self._partition.is_running = False
        self._ordinal = (self._ordinal[0] + 1, 0)
        if self._fetched == fetch:
            self._run()
            return []
        self._arrays = {}
        self._run_if_fetched()  # a partition may hold no parameter at all
        return [
            Envelope(Address("shard", shard), Fetch(*self._who, fetch, 0, parts))
            for shard, parts in self._routes.fetch_parts.items()
        ]

    def _take_fetched(self, shard: int, message: Fetched, arrays: Arrays) -> Iterable[Envelope]:
        task = self._task
        if task is None or message.number != task.fetch:
            return []
        self._arrays[shard] = arrays
        self._run_if_fetched()
        return []

    def _run_if_fetched(self) -> None:
        assert self._task is not None
        if len(self._arrays) == len(self._routes.fetched):
            self._partition.set(self._routes.assemble("none", self._arrays))
            self._fetched = self._task.fetch
            self._run()

    def _run(self) -> None:
        task = self._task
        assert task is not None
        self._ordinal = (self._ordinal[0], self._ordinal[1] + 1)
        self._partition.begin(self._ordinal, task.number, task.runs[0].examples)
        after = task.runs[1] if len(task.runs) > 1 else task.likely
        if after is not None:
            self._partition.expect(after.examples)

    def finished(self) -> Iterable[Envelope]:
        task, loss = self._task, self._partition.loss()
        assert task is not None
        if not isfinite(loss) and not task.is_trial:
            return self.inquire(f"the loss is {loss} {task.when}")
        factor = task.runs.popleft().factor
        task.loss += factor * loss
        _add(task.gradients, self._partition.gradients(), factor)
        if task.runs:
            self._run()
            return []
        self._task = None
        told = [Envelope(self.leader, Summed(task.name, task.loss))]
        if task.stage is None:
            self._kept[task.name] = task.gradients
            return told
        return [*told, *self._stage(task.stage, _scaled(task.gradients, task.examples))]

    # What counts

    def _grant(self, message: Grant) -> None:
        gradients = self._kept.pop((message.evaluation, message.portion))
        if self._sums[0] != message.sequence:
            self._sums = message.sequence, {}
        _add(self._sums[1], gradients, message.weight)

    def _stage(self, sequence: int, gradients: Gradients) -> Iterable[Envelope]:
        self._unstaged[sequence] = set(self._routes.pushed)
        thinned = self._routes.thinned(gradients)
        for shard in self._routes.pushed:
            cuts = self._routes.cut(shard, thinned)
            parts = tuple(part_of(way.owned, gradient) for way, gradient in cuts)
            arrays = pack([gradient for _, gradient in cuts], PLAIN)
            yield Envelope(Address("shard", shard), Stage(*self._who, sequence, parts), arrays)
        yield from self._stowed(sequence)

    def _staged(self, shard: int, message: Staged) -> Iterable[Envelope]:
        self._unstaged[message.sequence].discard(shard)
        return self._stowed(message.sequence)

    def _stowed(self, sequence: int) -> Iterable[Envelope]:
        if self._unstaged[sequence]:
            return []
        del self._unstaged[sequence]
        return [Envelope(self.leader, Stowed(sequence))]


def _add(sums: Gradients, gradients: Mapping[str, np.ndarray], factor: float) -> None:
    for leaf, gradient in gradients.items():
        part = gradient if factor == 1.0 else gradient * gradient.dtype.type(factor)
        sums[leaf] = sums[leaf] + part if leaf in sums else part


def _scaled(gradients: Gradients, factor: float) -> Gradients:
    return {leaf: g * g.dtype.type(factor) for leaf, g in gradients.items()}
