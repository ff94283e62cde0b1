"""What the coordinators of the batch methods do alike: replicas are admitted to the shards before
they are given anything, and closed there when they are lost.

| a replica  | event                     | then                                              |
|------------|---------------------------|---------------------------------------------------|
| hired      | Join                      | Admit → all shards                                |
| joining    | Admitted by all shards    | `joined`; the first replicas all at the same time |
| at work    | lost, or it is to go      | `left`; Close → all shards                        |
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dbgraph.actor import Address, Arrays, Envelope
from dbgraph.actors.audience import Audience, Company
from dbgraph.actors.director import Director, Phase
from dbgraph.actors.gradients import EPOCH
from dbgraph.ps.messages import Admit, Admitted, Close, Closed, End, Join, Refused


class BatchDirector(Director):
    """The base of their coordinators."""

    waits = True

    def __init__(self, company: Company, audience: Audience) -> None:
        super().__init__(company, audience)
        self._admitted: dict[int, set[int]] = {}
        self._ready: set[int] = set()
        self._first = set(company.replicas)

    # What an algorithm says

    def joined(self, replica: int, now: float) -> Iterable[Envelope]:
        """It may be given work."""
        raise NotImplementedError

    def left(self, replica: int, now: float) -> Iterable[Envelope]:
        """It may not any more; what it has sent does not count, unless it was committed."""
        raise NotImplementedError

    def answered(self, sender: Address, message: Any, now: float) -> Iterable[Envelope]:
        """What the algorithm waits for."""
        raise NotImplementedError

    # From the base

    def join(self, replica: int, message: Join, now: float) -> Iterable[Envelope]:
        if replica not in self.present or self.phase is not Phase.TRAINING:
            return []
        if message.fingerprint != self.company.fingerprint:
            self.leave(replica, "sent away", now)
            ours = self.company.fingerprint
            why = f"its network is {message.fingerprint}, that of this run {ours}"
            self.audience.note(f"replica {replica} was sent away: {why}")
            return [Envelope(Address("replica", replica), End(why)), *self._begin(now)]
        self._admitted[replica] = set()
        self.audience.replica(replica, "joining", None, now)
        pushing = self.company.pushing.items()
        return self.to_shards({s: Admit(replica, EPOCH, parts) for s, parts in pushing})

    def gone(self, replica: int, now: float) -> Iterable[Envelope]:
        was_known = self._admitted.pop(replica, None) is not None
        found = [*self.left(replica, now)] if replica in self._ready else []
        self._ready.discard(replica)
        if was_known:
            found += self.to_all_shards(Close(replica, EPOCH))
        return [*found, *self._begin(now)]

    def dismiss(self, replica: int, now: float) -> Iterable[Envelope]:
        self.leave(replica, "gone", now)
        end = Envelope(Address("replica", replica), End("it was removed"))
        return [*self.gone(replica, now), end]

    def rest(self, now: float) -> Iterable[Envelope]:
        return []  # the algorithm looks at `is_stopping` where it may

    def take(self, sender: Address, message: Any, arrays: Arrays, now: float) -> Iterable[Envelope]:
        match message:
            case Admitted():
                return self._take_admitted(sender.number, message.replica, now)
            case Closed():
                return []
            case Refused():
                return []  # of an Admit that came after its Close
        if self.phase is not Phase.TRAINING:
            return []  # the model must not change any more
        if sender.kind == "replica" and sender.number in self.present:
            self.audience.replica(sender.number, "computing", None, now)
        return self.answered(sender, message, now)

    # Inside

    def _take_admitted(self, shard: int, replica: int, now: float) -> Iterable[Envelope]:
        if replica not in self._admitted:
            return []
        self._admitted[replica].add(shard)
        return self._begin(now)

    def _begin(self, now: float) -> list[Envelope]:
        """Passes on those that all shards have admitted; at first all at once."""
        shards = len(self.company.layout.shards)
        admitted = {r for r, said in self._admitted.items() if len(said) == shards}
        if not self._first & self.present <= admitted:
            return []
        self._first = set()
        new = sorted(admitted - self._ready)
        self._ready.update(new)
        return [one for replica in new for one in self.joined(replica, now)]
