"""A consistent snapshot over all shards, from the coordinator's side.

    Mark → every shard      each copies itself, and says which pushes it has
    Marked ← every shard    cut = for each replica the latest push that any shard has
    Cut → every shard       each brings its copy to the cut (see `cutting`), while it goes on
    Snapped ← every shard   the whole model, with exactly the pushes that it names

Marks, admissions, closes and orders reach all shards in the same order, so that all mean the same
moment by them. The result is a `State`: it goes into a checkpoint like any other, and is loaded by
any number of shards and partitions, or by one machine. The record beside it says what it holds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np

from dbgraph.errors import CheckpointError
from dbgraph.ir.region import Region
from dbgraph.ps.compress import Arrays
from dbgraph.ps.ledger import Ledger, LedgerState, used_of
from dbgraph.ps.messages import Applied, Cut, Mark, Marked, Pairs, Snapped
from dbgraph.state import Pieces, State

RECORD = "replicas"
"""The name of the record among a state's scalars."""


class Record(msgspec.Struct, frozen=True):
    """What a snapshot holds.

    Attributes:
        shards: by shard which pushes of each stream it has, of the run that made the snapshot.
            They agree but for replicas that died half-way through a push.
        ledger: which batches were used, since the beginning.
    """

    shards: tuple[tuple[Applied, ...], ...]
    ledger: LedgerState


@dataclass(frozen=True)
class Snapshot:
    """A whole model.

    Attributes:
        state: its step is the number of pushes in it.
        shards: as in `Record`.
        used: the batches in it, since the shards were loaded.
        partial: those of them that only some shards have.
    """

    state: State
    shards: tuple[tuple[Applied, ...], ...]
    used: Pairs
    partial: Pairs

    def recorded(self, ledger: Ledger) -> State:
        """The state with its record, as it goes into a checkpoint."""
        text = msgspec.json.encode(Record(self.shards, ledger.state(self.used)))
        array = np.frombuffer(text, np.uint8)
        return replace(self.state, scalars={**self.state.scalars, RECORD: array})


def record_of(state: State) -> Record | None:
    """What the state of a checkpoint says of itself; None where no replicas made it.

    Raises CheckpointError where it can't be read.
    """
    array = state.scalars.get(RECORD)
    if array is None:
        return None
    try:
        return msgspec.json.decode(array.tobytes(), type=Record)
    except msgspec.DecodeError as error:
        raise CheckpointError(f"the checkpoint's record of replicas is broken: {error}") from error


@dataclass(frozen=True, slots=True)
class ToShard:
    """Please send this to a shard."""

    shard: int
    message: Any


class Snapshotting:
    """One snapshot under way.

    Args:
        number: of the snapshot; another one for each.
        vectors: named vectors that belong to it.
    """

    def __init__(self, number: int, shards: int, vectors: tuple[str, ...] = ()) -> None:
        self.number = number
        self._shards, self._vectors = shards, vectors
        self._marked: dict[int, tuple[Applied, ...]] = {}
        self._snapped: dict[int, tuple[Snapped, Arrays]] = {}

    def begin(self) -> list[ToShard]:
        return self._to_all(Mark(self.number, self._vectors))

    def marked(self, shard: int, message: Marked) -> list[ToShard]:
        """The cut, when all shards have answered."""
        if message.number != self.number or shard in self._marked:
            return []
        self._marked[shard] = message.applied
        if len(self._marked) < self._shards:
            return []
        rows = [a for applied in self._marked.values() for a in applied]
        return self._to_all(Cut(self.number, _latest(rows)))

    def snapped(self, shard: int, message: Snapped, arrays: Arrays) -> Snapshot | None:
        """The snapshot, when all shards have sent their parts."""
        if message.number != self.number:
            return None
        self._snapped[shard] = message, arrays
        return self._whole() if len(self._snapped) == self._shards else None

    def _whole(self) -> Snapshot:
        parts = [self._snapped[shard] for shard in range(self._shards)]
        shards = tuple(message.applied for message, _ in parts)
        used, partial = used_of(a for applied in shards for a in applied)
        # The scalars of the most updated shard are the last word.
        states = [_state(*part) for part in sorted(parts, key=lambda part: part[0].version)]
        return Snapshot(State.merge(states), shards, used.pairs, partial.pairs)

    def _to_all(self, message: Any) -> list[ToShard]:
        return [ToShard(shard, message) for shard in range(self._shards)]


def _latest(rows: Iterable[Applied]) -> tuple[tuple[int, int, int], ...]:
    found: dict[tuple[int, int], int] = {}
    for a in rows:
        found[a.replica, a.epoch] = max(a.sequence, found.get((a.replica, a.epoch), 0))
    return tuple((replica, epoch, sequence) for (replica, epoch), sequence in found.items())


def _state(message: Snapped, arrays: Arrays) -> State:
    tensors: dict[tuple[str, str], Pieces] = {}
    for box, array in zip(message.boxes, arrays, strict=False):
        key = box.slot, box.name
        tensors[key] = (*tensors.get(key, ()), (Region(box.bounds), array))
    scalars = dict(zip(message.scalars, arrays[len(message.boxes) :], strict=True))
    return State(message.version, tensors, scalars)
