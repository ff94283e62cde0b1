"""The coordinator of Downpour SGD: pure, events in, instructions out. It holds no parameter.

Replicas join, train on batches that the ledger hands out, and leave, at any time. What a replica
is doing:

| state    | event                                  | instructions             | next state     |
|----------|----------------------------------------|--------------------------|----------------|
|          | join                                   |                          | WAITING        |
| WAITING  | it may begin (below)                   | Admit → all shards       | ADMITTING      |
| ADMITTING| all have admitted it                   | Train → replica          | TRAINING       |
| TRAINING | progress, and it wants batches         | Work → replica           | TRAINING       |
| TRAINING | it wants batches, and none is free     | Rest → replica           | TRAINING       |
| TRAINING | leave (nothing of it is under way)     | Close → all shards       | CLOSING        |
| any      | remove                                 | End → replica            | the same; it   |
|          |                                        |                          | leaves         |
| any      | lost: no sign of life, or its link     | Close → all shards       | CLOSING        |
| CLOSING  | all have closed it                     |                          | WAITING, or    |
|          |                                        | Gone                     | gone, where it |
|          |                                        |                          | was lost or    |
|          |                                        |                          | removed        |

A waiting replica may begin where there are free batches and the warm start is over, or no other
is at work. Each time that it trains it has a new epoch; shards refuse what comes from the one
before. The batches of a replica that was lost are free again, unless a push with them was applied.

When all batches are used, and nobody is at work, all replicas get End and the run is Finished.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from dbgraph.ps.alarm import Alarm, LossWatch
from dbgraph.ps.ledger import Ledger
from dbgraph.ps.messages import (
    Admit,
    Admitted,
    Applied,
    Close,
    Closed,
    End,
    Join,
    Leave,
    Pairs,
    Progress,
    Rest,
    Train,
    Work,
)
from dbgraph.ps.options import Downpour
from dbgraph.ps.snapshot import ToShard

DONE = "all batches are used"


@dataclass(frozen=True, slots=True)
class ToReplica:
    """Please send this to a replica."""

    replica: int
    message: Any


@dataclass(frozen=True, slots=True)
class Gone:
    """A replica's number is free again.

    Attributes:
        returned: the batches that it had, and that are to be taken by others.
        halved: how many count on some shards only: it died while it pushed them.
    """

    replica: int
    returned: Pairs
    halved: int = 0


@dataclass(frozen=True, slots=True)
class Finished:
    """All batches are used."""


Instruction = ToShard | ToReplica | Alarm | Gone | Finished


class Doing(Enum):
    WAITING = "waiting"
    ADMITTING = "admitting"
    TRAINING = "training"
    CLOSING = "closing"


@dataclass
class Replica:
    """What the coordinator knows of a replica; for live tables too.

    Attributes:
        clock: pushes that others had made when it was admitted.
        sequence: pushes of this epoch that all shards have applied.
        steps: done in this epoch.
        stays: whether it may train again after it is closed.
    """

    doing: Doing = Doing.WAITING
    epoch: int = 0
    clock: int = 0
    sequence: int = 0
    steps: int = 0
    loss: float = 0.0
    stays: bool = True
    admitted: set[int] = field(default_factory=set)
    closed: dict[int, tuple[Applied, ...]] = field(default_factory=dict)


class Coordinator:
    """The state machine.

    Args:
        fingerprint: of the network.
        pushing: by shard the partitions that push to it (`routes.pushing`).
        share: batches to hand out at a time, at most (`ledger.share`).
    """

    def __init__(
        self,
        fingerprint: str,
        pushing: Mapping[int, tuple[int, ...]],
        options: Downpour,
        ledger: Ledger,
        share: int,
    ) -> None:
        self.ledger = ledger
        self.replicas: dict[int, Replica] = {}
        self._fingerprint, self._pushing, self._share = fingerprint, pushing, share
        self._warm_start = options.warm_start
        self._steps = 0
        self._epochs: dict[int, int] = {}
        self._watch = LossWatch()
        self._finished = False

    # Replicas

    def join(self, message: Join, number: int | None = None) -> tuple[int, list[Instruction]]:
        """(number of the replica, instructions). One of another network is sent away at once,
        and so is one that comes when all is done.

        Args:
            number: one that is free; None: the lowest.
        """
        if number is None:
            number = next(n for n in range(len(self.replicas) + 1) if n not in self.replicas)
        if message.fingerprint != self._fingerprint:
            why = f"its network is {message.fingerprint}, that of this run {self._fingerprint}"
            return number, [ToReplica(number, End(why))]
        if self._finished:
            return number, [ToReplica(number, End(DONE))]
        self.replicas[number] = Replica()
        return number, self._go_on()

    def admitted(self, shard: int, message: Admitted) -> list[Instruction]:
        replica = self._at(message.replica, message.epoch, Doing.ADMITTING)
        if replica is None:
            return []
        replica.admitted.add(shard)
        if len(replica.admitted) < len(self._pushing):
            return []
        replica.doing = Doing.TRAINING
        return [ToReplica(message.replica, Train(message.replica, message.epoch))]

    def progress(self, message: Progress) -> list[Instruction]:
        """Step 0 asks for the first batches: its loss is not looked at."""
        replica = self._at(message.replica, message.epoch, Doing.TRAINING)
        if replica is None:
            return []
        found: list[Instruction] = []
        if message.step > replica.steps:
            self._steps += message.step - replica.steps
            alarm = self._watch.told(message.replica, message.step, message.loss)
            found += [alarm] if alarm is not None else []
        replica.steps, replica.loss, replica.sequence = message.step, message.loss, message.sequence
        member = message.replica, message.epoch
        self.ledger.applied(member, message.applied)
        if message.wants and replica.stays:
            taken = self.ledger.take(member, self._portion())
            found.append(ToReplica(message.replica, Work(taken) if taken else Rest()))
        return [*found, *self._go_on()]

    def leave(self, message: Leave) -> list[Instruction]:
        replica = self._at(message.replica, message.epoch, Doing.TRAINING)
        return [] if replica is None else self._close(message.replica, replica)

    def lost(self, number: int) -> list[Instruction]:
        """A replica gives no sign of life any more."""
        replica = self.replicas.get(number)
        if replica is None:
            return []
        replica.stays = False
        if replica.doing is Doing.WAITING:
            return [self._gone(number, ()), *self._go_on()]
        return self._close(number, replica) if replica.doing is not Doing.CLOSING else []

    def remove(self, number: int, why: str = "it was removed") -> list[Instruction]:
        """A replica is to end; what it has pushed stays."""
        replica = self.replicas.get(number)
        if replica is None:
            return []
        replica.stays = False
        told = ToReplica(number, End(why))
        if replica.doing is Doing.WAITING:
            return [told, self._gone(number, ()), *self._go_on()]
        return [told, *self._close(number, replica)] if replica.doing is Doing.ADMITTING else [told]

    def closed(self, shard: int, message: Closed) -> list[Instruction]:
        replica = self._at(message.replica, message.epoch, Doing.CLOSING)
        if replica is None:
            return []
        replica.closed[shard] = message.applied
        if len(replica.closed) < len(self._pushing):
            return []
        rows = [a for applied in replica.closed.values() for a in applied]
        before = len(self.ledger.partial)
        returned = self.ledger.close((message.replica, message.epoch), rows)
        halved = len(self.ledger.partial) - before
        replica.doing = Doing.WAITING
        gone = [] if replica.stays else [self._gone(message.replica, returned, halved)]
        return [*gone, *self._go_on()]

    # Inside

    def _at(self, number: int, epoch: int, doing: Doing) -> Replica | None:
        """The replica, where the message is not from an epoch that is over."""
        replica = self.replicas.get(number)
        fits = replica is not None and (replica.epoch, replica.doing) == (epoch, doing)
        return replica if fits else None

    def _go_on(self) -> list[Instruction]:
        """Lets replicas begin that may; ends the run when all is done."""
        found: list[Instruction] = []
        for number, replica in self.replicas.items():
            if replica.doing is Doing.WAITING and self._may_begin():
                found += self._admit(number, replica)
        if self.ledger.is_complete and not self._at_work() and not self._finished:
            self._finished = True
            found += [ToReplica(n, End(DONE)) for n in self.replicas]
            found.append(Finished())
        return found

    def _may_begin(self) -> bool:
        warm = self._steps >= self._warm_start or not self._at_work()
        return warm and self.ledger.free > 0

    def _at_work(self) -> list[Replica]:
        return [r for r in self.replicas.values() if r.doing is not Doing.WAITING]

    def _portion(self) -> int:
        """Batches to hand out; fewer at the end, so that all replicas are done together."""
        return max(1, min(self._share, self.ledger.free // (2 * len(self._at_work()))))

    def _admit(self, number: int, replica: Replica) -> Iterable[Instruction]:
        training = [r for r in self.replicas.values() if r.doing is Doing.TRAINING]
        clock = min((r.clock + r.sequence for r in training), default=replica.clock)
        epoch = self._epochs[number] = self._epochs.get(number, 0) + 1
        self.replicas[number] = Replica(Doing.ADMITTING, epoch, clock)
        return self._to_all(
            {s: Admit(number, epoch, parts, clock) for s, parts in self._pushing.items()}
        )

    def _close(self, number: int, replica: Replica) -> list[Instruction]:
        replica.doing = Doing.CLOSING
        close = Close(number, replica.epoch)
        return [*self._to_all(dict.fromkeys(self._pushing, close))]

    def _gone(self, number: int, returned: Pairs, halved: int = 0) -> Gone:
        del self.replicas[number]
        return Gone(number, returned, halved)

    def _to_all(self, messages: Mapping[int, Any]) -> Iterable[ToShard]:
        return (ToShard(shard, message) for shard, message in messages.items())
