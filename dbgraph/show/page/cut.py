"""The cut as a picture (Dean et al. 2012, Figure 1): each layer as what it is, in its place.

A spatial layer is a sheet of units, rows down and columns into the depth; a dense one is a row of
units, and its partial results stand side by side. Along what is neither (maps, batch, partial
results of a sheet), there is one sheet behind another. Layers stand from left to right in the
order of reading. All places are known beforehand, so it takes linear time.

sheets   layer, x, y (of the upper left corner), width (of the depth axis, on paper), height, rise
         (of the depth axis), units (down), deep (units into the depth), count, gap (from one to
         the next), flat (1: of rows and columns, 0: a row), node
pieces   tile, sheet, number (which of the sheets), u0, u1, v0, v1 (units), one for each tile drawn
halos    sheet, number, machine (that reads it of another), u0, u1, v0, v1
edges    from, from_machine, to, to_machine (sheets), bytes, back: of one step; 0: it stays
colours  of each machine: neighbours differ
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

from dbgraph.ir.graph import Graph, Node
from dbgraph.ir.region import Region
from dbgraph.ops import flops_of
from dbgraph.ops.shape import pieces_of
from dbgraph.show.digest import layer_of
from dbgraph.show.page.tiles import DrawnTile, Tiles

Range = tuple[int, int]
COLOURS = 7
_WIDE, _RISE, _NARROW = 146.0, 0.42, 0.35
_COLUMN, _POINT = 20.0, 26.0
_GAP, _ALL_GAPS = 22.0, 150.0
_BETWEEN, _LEAST = 76.0, 150.0
_LOWEST, _HIGHEST, _SHAPE = 290.0, 720.0, 0.24
_SCREEN, _LABELS = 1250.0, 88.0  # pixels of a page, and of the lines below a sheet


class Piece(NamedTuple):
    """A tile on its sheet, in units."""

    tile: int
    machine: int
    number: int
    u: Range
    v: Range


_Halo = tuple[int, int, int, Range, Range]


@dataclass(frozen=True)
class Sheet:
    """A layer, before it has a place."""

    layer: int
    node: int
    units: int
    deep: int
    flat: bool
    pieces: tuple[Piece, ...]

    @property
    def count(self) -> int:
        return 1 + max((piece.number for piece in self.pieces), default=0)

    @property
    def width(self) -> float:
        """Of the depth axis, in pixels. Layers of fewer units are smaller, but not in proportion
        (`scale`)."""
        return _WIDE if self.flat else max(_POINT, min(_WIDE, self.deep * _COLUMN))

    @property
    def gap(self) -> float:
        return min(_GAP, _ALL_GAPS / max(1, self.count - 1))


def cut_columns(tiles: Tiles) -> dict[str, Any]:
    """The tables above."""
    sheets = [sheet for sheet in _sheets(tiles) if sheet.pieces]
    machines = tiles.digest.plan.partitions
    return {
        "sheets": _placed(tiles, sheets),
        "pieces": _pieces(sheets),
        "halos": _halos(tiles, sheets),
        "edges": _edges(tiles, sheets),
        "colours": colours(sheets, machines),
    }


# What a layer is


def _sheets(tiles: Tiles) -> Iterator[Sheet]:
    """One for each layer, of its costliest node."""
    by_layer: dict[str, list[str]] = defaultdict(list)
    for name in tiles.nodes:
        by_layer[layer_of(tiles.by_node[name][0].node)].append(name)
    for layer, index in tiles.layer_index.items():
        drawn = _drawn(tiles, layer, by_layer[layer])
        if drawn:
            yield _sheet(tiles, index, drawn)


def _drawn(tiles: Tiles, layer: str, names: Sequence[str]) -> list[DrawnTile]:
    """The tiles of the costliest node, or of its partial results; those of an input."""
    digest = tiles.digest
    if layer in digest.plan.input_types:
        return tiles.by_node[layer]
    network, inputs = digest.plan.network, digest.plan.network.input_types
    nodes = [n for n in network if layer_of(n) == layer and digest.tiles_of(n.name)]
    if not nodes:
        return [tile for name in names for tile in tiles.by_node[name]]
    main = max(nodes, key=lambda node: (flops_of(node, inputs(node)), node.type.size))
    parts = digest.parts.get(main.name, (main.name,))
    return [tile for name in parts for tile in tiles.by_node[name]]


def _sheet(tiles: Tiles, layer: int, drawn: Sequence[DrawnTile]) -> Sheet:
    """The axes that are drawn: see the module's text."""
    u, v, rest = _axes(drawn, tiles.digest.plan.microbatch_size)
    parts = {name: i for i, name in enumerate(dict.fromkeys(tile.of for tile in drawn))}
    keys = [(parts[tile.of], *(tile.region.bounds[axis] for axis in rest)) for tile in drawn]
    numbers = {key: i for i, key in enumerate(sorted(set(keys)))}
    pieces = []
    rows, cols = (_apart(drawn, axis) for axis in (u, v))
    for tile, key in zip(drawn, keys, strict=True):
        bounds, number = tile.region.bounds, numbers[key]
        down = rows[bounds[u]] if u is not None else (0, 1)
        across = cols[bounds[v]] if v is not None else (number, number + 1)
        machine = tile.node.partition or 0
        place = number if v is not None else 0
        pieces.append(Piece(tiles.tile_index[tile.node.name], machine, place, down, across))
    return Sheet(
        layer=layer,
        node=tiles.nodes.index(drawn[0].of),
        units=max(piece.u[1] for piece in pieces),
        deep=max(piece.v[1] for piece in pieces),
        flat=v is not None,
        pieces=tuple(pieces),
    )


