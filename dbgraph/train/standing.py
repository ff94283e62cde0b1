"""How the replicas and shards of a run are doing: what the live table shows."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from dbgraph.actors.messages import ShardStatus
from dbgraph.units import bytes_

WINDOW_S = 5.0


class Rate:
    """A count per second, over the last few seconds."""

    def __init__(self) -> None:
        self._points: deque[tuple[float, float]] = deque()

    def at(self, now: float, total: float) -> None:
        """The count has come to this."""
        self._points.append((now, total))
        while len(self._points) > 2 and self._points[1][0] < now - WINDOW_S:
            self._points.popleft()

    @property
    def seconds(self) -> float:
        """That it is taken over."""
        return self._points[-1][0] - self._points[0][0] if self._points else 0.0

    @property
    def per_s(self) -> float:
        if len(self._points) < 2:
            return 0.0
        return (self._points[-1][1] - self._points[0][1]) / max(self.seconds, 1e-9)


@dataclass
class ReplicaStanding:
    """One replica.

    Attributes:
        doing: in a word.
        staleness: of its last push; None: it has none.
        heard_s: when it gave its last sign of life.
    """

    doing: str = ""
    examples: int = 0
    staleness: int | None = None
    heard_s: float = 0.0
    rate: Rate = field(default_factory=Rate)


@dataclass
class ShardStanding:
    """One shard.

    Attributes:
        bytes: pushed to it, and fetched from it.
        heard_s: when it last had something new to tell.
    """

    updates: Rate = field(default_factory=Rate)
    bytes: Rate = field(default_factory=Rate)
    pushed: Rate = field(default_factory=Rate)
    fetched: Rate = field(default_factory=Rate)
    heard_s: float = 0.0
    last: ShardStatus | None = None


@dataclass
class Standing:
    """All of them, those that have gone too."""

    replicas: dict[int, ReplicaStanding] = field(default_factory=dict)
    shards: dict[int, ShardStanding] = field(default_factory=dict)

    def heard(self, number: int, doing: str, staleness: int | None, now: float) -> None:
        one = self.replicas.setdefault(number, ReplicaStanding())
        one.doing, one.heard_s = doing, now
        one.staleness = one.staleness if staleness is None else staleness

    def computed(self, number: int, examples: int, now: float) -> None:
        one = self.replicas.setdefault(number, ReplicaStanding())
        one.examples += examples
        one.rate.at(now, one.examples)

    def served(self, number: int, status: ShardStatus, now: float) -> None:
        one = self.shards.setdefault(number, ShardStanding())
        one.last, one.heard_s = status, now
        one.updates.at(now, status.updates)
        one.bytes.at(now, status.pushed_bytes + status.fetched_bytes)
        one.pushed.at(now, status.pushed_bytes)
        one.fetched.at(now, status.fetched_bytes)

    @property
    def staleness(self) -> list[tuple[int, int]]:
        """(updates between fetch and push, number of such pushes), over all shards."""
        found: Counter[int] = Counter()
        for last in self._last:
            found.update(dict(last.staleness))
        return sorted(found.items())

    @property
    def moved_bytes(self) -> int:
        """Pushed and fetched by all replicas so far."""
        return sum(s.pushed_bytes + s.fetched_bytes for s in self._last)

    @property
    def saved_bytes(self) -> int:
        """How many more they would have been without compression."""
        return sum(s.saved_bytes for s in self._last)

    @property
    def _last(self) -> list[ShardStatus]:
        return [one.last for one in self.shards.values() if one.last is not None]

    def records(self, now: float) -> dict[str, list[Any]]:
        """For the log."""
        return {
            "staleness": self.staleness,
            "replicas": [
                {
                    "replica": number,
                    "doing": one.doing,
                    "examples": one.examples,
                    "examples_per_s": round(one.rate.per_s, 1),
                    "staleness": one.staleness,
                    "heard_s": round(now - one.heard_s, 3),
                }
                for number, one in sorted(self.replicas.items())
            ],
            "shards": [
                {
                    "shard": number,
                    "updates_per_s": round(one.updates.per_s, 1),
                    "bytes_per_s": round(one.bytes.per_s),
                    "pushed_bytes_per_s": round(one.pushed.per_s),
                    "fetched_bytes_per_s": round(one.fetched.per_s),
                    "updates": one.last.updates if one.last else 0,
                    "pushed_bytes": one.last.pushed_bytes if one.last else 0,
                    "fetched_bytes": one.last.fetched_bytes if one.last else 0,
                    "saved_bytes": one.last.saved_bytes if one.last else 0,
                    "heard_s": round(now - one.heard_s, 3),
                }
                for number, one in sorted(self.shards.items())
            ],
        }

    def lines(self, now: float) -> list[str]:
        """For people."""
        found = []
        for number, one in sorted(self.replicas.items()):
            stale = "" if one.staleness is None else f", staleness {one.staleness}"
            found.append(
                f"  replica {number}: {one.doing}, {one.rate.per_s:,.0f} examples/s{stale}, "
                f"heard {max(now - one.heard_s, 0):.1f} s ago"
            )
        for number, server in sorted(self.shards.items()):
            found.append(
                f"  shard {number}: {server.updates.per_s:,.0f} updates/s, "
                f"{bytes_(server.bytes.per_s)}/s{_saved(server.last)}"
            )
        return found


def _saved(status: ShardStatus | None) -> str:
    """`, 12 MiB saved by compression`."""
    if status is None or not status.saved_bytes:
        return ""
    return f", {bytes_(status.saved_bytes)} saved by compression"
