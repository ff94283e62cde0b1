"""One shard of the parameter server: pure, a message in, replies out.

Its answers are in the table of `messages`. A push is applied when it comes, by the rule, and
acknowledged after; `streams` says which pushes are taken, `fetches` when a fetch is answered,
`cutting` how a snapshot is made meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dbgraph.errors import RunError
from dbgraph.optim.vectors import PARAMETERS
from dbgraph.ps.blocks import Blocks
from dbgraph.ps.compress import Arrays
from dbgraph.ps.counters import Counters
from dbgraph.ps.cutting import Copy, Noted
from dbgraph.ps.fetches import Fetches, Pusher
from dbgraph.ps.gradients import Change, size_bytes
from dbgraph.ps.messages import (
    Admit,
    Admitted,
    Close,
    Closed,
    Cut,
    Execute,
    Executed,
    Fetch,
    Mark,
    Marked,
    Part,
    Push,
    Pushed,
    Reason,
    Stage,
    Staged,
)
from dbgraph.ps.orders import check_orders, execute_orders
from dbgraph.ps.packing import check_disjoint, region_of, unpack
from dbgraph.ps.reply import Reply, Source, refuse
from dbgraph.ps.staging import Staging
from dbgraph.ps.streams import Stream, Streams
from dbgraph.state import State


class Shard:
    """The state machine.

    Args:
        blocks: what it owns; `load` fills them.
        max_staleness, scale_by_staleness: see `options.Downpour`.
    """

    def __init__(
        self,
        blocks: Blocks,
        max_staleness: int | None = None,
        scale_by_staleness: bool = False,
    ) -> None:
        self.counters = Counters()
        self._blocks, self._scale = blocks, scale_by_staleness
        self._streams, self._staging = Streams(), Staging()
        self._fetches = Fetches(blocks, self._streams, self.counters, max_staleness)
        self._executed = Executed(0, ())
        self._copy: Copy | None = None
        self._copy_for: Source = None
        self._disjoint: set[tuple[Part, ...]] = set()

    def load(self, state: State) -> None:
        """Raises CheckpointError where the state does not hold what the shard owns."""
        self._blocks.load(state)

    @property
    def held(self) -> Mapping[Pusher, tuple[Pusher, ...]]:
        """The fetches that wait; see `Fetches.held`."""
        return self._fetches.held

    def receive(self, source: Source, message: Any, arrays: Arrays = ()) -> list[Reply]:
        """Takes a message; returns what is to be sent, in this order.

        Args:
            arrays: the shard keeps them, and changes nothing in them.

        Raises RunError for a message that is not for shards.
        """
        match message:
            case Push():
                return self._push(source, message, arrays)
            case Fetch():
                return self._fetches.ask(source, message)
            case Stage():
                return self._stage(source, message, arrays)
            case Admit():
                return self._admit(source, message)
            case Close():
                return self._close(source, message)
            case Execute():
                return self._execute(source, message)
            case Mark():
                return self._mark(source, message)
            case Cut():
                return self._cut(source, message)
        raise RunError(f"a shard takes no {type(message).__name__}")

    # Replicas

    def _push(self, source: Source, push: Push, arrays: Arrays) -> list[Reply]:
        stream = self._stream(push)
        if isinstance(stream, Reason):
            return [refuse(source, push, stream)]
        if push.sequence <= stream.sequence:
            self.counters.duplicates += 1
            return [self._pushed(source, push, stream)]
        if push.sequence > stream.sequence + 1:
            return [refuse(source, push, Reason.GAP, f"({stream.sequence + 1} is next)")]
        try:
            self._blocks.check_rule()
            changes = self._changes(push, arrays)
        except RunError as error:
            return [refuse(source, push, Reason.MALFORMED, detail=error.rule)]
        self._apply(push, stream, changes)
        plain_bytes = sum(size_bytes(gradient) for _, gradient in changes)
        self.counters.pushed(plain_bytes, arrays, stream.staleness)
        return [self._pushed(source, push, stream), *self._snapped(), *self._fetches.released()]

    def _apply(self, push: Push, stream: Stream, changes: list[Change]) -> None:
        own = stream.sequence - push.contains
        updates = self._blocks.version(one for one, _ in changes) - push.version
        stream.staleness = max(0, updates - own)
        factor = 1.0 / max(1, stream.staleness) if self._scale else None
        self._blocks.update(changes, factor)
        stream.applied(push.sequence, push.batches)
        if self._copy is not None:
            self._copy.pushed(Noted(push, changes, factor))

    def _pushed(self, source: Source, push: Push, stream: Stream) -> Reply:
        version = self._blocks.version(map(region_of, push.parts))
        who = (push.replica, push.partition, push.epoch)
        return Reply(source, Pushed(*who, stream.sequence, version, stream.staleness))

    def _stream(self, message: Push | Stage) -> Stream | Reason:
        refusal = self._streams.refusal(message.replica, message.epoch)
        stream = self._streams.stream(message.replica, message.partition)
        return refusal or stream or Reason.UNKNOWN

    def _changes(self, message: Push | Stage, arrays: Arrays) -> list[Change]:
        """Raises RunError for parts that can't be applied."""
        if message.parts not in self._disjoint:
            check_disjoint(message.parts)
            self._disjoint.add(message.parts)
        changes = unpack(message.parts, message.codec, arrays, self._blocks.types)
        for one, gradient in changes:
            self._blocks.check_change(one, gradient)
        return changes

    def _stage(self, source: Source, stage: Stage, arrays: Arrays) -> list[Reply]:
        stream = self._stream(stage)
        if isinstance(stream, Reason):
            return [refuse(source, stage, stream)]
        try:
            changes = self._changes(stage, arrays)
        except RunError as error:
            return [refuse(source, stage, Reason.MALFORMED, detail=error.rule)]
        key = stage.replica, stage.epoch, stage.sequence
        self._staging.stage(key, stage.partition, changes)
        self.counters.staged(sum(size_bytes(gradient) for _, gradient in changes), arrays)
        return [Reply(source, Staged(stage.replica, stage.partition, stage.epoch, stage.sequence))]

    # The coordinator

    def _admit(self, source: Source, admit: Admit) -> list[Reply]:
        member = (admit.replica, admit.epoch)
        ended = self._end(admit.replica, admit.epoch - 1)
        if not self._streams.admit(*member, admit.partitions, admit.clock):
            return [refuse(source, admit, Reason.CLOSED)]
        return [Reply(source, Admitted(*member)), *ended]

    def _close(self, source: Source, close: Close) -> list[Reply]:
        ended = self._end(close.replica, close.epoch)
        applied = self._streams.filed(close.replica, close.epoch)
        return [Reply(source, Closed(close.replica, close.epoch, applied)), *ended]

    def _end(self, replica: int, epoch: int) -> list[Reply]:
        """Closes the replica's epochs up to this one, and lets go who waited for it."""
        self._streams.close(replica, epoch)
        if self._copy is not None:
            self._copy.closed(replica, epoch)
        refused = self._fetches.closed(replica, epoch)
        return [*refused, *self._snapped(), *self._fetches.released()]

    def _execute(self, source: Source, execute: Execute) -> list[Reply]:
        expected = self._executed.number + 1
        if execute.number > expected:
            return [refuse(source, execute, Reason.GAP, f"({expected} is next)")]
        if execute.number == expected:
            try:
                check_orders(execute.orders, self._blocks, self._staging, self._streams)
            except RunError as error:
                return [refuse(source, execute, Reason.MALFORMED, detail=error.rule)]
            scalars = execute_orders(execute.orders, self._blocks, self._staging)
            self._executed = Executed(execute.number, scalars)
        # The coordinator asks one thing after another: an older answer has arrived.
        return [Reply(source, self._executed)] if self._executed.number == execute.number else []

    # Snapshots

    def _mark(self, source: Source, mark: Mark) -> list[Reply]:
        if self._copy is None or self._copy.number != mark.number:
            vectors = set(mark.vectors) & self._blocks.vectors - {PARAMETERS}
            self._copy = Copy(mark.number, self._blocks.copy(vectors), self._streams.copy())
        return [Reply(source, Marked(mark.number, self._copy.applied))]

    def _cut(self, source: Source, cut: Cut) -> list[Reply]:
        if self._copy is None or self._copy.number != cut.number:
            return [refuse(source, cut, Reason.UNKNOWN)]
        self._copy.cut({(replica, epoch): sequence for replica, epoch, sequence in cut.cut})
        self._copy_for = source
        return self._snapped()

    def _snapped(self) -> list[Reply]:
        """The shard's part of a snapshot, when nothing is missing any more."""
        if self._copy is None or not self._copy.is_whole:
            return []
        message, arrays = self._copy.snapped()
        self._copy = None
        return [Reply(self._copy_for, message, arrays)]