def _apart(drawn: Sequence[DrawnTile], axis: int | None) -> dict[Range, Range]:
    """The ranges along an axis, each without what it shares with the next. Tiles share nothing;
    machines read regions of an input that overlap, and each is drawn up to the middle."""
    if axis is None:
        return {}
    found = sorted({tile.region.bounds[axis] for tile in drawn})
    cores = [list(one) for one in found]
    for one, after in pairwise(range(len(found))):
        if found[one][1] > found[after][0]:
            cores[one][1] = cores[after][0] = (found[one][1] + found[after][0]) // 2
    return {one: (a, b) if a < b else one for one, (a, b) in zip(found, cores, strict=True)}


def _axes(drawn: Sequence[DrawnTile], batch: int) -> tuple[int | None, int | None, tuple[int, ...]]:
    """(down, into the depth, the others) of a value's axes. Examples are no units, so the batch is
    drawn only where nothing else is and it is cut."""
    ranges = [{tile.region.bounds[axis] for tile in drawn} for axis in range(drawn[0].region.rank)]
    batched = bool(ranges) and max(high for _, high in ranges[0]) == batch
    inner = list(range(int(batched), len(ranges)))
    if not inner:
        return (0 if batched and len(ranges[0]) > 1 else None), None, ()
    u, v = inner[0], inner[1] if len(inner) > 1 else None
    return u, v, tuple(axis for axis in range(len(ranges)) if axis not in (u, v))


# Where it stands


