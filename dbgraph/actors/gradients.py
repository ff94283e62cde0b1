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
from typing import Any

import numpy as np

from dbgraph.actor import COORDINATOR, MESSAGES, Address, Arrays, Awaited, Envelope
from dbgraph.actors.leading import Leading
from dbgraph.actors.messages import Cargo, Exit, Lesson, Ordinal, Stowed, Summed
from dbgraph.actors.partition import Partition, parameters_of
from dbgraph.actors.posting import delivered
from dbgraph.actors.runs import RunOf, runs_of
from dbgraph.coordinate.messages import (
    Compute,
    Deny,
    Flush,
    Grant,
)
from dbgraph.errors import RunError
from dbgraph.ps.compress import Compression
from dbgraph.ps.messages import End, Fetch, Fetched, Join, Reason, Refused, Stage, Staged
from dbgraph.ps.packing import pack, part_of
from dbgraph.ps.routes import Routes
from dbgraph.sampler import Batches
from dbgraph.trace.events import Recorder

Gradients = dict[str, np.ndarray]
PLAIN = Compression()
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


class BatchReplica:
    """See above.

    Args:
        address: its replica's number is that under which shards have admitted it, in epoch 1.
        partitions: of the replica.
        fingerprint: of the network.
        batches: which examples the number of a Lesson's batch stands for.
    """

    deadline: float | None = None

    def __init__(
        self,
        address: Address,
        partitions: int,
        fingerprint: str,
        partition: Partition,
        routes: Routes,
        batches: Batches,
    ) -> None:
        self.is_over = False
        self._address = address
        self._all = [address._replace(partition=p) for p in range(partitions)]
        self._fingerprint = fingerprint
        self._partition, self._routes, self._batches = partition, routes, batches
        self._who = (address.number, address.partition, EPOCH)
        self._ordinal: Ordinal = (0, 0)
        self._task: Task | None = None
        self._fetched = 0
        self._arrays: dict[int, Arrays] = {}
        self._kept: dict[tuple[int, int], Gradients] = {}
        self._sums: tuple[int, Gradients] = (0, {})
        self._unstaged: dict[int, set[int]] = {}
        self._leading = Leading(partitions)

    @property
    def _leader(self) -> Address:
        return self._all[0]

    def record(self, recorder: Recorder) -> None:
        """See `actor.Recordable`."""
        self._partition.record(recorder)

    # The backend's calls

    def start(self, now: float) -> Iterable[Envelope]:
        leads = self._address == self._leader
        return [Envelope(COORDINATOR, Join(self._fingerprint))] if leads else []

    def receive(
        self, sender: Address, message: Any, arrays: Arrays, now: float
    ) -> Iterable[Envelope]:
        return delivered(self._address, self._take(sender, message, arrays), self._take)

    def lost(self, peer: Address, now: float) -> Iterable[Envelope]:
        """Without a sibling, or the coordinator, there is nothing to go on for."""
        self.is_over |= peer in self._all or peer == COORDINATOR
        return []

    def work(self) -> Iterable[Envelope] | None:
        sent = self._partition.advance()
        if sent is None or self._partition.is_running:
            return sent
        return delivered(self._address, self._add_run(), self._take)

    def tick(self, now: float) -> Iterable[Envelope]:
        return []

    @property
    def awaits(self) -> Awaited:
        """A sibling's value, shards' parameters, or what anybody says next."""
        if (value := self._partition.awaits) is not None:
            return value
        if self._task is None or self._fetched == self._task.fetch:
            return MESSAGES
        return parameters_of(s for s in self._routes.fetched if s not in self._arrays)

    # Messages

    def _take(self, sender: Address, message: Any, arrays: Arrays) -> Iterable[Envelope]:
        match message:
            case Cargo():
                self._partition.deliver(message, arrays)
                return []
            case Summed() | Stowed():
                return self._leading.told(message)
            case Exit():
                self.is_over = True
                return []
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

    def _add_run(self) -> Iterable[Envelope]:
        """A run has ended."""
        task = self._task
        assert task is not None
        factor = task.runs.popleft().factor
        partition = self._partition
        # The line search of a batch method may well try a step that is too far.
        searched = task.stage is None
        loss = partition.loss() if searched else partition.good_loss(task.name[0] + 1)
        task.loss += factor * loss
        _add(task.gradients, self._partition.gradients(), factor)
        if task.runs:
            self._run()
            return []
        self._task = None
        told = [Envelope(self._leader, Summed(task.name, task.loss))]
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
        return [Envelope(self._leader, Stowed(sequence))]


def _add(sums: Gradients, gradients: Mapping[str, np.ndarray], factor: float) -> None:
    for leaf, gradient in gradients.items():
        part = gradient if factor == 1.0 else gradient * gradient.dtype.type(factor)
        sums[leaf] = sums[leaf] + part if leaf in sums else part


def _scaled(gradients: Gradients, factor: float) -> Gradients:
    return {leaf: g * g.dtype.type(factor) for leaf, g in gradients.items()}
