"""What the driver says while it waits: who waits for what, who computes for long, who is stuck.

Pure: heartbeats and a clock in, lines out.
"""

from __future__ import annotations

from dbgraph.wire.messages import Heartbeat

_COMPUTING_FACTOR = 6  # computing long is less strange than waiting long


class Watch:
    """One wait of the driver.

    Args:
        report_s: say so when a worker waits longer than that, and again each time that doubles.
        stall_s: a worker that makes no progress for so long, and waits for nobody, is stuck.
    """

    def __init__(self, report_s: float, stall_s: float) -> None:
        self._report_s = report_s
        self._stall_s = stall_s
        self._next: dict[tuple[int, int, str], float] = {}

    def line(self, partition: int, who: str, beat: Heartbeat, age_s: float) -> str:
        """What to say of a worker now; "" for nothing.

        Args:
            who: the worker with its process; age_s: of its last heartbeat.
        """
        if age_s >= self._report_s:
            return self._once(
                partition, beat, "silent", age_s, f"{who} is silent for {age_s:.1f} s"
            )
        since_s = beat.since_s + age_s
        if beat.waiting:
            text = f"partition {partition} waits for {beat.waiting}"
            return self._once(partition, beat, "waiting", since_s, text)
        text = (
            f"partition {partition} is at {beat.doing} for {since_s:.0f} s; its process answers "
            "(a segment is compiled when it runs for the first time)"
        )
        return self._once(partition, beat, "doing", since_s / _COMPUTING_FACTOR, text)

    def stuck(self, beat: Heartbeat, age_s: float) -> str:
        """Why a worker that answers must be given up; "" while it need not."""
        since_s = beat.since_s + age_s
        if beat.waiting or since_s < self._stall_s:
            return ""
        return f"it answers, but has been at {beat.doing} for {since_s:.0f} s"

    def _once(self, partition: int, beat: Heartbeat, kind: str, seconds: float, text: str) -> str:
        key = (partition, beat.progress, kind)
        if seconds < self._next.get(key, self._report_s):
            return ""
        self._next[key] = 2 * max(seconds, self._report_s)
        return text
