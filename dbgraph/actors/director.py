"""What all coordinators do alike: shards get their state, replicas come and go, the model is
evaluated and saved, and the run ends.

| phase     | event                                    | then                                     |
|-----------|------------------------------------------|------------------------------------------|
| loading   | all shards are restored                  | training                                 |
| training  | the algorithm is done, or it is stopped  | ending, when it has come to rest         |
| ending    | the last evaluation and snapshot are made| over                                     |

Each algorithm's coordinator says what a replica's coming and going mean to it, and what else it
is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from math import inf
from typing import Any

from dbgraph.actor import THEATRE, Address, Arrays, Envelope, Hire
from dbgraph.actors.audience import Audience, Company, Wish
from dbgraph.actors.messages import Appraise, Appraised, Holding, Restored, ShardStatus
from dbgraph.actors.states import restoring
from dbgraph.errors import ClusterLostError
from dbgraph.ps.messages import Join, Marked, Snapped
from dbgraph.ps.snapshot import Snapshot, Snapshotting, ToShard
from dbgraph.state import State

EVALUATOR = Address("evaluator")
POLL_S = 0.2
"""How often it looks whether the run is to be stopped, or replicas are to come or go."""


class Phase(Enum):
    LOADING = "loading"
    TRAINING = "training"
    ENDING = "ending"
    OVER = "over"


class Director:
    """The base of all coordinators; see `actor.Actor` for its calls."""

    waits = False
    """Whether parameters stay as they are until the evaluator has them."""

    def __init__(self, company: Company, audience: Audience) -> None:
        self.company, self.audience = company, audience
        self.phase = Phase.LOADING
        self._poll_s: float | None = None
        self.present: set[int] = set()
        """Replicas that were hired and have not gone."""
        self.step = company.begun
        self._seen = company.begun
        self._restored: set[int] = set()
        self._early: list[tuple[int, Join]] = []
        self._stopping = False
        self._hired = 0
        self._leaving: set[int] = set()
        self.is_fetching = False
        """Whether the evaluator is about to fetch; `held` is called when it has."""
        self._evaluates = company.evaluates
        self._evaluations = 0
        self._evaluating: int | None = None
        self._snapshots = 0
        self.snapshot_step = 0
        """The step after which the last snapshot was begun."""
        self._is_last = False
        self._snapshotting: Snapshotting | None = None

    # What an algorithm says

    def join(self, replica: int, message: Join, now: float) -> Iterable[Envelope]:
        """A replica has come."""
        raise NotImplementedError

    def gone(self, replica: int, now: float) -> Iterable[Envelope]:
        """A replica was lost."""
        raise NotImplementedError

    def dismiss(self, replica: int, now: float) -> Iterable[Envelope]:
        """A replica is to go, at the user's wish."""
        raise NotImplementedError

    def take(self, sender: Address, message: Any, arrays: Arrays, now: float) -> Iterable[Envelope]:
        """Any other message."""
        raise NotImplementedError

    def rest(self, now: float) -> Iterable[Envelope]:
        """The run is to stop: call `ended` when nothing is under way any more."""
        raise NotImplementedError

    def opened(self, now: float) -> Iterable[Envelope]:
        """All shards have their state."""
        return []

    def held(self, now: float) -> Iterable[Envelope]:
        """The evaluator has the parameters: they may change again."""
        return []

    @property
    def next_s(self) -> float:
        """When the algorithm wants `ticked` to be called; it is called more often."""
        return inf

    def ticked(self, now: float) -> Iterable[Envelope]:
        """Time has passed."""
        return []

    def snapshot_vectors(self) -> tuple[str, ...]:
        """Named vectors that belong to a snapshot."""
        return ()

    def snapshot_begins(self) -> None:
        """Its Marks are sent now."""

    def recorded(self, snapshot: Snapshot) -> State:
        """A snapshot as it goes into a checkpoint."""
        raise NotImplementedError

    # The backend's calls

    @property
    def deadline(self) -> float | None:
        return None if self._poll_s is None else min(self._poll_s, self.next_s)

    @property
    def is_over(self) -> bool:
        return self.phase is Phase.OVER

    def start(self, now: float) -> Iterable[Envelope]:
        self._poll_s = now + POLL_S
        self.present.update(self.company.replicas)
        self._hired = len(self.present)
        for number in sorted(self.present):
            self.audience.replica(number, "starting", None, now)
        for shard, owned in enumerate(self.company.layout.shards):
            yield Envelope(Address("shard", shard), *restoring(self.company.begin, owned))

    def receive(
        self, sender: Address, message: Any, arrays: Arrays, now: float
    ) -> Iterable[Envelope]:
        match message:
            case Restored():
                return self._loaded(sender.number, now)
            case Join():
                if self.phase is Phase.LOADING:
                    self._early.append((sender.number, message))
                    return []
                return self.join(sender.number, message, now)
            case ShardStatus():
                self.audience.shard(sender.number, message, now)
                return []
            case Holding():
                return self._holding(message, now)
            case Appraised():
                return self._appraised(message, now)
            case Marked():
                assert self._snapshotting is not None
                return _to_shards(self._snapshotting.marked(sender.number, message))
            case Snapped():
                return self._snapped(sender.number, message, arrays)
        return self.take(sender, message, arrays, now)

    def lost(self, peer: Address, now: float) -> Iterable[Envelope]:
        if peer.kind == "shard":
            raise ClusterLostError(
                f"{peer} is gone, and the parameters that it held with it",
                hint="go on from the last checkpoint: --resume",
            )
        if peer.kind == "evaluator":
            return self._evaluator_lost(now)
        if peer.number not in self.present:
            return []
        self.leave(peer.number, "lost", now)
        return [*self.gone(peer.number, now), *self._check_company()]

    def work(self) -> Iterable[Envelope] | None:
        return None

    def tick(self, now: float) -> Iterable[Envelope]:
        self._poll_s = now + POLL_S
        wished = self._wishes(now) if self.phase is Phase.TRAINING else []
        return [*self.ticked(now), *wished, *self._stop_if_asked(now)]

    # For the algorithms

    def stepped(self, steps: int, loss: float, examples: int) -> None:
        """More steps are done."""
        self.step += steps
        self.audience.stepped(self.step, loss, examples)

    def after_steps(self, now: float) -> list[Envelope]:
        """What is due by now: an evaluation, a snapshot, the end."""
        before, self._seen = self._seen, self.step
        found: list[Envelope] = []
        if self.phase is Phase.TRAINING:
            if self.audience.evaluation_due(before, self.step):
                found += self._evaluate()
            if self.audience.snapshot_due(before, self.step):
                found += self._snapshot()
            found += self._stop_if_asked(now)
        return found

    @property
    def is_stopping(self) -> bool:
        return self._stopping

    def leave(self, replica: int, why: str, now: float) -> None:
        """A replica is there no more."""
        self.present.discard(replica)
        self.audience.replica(replica, why, None, now)

    def ended(self) -> list[Envelope]:
        """Nothing changes the parameters any more."""
        if self.phase is not Phase.TRAINING:
            return []
        self.phase = Phase.ENDING
        evaluation = [] if self.audience.interrupted else self._evaluate()
        return [*evaluation, *self._snapshot()]

    def to_shards(self, messages: Mapping[int, Any]) -> list[Envelope]:
        return [Envelope(Address("shard", s), message) for s, message in messages.items()]

    def to_all_shards(self, message: Any) -> list[Envelope]:
        return self.to_shards(dict.fromkeys(range(len(self.company.layout.shards)), message))

    # Inside

    def _loaded(self, shard: int, now: float) -> Iterable[Envelope]:
        self._restored.add(shard)
        if len(self._restored) < len(self.company.layout.shards):
            return []
        self.phase = Phase.TRAINING
        early, self._early = self._early, []
        found = [*self.opened(now), *self._wishes(now)]
        for number, message in early:
            found += self.join(number, message, now)
        return found

    def _wishes(self, now: float) -> list[Envelope]:
        return [one for wish in self.audience.wishes() for one in self._grant(wish, now)]

    def _grant(self, wish: Wish, now: float) -> list[Envelope]:
        found: list[Envelope] = []
        for _ in range(wish.add):
            number, self._hired = self._hired, self._hired + 1
            self.present.add(number)
            self.audience.replica(number, "starting", None, now)
            found.append(Envelope(THEATRE, Hire(number)))
        for number in wish.remove:
            staying = self.present - self._leaving
            if number not in staying:
                self.audience.note(f"there is no replica {number} to remove")
            elif len(staying) == 1:
                self.audience.note(f"replica {number} is the last one: it stays")
            else:
                self._leaving.add(number)
                found += self.dismiss(number, now)
        return found

    def _stop_if_asked(self, now: float) -> list[Envelope]:
        asked = self.audience.enough or self.audience.interrupted
        if self._stopping or not asked or self.phase is not Phase.TRAINING:
            return []
        self._stopping = True
        return [*self.rest(now)]

    def _check_company(self) -> list[Envelope]:
        if not self.present and self.phase is Phase.TRAINING and not self._stopping:
            raise ClusterLostError(
                "all replicas are gone", hint="go on from the last checkpoint: --resume"
            )
        return []

    # Evaluations

    def _evaluate(self) -> list[Envelope]:
        """Of the present parameters. While one is under way, another is left out, unless the
        algorithm waits for it, or it is the last."""
        if not self._evaluates:
            return []
        if self._evaluating is not None and not self.waits and self.phase is Phase.TRAINING:
            return []
        self._evaluations += 1
        self._evaluating = self._evaluations
        self.is_fetching = True
        self.audience.appraising(self.step)
        return [Envelope(EVALUATOR, Appraise(self._evaluating, self.step))]

    def _holding(self, said: Holding, now: float) -> Iterable[Envelope]:
        if said.number != self._evaluating:
            return []
        self.is_fetching = False
        return self.held(now)

    def _appraised(self, said: Appraised, now: float) -> list[Envelope]:
        if said.number == self._evaluating:
            self._evaluating = None
        self.audience.evaluated(said)
        return [*self._stop_if_asked(now), *self._end_if_done()]

    def _evaluator_lost(self, now: float) -> list[Envelope]:
        self.audience.note("the evaluator is gone: no more evaluations")
        waited, self.is_fetching = self.is_fetching, False
        self._evaluates, self._evaluating = False, None
        self.audience.unevaluated()
        return [*(self.held(now) if waited else []), *self._end_if_done()]

    # Snapshots: one at a time

    def _snapshot(self) -> list[Envelope]:
        if self._snapshotting is not None:
            return []
        self._snapshots += 1
        shards = len(self.company.layout.shards)
        self._snapshotting = Snapshotting(self._snapshots, shards, self.snapshot_vectors())
        self._is_last = self.phase is Phase.ENDING
        self.snapshot_step = self.step
        self.snapshot_begins()
        return _to_shards(self._snapshotting.begin())

    def _snapped(self, shard: int, message: Snapped, arrays: Arrays) -> list[Envelope]:
        assert self._snapshotting is not None
        snapshot = self._snapshotting.snapped(shard, message, arrays)
        if snapshot is None:
            return []
        self._snapshotting = None
        self.audience.taken(self.recorded(snapshot), self.snapshot_step, last=self._is_last)
        if self.phase is Phase.ENDING and not self._is_last:
            return self._snapshot()
        return self._end_if_done()

    def _end_if_done(self) -> list[Envelope]:
        whole = self._is_last and self._snapshotting is None
        if self.phase is Phase.ENDING and whole and self._evaluating is None:
            self.phase = Phase.OVER
        return []


def _to_shards(messages: Iterable[ToShard]) -> list[Envelope]:
    return [Envelope(Address("shard", one.shard), one.message) for one in messages]
