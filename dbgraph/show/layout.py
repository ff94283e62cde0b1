"""Where a drawing's boxes stand: one row per partition, one column per rank."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dbgraph.show.flow import Flow, Place


@dataclass(frozen=True, slots=True)
class Box:
    """A place on the page, in pixels."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Sizes:
    """Pixels, by the number of partitions."""

    box: float
    gap: float
    width: float
    between: float
    font: float
    left: float = 190.0
    top: float = 132.0

    @staticmethod
    def of(partitions: int) -> Sizes:
        if partitions <= 8:
            return Sizes(box=44, gap=12, width=136, between=92, font=11)
        if partitions <= 16:
            return Sizes(box=32, gap=8, width=128, between=120, font=10)
        return Sizes(box=20, gap=5, width=120, between=150, font=9.5)


@dataclass(frozen=True)
class Layout:
    """All places, in pixels.

    Attributes:
        columns: the layers of each rank that has any.
        boxes: of each layer on each partition.
        rows: of each partition; a row is as high as its highest stack of boxes.
    """

    sizes: Sizes
    columns: Sequence[Sequence[str]]
    boxes: Mapping[Place, Box]
    rows: Sequence[Box]

    @staticmethod
    def of(found: Flow, partitions: int) -> Layout:
        """Boxes of one rank and one partition are stacked."""
        sizes, columns = Sizes.of(partitions), _columns(found)
        boxes: dict[Place, Box] = {}
        rows: list[Box] = []
        y = sizes.top
        for p in range(partitions):
            stacks = [[x for x in layers if (x, p) in found.cells] for layers in columns]
            height = max(1, *map(len, stacks)) * (sizes.box + sizes.gap)
            rows.append(Box(0, y, sizes.left, height))
            for column, stack in enumerate(stacks):
                x = sizes.left + column * (sizes.width + sizes.between)
                first = y + (height - len(stack) * (sizes.box + sizes.gap) + sizes.gap) / 2
                for k, layer in enumerate(stack):
                    at = first + k * (sizes.box + sizes.gap)
                    boxes[layer, p] = Box(x, at, sizes.width, sizes.box)
            y += height
        return Layout(sizes, columns, boxes, rows)


def _columns(found: Flow) -> list[list[str]]:
    """The layers of each rank that have cells, ranks without any left out."""
    by_rank: dict[int, list[str]] = defaultdict(list)
    drawn = {layer for layer, _ in found.cells}
    for layer, rank in found.ranks.items():
        if layer in drawn:
            by_rank[rank].append(layer)
    return [by_rank[rank] for rank in sorted(by_rank)]
