"""What the search tries, what it learns from a trial, and what it hands back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from dbgraph.cluster import Cluster
from dbgraph.ir.graph import Graph
from dbgraph.passes.partition.choice import Choices
from dbgraph.passes.partition.tiles import Tiles
from dbgraph.plan.program import Program, Transfer
from dbgraph.simulate import Forecast

ORDERS = ("1f1b", "gpipe")
"""How microbatches follow each other: backward as soon as it can, or after all forward."""


@dataclass(frozen=True)
class Candidate:
    """All that the search decides.

    Attributes:
        choices: on the graph of one microbatch.
        order: one of ORDERS.
        label: how it was found.
        recipe: the tiling that made the choices, where one did.
    """

    choices: Choices
    microbatches: int
    order: str
    label: str
    recipe: Tiles | None = None

    @property
    def mark(self) -> int:
        """Equal for candidates that decide the same."""
        return hash((tuple(self.choices.items()), self.microbatches, self.order))


@dataclass(frozen=True)
class Made:
    """What the later passes make of a candidate."""

    graph: Graph
    transfers: tuple[Transfer, ...]
    programs: tuple[Program, ...]


@dataclass(frozen=True)
class Trial:
    """A candidate and its simulated step.

    Attributes:
        excess: how many times too much the machine holds that lacks most memory; 0 if all fit.
    """

    candidate: Candidate
    made: Made
    forecast: Forecast
    excess: float

    @property
    def key(self) -> tuple[float, float]:
        """Less is better: what fits first, then the step."""
        return (self.excess, self.forecast.step_s)


class Bench(Protocol):
    """What the search needs to know of a network; the pipeline gives it."""

    @property
    def cluster(self) -> Cluster:
        """The machines, one per partition."""

    @property
    def batch(self) -> int: ...

    def graph(self, microbatches: int) -> Graph:
        """As it enters the partition pass. Raises NoCutError."""

    def simulate(self, candidate: Candidate) -> tuple[Made, Forecast]:
        """Runs the later passes and the simulator."""


@dataclass(frozen=True)
class Progress:
    """How far the search is.

    Attributes:
        tried: plans simulated so far.
        best_s: the best step so far.
        label: how it was found.
    """

    tried: int
    best_s: float
    label: str


@dataclass(frozen=True)
class Outcome:
    """What a search found.

    Attributes:
        tried: plans simulated.
        strategies: the simulated step of each plain strategy that could be applied.
        estimate_s, bound_s: one microbatch of the best plan before its tiles were placed anew, by
            the estimate of `dbgraph.passes.partition.relocate`, and what that is at the least
            wherever the tiles stand; both 0 where that was not looked into.
    """

    best: Trial
    tried: int
    strategies: Mapping[str, float] = field(default_factory=dict)
    estimate_s: float = 0.0
    bound_s: float = 0.0

    @property
    def gap(self) -> float:
        """How far, relatively, the estimate may be above the best placement's."""
        return 1 - self.bound_s / self.estimate_s if self.estimate_s else 0.0
