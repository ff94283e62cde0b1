"""A replica's own side of Downpour SGD, above its partitions: pure, events in, instructions out.

Each partition has a `client.Client`, which says when it may begin a step. This says with which
batch, the same on all partitions, and when to stop, after the same step on all partitions.

| event          | instructions                                                               |
|----------------|----------------------------------------------------------------------------|
| train          | Start: clients for this epoch; Progress at step 0, which asks for batches  |
| work           | Compute, for partitions that wait for a batch                              |
| ready          | Compute, or Stop after the last step, or nothing: no batch is there        |
| computed       | Progress, when all partitions have done the step                           |
| acknowledged   | (told with the next Progress)                                              |
| rest           | Stop, after the batches that it has                                        |
| end            | Stop, after the step that is under way; Over, where none is                |
| ended          | Leave, when all partitions have; Over, after `end`                         |
| dismissed      | Over                                                                       |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dbgraph.ps.ledger import numbers
from dbgraph.ps.messages import End, Leave, Pairs, Progress, Rest, Train, Work
from dbgraph.ps.ranges import Ranges

AHEAD = 2
"""It asks for more batches when it has no more than so many steps before it."""


@dataclass(frozen=True, slots=True)
class Start:
    """Please make clients for this epoch, and start them."""

    replica: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Compute:
    """Please compute the gradients of this batch on a partition, as its client's step."""

    partition: int
    step: int
    batch: int


@dataclass(frozen=True, slots=True)
class Stop:
    """Please tell a partition's client to stop."""

    partition: int


@dataclass(frozen=True, slots=True)
class Tell:
    """Please send this to the coordinator."""

    message: Progress | Leave


@dataclass(frozen=True, slots=True)
class Over:
    """The process may end."""

    why: str


Instruction = Start | Compute | Stop | Tell | Over


class ReplicaDriver:
    """The state machine; one for the life of the process.

    Args:
        partitions: of the replica.
    """

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self._why = ""
        self._member: tuple[int, int] | None = None
        self._reset()

    def _reset(self) -> None:
        self._batches: list[int] = []
        self._ready: dict[int, int] = {}
        self._begun = [0] * self._partitions
        self._done = [0] * self._partitions
        self._losses: dict[int, float] = {}
        self._loss = 0.0
        self._limit: int | None = None
        self._wants = False
        self._ended: set[int] = set()
        self._sequences = [0] * self._partitions
        self._applied: list[Ranges] = [Ranges() for _ in range(self._partitions)]
        self._told = Ranges()

    # From the coordinator

    def train(self, message: Train) -> list[Instruction]:
        self._reset()
        self._member = message.replica, message.epoch
        return [Start(message.replica, message.epoch), self._progress()]

    def work(self, message: Work) -> list[Instruction]:
        self._wants = False
        if self._limit is None:
            self._batches += numbers(message.batches)
        return self._next()

    def rest(self, message: Rest) -> list[Instruction]:
        self._limit = len(self._batches)
        return self._next()

    def end(self, message: End) -> list[Instruction]:
        self._why = message.why
        if self._member is None:
            return [Over(self._why)]
        self._limit = max(self._begun)
        return self._next()

    # From the partitions

    def ready(self, partition: int, step: int) -> list[Instruction]:
        """The client of a partition may begin a step."""
        self._ready[partition] = step
        return self._next()

    def computed(self, partition: int, losses: Mapping[str, float]) -> list[Instruction]:
        """A partition has done its step.

        Args:
            losses: "loss" where the partition holds the loss; may be empty.
        """
        step = self._done[partition]
        self._done[partition] += 1
        self._losses[step] = self._losses.get(step, 0.0) + losses.get("loss", 0.0)
        if min(self._done) <= step:
            return []
        self._loss = self._losses.pop(step)
        return [self._progress()]

    def acknowledged(self, partition: int, sequence: int, applied: Pairs) -> None:
        """All its shards have applied a partition's pushes up to this one.

        Args:
            applied: the batches of all of them.
        """
        self._sequences[partition] = sequence
        self._applied[partition].update(applied)

    def ended(self, partition: int) -> list[Instruction]:
        """The client of a partition has ended."""
        self._ended.add(partition)
        if len(self._ended) < self._partitions or self._member is None:
            return []
        left = Tell(Leave(*self._member))
        self._member = None
        return [left, Over(self._why)] if self._why else [left]

    def dismissed(self, why: str) -> list[Instruction]:
        """A shard takes nothing from the replica any more."""
        self._member = None
        return [Over(why)]

    # Inside

    def _next(self) -> list[Instruction]:
        """What partitions that are ready may do now."""
        found: list[Instruction] = []
        for partition, step in list(self._ready.items()):
            if self._limit is not None and step >= self._limit:
                found.append(Stop(partition))
            elif step < len(self._batches):
                self._begun[partition] = step + 1
                found.append(Compute(partition, step, self._batches[step]))
            else:
                continue
            del self._ready[partition]
        return found

    def _progress(self) -> Tell:
        assert self._member is not None
        step = min(self._done)
        applied = self._applied[0]
        for other in self._applied[1:]:
            applied = applied.intersect(other.pairs)
        news = applied.subtract(self._told.pairs)
        self._told.update(news.pairs)
        ahead = len(self._batches) - step
        asks = not self._wants and self._limit is None and ahead <= AHEAD
        self._wants = self._wants or asks
        sequence = min(self._sequences)
        return Tell(Progress(*self._member, step, self._loss, sequence, news.pairs, asks))
