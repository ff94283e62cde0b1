"""Layers, nodes and tiles as columns: what a page knows of the forward pass.

layers  name, op (the costliest), shape (of one example, in words), dtype, cut (in words),
        parameters, flop (forward, whole batch), forward_bytes, backward_bytes, source, rank
        (column of the picture). The network's inputs come first.
nodes   name, layer, op, axes (what `cut=` calls them), shape (of one microbatch)
tiles   node, machine, box (a row of `boxes`), number (in its node), flop (forward, of one step),
        bytes (of its value), parameters (elements that it reads)
boxes   low and high bound per axis, one after the other
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple

from dbgraph.cost import node_flop
from dbgraph.ir.graph import Graph, Node
from dbgraph.ir.region import Region
from dbgraph.ops import LEAVES
from dbgraph.plan.cuts import names_of_axes
from dbgraph.show.digest import Digest, LayerRow, layer_of
from dbgraph.show.flow import Flow
from dbgraph.show.words import example_shape

_TILE, _COPY = re.compile(r"\[(\d+)\]$"), re.compile(r"@\d+$")

Box = tuple[int, ...]


class DrawnTile(NamedTuple):
    """A tile, or the region of an input that a machine holds."""

    node: Node
    region: Region
    of: str
    number: int


class Tiles:
    """The tables above, and where each thing stands in them."""

    def __init__(self, digest: Digest, found: Flow) -> None:
        self.digest, self.flow = digest, found
        self.layers = _layer_names(digest)
        self.layer_index = {name: i for i, name in enumerate(self.layers)}
        self.tiles = [*_inputs(digest), *_computed(digest)]
        self.tile_index = {tile.node.name: i for i, tile in enumerate(self.tiles)}
        self.nodes = list(dict.fromkeys(tile.of for tile in self.tiles))
        self.by_node: dict[str, list[DrawnTile]] = defaultdict(list)
        for tile in self.tiles:
            self.by_node[tile.of].append(tile)

    def columns(self) -> dict[str, Any]:
        boxes: dict[Box, int] = {}
        table = self._tiles(boxes)
        return {
            "layers": self._layers(),
            "nodes": self._nodes(),
            "tiles": table,
            "boxes": [list(box) for box in boxes],
        }

    def _tiles(self, boxes: dict[Box, int]) -> dict[str, list[Any]]:
        graph, microbatches = self.digest.plan.graph, self.digest.plan.microbatches
        index = {name: i for i, name in enumerate(self.nodes)}
        return {
            "node": [index[tile.of] for tile in self.tiles],
            "machine": [tile.node.partition for tile in self.tiles],
            "box": [boxes.setdefault(flat(tile.region), len(boxes)) for tile in self.tiles],
            "number": [tile.number for tile in self.tiles],
            "flop": [node_flop(graph, tile.node) * microbatches for tile in self.tiles],
            "bytes": [tile.node.type.size_bytes for tile in self.tiles],
            "parameters": [_parameters(graph, tile.node) for tile in self.tiles],
        }

    def _nodes(self) -> dict[str, list[Any]]:
        size = self.digest.plan.microbatch_size
        firsts = [self.by_node[name][0].node for name in self.nodes]
        shapes = [self._shape(name) for name in self.nodes]
        return {
            "name": self.nodes,
            "layer": [self.layer_index[layer_of(node)] for node in firsts],
            "op": [node.op for node in firsts],
            "axes": [names_of_axes(shape, size) for shape in shapes],
            "shape": [list(shape) for shape in shapes],
        }

    def _shape(self, name: str) -> tuple[int, ...]:
        """Of the node's value in one microbatch: its tiles together."""
        tiles = self.by_node[name]
        axes = range(tiles[0].region.rank)
        return tuple(max(tile.region.bounds[axis][1] for tile in tiles) for axis in axes)

    def _layers(self) -> dict[str, list[Any]]:
        digest, plan = self.digest, self.digest.plan
        rows = {row.name: row for row in digest.layers}
        sources = {layer_of(node): str(node.source or "") for node in reversed(plan.network.nodes)}
        known = [rows.get(name) or _input_row(digest, name) for name in self.layers]
        return {
            "name": list(self.layers),
            "op": [row.op for row in known],
            "shape": [example_shape(row.shape, plan.batch) for row in known],
            "dtype": [row.dtype for row in known],
            "cut": ["; ".join(map(str, row.cuts)) or "whole" for row in known],
            "parameters": [row.parameters for row in known],
            "flop": [row.flop for row in known],
            "forward_bytes": [row.forward_bytes for row in known],
            "backward_bytes": [row.backward_bytes for row in known],
            "source": [sources.get(name, "") for name in self.layers],
            "rank": [self.flow.ranks.get(name, 0) for name in self.layers],
        }


def flat(region: Region) -> Box:
    """Low and high bound of each axis, one after the other."""
    return tuple(bound for bounds in region.bounds for bound in bounds)


def _layer_names(digest: Digest) -> tuple[str, ...]:
    """Inputs, then layers in the network's order."""
    return (*digest.plan.input_types, *(row.name for row in digest.layers))


def _input_row(digest: Digest, name: str) -> LayerRow:
    kind = digest.plan.input_types[name]
    return LayerRow(name, "input", kind.shape, kind.dtype, (), (), 0, 0, 0, 0)


def _inputs(digest: Digest) -> list[DrawnTile]:
    plan, number = digest.plan, dict.fromkeys(digest.plan.input_types, 0)
    found = []
    for partition in range(plan.partitions):
        for leaf in plan.leaves("input", partition):
            found.append(DrawnTile(plan.graph[leaf.node], leaf.region, leaf.of, number[leaf.of]))
            number[leaf.of] += 1
    return found


def _computed(digest: Digest) -> list[DrawnTile]:
    """The digest's tiles. A node that every machine computes for itself is one node here."""
    network = digest.plan.network.by_name
    found, copies = [], Counter[str]()
    for name, tiles in digest.tiles.items():
        plain = _COPY.sub("", name)
        of = plain if name not in network and plain in network else name
        for tile in tiles:
            found.append(DrawnTile(tile.node, tile.region, of, copies[of]))
            copies[of] += 1
    return found


def _parameters(graph: Graph, node: Node) -> int:
    """Elements of the parameters that a tile reads itself; a leaf has none of its own here."""
    if node.op in LEAVES:
        return 0
    inputs: Mapping[str, Node] = graph.by_name
    return sum(inputs[name].type.size for name in node.inputs if inputs[name].op == "parameter")