def _placed(tiles: Tiles, sheets: Sequence[Sheet]) -> dict[str, list[Any]]:
    """Columns from left to right; what has the same rank stands one above the other. A picture of
    many columns is higher too, so that it fills a screen."""
    columns: dict[int, list[int]] = defaultdict(list)
    for i, sheet in enumerate(sheets):
        columns[tiles.flow.ranks.get(tiles.layers[sheet.layer], 0)].append(i)
    scales = _scales(sheets)
    widths = [s.width * (scale if s.flat else 1) for s, scale in zip(sheets, scales, strict=True)]
    whole = [w + s.gap * (s.count - 1) for s, w in zip(sheets, widths, strict=True)]
    pitches = {r: max(max(whole[i] for i in columns[r]) + _BETWEEN, _LEAST) for r in columns}
    total = sum(pitches.values())
    tallest = min(_HIGHEST, max(_LOWEST, total * _SHAPE))
    heights = [
        tallest * scale if s.units > 1 else _POINT for s, scale in zip(sheets, scales, strict=True)
    ]
    below = _LABELS * max(1.0, total / _SCREEN)
    places = [(0.0, 0.0)] * len(sheets)
    x = 0.0
    for rank in sorted(columns):
        y = -sum(heights[i] + widths[i] * _RISE + below for i in columns[rank]) / 2
        for i in columns[rank]:
            places[i] = x + (pitches[rank] - whole[i]) / 2, y + widths[i] * _RISE
            y += heights[i] + widths[i] * _RISE + below
        x += pitches[rank]
    top = min((y - width * _RISE for (_, y), width in zip(places, widths, strict=True)), default=0)
    return {
        "layer": [sheet.layer for sheet in sheets],
        "node": [sheet.node for sheet in sheets],
        "x": [round(x, 1) for x, _ in places],
        "y": [round(y - top, 1) for _, y in places],
        "width": [round(width, 1) for width in widths],
        "height": [round(height, 1) for height in heights],
        "rise": [round(width * _RISE, 1) for width in widths],
        "units": [sheet.units for sheet in sheets],
        "deep": [sheet.deep for sheet in sheets],
        "count": [sheet.count for sheet in sheets],
        "gap": [round(sheet.gap, 1) for sheet in sheets],
        "flat": [int(sheet.flat) for sheet in sheets],
    }


def _scales(sheets: Sequence[Sheet]) -> list[float]:
    """By units, beside the largest layer of its kind; not in proportion, or small layers vanish."""
    most = {flat: max((s.units for s in sheets if s.flat == flat), default=1) for flat in (0, 1)}
    return [(sheet.units / most[sheet.flat]) ** _NARROW for sheet in sheets]


def _pieces(sheets: Sequence[Sheet]) -> dict[str, list[int]]:
    found = [(i, piece) for i, sheet in enumerate(sheets) for piece in sheet.pieces]
    return {
        "sheet": [i for i, _ in found],
        "tile": [piece.tile for _, piece in found],
        "number": [piece.number for _, piece in found],
        **_bounds([(piece.u, piece.v) for _, piece in found]),
    }


def _bounds(ranges: Sequence[tuple[Range, Range]]) -> dict[str, list[int]]:
    return {
        "u0": [u[0] for u, _ in ranges],
        "u1": [u[1] for u, _ in ranges],
        "v0": [v[0] for _, v in ranges],
        "v1": [v[1] for _, v in ranges],
    }


# What crosses


def _halos(tiles: Tiles, sheets: Sequence[Sheet]) -> dict[str, list[int]]:
    """What a machine reads of another one's region, where the layer is a sheet."""
    plan, by_layer = tiles.digest.plan, {sheet.layer: i for i, sheet in enumerate(sheets)}
    numbers = {
        (i, piece.machine): piece.number
        for i, sheet in enumerate(sheets)
        for piece in reversed(sheet.pieces)
    }
    found = dict.fromkeys(_read_inputs(tiles, by_layer))
    for transfer in plan.transfers:
        if transfer.value in tiles.digest.backward:
            continue
        node = plan.graph[transfer.value]
        i = by_layer.get(tiles.layer_index.get(layer_of(node), -1), -1)
        region = _region(plan.graph, node)
        if i < 0 or region is None or not sheets[i].flat or region.rank < 3:
            continue
        number = numbers.get((i, transfer.source), 0)
        found[i, number, transfer.to, region.bounds[1], region.bounds[2]] = None
    return {
        "sheet": [one[0] for one in found],
        "number": [one[1] for one in found],
        "machine": [one[2] for one in found],
        **_bounds([(one[3], one[4]) for one in found]),
    }


