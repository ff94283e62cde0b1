"""What is decided for a node: how it is cut, and where its tiles stand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dbgraph.ir.graph import Cut
from dbgraph.ir.region import Region, grid
from dbgraph.ops.schema import Reduction


@dataclass(frozen=True, slots=True)
class InnerCut:
    """Reduced axes in ranges: one partial result for each cell of their grid.

    Attributes:
        reductions: the axes that are cut.
        splits: bounds of the ranges, for each of them.
        partials: for each cell, row-major, how that partial result is cut and where it stands.
    """

    reductions: tuple[Reduction, ...]
    splits: tuple[tuple[int, ...], ...]
    partials: tuple[Cut, ...]

    def cells(self) -> Iterator[tuple[Region, Cut]]:
        """Each cell's range per reduction, and its cut."""
        return zip(grid(self.splits), self.partials, strict=True)

    def restrict(self, reads: list[Region], cell: Region) -> list[Region]:
        """What a partial result reads of what the whole would."""
        for reduction, bounds in zip(self.reductions, cell.bounds, strict=True):
            for index, axis in reduction.axes:
                reads[index] = reads[index].replace(axis, bounds)
        return reads


@dataclass(frozen=True, slots=True)
class Choice:
    """How a node's output is cut and, where its reduction is cut too, into which partial results;
    `cut` is then that of their combination."""

    cut: Cut
    inner: InnerCut | None = None

    @property
    def partitions(self) -> set[int]:
        """All that get something to do."""
        cuts = (self.cut, *(self.inner.partials if self.inner else ()))
        return {partition for cut in cuts for partition in cut.partitions}


Choices = Mapping[str, Choice]
"""By name of node, in the graph of one microbatch as it enters the partition pass."""
