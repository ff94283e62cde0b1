"""Evaluating the loss and its gradient over a batch on many replicas, as Sandblaster does.

Dean et al., "Large Scale Distributed Deep Networks", NIPS 2012, section 4.2: the batch is cut
into portions far smaller than a replica's share; whoever is free gets the next; at the end the
slowest are given to others too, and the first to finish counts. How each portion gets into the
sum exactly once, although replicas add several up before they send them:

1. A replica is told to compute a portion, and says when it is done.
2. The coordinator grants it, unless another replica holds it already; what is granted is added to
   the replica's accumulator.
3. Every few portions the replica stages its accumulator on the shards: they keep it apart.
4. Once all shards have it, the coordinator has them commit it. A push with a portion that another
   committed push has, or of a replica that died, is discarded instead; its other portions are
   given out again.

Whoever does nothing may be given what another replica has: its portion, where it would be done
first or the other is overdue; or a portion in an accumulator that is overdue. Then two pushes
have that portion, and the first that is staged counts. Nobody ever waits for one replica alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dbgraph.coordinate.crew import Crew, Push, Replica, Task
from dbgraph.coordinate.messages import Compute, Computed, Deny, Flush, Flushed, Grant
from dbgraph.coordinate.portions import Phase, Portions, PushName
from dbgraph.errors import UsageError
from dbgraph.ps.messages import Commit, Discard


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The gradient stands on the shards, once they have executed what they were sent.

    Attributes:
        loss: the mean over the batch.
    """

    loss: float


Instruction = Compute | Grant | Deny | Flush | Commit | Discard | Evaluated


