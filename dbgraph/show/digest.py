"""A plan in figures: per partition, per layer, per link. Tables, drawings and JSON show these."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from dbgraph.cluster import Cluster
from dbgraph.ir.graph import Node
from dbgraph.ir.region import Region
from dbgraph.ops import COMMUNICATION, LEAVES, flops_of, op
from dbgraph.plan.cuts import name_of_reduction, names_of_axes
from dbgraph.plan.plan import Plan
from dbgraph.show.words import describe_region
from dbgraph.simulate import Forecast

NO_LAYER = "total loss"
"""The name for what belongs to no layer: the sum of several losses and penalties."""

_MATTERS = 0.2
"""A cut that is not the main one is shown from this share of its layer's FLOPs on."""

_TILE, _PART = re.compile(r"\[\d+\]$"), re.compile(r"\.part\d+$")


@dataclass(frozen=True)
class PartitionRow:
    """One machine's share of a step."""

    partition: int
    tiles: int
    parameters: int
    parameter_bytes: int
    memory_bytes: int
    flop: int
    in_bytes: int
    out_bytes: int
    busy_s: float


class LayerCut(NamedTuple):
    """How one node of a layer is cut; `(axis, pieces)` for the axes of its value and for those
    that it reduces away. Both are empty where it is whole."""

    outer: tuple[tuple[str, int], ...]
    inner: tuple[tuple[str, int], ...]

    def __str__(self) -> str:
        """`units 2, inner inputs 4`."""
        found = [" × ".join(f"{axis} {n}" for axis, n in self.outer)] if self.outer else []
        if self.inner:
            found.append("inner " + " × ".join(f"{axis} {n}" for axis, n in self.inner))
        return ", ".join(found) or "whole"


@dataclass(frozen=True)
class LayerRow:
    """How one layer is cut.

    Attributes:
        op: of the node of the layer that costs most.
        shape: of the layer's value, the batch axis included.
        cuts: of the costliest node, then other cuts in the layer that matter.
        partitions: where its tiles stand.
        parameters: number of elements.
        flop: of the forward pass, whole batch.
        forward_bytes: what its tiles and parameters send to other partitions in a step.
        backward_bytes: what its tiles send in the backward pass.
    """

    name: str
    op: str
    shape: tuple[int, ...]
    dtype: str
    cuts: tuple[LayerCut, ...]
    partitions: tuple[int, ...]
    parameters: int
    flop: int
    forward_bytes: int
    backward_bytes: int


@dataclass(frozen=True)
class Tile:
    """One tile of a network's node in the plan's graph."""

    node: Node
    region: Region


