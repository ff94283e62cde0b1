"""What the coordinator knows of the replicas: what each one does, and how long it usually takes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from dbgraph.coordinate.portions import PushName


@dataclass(slots=True)
class Task:
    """A portion that a replica computes.

    Attributes:
        replaces: it was given out although it was held: by somebody who is late.
    """

    evaluation: int
    portion: int
    begun_s: float
    replaces: bool


@dataclass(slots=True)
class Push:
    """Portions, with their losses, that are added up on a replica and count together.

    Attributes:
        flushed_s: when it was sent for; None while portions are added.
    """

    name: PushName
    losses: dict[int, float] = field(default_factory=dict)
    flushed_s: float | None = None


@dataclass(slots=True)
class Replica:
    """One replica in its present epoch.

    Attributes:
        task: None while it is idle.
        open: what it adds to.
        sent: by sequence, what it was told to stage; all may still be committed.
        sequence: of the newest push.
        last, home: the portion that it was given last; where it begins each evaluation.
        compute_s, push_s: how long a portion and a push took it last; None before the first.
    """

    number: int
    epoch: int
    task: Task | None = None
    open: Push | None = None
    sent: dict[int, Push] = field(default_factory=dict)
    sequence: int = 0
    last: int | None = None
    home: int | None = None
    compute_s: float | None = None
    push_s: float | None = None

    def accumulator(self) -> Push:
        """What the next granted portion is added to."""
        if self.open is None:
            self.sequence += 1
            self.open = Push((self.number, self.epoch, self.sequence))
        return self.open

    def pushes(self) -> list[Push]:
        """All that may still be committed."""
        return [*self.sent.values(), *([self.open] if self.open else [])]


@dataclass(frozen=True, slots=True)
class Outlook:
    """When something is to be expected.

    Attributes:
        expected_s: infinite once it is overdue.
        overdue_s: from then on nobody should rely on it.
    """

    expected_s: float
    overdue_s: float

    def also(self, other: Outlook | None) -> Outlook:
        """Of what may come from either of two."""
        if other is None:
            return self
        first = min(self.expected_s, other.expected_s)
        return Outlook(first, max(self.overdue_s, other.overdue_s))


class Crew:
    """The replicas that live.

    Args:
        patience: overdue is who takes this many times as long as usual.
    """

    def __init__(self, patience: float) -> None:
        self.replicas: dict[int, Replica] = {}
        self._epochs: dict[int, int] = {}
        self._patience = patience

    def welcome(self, number: int, epoch: int) -> bool:
        """Takes a replica in; returns whether this epoch of it is new."""
        if epoch <= self._epochs.get(number, -1):
            return False
        self._epochs[number] = epoch
        self.replicas[number] = Replica(number, epoch)
        return True

    def get(self, number: int, epoch: int) -> Replica | None:
        """None for the dead, and for those that were thought dead."""
        found = self.replicas.get(number)
        return found if found and found.epoch == epoch else None

    def idle(self) -> list[Replica]:
        """The fastest first."""
        idle = (replica for replica in self.replicas.values() if replica.task is None)
        return sorted(idle, key=lambda replica: (self.compute_s(replica), replica.number))

    def settle_homes(self, portions: int) -> None:
        """Spreads the replicas evenly over the batch; the same replicas get the same homes, so
        that they find the data of the evaluation before."""
        for place, number in enumerate(sorted(self.replicas)):
            replica = self.replicas[number]
            replica.home, replica.last = place * portions // len(self.replicas), None

    def compute_s(self, replica: Replica) -> float:
        """What a portion usually takes it; as long as the slowest while it has done none."""
        return _known(replica.compute_s, (r.compute_s for r in self.replicas.values()))

    def outlooks(self, evaluation: int, now: float) -> dict[int, Outlook]:
        """When each portion that somebody has is to be expected, from whoever is first."""
        found: dict[int, Outlook] = {}
        for replica in self.replicas.values():
            for portions, outlook in self._has(replica, evaluation, now):
                found |= {portion: outlook.also(found.get(portion)) for portion in portions}
        return found

    def _has(
        self, replica: Replica, evaluation: int, now: float
    ) -> Iterator[tuple[Iterable[int], Outlook]]:
        """What a replica computes and holds. What it still adds to comes after what it
        computes; of what it was sent for, only that it is overdue matters: whoever computed it
        instead would have to push as well."""
        if replica.task and replica.task.evaluation == evaluation:
            usual = self.compute_s(replica)
            outlook = self._outlook(replica.task.begun_s, usual, usual, now)
            yield (replica.task.portion,), outlook
            yield (replica.open.losses if replica.open else ()), outlook
        usual = _known(replica.push_s, (r.push_s for r in self.replicas.values()))
        for push in replica.sent.values():
            assert push.flushed_s is not None
            yield push.losses, self._outlook(push.flushed_s, 0.0, usual, now)

    def _outlook(self, since_s: float, takes_s: float, usual_s: float, now: float) -> Outlook:
        overdue = since_s + self._patience * usual_s
        return Outlook(math.inf if now >= overdue else since_s + takes_s, overdue)


def _known(own: float | None, others: Iterable[float | None]) -> float:
    if own is not None:
        return own
    return max((other for other in others if other is not None), default=math.inf)
