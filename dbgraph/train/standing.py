"""How the replicas and shards of a run are doing: what the live table shows."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from dbgraph.actors.messages import ShardStatus

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
    def per_s(self) -> float:
        if len(self._points) < 2:
            return 0.0
        (began_s, first), (ended_s, last) = self._points[0], self._points[-1]
        return (last - first) / max(ended_s - began_s, 1e-9)


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
    """One shard."""

    updates: Rate = field(default_factory=Rate)
    bytes: Rate = field(default_factory=Rate)
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
        one.last = status
        one.updates.at(now, status.updates)
        one.bytes.at(now, status.pushed_bytes + status.fetched_bytes)

    def records(self, now: float) -> dict[str, list[dict[str, object]]]:
        """For the log."""
        return {
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
                    "updates": one.last.updates if one.last else 0,
                    "saved_bytes": one.last.saved_bytes if one.last else 0,
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
                f"{server.bytes.per_s / 1e6:,.1f} MB/s"
            )
        return found