def _read_inputs(tiles: Tiles, by_layer: Mapping[int, int]) -> Iterator[_Halo]:
    """All that a machine reads of an input."""
    plan = tiles.digest.plan
    for machine in range(plan.partitions):
        for leaf in plan.leaves("input", machine):
            if leaf.region.rank >= 3:
                sheet = by_layer[tiles.layer_index[leaf.of]]
                yield sheet, 0, machine, leaf.region.bounds[1], leaf.region.bounds[2]


def _region(graph: Graph, node: Node) -> Region | None:
    """Of a tile's node that a value is; None for what is neither a tile nor part of one."""
    if node.cut is not None:
        return Region(tuple((s[0], s[-1]) for s in node.cut.splits))
    if node.op != "assemble" or len(node.inputs) != 1:
        return None
    whole = _region(graph, graph[node.inputs[0]])
    pieces = pieces_of(node.attrs)
    if whole is None or len(pieces) != 1:
        return None
    lows = [low for low, _ in whole.bounds]
    start = tuple(low + a for low, a in zip(lows, pieces[0].source, strict=True))
    return Region.at(start, pieces[0].extent)


def _edges(tiles: Tiles, sheets: Sequence[Sheet]) -> dict[str, list[int]]:
    """What flows from a layer's share on one machine to that of another, both ways together."""
    by_layer = {tiles.layers[sheet.layer]: i for i, sheet in enumerate(sheets)}
    found: dict[tuple[int, int, int, int], list[int]] = defaultdict(lambda: [0, 0])
    for edge in tiles.flow.edges:
        source, to = (edge.to, edge.source) if edge.backward else (edge.source, edge.to)
        if source[0] in by_layer and to[0] in by_layer:
            key = by_layer[source[0]], source[1], by_layer[to[0]], to[1]
            found[key][edge.backward] += edge.bytes
    return {
        "from": [key[0] for key in found],
        "from_machine": [key[1] for key in found],
        "to": [key[2] for key in found],
        "to_machine": [key[3] for key in found],
        "bytes": [sizes[0] for sizes in found.values()],
        "back": [sizes[1] for sizes in found.values()],
    }


# Colours


def colours(sheets: Sequence[Sheet], machines: int) -> list[int]:
    """A colour for each machine. Few have each their own; of many, those whose regions touch get
    different ones as far as there are enough: greedily, the least used first."""
    if machines <= COLOURS:
        return list(range(machines))
    beside = _neighbours(sheets)
    used: Counter[int] = Counter()
    found: list[int] = []
    for machine in range(machines):
        clashes: Counter[int] = Counter()
        for other, times in beside[machine].items():
            if other < machine:
                clashes[found[other]] += times
        found.append(min(range(COLOURS), key=lambda c: (clashes[c], used[c], c)))
        used[found[-1]] += 1
    return found


def _neighbours(sheets: Sequence[Sheet]) -> dict[int, Counter[int]]:
    """machine → the machines whose regions touch its own, and how often. A piece touches those
    that begin where it ends: below, to the right, and at both corners."""
    beside: dict[int, Counter[int]] = defaultdict(Counter)
    for sheet in sheets:
        at = {(p.number, p.u[0], p.v[0]): p.machine for p in sheet.pieces}
        high = {(p.number, p.u[0], p.v[1]): p.machine for p in sheet.pieces}
        for piece in sheet.pieces:
            number, (u0, u1), (v0, v1) = piece.number, piece.u, piece.v
            for other in (
                at.get((number, u1, v0)),
                at.get((number, u0, v1)),
                at.get((number, u1, v1)),
                high.get((number, u1, v0)),
            ):
                if other is not None and other != piece.machine:
                    beside[piece.machine][other] += 1
                    beside[other][piece.machine] += 1
    return beside
