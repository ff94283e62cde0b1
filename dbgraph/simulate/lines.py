"""The lines between machines as queues: first come, first served.

A transfer passes the queue of its sender's line and the queue of its receiver's; between racks,
those of the two uplinks as well. It occupies each for its bytes over the queue's bandwidth. The
queues overlap: the first byte is at the next one as soon as it has entered this one (and, before
the last one, after the latency), so no time passes for storing and forwarding. The last byte is
there when it has passed the slowest of them.
"""

from __future__ import annotations

from math import inf

from dbgraph.cluster import Cluster
from dbgraph.plan.program import Transfer
from dbgraph.simulate.routes import Network, Route


class Lines:
    """All queues, and how far each transfer of each microbatch has come.

    A transfer's key is its index times the number of microbatches, plus the microbatch.
    """

    def __init__(
        self, cluster: Cluster, transfers: tuple[Transfer, ...], microbatches: int
    ) -> None:
        network = Network(cluster)
        pairs = {(t.source, t.to) for t in transfers}
        routes = {pair: network.route(*pair) for pair in pairs}
        keys = len(transfers) * microbatches
        self.microbatches = microbatches
        self.routes = [routes[t.source, t.to] for t in transfers]
        self.size_bytes = [t.type.size_bytes for t in transfers]
        self.arrival_s = [inf] * keys
        self._free_s = [0.0] * network.queues
        self._stage = [0] * keys
        self._tail_s = [0.0] * keys

    def enter(self, key: int, now: float) -> tuple[float, float]:
        """The first byte of a transfer stands before its next queue. Returns when it enters that
        queue, and when it stands before the one after it; at the end of the way, when the last
        byte is there."""
        transfer = key // self.microbatches
        way, stage = self.routes[transfer], self._stage[key]
        queue = way.queues[stage]
        begin_s = max(now, self._free_s[queue])
        end_s = begin_s + self.size_bytes[transfer] * way.byte_s[stage]
        passed_s = max(end_s, self._tail_s[key])
        self._free_s[queue] = end_s
        self._stage[key] = stage + 1
        if stage + 1 == len(way.queues):
            self.arrival_s[key] = passed_s
            return begin_s, passed_s
        self._tail_s[key] = passed_s + way.delays_s[stage]
        return begin_s, begin_s + way.delays_s[stage]

    def way(self, key: int) -> Route:
        return self.routes[key // self.microbatches]

    def takes_s(self, key: int, stage: int) -> float:
        """How long a transfer occupies one of its queues."""
        return self.size_bytes[key // self.microbatches] * self.way(key).byte_s[stage]
