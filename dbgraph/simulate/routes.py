"""The ways between machines: which queues a message passes."""

from __future__ import annotations

from dataclasses import dataclass

from dbgraph.cluster import Cluster


@dataclass(frozen=True, slots=True)
class Route:
    """The way from one machine to another.

    Attributes:
        queues: in order; half of them are on the sender's side.
        delays_s: for each queue, from there to the next one.
        byte_s: for each queue, seconds per byte.
        message_s, message_byte_s: what a message occupies its sender, and its receiver, and
            further for each of its bytes.
    """

    queues: tuple[int, ...]
    delays_s: tuple[float, ...]
    byte_s: tuple[float, ...]
    message_s: float
    message_byte_s: float


class Network:
    """Numbers the queues: out and in of each host's line, out and in of each machine for the
    traffic inside its host, out and in of each rack's uplink."""

    def __init__(self, cluster: Cluster) -> None:
        machines = range(len(cluster.machines))
        hosts = 1 + max(map(cluster.host, machines), default=-1)
        racks = 1 + max(map(cluster.rack, machines), default=-1)
        self._cluster = cluster
        self._first_local = 2 * hosts
        self._first_rack = 2 * (hosts + len(machines))
        self.queues = self._first_rack + 2 * racks

    def route(self, source: int, to: int) -> Route:
        cluster = self._cluster
        link, racks = cluster.between(source, to), cluster.racks
        ends, uplinks = self._ends(source, to), self._uplinks(source, to)
        line_s = 1 / link.bytes_s
        uplink_s = 1 / racks.bytes_s if racks else 0.0
        return Route(
            queues=(ends[0], *uplinks, ends[1]),
            delays_s=(*(0.0 for _ in uplinks), link.latency_s, 0.0),
            byte_s=(line_s, *(uplink_s for _ in uplinks), line_s),
            message_s=link.message_s,
            message_byte_s=link.byte_s,
        )

    def _ends(self, source: int, to: int) -> tuple[int, int]:
        a, b = self._cluster.host(source), self._cluster.host(to)
        if a == b:
            return self._first_local + 2 * source, self._first_local + 2 * to + 1
        return 2 * a, 2 * b + 1

    def _uplinks(self, source: int, to: int) -> tuple[int, ...]:
        a, b = self._cluster.rack(source), self._cluster.rack(to)
        return () if a == b else (self._first_rack + 2 * a, self._first_rack + 2 * b + 1)
