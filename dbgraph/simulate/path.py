"""The critical path: the chain of spans that made the step as long as it is.

It is followed backwards from the machine that ends last. Where that machine waited for a value,
the path goes on with what kept the value: the bytes before it in a queue, the latency, and at
last what its sender did until it sent it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from dbgraph.plan.program import Transfer
from dbgraph.simulate.forecast import Span
from dbgraph.simulate.trace import Hop, Trace

_MORE = 1 + 1e-9  # than rounding


class Path:
    """Reads it from a trace.

    Args:
        microbatches: by which keys of transfers are made, see `Lines`.
    """

    def __init__(self, trace: Trace, transfers: Sequence[Transfer], microbatches: int) -> None:
        self._trace, self._transfers, self._microbatches = trace, transfers, microbatches
        self._found: list[Span] = []

    def to(self, machine: int, stop_s: float) -> tuple[Span, ...]:
        """From 0 to the end of a machine's program, in the order of time."""
        self._found = []
        while stop_s > 0.0:
            span = self._before(machine, stop_s)
            if span.kind == "wait":
                machine, stop_s = self._way(span)
            else:
                self._found.append(span)
                stop_s = span.start_s
        return tuple(reversed(self._found))

    def _before(self, machine: int, stop_s: float) -> Span:
        """What a machine did until a moment."""
        spans = self._trace.spans[machine]
        return spans[bisect_left(spans, stop_s, key=lambda span: span.start_s) - 1]

    def _way(self, wait: Span) -> tuple[int, float]:
        """What kept the value that a machine waited for. Returns the machine that sent it, or
        that sent the first of those before it in a queue; and when."""
        assert wait.transfer is not None
        assert wait.microbatch is not None
        key = wait.transfer * self._microbatches + wait.microbatch
        stage = self._last_byte(key)
        while True:
            hop = self._hop(key, stage)
            if hop.before is not None:
                key, stage = hop.before
                before = self._hop(key, stage)
                self._note("link", key, stage, before.begin_s, before.end_s)
            elif stage > 0:
                stage -= 1
                self._note("latency", key, stage + 1, self._hop(key, stage).begin_s, hop.begin_s)
            else:
                return self._transfers[key // self._microbatches].source, hop.begin_s

    def _last_byte(self, key: int) -> int:
        """Back to the queue that was the slowest. Returns which one of its queues that is."""
        stage = len(self._trace.hops[key]) - 1
        hop = self._hop(key, stage)
        while hop.passed_s > hop.end_s * _MORE:
            stage, after = stage - 1, hop
            hop = self._hop(key, stage)
            self._note("latency", key, stage + 1, hop.passed_s, after.passed_s)
        self._note("link", key, stage, hop.begin_s, hop.passed_s)
        return stage

    def _hop(self, key: int, stage: int) -> Hop:
        return self._trace.hops[key][stage]

    def _note(self, kind: str, key: int, stage: int, start_s: float, stop_s: float) -> None:
        """Half of a transfer's queues are its sender's, the others its receiver's."""
        if stop_s > start_s:
            index, microbatch = divmod(key, self._microbatches)
            transfer = self._transfers[index]
            sending = 2 * stage < len(self._trace.hops[key])
            machine = transfer.source if sending else transfer.to
            span = Span(machine, kind, start_s, stop_s, None, index, microbatch)
            self._found.append(span)
