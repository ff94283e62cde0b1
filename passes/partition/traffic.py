"""What a choice for one node costs, its producers' choices being given."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from math import inf, prod

from dbgraph.cluster import Cluster
from dbgraph.cost import Work, node_work, work_s
from dbgraph.ir.graph import Cut, Graph, Node
from dbgraph.ir.region import Region, grid, grid_shares
from dbgraph.ir.types import DTYPE_BYTES
from dbgraph.ops import op
from dbgraph.passes.partition.choice import Choice, InnerCut
from dbgraph.passes.views import resolve

# A training step runs a product once forward and twice backward, and every value that crosses
# comes back as a cotangent.
TIMES_COMPUTED = 3
TIMES_SENT = 2
# Parameters up to this size may be read by several partitions without being priced.
_LIGHT_BYTES = 64 * 1024
# Of more tiles than this only so many are looked at, evenly spread over all.
_SAMPLED = 64
# Who sends to so many of those looked at sends to as many of the others; who sends to fewer has
# neighbours for readers.
_HUB = 8
_NO_CELL = Region(())


@dataclass
class Traffic:
    """Prices choices against the cuts that are already decided.

    `cuts` is filled by the strategy as it goes, in topological order.
    """

    graph: Graph
    cluster: Cluster
    cuts: dict[str, Cut] = field(default_factory=dict)

    def price_s(self, node: Node, choice: Choice, limit_s: float = inf) -> float:
        """Seconds of this node alone: its busiest machine, and a message's latency forward and
        back where anything crosses. Above the limit anything above it."""
        inner = choice.inner
        cells = [(_NO_CELL, choice.cut)] if inner is None else list(inner.cells())
        count = sum(cut.count for _, cut in cells)
        every = -(-count // _SAMPLED)
        tiles = (
            (cell, region, partition) for cell, cut in cells for region, partition in cut.tiles()
        )
        bill = _Bill(self.cluster, every, limit_s)
        self._add_tiles(bill, node, inner, islice(tiles, 0, None, every))
        if inner is None or bill.over:
            return bill.busiest_s()
        every = -(-choice.cut.count // _SAMPLED)
        sums = _Bill(self.cluster, every)
        _add_combination(sums, node, inner, islice(choice.cut.tiles(), 0, None, every))
        return bill.busiest_s() + sums.busiest_s()

    def _add_tiles(
        self,
        bill: _Bill,
        node: Node,
        inner: InnerCut | None,
        tiles: Iterable[tuple[Region, Region, int]],
    ) -> None:
        """Compute and messages of a node's tiles, each given by its cell of the reduction, its
        region and its partition."""
        rule, types = op(node.op), self.graph.input_types(node)
        work = node_work(self.graph, node)
        moved_bytes = node.type.size_bytes + sum(t.size_bytes for t in types)
        inside_bytes = work.traffic_bytes - moved_bytes
        whole = prod(s[-1] for s in inner.splits) if inner else 1
        shared: dict[tuple[str, Region], dict[int, None]] = defaultdict(dict)
        for cell, region, partition in tiles:
            reads = list(rule.reads(node.attrs, types, region))
            if inner is not None:
                reads = inner.restrict(reads, cell)
            touched = region.size * DTYPE_BYTES[node.type.dtype]
            for name, read, type_ in zip(node.inputs, reads, types, strict=True):
                touched += read.size * DTYPE_BYTES[type_.dtype]
                if self.graph[name].op == "parameter" and name not in self.cuts:
                    shared[name, read][partition] = None
                else:
                    self._add_reads(bill, name, read, partition)
            if bill.over:
                return
            share = region.size / node.type.size * (cell.size / whole if inner else 1.0)
            tile = Work(work.kind, share * work.flop, touched + share * inside_bytes)
            bill.compute(partition, tile, node.type.dtype)
        for (name, read), readers in shared.items():
            bytes_ = read.size * self._item_bytes(name)
            owner, *others = readers
            for other in others:
                bill.send(owner, other, bytes_)

    def relayout_s(self, node: Node, cut: Cut, wanted: Cut) -> float:
        """Seconds of the busiest machine for moving a node's value from one cut to another."""
        if cut == wanted:
            return 0.0
        bill = _Bill(self.cluster)
        item_bytes = self._item_bytes(node.name)
        for region, partition in wanted.tiles():
            for index, size in grid_shares(cut.splits, region):
                bill.send(cut.partitions[index], partition, size * item_bytes)
        return bill.busiest_s()

    def crosses(self, node: Node, choice: Choice) -> bool:
        """Whether some tile reads what stands on another partition, or several read a parameter
        that is too large to be sent around lightly."""
        rule, types = op(node.op), self.graph.input_types(node)
        readers: dict[tuple[str, Region], set[int]] = defaultdict(set)
        for region, partition in choice.cut.tiles():
            for name, read in zip(node.inputs, rule.reads(node.attrs, types, region), strict=True):
                if any(other != partition for other, _ in self.sources(name, read)):
                    return True
                if self.graph[name].op == "parameter":
                    readers[name, read].add(partition)
        return any(
            len(partitions) > 1 and read.size * self._item_bytes(name) > _LIGHT_BYTES
            for (name, read), partitions in readers.items()
        )

    def _item_bytes(self, name: str) -> int:
        return DTYPE_BYTES[self.graph[name].type.dtype]

    def decide(self, node: Node, choice: Choice) -> None:
        """Notes a choice; a parameter stands where its first reader reads it."""
        self.cuts[node.name] = choice.cut
        for index, name in enumerate(node.inputs):
            if self.graph[name].op == "parameter" and name not in self.cuts:
                cut = _read_cut(self._reads_of(node, choice, index))
                if cut is not None:
                    self.cuts[name] = cut

    def _reads_of(self, node: Node, choice: Choice, index: int) -> dict[Region, int]:
        """The regions that a choice reads of one input, each with its first reader."""
        rule, types = op(node.op), self.graph.input_types(node)
        found: dict[Region, int] = {}
        cells = choice.inner.cells() if choice.inner else [(_NO_CELL, choice.cut)]
        for cell, cut in cells:
            for region, partition in cut.tiles():
                reads = list(rule.reads(node.attrs, types, region))
                if choice.inner is not None:
                    reads = choice.inner.restrict(reads, cell)
                found.setdefault(reads[index], partition)
        return found

    def _add_reads(self, bill: _Bill, name: str, region: Region, partition: int) -> None:
        for other, size in self.sources(name, region):
            bill.send(other, partition, size * self._item_bytes(name))

    def sources(self, name: str, region: Region) -> Iterator[tuple[int, int]]:
        """(partition, elements) of the tiles that hold a region; inputs are everywhere."""
        for need in resolve(self.graph, name, region):
            cut = self.cuts.get(need.value)
            if cut is not None:
                for index, size in grid_shares(cut.splits, need.region):
                    yield cut.partitions[index], size


