"""Why a value crosses: what the reader needs beyond what its own machine holds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from dbgraph.explain.cargo import Cargo
from dbgraph.ir.graph import Graph, Node
from dbgraph.ir.region import Region
from dbgraph.ops import op
from dbgraph.passes.mode import Mode
from dbgraph.passes.views import resolve
from dbgraph.pipeline import front_passes, run
from dbgraph.plan.choice import Choice
from dbgraph.plan.cuts import name_of_reduction, names_of_axes
from dbgraph.plan.declared import Declared
from dbgraph.plan.plan import Plan

_TILE = re.compile(r"\[\d+\]$")
PARAMETER = "parameter"
SUM = "inner sum"
HALO = "halo"
GATHER = "gather"
OTHERWISE = "cut otherwise"
ELSEWHERE = "stands elsewhere"
KINDS: Mapping[str, str] = {
    PARAMETER: "several machines read a parameter, one holds it",
    SUM: "partial results over a reduced axis are put together",
    HALO: "a window reaches beyond what its machine holds",
    GATHER: "the reader needs all of an axis that is cut",
    OTHERWISE: "the reader is cut along other bounds than what it reads",
    ELSEWHERE: "the reader's machine holds nothing of it",
}


@dataclass(frozen=True, slots=True)
class Reason:
    """
    Attributes:
        kind: one of KINDS.
        reader: of those who read it there the one that needs most of it.
        axes: those along which the reader's machine holds too little.
        needs: what the tiles there read of the value, all readers together.
        holds: what their machine holds of it; None where that is nothing.
    """

    kind: str
    reader: str
    axes: tuple[str, ...]
    needs: Region
    holds: Region | None


class Reasons:
    """Of one plan. Everything follows from its cuts and the ops' own regions."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._needs: dict[str, dict[tuple[str, int], Region]] = {}

    @cached_property
    def graph(self) -> Graph:
        """Of one microbatch, uncut."""
        passes = front_passes(Declared.of(self.plan), self.plan.microbatches)
        return Mode(self.plan.mode)(run(passes, self.plan.network))

    def of(self, cargo: Cargo) -> Reason:
        value, needs = self.graph[cargo.value], cargo.region
        most, reader = 0, self.graph[cargo.readers[0]]
        for name in cargo.readers:
            node = self.graph[name]
            mine = self._needed(node).get((value.name, cargo.reader))
            if mine is not None:
                needs = needs.hull(mine)
                common = mine.intersect(cargo.region).size
                most, reader = (common, node) if common > most else (most, reader)
        holds = self._held.get((value.name, cargo.reader))
        kind, axes = self._why(cargo, value, reader, needs, holds)
        return Reason(kind, reader.name, axes, needs, holds)

    def _why(
        self, cargo: Cargo, value: Node, reader: Node, needs: Region, holds: Region | None
    ) -> tuple[str, tuple[str, ...]]:
        """The kind, and the axes."""
        if value.op == "parameter":
            return PARAMETER, ()
        if cargo.part is not None:
            return SUM, self._reduced(value)
        if holds is None:
            return ELSEWHERE, ()
        declared = self.plan.network.by_name.get(value.name, value)
        names = names_of_axes(declared.type.shape, self.plan.batch)
        short = [a for a in range(needs.rank) if not _within(needs.bounds[a], holds.bounds[a])]
        kind = self._kind(value, reader, short, needs, holds)
        return kind, tuple(names[axis] for axis in short)

    def _kind(
        self, value: Node, reader: Node, short: list[int], needs: Region, holds: Region
    ) -> str:
        """By what one element in the middle of the reader's value reads along these axes."""
        window = self._window(reader, value).bounds
        if not short:  # the tiles of one machine lie apart
            return OTHERWISE
        if any(window[a] == (0, value.type.shape[a]) for a in short):
            return GATHER
        reach = {a: window[a][1] - window[a][0] - 1 for a in short}
        missing = {
            a: max(holds.bounds[a][0] - needs.bounds[a][0], needs.bounds[a][1] - holds.bounds[a][1])
            for a in short
        }
        return HALO if all(missing[a] <= reach[a] for a in short) else OTHERWISE

    def _reduced(self, node: Node) -> tuple[str, ...]:
        inner = self.plan.cuts[node.name].inner
        declared = self.plan.network[node.name]
        types = self.plan.network.input_types(declared)
        reductions = inner.reductions if inner else ()
        return tuple(name_of_reduction(types, r, self.plan.batch) for r in reductions)

    @cached_property
    def _held(self) -> Mapping[tuple[str, int], Region]:
        """(value, partition) → the hull of its tiles there. Tiles that nobody reads are none."""
        found: dict[tuple[str, int], Region] = {}
        for node in self.plan.graph:
            if node.cut is not None and node.inputs and node.partition is not None:
                name = _TILE.sub("", node.name)
                region = Region(tuple((s[0], s[-1]) for s in node.cut.splits))
                _include(found, (name, node.partition), region)
        return found

    def _needed(self, reader: Node) -> dict[tuple[str, int], Region]:
        """(value, partition) → the hull of what the tiles there read of it."""
        if reader.name not in self._needs:
            found: dict[tuple[str, int], Region] = {}
            choice = self.plan.cuts[reader.name]
            for reads, partition in self._reads(reader, choice):
                for value, region in self._resolved(reader, reads):
                    _include(found, (value, partition), region)
            self._needs[reader.name] = found
        return self._needs[reader.name]

    def _reads(self, node: Node, choice: Choice) -> Iterator[tuple[list[Region], int]]:
        """For each tile, of its partial results where it has such, the region of each input."""
        rule, types = op(node.op), self.graph.input_types(node)
        inner = choice.inner
        if inner is None:
            for region, partition in choice.cut.tiles():
                yield list(rule.reads(node.attrs, types, region)), partition
            return
        for cell, cut in inner.cells():
            for region, partition in cut.tiles():
                reads = list(rule.reads(node.attrs, types, region))
                yield inner.restrict(reads, cell), partition

    def _window(self, reader: Node, value: Node) -> Region:
        """What one element in the middle reads, also in the middle of reduced axes that are cut;
        one element where it reads another part of a concatenation."""
        types, inner = self.graph.input_types(reader), self.plan.cuts[reader.name].inner
        reads = list(op(reader.op).reads(reader.attrs, types, _middle(reader.type.shape)))
        if inner is not None:
            reads = inner.restrict(reads, _middle([s[-1] for s in inner.splits]))
        found: dict[str, Region] = {}
        for name, region in self._resolved(reader, reads):
            _include(found, name, region)
        return found.get(value.name, _middle(value.type.shape))

    def _resolved(self, reader: Node, reads: Iterable[Region]) -> Iterator[tuple[str, Region]]:
        """Seen through views."""
        for name, read in zip(reader.inputs, reads, strict=True):
            for need in resolve(self.graph, name, read):
                yield need.value, need.region


Key = TypeVar("Key")


def _include(found: dict[Key, Region], key: Key, region: Region) -> None:
    found[key] = found[key].hull(region) if key in found else region


def _middle(shape: Iterable[int]) -> Region:
    return Region(tuple((n // 2, n // 2 + 1) for n in shape))


def _within(inner: tuple[int, int], outer: tuple[int, int]) -> bool:
    return outer[0] <= inner[0] and inner[1] <= outer[1]
