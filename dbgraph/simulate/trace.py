"""What happened in a simulation, moment by moment. It is noted only if the timeline is asked
for."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from dbgraph.plan.program import Instruction, Recv, Send
from dbgraph.simulate.forecast import Span
from dbgraph.simulate.lines import Lines

HopKey = tuple[int, int]
"""The key of a transfer, and which one of its queues."""


@dataclass(frozen=True, slots=True)
class Hop:
    """A transfer at one of its queues.

    Attributes:
        begin_s: when its first byte enters the queue.
        end_s: when the queue is free again.
        passed_s: when its last byte has passed: later than end_s where it came more slowly.
        before: what it had to wait for in this queue; None where it had not to.
    """

    begin_s: float
    end_s: float
    passed_s: float
    before: HopKey | None


class Trace:
    """Notes the spans of each machine and the hops of each transfer, in the order of time."""

    def __init__(self, machines: int) -> None:
        self.spans: list[list[Span]] = [[] for _ in range(machines)]
        self.hops: dict[int, list[Hop]] = defaultdict(list)
        self._last: dict[int, HopKey] = {}

    def ordered(self, machine: int, stop_s: float) -> None:
        """A machine waited for the driver's orders."""
        self.spans[machine].append(Span(machine, "orders", 0.0, stop_s))

    def did(
        self, machine: int, position: int, instruction: Instruction, start_s: float, stop_s: float
    ) -> None:
        """A machine computed, or handled a message."""
        if isinstance(instruction, Send | Recv):
            kind = "send" if isinstance(instruction, Send) else "receive"
            about = instruction.transfer, instruction.microbatch
            span = Span(machine, kind, start_s, stop_s, position, *about)
        else:
            span = Span(machine, "compute", start_s, stop_s, position)
        self.spans[machine].append(span)

    def waited(
        self, machine: int, position: int, start_s: float, stop_s: float, key: tuple[int, int]
    ) -> None:
        """A machine waited. Args: key: the transfer, and the microbatch."""
        self.spans[machine].append(Span(machine, "wait", start_s, stop_s, position, *key))

    def entered(self, lines: Lines, key: int, ready_s: float, begin_s: float) -> None:
        """The first byte of a transfer stood before a queue, and enters it."""
        hops, way = self.hops[key], lines.way(key)
        stage = len(hops)
        queue = way.queues[stage]
        end_s = begin_s + lines.takes_s(key, stage)
        came_s = hops[-1].passed_s + way.delays_s[stage - 1] if hops else ready_s
        before = self._last.get(queue) if begin_s > ready_s else None
        hops.append(Hop(begin_s, end_s, max(end_s, came_s), before))
        self._last[queue] = key, stage
