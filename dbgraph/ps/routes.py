"""How the parameters that one partition holds are spread over the shards."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dbgraph.ir.region import Region
from dbgraph.ir.types import TensorType
from dbgraph.plan.plan import Leaf, Plan
from dbgraph.ps.compress import Arrays
from dbgraph.ps.gradients import Gradient, cut
from dbgraph.ps.layout import Layout, Owned
from dbgraph.ps.messages import Part
from dbgraph.ps.packing import part_of, unpack
from dbgraph.ps.rows import rows_of, tables
from dbgraph.wire.parcel import DTYPES, empty_aligned

Leaves = dict[str, np.ndarray]
"""Values by the leaf's name in the graph."""


@dataclass(frozen=True, slots=True)
class Way:
    """A part of a leaf that one shard owns."""

    leaf: Leaf
    region: Region

    @property
    def owned(self) -> Owned:
        return Owned(self.leaf.of, self.region)


class Routes:
    """Where the parts of one partition's parameters go.

    Args:
        leaves: what the partition holds.
        trained: names of the leaves that have gradients.
        tables: names of those whose gradients travel as rows (`rows.tables`).
    """

    def __init__(
        self,
        layout: Layout,
        leaves: Sequence[Leaf],
        trained: Collection[str],
        tables: Collection[str] = (),
    ) -> None:
        self.types: Mapping[str, TensorType] = layout.types
        self.leaves = {leaf.node: leaf for leaf in leaves}
        self.trained = frozenset(trained)
        self._tables = self.trained.intersection(tables)
        self.fetched: dict[int, tuple[Way, ...]] = {}
        for leaf in leaves:
            for piece in layout.pieces(leaf.of, leaf.region):
                held = self.fetched.get(piece.shard, ())
                self.fetched[piece.shard] = (*held, Way(leaf, piece.region))
        self.fetched = dict(sorted(self.fetched.items()))
        trained_only = {
            shard: tuple(way for way in ways if way.leaf.node in self.trained)
            for shard, ways in self.fetched.items()
        }
        self.pushed = {shard: ways for shard, ways in trained_only.items() if ways}
        self.fetch_parts: dict[int, tuple[Part, ...]] = {
            shard: tuple(part_of(way.owned) for way in ways) for shard, ways in self.fetched.items()
        }

    @staticmethod
    def of(layout: Layout, plan: Plan, partition: int) -> Routes:
        leaves = plan.leaves("parameter", partition)
        gradients = {(r.name, r.region) for r in plan.results(partition) if r.kind == "gradient"}
        trained = {leaf.node for leaf in leaves if (leaf.of, leaf.region) in gradients}
        return Routes(layout, leaves, trained, tables(plan, partition))

    def thinned(self, gradients: Mapping[str, Gradient]) -> dict[str, Gradient]:
        """Gradients as they travel: of tables only the rows that are not zero."""
        return {
            leaf: rows_of(gradient, self.leaves[leaf].region)
            if leaf in self._tables and isinstance(gradient, np.ndarray)
            else gradient
            for leaf, gradient in gradients.items()
        }

    def cut(self, shard: int, gradients: Mapping[str, Gradient]) -> list[tuple[Way, Gradient]]:
        """The parts of the gradients that go to a shard."""
        return [
            (way, cut(gradients[way.leaf.node], way.leaf.region, way.region))
            for way in self.pushed[shard]
        ]

    def assemble(
        self,
        codec: str,
        arrays: Mapping[int, Arrays],
        pushed: Mapping[int, tuple[Part, ...]] | None = None,
    ) -> Leaves:
        """The leaves, from what each shard sent for its `fetch_parts`; or, from what was sent
        to each, the gradients as they look there, without those that are rows.

        Raises RunError where that is not what it should be.
        """
        found: Leaves = {}
        for shard, ways in (self.fetched if pushed is None else self.pushed).items():
            parts = self.fetch_parts[shard] if pushed is None else pushed[shard]
            values = unpack(parts, codec, arrays[shard], self.types)
            for way, (_, value) in zip(ways, values, strict=True):
                if isinstance(value, np.ndarray):
                    self._place(found, way, value)
        return found

    def _place(self, found: Leaves, way: Way, value: np.ndarray) -> None:
        leaf = way.leaf
        if way.region == leaf.region:
            found[leaf.node] = value
            return
        if leaf.node not in found:
            dtype = DTYPES[self.types[leaf.of].dtype]
            found[leaf.node] = empty_aligned(leaf.region.shape, dtype)
        found[leaf.node][way.region.within(leaf.region).slices()] = value


def pushing(layout: Layout, plan: Plan) -> dict[int, tuple[int, ...]]:
    """By shard the partitions of a replica of this plan that push to it."""
    routes = [Routes.of(layout, plan, partition) for partition in range(plan.partitions)]
    return {
        shard: tuple(p for p, route in enumerate(routes) if shard in route.pushed)
        for shard in range(len(layout.shards))
    }
