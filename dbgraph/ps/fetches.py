"""The fetches that a shard has not answered yet.

A fetch is answered at once, unless
- a push of the same stream that was sent before it has not come yet (a replica reads its own
  writes, so that one replica with n_fetch = n_push = 1 is plain SGD), or
- staleness is bounded, and the stream is more pushes ahead of the slowest one than that. Only
  fetches wait, never pushes: so the slowest replica waits for nobody, and there is no deadlock.
  A replica that died holds the others up until its epoch is closed.
Held fetches are answered as soon as a push or a close lets them go.
"""

from __future__ import annotations

from dbgraph.errors import RunError
from dbgraph.ps.blocks import Blocks
from dbgraph.ps.compress import CODECS, Compression
from dbgraph.ps.counters import Counters
from dbgraph.ps.messages import READER, Fetch, Fetched, Reason
from dbgraph.ps.packing import pack, region_of
from dbgraph.ps.reply import Reply, Source, refuse
from dbgraph.ps.streams import Streams

Pusher = tuple[int, int]
"""A replica, and a partition of it."""


class Fetches:
    """Of one shard.

    Args:
        max_staleness: see `options.Downpour`.
    """

    def __init__(
        self, blocks: Blocks, streams: Streams, counters: Counters, max_staleness: int | None
    ) -> None:
        self._blocks, self._streams, self._counters = blocks, streams, counters
        self._max_staleness = max_staleness
        self._held: dict[tuple[Source, int, int], Fetch] = {}

    def ask(self, source: Source, fetch: Fetch) -> list[Reply]:
        """One comes; a newer one of the same reader takes the place of an older."""
        refusal = self._streams.refusal(fetch.replica, fetch.epoch)
        if refusal and fetch.replica != READER:
            return [refuse(source, fetch, refusal)]
        try:
            self._check(fetch)
        except RunError as error:
            return [refuse(source, fetch, Reason.MALFORMED, detail=error.rule)]
        self._held[source, fetch.replica, fetch.partition] = fetch
        return self.released()

    def released(self) -> list[Reply]:
        """The answers to those that need not wait any more."""
        ready = [(key, fetch) for key, fetch in self._held.items() if self._is_ready(fetch)]
        for key, _ in ready:
            del self._held[key]
        return [self._answer(source, fetch) for (source, *_), fetch in ready]

    @property
    def held(self) -> dict[Pusher, tuple[Pusher, ...]]:
        """Who waits for an answer → those for whose pushes it waits."""
        return {(f.replica, f.partition): self._pushers(f) for f in self._held.values()}

    def _pushers(self, fetch: Fetch) -> tuple[Pusher, ...]:
        own, bound = (fetch.replica, fetch.partition), self._max_staleness
        stream = self._streams.stream(*own)
        late = (own,) if stream is not None and stream.sequence < fetch.after else ()
        return late if bound is None else (*late, *self._streams.behind(*own, bound))

    def closed(self, replica: int, epoch: int) -> list[Reply]:
        """The replica's epochs up to this one are over."""
        gone = [k for k, f in self._held.items() if f.replica == replica and f.epoch <= epoch]
        return [refuse(key[0], self._held.pop(key), Reason.CLOSED) for key in gone]

    def _check(self, fetch: Fetch) -> None:
        """Raises RunError where it can't be answered."""
        if fetch.codec not in CODECS:
            raise RunError(f"no compression {fetch.codec!r}")
        if fetch.vector not in self._blocks.vectors:
            raise RunError(f"there is no vector {fetch.vector!r}")
        for part in fetch.parts:
            self._blocks.overlapping(region_of(part))

    def _is_ready(self, fetch: Fetch) -> bool:
        return not self._pushers(fetch)

    def _answer(self, source: Source, fetch: Fetch) -> Reply:
        regions = [region_of(part) for part in fetch.parts]
        values = [self._blocks.read(one, fetch.vector) for one in regions]
        arrays = pack(values, Compression(fetch.codec))
        self._counters.fetched(sum(value.nbytes for value in values), arrays)
        stream = self._streams.stream(fetch.replica, fetch.partition)
        version = self._blocks.version(regions)
        who = (fetch.replica, fetch.partition, fetch.epoch, fetch.number)
        return Reply(source, Fetched(*who, version, stream.sequence if stream else 0), arrays)
