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
    """Cuts and places every node as it was decided."""

    choices: Choices
    name: ClassVar[str] = "partition"
    ensures: ClassVar[str] = "placed"

    def __call__(self, graph: Graph) -> Graph:
        return apply_choices(graph, self.choices)


def decide(graph: Graph, strategy: Strategy, partitions: int, *, may_idle: bool) -> Choices:
    """What a strategy decides, checked; what the user pinned stays pinned. Raises NoCutError."""
    check_places(graph, partitions)
    choices = strategy.choose(graph, partitions)
    if not may_idle:
        _check_used(choices, partitions)
    return choices


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


__all__ = ["STRATEGIES", "Partition", "Stages", "Strategy", "Tiles", "decide"]
