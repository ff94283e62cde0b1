"""Synchronous SGD with backup workers: a step takes the first R of R + B gradients.

Chen, Pan, Monga, Bengio and Jozefowicz, "Revisiting distributed synchronous SGD", ICLR workshop
2016, algorithms 3 and 4. A step equals one of large-batch SGD over exactly the examples of the
gradients that counted, on all shards the same ones.

| phase     | event                         | then                                          |
|-----------|-------------------------------|-----------------------------------------------|
| gathering | contributed, the R-th         | the shards commit, discard and update         |
| gathering | lost, R are there by then     | the same                                      |
| updating  | all shards have executed      | gathering: the next step, for all replicas    |
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from dbgraph.coordinate.messages import Contribute, Contributed
from dbgraph.errors import UsageError
from dbgraph.optim.vectors import Zero
from dbgraph.ps.messages import Commit, Discard, Execute, Update

GRADIENT = "gradient"


class Phase(Enum):
    """What the step waits for."""

    GATHERING = "gradients"
    UPDATING = "shards"


@dataclass(frozen=True, slots=True)
class Stepped:
    """A step is done on all shards.

    Attributes:
        loss: the mean over its examples.
        counted: the (replica, epoch) whose gradients it took; what others computed for it is void.
    """

    step: int
    loss: float
    examples: int
    counted: tuple[tuple[int, int], ...]


Instruction = Execute | Contribute | Stepped


class SyncSgd:
    """The coordinator. Every method returns instructions: `Execute` goes to all shards,
    `Contribute` to its replica.

    A step waits for `replicas` gradients, or for as many as there are replicas where that is
    fewer; with none it waits for one that joins.

    Args:
        replicas: R.
        shards: their number; they are numbered from 0.
        step: the first.
        executed: the number of the last Execute that the shards have had from others.
    """

    def __init__(self, replicas: int, shards: int, step: int = 0, executed: int = 0) -> None:
        if replicas < 1:
            raise UsageError(f"synchronous SGD over {replicas} replicas: at least 1 must count")
        self.phase = Phase.GATHERING
        self.step = step
        self._needed = replicas
        self._shards = shards
        self._number = executed
        self._epochs: dict[int, int] = {}  # of those that live
        self._newest: dict[int, int] = {}
        self._gone: list[tuple[int, int]] = []  # whose staged gradients are to be discarded
        self._ready: dict[int, Contributed] = {}
        self._executed: set[int] = set()
        self._done = Stepped(step, 0.0, 0, ())

    def joined(self, replica: int, epoch: int) -> list[Instruction]:
        """A replica is there, admitted to the shards."""
        if self._newest.get(replica, -1) >= epoch:
            return []
        self._bury(replica)
        self._newest[replica] = self._epochs[replica] = epoch
        return [self._contribute(replica)] if self.phase is Phase.GATHERING else []

    def lost(self, replica: int, epoch: int) -> list[Instruction]:
        """A replica died, or is taken for dead: its gradient does not count."""
        if self._epochs.get(replica) != epoch:
            return []
        self._bury(replica)
        return self._update_if_enough()

    def contributed(self, said: Contributed) -> list[Instruction]:
        present = self.phase is Phase.GATHERING and said.step == self.step
        if not present or self._epochs.get(said.replica) != said.epoch:
            return []  # late, and discarded already
        self._ready[said.replica] = said
        return self._update_if_enough()

    def executed(self, shard: int, number: int) -> list[Instruction]:
        """A shard has executed an Execute."""
        if self.phase is not Phase.UPDATING or number != self._number:
            return []
        self._executed.add(shard)
        if len(self._executed) < self._shards:
            return []
        self.phase = Phase.GATHERING
        self.step += 1
        self._ready = {}
        return [self._done, *map(self._contribute, sorted(self._epochs))]

    def _bury(self, replica: int) -> None:
        if replica in self._epochs:
            self._gone.append((replica, self._epochs.pop(replica)))
        self._ready.pop(replica, None)

    def _update_if_enough(self) -> list[Instruction]:
        enough = min(self._needed, len(self._epochs))
        if self.phase is not Phase.GATHERING or not 0 < enough <= len(self._ready):
            return []
        self.phase, self._executed = Phase.UPDATING, set()
        self._number += 1
        # In one order whoever was first, so that sums are rounded alike.
        return [self._update([said for _, said in sorted(self._ready.items())])]

    def _update(self, counted: list[Contributed]) -> Execute:
        examples = sum(said.examples for said in counted)
        loss = sum(said.loss * said.examples for said in counted) / examples
        who = tuple((said.replica, said.epoch) for said in counted)
        self._done = Stepped(self.step, loss, examples, who)
        late = [pair for pair in sorted(self._epochs.items()) if pair not in who]
        gone, self._gone = tuple(self._gone), []
        orders = (
            Zero(GRADIENT),
            Commit(self._names(who), GRADIENT),
            Discard(self._names(late), gone),
            Update(GRADIENT, 1.0 / examples),
        )
        return Execute(self._number, orders)

    def _names(self, pairs: Iterable[tuple[int, int]]) -> tuple[tuple[int, int, int], ...]:
        return tuple((replica, epoch, self._sequence) for replica, epoch in pairs)

    def _contribute(self, replica: int) -> Contribute:
        return Contribute(replica, self._epochs[replica], self.step, self._sequence)

    @property
    def _sequence(self) -> int:
        return self.step + 1  # sequences count from 1
