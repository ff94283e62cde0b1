"""The passes in order, and what they are told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf

from dbgraph.cluster import Cluster
from dbgraph.dsl.network import Network
from dbgraph.errors import NoCutError, UsageError
from dbgraph.ir.graph import Graph
from dbgraph.ir.verify import verify
from dbgraph.passes.base import Pass
from dbgraph.passes.communicate import Communicate
from dbgraph.passes.gradient import Gradient
from dbgraph.passes.infer import Infer
from dbgraph.passes.microbatch import Microbatch
from dbgraph.passes.mode import Mode
from dbgraph.passes.partition.given import Given
from dbgraph.passes.partition.trial import Progress
from dbgraph.passes.simplify import Simplify
from dbgraph.passes.tile import Tile
from dbgraph.plan.declared import Declared

Watch = Callable[[str, Graph], None]
"""Called after each pass with its name and the graph."""


@dataclass(frozen=True)
class Options:
    """How to compile.

    Attributes:
        partitions: number of machines; each gets something to do.
        microbatches: equal parts of the batch, computed one after another; None: as many as a
            search finds best, or 1 where none is made.
        strategy: a name of STRATEGIES; "auto", or None: a search, which is never worse than any
            of them.
        modes: the plans to make; they share cuts and placement.
        watch: sees the graph after every pass.
        cluster: the machines to plan for, at least as many as partitions; None: equal ones of the
            documented default.
        may_idle: a search may leave machines without work where that is faster.
        order: of the microbatches, "1f1b" or "gpipe"; None: as a search finds best, or "1f1b".
        given: cuts that are decided already; no other strategy is asked then, and `strategy` is
            only what the plan calls them.
        budget_s: seconds that a search may take.
        budget_steps: plans that it may simulate; with the same seed and an end by steps, the same
            plan.
        seed: of a search.
        progress: is told of each better plan that a search finds.
    """

    partitions: int = 1
    microbatches: int | None = None
    strategy: str | None = None
    modes: tuple[str, ...] = ("training",)
    watch: Watch | None = None
    cluster: Cluster | None = None
    may_idle: bool = False
    order: str | None = None
    given: Given | None = None
    budget_s: float = 10.0
    budget_steps: float = inf
    seed: int = 0
    progress: Callable[[Progress], None] | None = None

    @property
    def machines(self) -> Cluster:
        """One for each partition. Raises NoCutError, UsageError."""
        if self.partitions < 1:
            raise NoCutError(f"the number of partitions must be at least 1, not {self.partitions}")
        if self.cluster is None:
            return Cluster.equal(self.partitions)
        count = len(self.cluster.machines)
        if self.partitions > count:
            raise UsageError(
                f"{self.partitions} partitions need as many machines; the cluster has {count}"
            )
        return self.cluster.first(self.partitions)


def front_passes(network: Network | Declared, microbatches: int) -> tuple[Pass, ...]:
    """From the declared network to the graph of one microbatch, which `partition` then cuts."""
    return (Infer(), Simplify(), Microbatch(network.batch, microbatches))


def back_passes(mode: str) -> tuple[Pass, ...]:
    """From cuts and places to sends and receives."""
    gradient = (Gradient(),) if mode == "training" else ()
    return (Mode(mode), Tile(), *gradient, Communicate())


PASSES = ("infer", "simplify", "microbatch", "partition", "mode", "tile", "gradient", "communicate")
"""The names, in order, that `--print-after` takes; `schedule` is the programs themselves."""


def run(passes: Sequence[Pass], graph: Graph, watch: Watch | None = None) -> Graph:
    """One pass after another, each result held against its stage's rules."""
    for step in passes:
        graph = step(graph)
        verify(graph, step.ensures)
        if watch is not None:
            watch(step.name, graph)
    return graph
