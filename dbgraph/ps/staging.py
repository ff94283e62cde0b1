"""Gradients that wait on a shard until the coordinator says whether they count.

| event                   | not known       | staged               | settled              |
|-------------------------|-----------------|----------------------|----------------------|
| stage                   | kept: staged    | nothing              | nothing              |
| commit                  | refused         | added, then settled  | nothing: counts once |
| discard                 | settled         | dropped, then settled| nothing              |
| discard its whole epoch | nothing         | dropped              | nothing              |
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from dbgraph.ps.blocks import Blocks
from dbgraph.ps.gradients import Change
from dbgraph.ps.ranges import Ranges

Key = tuple[int, int, int]
"""(replica, epoch, sequence)."""


class Staging:
    """The staged gradients of one shard, and which are settled."""

    def __init__(self) -> None:
        self._staged: dict[Key, dict[int, Sequence[Change]]] = {}
        self._settled: dict[tuple[int, int], Ranges] = {}

    def stage(self, key: Key, partition: int, changes: Sequence[Change]) -> None:
        if not self._is_settled(key):
            self._staged.setdefault(key, {}).setdefault(partition, changes)

    def has(self, key: Key, partitions: Collection[int]) -> bool:
        """Whether it can be committed: all these partitions' parts have come."""
        return self._is_settled(key) or set(partitions) <= set(self._staged.get(key, ()))

    def commit(self, key: Key, blocks: Blocks, out: str) -> None:
        """Adds it to a named vector."""
        for changes in self._staged.get(key, {}).values():
            for one, gradient in changes:
                blocks.add(one, out, gradient)
        self.discard(key)

    def discard(self, key: Key) -> None:
        *member, sequence = key
        self._staged.pop(key, None)
        self._settled.setdefault((member[0], member[1]), Ranges()).add(sequence, sequence + 1)

    def discard_epochs(self, epochs: Sequence[tuple[int, int]]) -> None:
        """Drops all that came from replicas that are closed, whatever its sequence."""
        self._staged = {key: held for key, held in self._staged.items() if key[:2] not in epochs}

    def _is_settled(self, key: Key) -> bool:
        return key[2] in self._settled.get(key[:2], ())

    def __len__(self) -> int:
        """Number of pushes that are staged."""
        return len(self._staged)
