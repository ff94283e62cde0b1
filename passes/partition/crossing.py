"""What lies between the tiles of a value and those of a reader, by the ways of both layers, at the
least: messages, lines, copies. Of a reader alone: what others read as well crosses once.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dbgraph.cluster import Cluster
from dbgraph.passes.partition.waytables import Read, Table, byte_s


@dataclass(frozen=True)
class Crossing:
    """What lies between the tiles of a value and those of a reader.

    Attributes:
        go_s, back_s: of the value, and of its cotangent; -inf where the one does not read the
            other. [from, to, its way, reader's way]
        first_s, home_s: of that, what is no line's; inf where nothing leaves the machine.
        line_s: how long all that other machines send stands in the reader's line; -inf where
            nothing does. [to, its way, reader's way]
        busy_s: what a machine has to do: messages, copies. [machine, its way, reader's way]
        out_s, in_s: what its line has to carry. Likewise.
    """

    go_s: Table
    back_s: Table
    first_s: Table
    home_s: Table
    line_s: Table
    busy_s: Table
    out_s: Table
    in_s: Table


class Pairs:
    """Of each machine to each other: seconds of a message, apart from its bytes, and per byte;
    of these, what its line is occupied."""

    def __init__(self, cluster: Cluster) -> None:
        places = range(len(cluster.machines))
        links = [[cluster.between(a, b) for b in places] for a in places]
        self.apart = 1.0 - np.eye(len(places))
        self.fixed_s = np.array([[k.latency_s + 2 * k.message_s for k in row] for row in links])
        self.message_s = np.array([[k.message_s for k in row] for row in links])
        self.message_byte_s = np.array([[k.byte_s for k in row] for row in links])
        self.byte_s = np.array([[1 / k.bytes_s for k in row] for row in links])
        far = [[cluster.host(a) != cluster.host(b) for b in places] for a in places]
        self.line_byte_s = np.where(far, self.byte_s, 0.0)

    def crossing_s(self, sent_bytes: Table) -> Table:
        """Seconds of a message, from when it is begun to when it is taken. [from, to, …]"""
        byte_s = self.byte_s + 2 * self.message_byte_s
        return wide(self.fixed_s, sent_bytes) + wide(byte_s, sent_bytes) * sent_bytes

    def handled_s(self, sent_bytes: Table) -> Table:
        """Seconds that a message takes of its sender, and of its receiver. Likewise."""
        byte_s = wide(self.message_byte_s, sent_bytes)
        return wide(self.message_s, sent_bytes) + byte_s * sent_bytes

    def carried_s(self, sent_bytes: Table) -> Table:
        """Seconds that it occupies the lines of both. Likewise."""
        return wide(self.line_byte_s, sent_bytes) * sent_bytes


def wide(table: Table, like: NDArray[Any]) -> Table:
    """With as many axes."""
    return table.reshape(table.shape + (1,) * (like.ndim - table.ndim))


class Crossings:
    """What lies between tiles, in seconds."""

    def __init__(self, cluster: Cluster) -> None:
        self.pairs = Pairs(cluster)
        self.copy_s = byte_s(cluster)
        self.dispatch_s = np.array([m.dispatch_s for m in cluster.machines])

    def of(self, read: Read) -> Crossing:
        sent = read.sent_bytes
        away = (sent > 0) & (wide(self.pairs.apart, sent) > 0)
        there_s, home_s, busy_s = self._copies(read) if read.known else (0 * sent, 0 * sent, 0.0)
        # A way over another machine ends in another segment.
        there_s = there_s + away * wide(self.dispatch_s[None, :], sent)
        home_s = home_s + away * wide(self.dispatch_s[:, None], sent)
        crossing_s = away * self.pairs.crossing_s(sent)
        fixed_s = wide(self.pairs.fixed_s, sent)
        carried_s = away * self.pairs.carried_s(sent)
        out_s, in_s = carried_s.sum(1), carried_s.sum(0)
        handled_s = away * self.pairs.handled_s(sent)
        none, taken = ~away.any(0), sent > 0
        returned = read.returned
        return Crossing(
            go_s=np.where(taken, there_s + crossing_s, -inf),
            back_s=np.where(taken & returned, home_s + crossing_s, -inf),
            first_s=np.where(away, there_s + fixed_s, np.where(none, 0.0, inf)),
            home_s=np.where(away, home_s + fixed_s, np.where(none, 0.0, inf)),
            line_s=np.where(none, -inf, in_s),
            busy_s=busy_s + (1 + returned) * (handled_s.sum(0) + handled_s.sum(1)),
            out_s=out_s + returned * in_s,
            in_s=in_s + returned * out_s,
        )

    def _copies(self, read: Read) -> tuple[Table, Table, Table]:
        """On the way to the reader, on the cotangent's way back, and of each machine: tiles cut
        into boxes, boxes put together, cotangents from several machines summed."""
        sent, tile = read.sent_bytes, read.tile_bytes[:, None, :, None]
        here_s, there_s = wide(self.copy_s[None, :], sent), wide(self.copy_s[:, None], sent)
        own = wide(self.pairs.apart, sent) == 0
        taken, total = sent > 0, sent.sum(0)
        joined = (taken.sum(0) > 1)[None]
        # The box may be cut out at either end.
        cut = taken & (sent < tile) & ~(own & joined)
        cut_s = cut * (tile + sent) * np.minimum(here_s, there_s)
        readers = taken.sum(1)
        summed = (readers > 1) & read.returned
        go_s = joined * 2 * total * here_s + cut_s
        back_s = joined * (total + sent) * here_s + cut_s
        back_s = back_s + summed[:, None] * 3 * tile * there_s
        times = 1 + read.returned
        mine_s = wide(self.copy_s, total)
        busy_s = (own * cut_s).sum(0) * times + joined[0] * 2 * total * mine_s
        if read.returned:
            busy_s = busy_s + joined[0] * (taken.sum(0) + 1) * total * mine_s
            busy_s = busy_s + summed * (readers + 1) * read.tile_bytes[:, :, None] * mine_s
        return go_s, back_s, busy_s
