"""Spans of layers, each on a group of machines of its own: what GPipe calls stages, but tiled.

While one span computes a microbatch, the one before it computes the next. The busiest span sets
the pace: with S spans and M microbatches a step takes M + S - 1 times as long as it (Huang et
al., "GPipe", 2019, section 2.3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import inf

from dbgraph.cluster import Cluster
from dbgraph.ir.graph import Graph
from dbgraph.passes.partition.choice import computes, layer_of
from dbgraph.passes.partition.team import Team
from dbgraph.passes.partition.tiles import Tiles

_MOST_SPANS = 8
_MOST_UNITS = 32  # groups are made of this many equal units at most
_MOST_LAYERS = 100  # beyond, neighbours are taken together

Seconds = Sequence[Sequence[float]]
"""For each group size (1, 2 … units) what each layer takes for one microbatch."""


@dataclass(frozen=True)
class Pipeline:
    """Spans of layers, and each one's team.

    Attributes:
        teams: by layer.
        sizes: machines of each span, in order.
        pace_s: what the busiest span takes for one microbatch.
    """

    teams: Mapping[str, Team]
    sizes: tuple[int, ...]
    microbatches: int
    pace_s: float

    @property
    def step_s(self) -> float:
        """The estimate by which pipelines are compared before they are simulated."""
        return self.pace_s * (self.microbatches + len(self.sizes) - 1)


def pipelines(
    graphs: Callable[[int], Graph], cluster: Cluster, team: Team, counts: Sequence[int]
) -> list[Pipeline]:
    """The best division into two spans, three and so on, by a dynamic program over the layers in
    order; for each number of microbatches; by estimate, the best first.

    Args:
        graphs: that of one microbatch, by how many there are.
        counts: numbers of microbatches, ascending.
    """
    layers = _Layers.of(graphs(counts[0]))
    unit = -(-len(team) // _MOST_UNITS)
    units = len(team) // unit
    few, many = (_seconds(graphs(m), cluster, team, layers, unit) for m in (counts[0], counts[-1]))
    found = []
    for m in counts:
        # What a microbatch takes: a part that shrinks with it, and messages that don't.
        share = _between(1 / m, 1 / counts[-1], 1 / counts[0])
        taken = [
            [b + (a - b) * share for a, b in zip(row, other, strict=True)]
            for row, other in zip(few, many, strict=True)
        ]
        start_s = 2 * cluster.machines[0].dispatch_s  # forward and backward
        for spans in _divide(taken, units):
            if len(spans) > 1:
                found.append(_pipeline(layers, spans, team, unit, m, start_s))
    return sorted(found, key=lambda p: p.step_s)


def _between(value: float, low: float, high: float) -> float:
    """0 at low, 1 at high."""
    return (value - low) / (high - low) if low < high else 1.0


@dataclass(frozen=True)
class _Layers:
    """The layers in order, as groups of neighbours; mostly one each."""

    groups: tuple[tuple[str, ...], ...]

    @staticmethod
    def of(graph: Graph) -> _Layers:
        names = list(dict.fromkeys(layer_of(n) for n in graph if computes(n)))
        size = -(-len(names) // _MOST_LAYERS)
        return _Layers(tuple(tuple(names[i : i + size]) for i in range(0, len(names), size)))


Span = tuple[int, int, int, float]
"""From a group of layers to another, exclusive, on so many units, in so many seconds."""


def _seconds(
    graph: Graph, cluster: Cluster, team: Team, layers: _Layers, unit: int
) -> list[list[float]]:
    """Priced on 1, 2, 4 … units and on all; between, what a machine takes is linear in 1 / size."""
    units = len(team) // unit
    sizes = sorted({2**k for k in range(units.bit_length()) if 2**k <= units} | {units})
    priced = {}
    for size in sizes:
        prices = Tiles(cluster).prices(graph, team.slice(0, size * unit))
        priced[size] = [sum(prices.get(n, 0.0) for n in names) for names in layers.groups]
    found = []
    for size in range(1, units + 1):
        low = max(s for s in sizes if s <= size)
        high = min(s for s in sizes if s >= size)
        share = _between(1 / size, 1 / high, 1 / low)
        found.append([b + (a - b) * share for a, b in zip(priced[low], priced[high], strict=True)])
    return found


def _divide(taken: Seconds, units: int) -> Iterator[tuple[Span, ...]]:
    """For each number of spans the division whose slowest span is fastest.

    best[i][k]: the slowest span of the first i groups on k units.
    """
    length = len(taken[0])
    sums = [[0.0, *accumulate(row)] for row in taken]
    best = [[0.0 if i == 0 else inf for _ in range(units + 1)] for i in range(length + 1)]
    ways: list[list[tuple[Span, ...]]] = [[()] * (units + 1) for _ in range(length + 1)]
    for _ in range(min(_MOST_SPANS, length, units)):
        longer = [[inf] * (units + 1) for _ in range(length + 1)]
        found: list[list[tuple[Span, ...]]] = [[()] * (units + 1) for _ in range(length + 1)]
        for i in range(1, length + 1):
            for j in range(i):
                for size in range(1, units + 1):
                    span_s = sums[size - 1][i] - sums[size - 1][j]
                    for k in range(size, units + 1):
                        pace_s = max(best[j][k - size], span_s)
                        if pace_s < longer[i][k]:
                            longer[i][k] = pace_s
                            found[i][k] = (*ways[j][k - size], (j, i, size, span_s))
        best, ways = longer, found
        if best[length][units] < inf:
            yield ways[length][units]


def _pipeline(
    layers: _Layers,
    spans: Sequence[Span],
    team: Team,
    unit: int,
    microbatches: int,
    start_s: float,
) -> Pipeline:
    """Args: start_s: what a span takes for each microbatch besides its work."""
    teams: dict[str, Team] = {}
    start = 0
    for first, last, size, _ in spans:
        group = team.slice(start, start + size * unit)
        teams |= {name: group for names in layers.groups[first:last] for name in names}
        start += size * unit
    sizes = tuple(size * unit for *_, size, _ in spans)
    pace_s = start_s + max(seconds for *_, seconds in spans)
    return Pipeline(teams, sizes, microbatches, pace_s)