class _Bill:
    """Seconds per partition, of every so many tiles.

    Attributes:
        over: some partition is above the limit.
    """

    def __init__(self, cluster: Cluster, every: int = 1, limit_s: float = inf) -> None:
        self.cluster, self.every, self.limit_s = cluster, every, limit_s
        self.over = False
        self.load_s: dict[int, float] = defaultdict(float)
        self.sent: dict[int, list[float]] = defaultdict(list)

    def compute(self, partition: int, work: Work, dtype: str) -> None:
        seconds = work_s(work, dtype, self.cluster.machines[partition])
        self.load_s[partition] += TIMES_COMPUTED * seconds
        self.over |= self.load_s[partition] > self.limit_s

    def send(self, source: int, to: int, bytes_: float) -> None:
        if source == to:
            return
        link = self.cluster.between(source, to)
        seconds = TIMES_SENT * (bytes_ / link.bytes_s + link.message_s)
        self.sent[source].append(seconds)
        self.load_s[to] += seconds

    def busiest_s(self) -> float:
        load_s = self.load_s
        for source, sent in self.sent.items():
            load_s[source] += sum(sent) * (self.every if len(sent) >= _HUB else 1)
        latency_s = TIMES_SENT * self.cluster.link.latency_s if self.sent else 0.0
        return max(load_s.values(), default=0.0) + latency_s


def _add_combination(
    bill: _Bill, node: Node, inner: InnerCut, tiles: Iterable[tuple[Region, int]]
) -> None:
    item_bytes = DTYPE_BYTES[node.type.dtype]
    for region, partition in tiles:
        for partial in inner.partials:
            for index, size in grid_shares(partial.splits, region):
                bill.send(partial.partitions[index], partition, size * item_bytes)


def _read_cut(reads: dict[Region, int]) -> Cut | None:
    """The grid that regions form, if they do."""
    rank = next(iter(reads)).rank
    edges = [sorted({e for r in reads for e in r.bounds[axis]}) for axis in range(rank)]
    cut = Cut(tuple(tuple(e) for e in edges), tuple(reads.values()))
    boxes = list(grid(cut.splits))
    if len(boxes) != len(reads) or any(box not in reads for box in boxes):
        return None
    return Cut(cut.splits, tuple(reads[box] for box in boxes))
