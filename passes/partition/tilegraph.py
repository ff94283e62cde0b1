"""The tiles that choices make, as a graph to be placed: their work, what crosses, their memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice

import networkx as nx

from dbgraph.cluster import Cluster, Link, MachineSpec
from dbgraph.cost import Work, op_work, work_s
from dbgraph.ir.graph import Cut, Graph, Node
from dbgraph.ir.region import Region, grid_parts
from dbgraph.ir.types import DTYPE_BYTES, Attrs, Types
from dbgraph.ops import op
from dbgraph.passes.partition.choice import Choice, Choices, InnerCut, computes
from dbgraph.passes.partition.traffic import TIMES_COMPUTED, TIMES_SENT
from dbgraph.passes.search import Machine, Place, Problem, Value
from dbgraph.passes.tile import atoms_of
from dbgraph.passes.views import resolve

_TIMES_HELD = 2  # a parameter and its gradient
_NO_CELL = Region(())


@dataclass(frozen=True)
class TileGraph:
    """Choices as a problem for the search core, in seconds of one microbatch, forward and back.

    Attributes:
        problem: its nodes are, for each node in the graph's order, the tiles of its partial
            results and those of its output; behind them all, the parameters that several read.
        start: the present places.
        count: of the tiles.
    """

    cut: Choices
    problem: Problem
    start: Place
    count: int

    def choices(self, place: Sequence[int]) -> Choices:
        """The same tiles at other places."""
        places = iter(place)
        return {name: _moved(choice, places) for name, choice in self.cut.items()}


def tile_graph(
    graph: Graph,
    choices: Choices,
    cluster: Cluster,
    groups: Mapping[str, str] | None = None,
    *,
    contiguous: bool = False,
) -> TileGraph:
    """
    Args:
        graph: of one microbatch, as it enters the partition pass.
        choices: for each node that computes.
        groups: by name of node; the tiles of all nodes of one group share a machine. None: only
            tiny tiles are tied to those that they follow, where they stand together already.
        contiguous: whether the problem asks for that; it has one epoch then.
    """
    return _Tiles(graph, choices, cluster).result(groups, contiguous)


def _moved(choice: Choice, places: Iterator[int]) -> Choice:
    inner = choice.inner
    if inner is not None:
        partials = tuple([_placed(cut, places) for cut in inner.partials])
        inner = replace(inner, partials=partials)
    return Choice(_placed(choice.cut, places), inner)


def _placed(cut: Cut, places: Iterator[int]) -> Cut:
    return Cut(cut.splits, tuple(islice(places, cut.count)))


class _Tiles:
    """One walk over the graph. A tile is the number of its node in the problem."""

    def __init__(self, graph: Graph, choices: Choices, cluster: Cluster) -> None:
        self.graph, self.choices, self.cluster = graph, choices, cluster
        self.work: list[tuple[Work, str]] = []  # and the dtype
        self.made_bytes: list[int] = []
        self.start: list[int] = []
        self.allowed: dict[int, tuple[int, ...]] = {}
        # (value, region) → the tiles that read it, and (tile, a region of it) likewise
        self.readers: dict[tuple[str, Region], list[int]] = defaultdict(list)
        self.crossing: dict[tuple[int, Region], list[int]] = defaultdict(list)
        # value → its first tile and its cut
        self.made: dict[str, tuple[int, Cut]] = {}
        self.of_node: dict[str, range] = {}
        for node in graph:
            if computes(node):
                self._add(node, choices[node.name])
        for (name, region), tiles in self.readers.items():
            if name in self.made:
                self._take(*self.made[name], region, tiles)

    def result(self, groups: Mapping[str, str] | None, contiguous: bool) -> TileGraph:
        together = self._tiny() if groups is None else self._grouped(groups)
        parameters, size_bytes = self._parameters(together)
        tiles = len(self.start)
        start, epochs = list(self.start), [0] * tiles if contiguous else self._epochs()
        values = []
        for (source, region), readers in self.crossing.items():
            cost_s = self._sent_s(region.size * DTYPE_BYTES[self.work[source][1]])
            values.append(Value(source, tuple(sorted(set(readers))), cost_s, epochs[source]))
        owned_bytes = [0.0] * len(self.cluster.machines)
        for k, (readers, bytes_) in enumerate(parameters, tiles):
            epochs.append(min(epochs[t] for t in readers))
            values.append(Value(k, tuple(readers), self._sent_s(bytes_), epochs[k]))
            # As the `tile` pass finds the owner.
            owner = min({start[t] for t in readers}, key=lambda p: (owned_bytes[p], p))
            owned_bytes[owner] += bytes_
            start.append(owner)
        kinds = self._kinds
        machines = [Machine(kinds.index(_kind(m)), m.memory_bytes) for m in self.cluster.machines]
        nothing = [0.0] * len(parameters)
        problem = Problem(
            work=tuple((*self._seconds(kind), *nothing) for kind in kinds),
            values=tuple(values),
            machines=tuple(machines),
            size_bytes=(*size_bytes, *nothing),
            together=together,
            allowed=self.allowed,
            contiguous=contiguous,
            epoch=() if contiguous else tuple(epochs),
        )
        return TileGraph(self.choices, problem, tuple(start), tiles)

    # Tiles

    def _add(self, node: Node, choice: Choice) -> None:
        first = len(self.start)
        rule, types = op(node.op), self.graph.input_types(node)
        if choice.inner is None:
            self.made[node.name] = first, choice.cut
            for region, partition in choice.cut.tiles():
                reads = rule.reads(node.attrs, types, region)
                attrs = rule.localize(node.attrs, types, region)
                self._add_reader(node, region, partition, reads, attrs)
        else:
            self._add_partials(node, choice.inner)
            self._add_sums(node, choice.cut, choice.inner, first)
        self.of_node[node.name] = range(first, len(self.start))

    def _add_partials(self, node: Node, inner: InnerCut) -> None:
        rule, types = op(node.op), self.graph.input_types(node)
        for cell, cut in inner.cells():
            attrs = node.attrs
            for reduction, bounds in zip(inner.reductions, cell.bounds, strict=True):
                attrs = rule.partial(attrs, reduction, bounds)
            for region, partition in cut.tiles():
                reads = inner.restrict(list(rule.reads(node.attrs, types, region)), cell)
                self._add_reader(node, region, partition, reads, attrs)

    def _add_reader(
        self,
        node: Node,
        region: Region,
        partition: int,
        reads: Sequence[Region],
        attrs: Attrs,
    ) -> None:
        """A tile that reads regions of the node's inputs."""
        inputs = zip(node.inputs, reads, strict=True)
        types = tuple([self.graph[n].type.with_shape(read.shape) for n, read in inputs])
        tile = self._add_tile(node, region, partition, node.op, attrs, types)
        for name, read in zip(node.inputs, reads, strict=True):
            for need in resolve(self.graph, name, read):
                self.readers[need.value, need.region].append(tile)

    def _add_sums(self, node: Node, cut: Cut, inner: InnerCut, first: int) -> None:
        """The tiles that combine partial results, which begin at `first`."""
        self.made[node.name] = len(self.start), cut
        for region, partition in cut.tiles():
            types = (node.type.with_shape(region.shape),) * len(inner.partials)
            tile = self._add_tile(node, region, partition, op(node.op).combine, Attrs(), types)
            begin = first
            for partial in inner.partials:
                self._take(begin, partial, region, [tile])
                begin += partial.count

    def _add_tile(
        self, node: Node, region: Region, partition: int, name: str, attrs: Attrs, types: Types
    ) -> int:
        """
        Args:
            name, attrs, types: of the op that makes it, and of its inputs.
        """
        tile = len(self.start)
        made = node.type.with_shape(region.shape)
        self.work.append((op_work(name, attrs, types, made), made.dtype))
        self.made_bytes.append(made.size_bytes)
        self.start.append(partition)
        if node.pin.partitions:
            self.allowed[tile] = node.pin.partitions
        return tile

    def _take(self, first: int, cut: Cut, region: Region, tiles: list[int]) -> None:
        """Tiles read a region of a value whose tiles begin at `first`."""
        for index, part in grid_parts(cut.splits, region):
            self.crossing[first + index, part] += tiles

    # What they cost

    def _seconds(self, machine: MachineSpec) -> list[float]:
        """Of each tile."""
        found = {key: TIMES_COMPUTED * work_s(*key, machine) for key in set(self.work)}
        return [found[key] for key in self.work]

    def _epochs(self) -> list[int]:
        """Of each tile: what goes on at the same time, if nothing waits but for its inputs.

        A node is in the epoch of one that begins before it, if that is not half done by then.
        """
        epochs = [0] * len(self.start)
        epoch, begun_s, longest_s = -1, 0.0, 0.0
        for begin_s, takes_s, tiles in sorted(self._times(), key=lambda times: times[0]):
            if epoch < 0 or begin_s >= begun_s + longest_s / 2:
                epoch, begun_s, longest_s = epoch + 1, begin_s, 0.0
            longest_s = max(longest_s, takes_s)
            for tile in tiles:
                epochs[tile] = epoch
        return epochs

    def _times(self) -> Iterator[tuple[float, float, range]]:
        """When each node that computes begins at the earliest, how long it takes, its tiles."""
        seconds = self._seconds(self._kinds[0])
        end_s: dict[str, float] = {}
        for node in self.graph:
            begin_s = max((end_s[name] for name in node.inputs), default=0.0)
            tiles = self.of_node.get(node.name, range(0))
            on: dict[int, float] = defaultdict(float)
            for tile in tiles:
                on[self.start[tile]] += seconds[tile]
            takes_s = max(on.values(), default=0.0)
            end_s[node.name] = begin_s + takes_s
            yield begin_s, takes_s, tiles

    @cached_property
    def _kinds(self) -> list[MachineSpec]:
        return list(dict.fromkeys(map(_kind, self.cluster.machines)))

    def _sent_s(self, bytes_: float) -> float:
        link = self._link
        return TIMES_SENT * (bytes_ / link.bytes_s + link.message_s)

    @cached_property
    def _link(self) -> Link:
        """The slowest between any two machines: the core knows one only."""
        cluster = self.cluster
        one_host = len(cluster.machines) > 1 and len({*cluster.hosts}) == 1
        return cluster.local if one_host else cluster.link

    # What stands together

    def _grouped(self, groups: Mapping[str, str]) -> tuple[tuple[int, ...], ...]:
        found: dict[str, list[int]] = defaultdict(list)
        for name, group in groups.items():
            found[group] += self.of_node[name]
        return tuple(tuple(tiles) for tiles in found.values() if len(tiles) > 1)

    def _tiny(self) -> tuple[tuple[int, ...], ...]:
        """Tiles that take less than a message there and back, each with the one that it reads, or
        that reads it."""
        reads: dict[int, set[int]] = defaultdict(set)
        read_by: dict[int, set[int]] = defaultdict(set)
        for (source, _), readers in self.crossing.items():
            read_by[source].update(readers)
            for tile in readers:
                reads[tile].add(source)
        slowest = zip(*(self._seconds(kind) for kind in self._kinds), strict=True)
        tiny_s = TIMES_SENT * (self._link.latency_s + self._link.message_s)
        pairs = []
        for tile, seconds in enumerate(slowest):
            near = reads[tile] or read_by[tile]
            if max(seconds) < tiny_s and len(near) == 1:
                (other,) = near
                if self.start[tile] == self.start[other] and self._alike(tile, other):
                    pairs.append((other, tile))
        return _joined(pairs)

    def _alike(self, a: int, b: int) -> bool:
        return self.allowed.get(a) == self.allowed.get(b)

    def _parameters(
        self, together: tuple[tuple[int, ...], ...]
    ) -> tuple[list[tuple[list[int], float]], list[float]]:
        """Regions of parameters that may have to be sent, each with the tiles that read it and its
        bytes; and the bytes that each tile holds, its parameters among them."""
        group_of = {tile: k for k, group in enumerate(together) for tile in group}
        sent, held = [], list(map(float, self.made_bytes))
        for name, demand in self._demand().items():
            item_bytes = DTYPE_BYTES[self.graph[name].type.dtype]
            for region, readers in atoms_of(demand):
                bytes_ = float(region.size * item_bytes)
                # Tiles that stand together hold it once.
                holders = {group_of.get(tile, -1 - tile): tile for tile in reversed(readers)}
                for tile in holders.values():
                    held[tile] += _TIMES_HELD * bytes_
                if len(holders) > 1:
                    sent.append((list(readers), bytes_))
        return sent, held

    def _demand(self) -> dict[str, dict[int, set[Region]]]:
        """For each parameter the regions that each tile reads."""
        found: dict[str, dict[int, set[Region]]] = {}
        for (name, region), readers in self.readers.items():
            if self.graph[name].op == "parameter":
                demand = found.setdefault(name, defaultdict(set))
                for tile in readers:
                    demand[tile].add(region)
        return found


def _joined(pairs: Iterable[tuple[int, int]]) -> tuple[tuple[int, ...], ...]:
    """The groups that pairs form together."""
    graph = nx.Graph(pairs)
    return tuple(sorted(tuple(sorted(group)) for group in nx.connected_components(graph)))


def _kind(machine: MachineSpec) -> MachineSpec:
    """What tells its speed."""
    return replace(machine, memory_bytes=0.0, name="")


__all__ = ["TileGraph", "tile_graph"]