class Digest:
    """All figures of one plan, each computed when it is asked for, in linear time.

    Args:
        cluster: what the forecast is for; None: equal machines of the documented default.
        cluster_name: of its file.
    """

    def __init__(
        self,
        plan: Plan,
        forecast: Forecast,
        cluster: Cluster | None = None,
        cluster_name: str = "",
    ) -> None:
        self.plan, self.forecast = plan, forecast
        self.cluster = cluster or Cluster.equal(plan.partitions)
        self.cluster_name = cluster_name

    @cached_property
    def partitions(self) -> tuple[PartitionRow, ...]:
        graph = self.plan.graph
        tiles: dict[int | None, int] = defaultdict(int)
        held: dict[int | None, int] = defaultdict(int)
        for node in graph:
            if node.op == "parameter":
                held[node.partition] += node.type.size
            elif node.cut is not None and node.op not in LEAVES and node.op not in COMMUNICATION:
                tiles[node.partition] += 1
        return tuple(
            PartitionRow(
                partition=p,
                tiles=tiles[p],
                parameters=held[p],
                parameter_bytes=m.parameter_bytes,
                memory_bytes=m.peak_bytes,
                flop=m.flop,
                in_bytes=m.in_bytes,
                out_bytes=m.out_bytes,
                busy_s=m.busy_s,
            )
            for p, m in enumerate(self.forecast.machines)
        )

    @cached_property
    def layers(self) -> tuple[LayerRow, ...]:
        """In the network's order; inputs are none."""
        found: dict[str, list[Node]] = defaultdict(list)
        for node in self.plan.network:
            if node.op not in ("input", "clock"):
                found[layer_of(node)].append(node)
        return tuple(self._layer(name, nodes) for name, nodes in found.items())

    @cached_property
    def tiles(self) -> Mapping[str, tuple[Tile, ...]]:
        """For each computed node of the network, or its partial results, the tiles."""
        found: dict[str, list[Tile]] = defaultdict(list)
        for node in self.plan.graph:
            if node.cut is not None and node.op not in LEAVES:
                region = Region(tuple((s[0], s[-1]) for s in node.cut.splits))
                found[_TILE.sub("", node.name)].append(Tile(node, region))
        return {name: tuple(tiles) for name, tiles in found.items()}

    @cached_property
    def parts(self) -> Mapping[str, tuple[str, ...]]:
        """For each node whose reduction is cut the names of its partial results."""
        found: dict[str, list[str]] = defaultdict(list)
        for name in self.tiles:
            whole = _PART.sub("", name)
            if whole != name and name not in self.plan.network.by_name:
                found[whole].append(name)
        return {name: tuple(parts) for name, parts in found.items()}

    @cached_property
    def backward(self) -> frozenset[str]:
        """The values of the backward pass: the `gradient` pass names them with an apostrophe,
        which no name of a user's may hold."""
        return frozenset(node.name for node in self.plan.graph if "'" in node.name)

    @cached_property
    def traffic_bytes(self) -> int:
        """Between machines, in one step."""
        return sum(self.forecast.link_bytes.values())

    def tiles_of(self, name: str) -> tuple[Tile, ...]:
        """The tiles of a node, or those of its partial results."""
        parts = self.parts.get(name)
        if parts:
            return tuple(tile for part in parts for tile in self.tiles[part])
        return self.tiles.get(name, ())

    @cached_property
    def main_tiles(self) -> Mapping[tuple[str, int], tuple[Tile, ...]]:
        """(layer, partition) → the tiles there of the node that costs most of those there."""
        most: dict[tuple[str, int], tuple[int, tuple[Tile, ...]]] = {}
        for node in self.plan.network:
            flop = self._flop(node)
            here: dict[int | None, list[Tile]] = defaultdict(list)
            for tile in self.tiles_of(node.name):
                here[tile.node.partition].append(tile)
            for partition, tiles in here.items():
                place = layer_of(node), partition or 0
                if place not in most or flop > most[place][0]:
                    most[place] = flop, tuple(tiles)
        return {place: tiles for place, (_, tiles) in most.items()}

    def _layer(self, name: str, nodes: list[Node]) -> LayerRow:
        main, last = max(nodes, key=self._flop), self._value(nodes)
        sent = self._sent.get(name, (0, 0))
        return LayerRow(
            name=name,
            op=main.op,
            shape=last.type.shape,
            dtype=last.type.dtype,
            cuts=self._cuts(nodes),
            partitions=self._places.get(name, ()),
            parameters=sum(n.type.size for n in nodes if n.op == "parameter"),
            flop=sum(map(self._flop, nodes)),
            forward_bytes=sent[0],
            backward_bytes=sent[1],
        )

    def _value(self, nodes: list[Node]) -> Node:
        """The layer's own value: the last one of all examples. Penalties come after it."""
        batched = [n for n in nodes if n.type.shape[:1] == (self.plan.batch,)]
        return (batched or nodes)[-1]

    def words(self, tile: Tile, short: bool = False) -> str:
        """A tile's region in its node's value, of one microbatch."""
        plan = self.plan
        node = plan.network.by_name.get(_TILE.sub("", tile.node.name))
        if node is None:  # a partial result
            whole, _, number = _TILE.sub("", tile.node.name).rpartition(".part")
            return f"part {number} of {len(self.parts.get(whole, ()))}"
        return self.region_words(tile.region, node.type.shape, short)

    def region_words(self, region: Region, shape: tuple[int, ...], short: bool = False) -> str:
        """A region of a value whose shape in the network is given."""
        plan = self.plan
        if shape[:1] == (plan.batch,):
            shape = (plan.microbatch_size, *shape[1:])
        return describe_region(region, shape, plan.microbatch_size, short=short)

    def _flop(self, node: Node) -> int:
        return flops_of(node, self.plan.network.input_types(node))

    def _cuts(self, nodes: list[Node]) -> tuple[LayerCut, ...]:
        """By what share of the layer's FLOPs is cut so; small shares are left out."""
        weight: dict[LayerCut, int] = defaultdict(int)
        for node in nodes:
            if self.tiles_of(node.name):
                cut = LayerCut(tuple(self._outer(node)), tuple(self._inner(node)))
                weight[cut] += self._flop(node)
        least = _MATTERS * sum(weight.values())
        ordered = sorted(weight, key=lambda cut: -weight[cut])
        return tuple(cut for i, cut in enumerate(ordered) if i == 0 or weight[cut] > least)

    def _outer(self, node: Node) -> list[tuple[str, int]]:
        """The axes of its value that are cut."""
        regions = [tile.region for tile in self.tiles_of(node.name)]
        names = names_of_axes(node.type.shape, self.plan.batch)
        found = []
        for axis, name in enumerate(names):
            pieces = len({region.bounds[axis] for region in regions})
            if pieces > 1:
                found.append((name, pieces))
        return found

    def _inner(self, node: Node) -> list[tuple[str, int]]:
        """The reduced axes that are cut.

        The partial results form a grid; so their ranges along one axis sum up to its length
        times the number of pieces along the others.
        """
        parts = self.parts.get(node.name, ())
        if not parts:
            return []
        types = self.plan.network.input_types(node)
        found = []
        for reduction in op(node.op).reductions(node.attrs, types):
            index, axis = reduction.axes[0]
            total = sum(self._input_length(part, index, axis) for part in parts)
            pieces = round(types[index].shape[axis] * len(parts) / total) if total else 1
            if pieces > 1:
                found.append((name_of_reduction(types, reduction, self.plan.batch), pieces))
        return found

    def _input_length(self, part: str, index: int, axis: int) -> int:
        graph = self.plan.graph
        types = graph.input_types(self.tiles[part][0].node)
        return types[index].shape[axis]

    @cached_property
    def _places(self) -> Mapping[str, tuple[int, ...]]:
        found: dict[str, set[int]] = defaultdict(set)
        for node in self.plan.graph:
            if node.cut is not None and node.partition is not None and node.op != "input":
                found[layer_of(node)].add(node.partition)
        return {name: tuple(sorted(places)) for name, places in found.items()}

    @cached_property
    def _sent(self) -> Mapping[str, tuple[int, int]]:
        """layer → (forward bytes, backward bytes) that it sends in a step."""
        found: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        for transfer in self.plan.transfers:
            size = transfer.type.size_bytes * transfer.times(self.plan.microbatches)
            layer = layer_of(self.plan.graph[transfer.value])
            found[layer][transfer.value in self.backward] += size
        return {name: (a, b) for name, (a, b) in found.items()}


def layer_of(node: Node) -> str:
    """The layer that a node belongs to, by name."""
    return node.layer or NO_LAYER
