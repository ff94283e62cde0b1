"""Which replicas may write to a shard, and which of their pushes it has applied: exactly once.

| event                            | what a stream does                                   |
|----------------------------------|------------------------------------------------------|
| admit, a newer epoch             | begins at sequence 0; older epochs are closed        |
| admit, the same epoch            | nothing: the message was sent again                  |
| admit, a closed epoch            | refuses                                              |
| close                            | is filed; nothing of this epoch or an older is taken |
| push, the next sequence          | applies                                              |
| push, a sequence that is applied | acknowledges again                                   |
| push, a later sequence           | refuses, and says which one is next                  |
| push, another epoch              | refuses                                              |

A stream's clock is its sequence, counted from where its replica was admitted. Clocks are what
bounded staleness compares.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field

from dbgraph.ps.messages import Applied, Pairs, Reason
from dbgraph.ps.ranges import Ranges


@dataclass
class Stream:
    """The pushes of one partition of a replica.

    Attributes:
        sequence: of the last one that is applied.
        staleness: of that one.
        batches: that all of them carried.
    """

    sequence: int = 0
    staleness: int = 0
    batches: Ranges = field(default_factory=Ranges)

    def applied(self, sequence: int, batches: Pairs) -> None:
        self.sequence = sequence
        self.batches.update(batches)


@dataclass
class Member:
    """A replica that may write."""

    epoch: int
    clock: int
    streams: dict[int, Stream]


class Streams:
    """All streams of one shard."""

    def __init__(self) -> None:
        self._members: dict[int, Member] = {}
        self._closed: dict[int, int] = {}
        self._partitions: dict[tuple[int, int], tuple[int, ...]] = {}
        self._filed: list[Applied] = []

    def admit(self, replica: int, epoch: int, partitions: tuple[int, ...], clock: int) -> bool:
        """Whether the replica is at work in this epoch now; older ones have been closed."""
        if epoch <= self._closed.get(replica, -1):
            return False
        if replica not in self._members:
            streams = {partition: Stream() for partition in partitions}
            self._members[replica] = Member(epoch, clock, streams)
            self._partitions[replica, epoch] = partitions
        return self._members[replica].epoch == epoch

    def close(self, replica: int, epoch: int) -> None:
        """Ends the replica's epochs up to this one."""
        member = self._members.get(replica)
        if member is not None and member.epoch <= epoch:
            self._filed += _applied(replica, member)
            del self._members[replica]
        self._closed[replica] = max(epoch, self._closed.get(replica, epoch))

    def filed(self, replica: int, epoch: int) -> tuple[Applied, ...]:
        """What is applied of an epoch that is closed."""
        return tuple(a for a in self._filed if (a.replica, a.epoch) == (replica, epoch))

    def refusal(self, replica: int, epoch: int) -> Reason | None:
        """Why a message of this epoch is not taken."""
        member = self._members.get(replica)
        if member is not None and member.epoch == epoch:
            return None
        newest = max(self._closed.get(replica, -1), member.epoch if member else -1)
        return Reason.CLOSED if epoch <= newest else Reason.UNKNOWN

    def stream(self, replica: int, partition: int) -> Stream | None:
        """None where this partition does not push to this shard."""
        member = self._members.get(replica)
        return member.streams.get(partition) if member is not None else None

    def partitions(self, replica: int, epoch: int) -> tuple[int, ...] | None:
        """Those that push here, or did until the epoch was closed; None: never admitted."""
        return self._partitions.get((replica, epoch))

    def behind(self, replica: int, partition: int, bound: int) -> tuple[tuple[int, int], ...]:
        """The streams that one is more than `bound` pushes ahead of: their (replica, partition)."""
        stream = self.stream(replica, partition)
        if stream is None:
            return ()
        least = self._members[replica].clock + stream.sequence - bound
        members = self._members.items()
        late = (
            (r, p) for r, m in members for p, s in m.streams.items() if m.clock + s.sequence < least
        )
        return tuple(sorted(late))

    def at_work(self) -> tuple[Applied, ...]:
        """What is applied of the streams that are not closed."""
        return tuple(a for r, member in self._members.items() for a in _applied(r, member))

    def all(self) -> tuple[Applied, ...]:
        """What is applied of all streams that ever were."""
        return (*self._filed, *self.at_work())

    def copy(self) -> Streams:
        return deepcopy(self)


def _applied(replica: int, member: Member) -> list[Applied]:
    return [
        Applied(replica, partition, member.epoch, stream.sequence, stream.batches.pairs)
        for partition, stream in member.streams.items()
    ]
