"""A shard's part of a consistent snapshot, cut while it goes on working.

At a Mark the shard copies itself; pushes that come after it are applied to the shard as ever, and
noted. Then the coordinator names the cut: for each replica the latest push that any shard had at
its Mark. The shard applies to its copy what this has more than the copy; pushes of the cut that
have not come yet are applied to both when they come. Nothing ever waits, but the snapshot.

A replica that died half-way through a push leaves it on some shards only. When its epoch is
closed, nobody waits for it any more: the shard's part says what it has.

| event | before the cut is known | after                                            |
|-------|-------------------------|--------------------------------------------------|
| push  | noted                   | applied where the cut has it                     |
| close | noted                   | no longer waited for                             |
| cut   | applies what it has     | nothing                                          |

The order in which the copy gets its pushes may differ from the shard's, as it may between shards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dbgraph.ps.blocks import Blocks
from dbgraph.ps.compress import Arrays
from dbgraph.ps.gradients import Change
from dbgraph.ps.messages import Applied, Push, Snapped
from dbgraph.ps.streams import Streams
from dbgraph.wire.messages import Box

Cuts = Mapping[tuple[int, int], int]
"""(replica, epoch) → the last sequence."""


@dataclass(frozen=True, slots=True)
class Noted:
    """A push that was applied to the shard, and how."""

    push: Push
    changes: Sequence[Change]
    factor: float | None


class Copy:
    """The copy of a shard at a Mark."""

    def __init__(self, number: int, blocks: Blocks, streams: Streams) -> None:
        self.number = number
        self._blocks, self._streams = blocks, streams
        self._cut: Cuts | None = None
        self._noted: list[Noted] = []
        self._closed: dict[int, int] = {}

    @property
    def applied(self) -> tuple[Applied, ...]:
        """Of the replicas that are at work."""
        return self._streams.at_work()

    def pushed(self, noted: Noted) -> None:
        """The shard has applied a push."""
        if self._cut is None:
            self._noted.append(noted)
        else:
            self._apply(noted, self._cut)

    def closed(self, replica: int, epoch: int) -> None:
        """The shard takes nothing more of the replica's epochs up to this one."""
        self._closed[replica] = max(epoch, self._closed.get(replica, epoch))

    def cut(self, cut: Cuts) -> None:
        noted, self._noted, self._cut = self._noted, [], cut
        for one in noted:
            self._apply(one, cut)

    def _apply(self, noted: Noted, cut: Cuts) -> None:
        push = noted.push
        if push.sequence > cut.get((push.replica, push.epoch), 0):
            return
        stream = self._streams.stream(push.replica, push.partition)
        assert stream is not None, "the cut names replicas that were at work at the Mark"
        self._blocks.update(noted.changes, noted.factor)
        stream.applied(push.sequence, push.batches)

    @property
    def is_whole(self) -> bool:
        """Whether nothing of the cut is missing but what will never come."""
        return self._cut is not None and not any(
            a.sequence < self._cut.get((a.replica, a.epoch), 0)
            for a in self.applied
            if a.epoch > self._closed.get(a.replica, -1)
        )

    def snapped(self) -> tuple[Snapped, Arrays]:
        """The shard's part; the copy is of no use after it."""
        state = self._blocks.collect()
        pieces = [
            (Box(parameter, region.bounds, slot), array)
            for (slot, parameter), held in state.tensors.items()
            for region, array in held
        ]
        boxes = tuple(box for box, _ in pieces)
        arrays = (*(array for _, array in pieces), *map(np.asarray, state.scalars.values()))
        message = Snapped(self.number, state.step, self._streams.all(), boxes, tuple(state.scalars))
        return message, arrays
