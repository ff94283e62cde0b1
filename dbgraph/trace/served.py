"""A replica's traffic with the parameter server: forecast and measurement of a message.

Replicas fetch and push beside their steps, so this traffic is no part of a step; what stands side
by side is what one message takes, from when it is handed over to the arrival of its last byte. The
forecast is for messages of the size that the trace has, all partitions' at once, of one replica,
with shards on hosts of their own (`simulate.servers`).
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

from dbgraph.simulate.engine import Engine
from dbgraph.simulate.servers import ServerTraffic, with_servers
from dbgraph.simulate.work import Work
from dbgraph.trace.gap import Gap, worst_first
from dbgraph.trace.launches import Launches
from dbgraph.trace.model import Trace
from dbgraph.trace.words import partition_of

_SHARD = re.compile(r"shard (\d+)$")
_Way = tuple[int, int, bool]
"""(partition, shard, whether it is a push)."""


@dataclass(frozen=True)
class Served:
    """Attributes:
    gaps: a push and a fetch of each partition and shard, the worst first.
    dealing_s: what a shard's work on a push took, as measured; the forecast leaves it out.
    """

    gaps: tuple[Gap, ...] = ()
    dealing_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Message:
    size_bytes: int
    seconds: float
    dealing_s: float


def compare_servers(work: Work, trace: Trace) -> Served:
    """Args:
    work: that of a step, without the traffic.
    """
    found = _messages(trace, len(work.instructions))
    if not found:
        return Served()
    sizes = {way: round(median(m.size_bytes for m in each)) for way, each in found.items()}
    forecast = _forecast(work, sizes)
    pushes = [m.dealing_s for (*_, push), each in found.items() if push for m in each]
    return Served(
        worst_first(_gap(way, each, sizes, forecast) for way, each in found.items()),
        median(pushes) if pushes else 0.0,
    )


def _gap(
    way: _Way,
    messages: list[_Message],
    sizes: Mapping[_Way, int],
    forecast: Mapping[_Way, float],
) -> Gap:
    partition, shard, push = way
    name = f"{partition} → shard {shard}" if push else f"shard {shard} → {partition}"
    return Gap(
        name,
        forecast[way],
        median(message.seconds for message in messages),
        partition=partition,
        shard=shard,
        size_bytes=sizes[way],
        messages=len(messages),
    )


def _messages(trace: Trace, partitions: int) -> Mapping[_Way, list[_Message]]:
    """Those with values, of all replicas."""
    found: dict[_Way, list[_Message]] = defaultdict(list)
    for (source, to, in_program, *_), (sent, received) in trace.messages.items():
        if in_program or not sent.size_bytes or received.arrived_ns is None:
            continue
        way = _way(source, to)
        if way is not None and way[0] < partitions:
            seconds = (received.arrived_ns - sent.start_ns) * 1e-9
            found[way].append(_Message(sent.size_bytes, seconds, received.seconds))
    return found


def _way(source: str, to: str) -> _Way | None:
    """None where they are not a partition and a shard."""
    for process, other, push in ((source, to, True), (to, source, False)):
        partition, shard = partition_of(process), _SHARD.search(other)
        if partition is not None and shard:
            return partition, int(shard[1]), push
    return None


def _forecast(work: Work, sizes: Mapping[_Way, int]) -> Mapping[_Way, float]:
    count, shards = len(work.instructions), 1 + max(shard for _, shard, _ in sizes)
    totals: Counter[tuple[int, bool]] = Counter()
    for (partition, _, push), size in sizes.items():
        totals[partition, push] += size
    fetched, pushed = (tuple(totals[p, way] for p in range(count)) for way in (False, True))
    with_them = with_servers(work, ServerTraffic(shards, fetched, pushed))
    taken_s = _taken_s(with_them, len(work.transfers))
    return {
        (p, s, push): taken_s.get((p, count + s) if push else (count + s, p), 0.0)
        for p, s, push in sizes
    }


def _taken_s(work: Work, first: int) -> Mapping[tuple[int, int], float]:
    """(from, to) → the seconds of the message between them, of the transfers from the first on."""
    trace = Launches(len(work.instructions))
    engine = Engine(work, trace)
    engine.run()
    return {
        (t.source, t.to): engine.lines.arrival_s[t.index * engine.microbatches]
        - trace.began_s[t.index, 0]
        for t in work.transfers[first:]
        if t.type.size_bytes
    }
