"""Seconds that a training step takes at the least, for all plans of a space at once.

Two bounds, of which the larger counts. What a machine has to do in all: tiles, messages, copies,
updates; and what its line has to carry. And the longest way of a value: forward from tile to tile,
over lines that carry one byte after another, to a derivative that is computed from it, and with the
cotangent back to the parameters. What stands in between by the order of the instructions alone is
left out, so no plan is faster.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from itertools import product
from math import inf, prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dbgraph.cluster import Cluster
from dbgraph.cost import update_s
from dbgraph.ir.graph import Graph
from dbgraph.passes.partition.crossing import Crossings, wide
from dbgraph.passes.partition.waytables import Row, Space, Table, Tables

Plans = Sequence[NDArray[np.intp]]
"""For each layer which of its ways; arrays that broadcast against each other."""
_AT_ONCE = 2**15
"""Plans whose bounds are computed together: what is looked up for them fits the caches."""


class _Box(NamedTuple):
    """A box of a parameter in some plans.

    Attributes:
        size_bytes: [plan…]
        owned, read: by which machines. [machine, plan…]
    """

    size_bytes: Table
    owned: NDArray[np.bool_]
    read: NDArray[np.bool_]


class Bound:
    """Of the plans of one space on a cluster."""

    def __init__(self, graph: Graph, space: Space, cluster: Cluster) -> None:
        self.counts, self.cluster = [len(ways) for ways in space], cluster
        self.rows = Tables(graph, space, cluster).rows
        self.crossings = Crossings(cluster)
        self.between = {
            (row.name, read.value, read.index): self.crossings.of(read)
            for row in self.rows
            for read in row.reads
        }

    def all_s(self) -> Table:
        """Of every plan, in the order of `itertools.product`."""
        sizes = (prod(self.counts[k:]) for k in range(len(self.counts) + 1))
        outer = next(k for k, size in enumerate(sizes) if size <= _AT_ONCE)
        begins = product(*map(range, self.counts[:outer]))
        return np.concatenate([self._beginning_s(begin) for begin in begins])

    def _beginning_s(self, begin: tuple[int, ...]) -> Table:
        """Of the plans that begin so."""
        rest = self.counts[len(begin) :]
        plans = np.ix_(*([k] for k in begin), *map(range, rest))
        found: Table = np.broadcast_to(self.step_s(plans), (*(1 for _ in begin), *rest)).ravel()
        return found

    def step_s(self, plans: Plans) -> Table:
        cluster = self.cluster
        begin_s = cluster.driver_s + len(cluster.machines) * cluster.control_s
        owned_bytes, boxes = self._boxes(plans)
        ends_s = self._updates_s(owned_bytes)
        load_s, way_s = self._load_s(plans, boxes, ends_s), self._way_s(plans, boxes, ends_s)
        found_s: Table = begin_s + np.maximum(load_s.max(0), way_s)
        return found_s

    # Parameters

    def _boxes(self, plans: Plans) -> tuple[Table, dict[str, list[_Box]]]:
        """What each machine owns, and the boxes of each parameter: as `tile` has it, the one of
        those that read a box owns it that owns least so far."""
        owned_bytes: Table = np.zeros((len(self.cluster.machines),) + (1,) * len(plans))
        boxes: dict[str, list[_Box]] = {}
        for row in self.rows:
            for weights in row.weights:
                boxes[weights.name] = []
                for k in range(len(weights.size_bytes)):
                    size_bytes = weights.size_bytes[k][plans[row.layer]]
                    read = weights.read[k][:, plans[row.layer]]
                    owner = np.where(read, owned_bytes, inf).argmin(0)
                    owned = read & (owner == wide(np.arange(len(read), dtype=float), read))
                    owned_bytes = owned_bytes + owned * size_bytes
                    boxes[weights.name].append(_Box(size_bytes, owned, read))
        return owned_bytes, boxes

    def _updates_s(self, owned_bytes: Table) -> Table:
        start_s = np.array([update_s(0, m) for m in self.cluster.machines])
        each_s = np.array([update_s(1, m) for m in self.cluster.machines]) - start_s
        return wide(start_s, owned_bytes) + wide(each_s, owned_bytes) * owned_bytes

    # What there is to do in all

    def _load_s(self, plans: Plans, boxes: Mapping[str, Sequence[_Box]], ends_s: Table) -> Table:
        """Of each machine, and of its line. [machine, plan…]"""
        busy_s = wide(self.crossings.dispatch_s, np.zeros((1,) * (len(plans) + 1)))
        out_s = in_s = np.zeros_like(busy_s)
        for row in self.rows:
            seconds = row.forward_s + sum(row.backward_s)
            busy_s = busy_s + seconds[:, plans[row.layer]]
        for found in self._by_value(plans).values():
            # What several read crosses once.
            most_busy_s, most_out_s, most_in_s = (
                reduce(np.maximum, of_readers) for of_readers in zip(*found, strict=True)
            )
            busy_s, out_s, in_s = busy_s + most_busy_s, out_s + most_out_s, in_s + most_in_s
        for box in (box for of_name in boxes.values() for box in of_name):
            handled_s, carried_s = self._exchanged_s(box)
            busy_s = busy_s + box.owned * self._summed_s(box) + handled_s
            out_s, in_s = out_s + carried_s, in_s + carried_s
        return np.maximum(busy_s + ends_s, np.maximum(out_s, in_s))

    def _by_value(self, plans: Plans) -> dict[str, list[tuple[Table, Table, Table]]]:
        """For each reader what it makes every machine do, and its line carry out and in."""
        found: dict[str, list[tuple[Table, Table, Table]]] = defaultdict(list)
        for row in self.rows:
            for read in row.reads:
                at = (slice(None), plans[read.layer], plans[row.layer])
                crossing = self.between[row.name, read.value, read.index]
                found[read.value].append(
                    (crossing.busy_s[at], crossing.out_s[at], crossing.in_s[at])
                )
        return found

    def _exchanged_s(self, box: _Box) -> tuple[Table, Table]:
        """What a box and its gradients take of each machine, and of its line in each direction."""
        pairs = self.crossings.pairs
        lent = wide(pairs.apart, box.read[None]) * (box.owned[:, None] & box.read[None])
        handled_s = lent * pairs.handled_s(lent * box.size_bytes)
        carried_s = lent * pairs.carried_s(lent * box.size_bytes)
        return 2 * (handled_s.sum(0) + handled_s.sum(1)), carried_s.sum(0) + carried_s.sum(1)

    def _summed_s(self, box: _Box) -> Table:
        """Adding up a box's gradients, on each machine."""
        readers = box.read.sum(0)
        copied_bytes: Table = (readers > 1) * (readers + 1) * box.size_bytes
        return wide(self.crossings.copy_s, box.read) * copied_bytes

    # The longest way

    def _way_s(self, plans: Plans, boxes: Mapping[str, Sequence[_Box]], ends_s: Table) -> Table:
        """Forward times are from the beginning to a tile's end; backward ones from when a tile's
        cotangent is there to the end."""
        forward_s: dict[str, Table] = {}
        backward_s: dict[str, Table] = {}
        longest_s: Table = np.zeros((1,) * len(plans))
        for row in self.rows:
            placed = row.placed[:, plans[row.layer]]
            inputs = range(len(row.backward_s))
            start_s = [wide(self.crossings.dispatch_s, placed) for _ in inputs]
            left_s: list[Table] = [np.zeros((1,) * placed.ndim) for _ in inputs]
            reached = self._reached(row, plans, boxes, ends_s, forward_s, backward_s)
            for k, there_s, home_s in reached:
                derived_s = row.backward_s[k][:, plans[row.layer]]
                start_s[k] = np.maximum(start_s[k], there_s)
                left_s[k] = np.maximum(left_s[k], home_s + derived_s)
            seconds = row.forward_s[:, plans[row.layer]]
            forward_s[row.name] = placed * (reduce(np.maximum, start_s) + seconds)
            backward_s[row.name] = placed * reduce(np.maximum, left_s)
            for k, given in row.given.items():
                for j in given:
                    turned_s = (placed * (start_s[j] + left_s[k])).max(0)
                    longest_s = np.maximum(longest_s, turned_s)
        return longest_s

    def _reached(
        self,
        row: Row,
        plans: Plans,
        boxes: Mapping[str, Sequence[_Box]],
        ends_s: Table,
        forward_s: Mapping[str, Table],
        backward_s: Mapping[str, Table],
    ) -> Iterator[tuple[int, Table, Table]]:
        """For what a node reads: which input it is, when it is there, and how long it takes from
        its cotangent to the end. [machine, plan…]"""
        for read in row.reads:
            crossing = self.between[row.name, read.value, read.index]
            at = (plans[read.layer], plans[row.layer])
            line_s = crossing.line_s[:, *at]
            before_s, after_s = forward_s[read.value][:, None], backward_s[read.value][:, None]
            there_s = (before_s + crossing.go_s[:, :, *at]).max(0)
            there_s = np.maximum(there_s, (before_s + crossing.first_s[:, :, *at]).min(0) + line_s)
            home_s = (after_s + crossing.back_s[:, :, *at]).max(0)
            if read.returned:
                last_s = (after_s + crossing.home_s[:, :, *at]).min(0) + line_s
                home_s = np.maximum(home_s, last_s)
            yield read.index, there_s, home_s
        for weights in row.weights:
            for box in boxes[weights.name]:
                yield weights.index, *self._box_s(box, ends_s)

    def _box_s(self, box: _Box, ends_s: Table) -> tuple[Table, Table]:
        """When a box is there, and how long it takes from its gradient to the end."""
        pairs, dispatch_s = self.crossings.pairs, self.crossings.dispatch_s
        crossing_s = pairs.crossing_s(box.size_bytes[None, None])
        apart = wide(pairs.apart, crossing_s)
        lent = box.owned[:, None] & box.read[None]
        go_s = apart * (crossing_s + wide(dispatch_s[None, :], crossing_s))
        back_s = apart * (crossing_s + wide(dispatch_s[:, None], crossing_s))
        left_s = (self._summed_s(box) + ends_s)[:, None] + back_s
        return (lent * go_s).max(0), (lent * left_s).max(0)
