"""What a coordinator is given, and whom it tells of the run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from dbgraph.actors.messages import Appraised, ShardStatus
from dbgraph.ps.layout import Layout
from dbgraph.state import State


@dataclass(frozen=True)
class Company:
    """Who plays, from the coordinator's side.

    Attributes:
        replicas: numbers of those that play from the start.
        pushing: by shard the partitions of a replica that push to it.
        begin: what the shards start from; None: the initial state.
        begun: steps done before.
        evaluates: whether there is an evaluator.
    """

    fingerprint: str
    layout: Layout
    pushing: Mapping[int, tuple[int, ...]]
    replicas: tuple[int, ...]
    begin: State | None
    begun: int
    evaluates: bool


@dataclass(frozen=True, slots=True)
class Wish:
    """What a user asks for while a run goes on.

    Attributes:
        add: so many replicas.
        remove: the replicas of these numbers.
    """

    add: int = 0
    remove: tuple[int, ...] = ()


class Audience(Protocol):
    """Who is told of the run; it writes the log, the table and the checkpoints."""

    def stepped(self, step: int, loss: float, examples: int) -> None:
        """Steps done in all; of the new ones the last loss, and their examples."""

    def replica(self, number: int, doing: str, staleness: int | None, now: float) -> None:
        """A sign of life of a replica, or of what became of it."""

    def computed(self, number: int, examples: int, now: float) -> None:
        """A replica has done so many more examples."""

    def shard(self, number: int, status: ShardStatus, now: float) -> None:
        """What a shard has done."""

    def note(self, text: str) -> None:
        """For people."""

    def alarm(self, rule: str, replica: int | None, step: int, loss: float) -> None:
        """Training goes wrong, but goes on."""

    def appraising(self, step: int) -> None:
        """The model as it is after so many steps will be evaluated."""

    def unevaluated(self) -> None:
        """What was announced by `appraising` will not come."""

    def evaluated(self, said: Appraised) -> None:
        """The model was evaluated."""

    def taken(self, state: State, step: int, last: bool) -> None:
        """A snapshot is whole, that was begun after so many steps: at the end of the run, or in
        between."""

    def evaluation_due(self, before: int, step: int) -> bool:
        """Whether to evaluate after `step` steps, those up to `before` being done with."""

    def snapshot_due(self, before: int, step: int) -> bool:
        """Whether to take a snapshot then."""

    def wishes(self) -> Iterable[Wish]:
        """What was asked for since the last call."""

    @property
    def enough(self) -> bool:
        """Whether the run is to end early."""

    @property
    def interrupted(self) -> bool:
        """Whether it is to end at once, without another evaluation."""
