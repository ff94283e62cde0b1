"""partition: for each node its cut, and the partition of each tile."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from dbgraph.cluster import Cluster
from dbgraph.errors import NoCutError
from dbgraph.ir.graph import Graph
from dbgraph.passes.partition.choice import Choices, Strategy, used_partitions
from dbgraph.passes.partition.pinned import check_places
from dbgraph.passes.partition.reduce import apply_choices
from dbgraph.passes.partition.stages import Stages
from dbgraph.passes.partition.tiles import Tiles

STRATEGIES: Mapping[str, Callable[[Cluster], Strategy]] = {"tiles": Tiles, "stages": Stages}
"""What `--strategy` takes; a strategy is an object with one method."""


@dataclass(frozen=True)
class Partition:
    """Places every node by a strategy; what the user pinned stays pinned."""

    partitions: int
    strategy: Strategy
    name: ClassVar[str] = "partition"
    ensures: ClassVar[str] = "placed"

    def __call__(self, graph: Graph) -> Graph:
        if self.partitions < 1:
            raise NoCutError(f"the number of partitions must be at least 1, not {self.partitions}")
        check_places(graph, self.partitions)
        choices = self.strategy.choose(graph, self.partitions)
        _check_used(choices, self.partitions)
        return apply_choices(graph, choices)


def _check_used(choices: Choices, partitions: int) -> None:
    """Every partition has something to do."""
    used = used_partitions(choices)
    idle = [p for p in range(partitions) if p not in used]
    if idle:
        raise NoCutError(
            f"{partitions} partitions are asked for, but only {len(used)} get something to do "
            f"(partition {idle[0]} gets nothing)",
            hint=f"use --partitions {len(used)} or fewer, or cut a layer more finely with cut=",
        )


__all__ = ["STRATEGIES", "Partition", "Stages", "Strategy", "Tiles"]