class Evaluation:
    """The coordinator's part of it; one object for all evaluations over a batch.

    Every method takes the present time of any steady clock, and returns instructions: messages to
    replicas, orders for all shards, and at the end `Evaluated`.

    Args:
        ranges: the portions, as ranges of the batch (`portions.cut`).
        flush_every: a replica stages its sum after so many portions.
        patience: overdue is who takes this many times as long as usual.
        duplicate: whether what one replica has may be given to another; without, an evaluation
            waits for its slowest replica.
    """

    def __init__(
        self,
        ranges: Sequence[tuple[int, int]],
        flush_every: int = 4,
        patience: float = 2.0,
        duplicate: bool = True,
    ) -> None:
        if flush_every < 1 or patience < 1:
            raise UsageError(
                f"flush_every={flush_every}, patience={patience}: both must be at least 1"
            )
        self.ranges = ranges
        self.number = 0
        self.running = False
        self._flush_every = flush_every
        self._duplicate = duplicate
        self._crew = Crew(patience)
        self._portions = Portions(len(ranges))
        self._losses: dict[int, float] = {}
        self._into = ""
        self._deadline = math.inf
        self._out: list[Instruction] = []

    # --- what may happen ---

    def begin(self, into: str, now: float) -> list[Instruction]:
        """Evaluates at the present parameters; the gradient is added to the vector `into`."""
        self.number += 1
        self.running = True
        self._portions = Portions(len(self.ranges))
        self._losses = {}
        self._into = into
        self._crew.settle_homes(len(self.ranges))
        return self._ended_at(now)

    def joined(self, replica: int, epoch: int, now: float) -> list[Instruction]:
        """A replica is there, admitted to the shards."""
        before = self._crew.replicas.get(replica)
        if before and before.epoch < epoch:
            self._bury(before)
        return self._ended_at(now) if self._crew.welcome(replica, epoch) else []

    def lost(self, replica: int, epoch: int, now: float) -> list[Instruction]:
        """A replica died, or is taken for dead: from now on it is not listened to."""
        if found := self._crew.get(replica, epoch):
            self._bury(found)
        return self._ended_at(now)

    def computed(self, said: Computed, now: float) -> list[Instruction]:
        replica = self._crew.get(said.replica, said.epoch)
        task = replica.task if replica else None
        if not replica or not task or (said.evaluation, said.portion) != _name(task):
            return []
        replica.task, replica.compute_s = None, now - task.begun_s
        if self._counts(task):
            self._grant(replica, task, said.loss)
        else:
            self._out.append(Deny(replica.number, replica.epoch, *_name(task)))
        if self._is_present(task):
            self._portions.end(task.portion, replica.number)
        self._flush_if_due(replica, now)
        return self._ended_at(now)

    def flushed(self, said: Flushed, now: float) -> list[Instruction]:
        replica = self._crew.get(said.replica, said.epoch)
        push = replica.sent.pop(said.sequence, None) if replica else None
        if not replica or not push or push.flushed_s is None:
            return []  # void, and discarded, before it came
        replica.push_s = now - push.flushed_s
        self._commit(push)
        return self._ended_at(now)

    def tick(self, now: float) -> list[Instruction]:
        """Time has passed: see `deadline`."""
        return self._ended_at(now)

    def deadline(self) -> float:
        """When `tick` should be called: somebody is overdue then, and somebody else idle."""
        return self._deadline

    # --- what it leads to ---

    def _ended_at(self, now: float) -> list[Instruction]:
        self._deadline = math.inf
        if self.running:
            self._give_out(now)
        instructions, self._out = self._out, []
        return instructions

    def _give_out(self, now: float) -> None:
        for replica in self._crew.idle():
            if self._portions.waiting:
                portion = self._portions.next_for(replica.last, replica.home)
            elif self._duplicate and (late := self._late_portion(replica, now)) is not None:
                portion = late
            else:
                return  # no use in asking for slower ones
            self._give(replica, portion, now)

    def _give(self, replica: Replica, portion: int, now: float) -> None:
        replaces = self._portions.phases[portion] is Phase.HELD
        replica.task = Task(self.number, portion, now, replaces)
        replica.last = portion
        self._portions.give(portion, replica.number)
        likely = self.ranges[portion + 1] if portion + 1 in self._portions.waiting else None
        name = (replica.number, replica.epoch, self.number, portion)
        self._out.append(Compute(*name, *self.ranges[portion], likely))

    def _late_portion(self, replica: Replica, now: float) -> int | None:
        """The slowest of those that the replica would have first."""
        outlooks = {
            portion: outlook
            for portion, outlook in sorted(self._crew.outlooks(self.number, now).items())
            if self._portions.phases[portion] is not Phase.COUNTED
        }
        portion = max(outlooks, key=lambda p: outlooks[p].expected_s)
        if outlooks[portion].expected_s > now + self._crew.compute_s(replica):
            return portion
        self._deadline = min(outlook.overdue_s for outlook in outlooks.values())
        return None

    def _counts(self, task: Task) -> bool:
        if not self._is_present(task):
            return False
        phase = self._portions.phases[task.portion]
        return phase is Phase.RUNNING or (phase is Phase.HELD and task.replaces)

    def _is_present(self, task: Task) -> bool:
        return self.running and task.evaluation == self.number

    def _grant(self, replica: Replica, task: Task, loss: float) -> None:
        push = replica.accumulator()
        push.losses[task.portion] = loss
        self._portions.grant(task.portion, push.name)
        weight = self._weight(task.portion)
        name = (replica.number, replica.epoch, *_name(task))
        self._out.append(Grant(*name, push.name[2], weight))

    def _weight(self, portion: int) -> float:
        start, stop = self.ranges[portion]
        return (stop - start) / self.ranges[-1][1]

    def _flush_if_due(self, replica: Replica, now: float) -> None:
        push = replica.open
        if push and (len(push.losses) >= self._flush_every or not self._portions.waiting):
            replica.open, push.flushed_s = None, now
            replica.sent[push.name[2]] = push
            self._out.append(Flush(*push.name))

    def _commit(self, push: Push) -> None:
        self._out.append(Commit((push.name,), self._into))
        rivals: set[PushName] = set()
        for portion in push.losses:
            rivals |= self._portions.count_in(portion, push.name)
        self._losses |= push.losses
        for name in sorted(rivals):
            self._void(self._push(name))
        if self._portions.counted == len(self.ranges):
            self.running = False
            self._out.append(Evaluated(self._loss()))

    def _loss(self) -> float:
        """In the order of portions, so that it does not depend on who was first."""
        return sum(self._weight(p) * self._losses[p] for p in range(len(self.ranges)))

    def _push(self, name: PushName) -> Push:
        return next(p for p in self._crew.replicas[name[0]].pushes() if p.name == name)

    def _void(self, push: Push) -> None:
        """It must never count. The replica learns of it when it is granted another sequence."""
        replica = self._crew.replicas[push.name[0]]
        if push.flushed_s is None:
            replica.open = None
        else:
            del replica.sent[push.name[2]]
            self._out.append(Discard((push.name,)))
        for portion in push.losses:
            self._portions.release(portion, push.name)

    def _bury(self, replica: Replica) -> None:
        for push in [*replica.pushes()]:
            self._void(push)
        if replica.task and self._is_present(replica.task):
            self._portions.end(replica.task.portion, replica.number)
        del self._crew.replicas[replica.number]


def _name(task: Task) -> tuple[int, int]:
    return task.evaluation, task.portion
