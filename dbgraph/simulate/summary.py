"""What an engine's run comes to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from heapq import nlargest

from dbgraph.simulate.engine import Engine
from dbgraph.simulate.forecast import Blocked, Cause, MachineForecast, Span
from dbgraph.simulate.path import Path
from dbgraph.simulate.trace import Trace

_CAUSES = 3  # so many of each machine are kept


class Summary:
    """Figures of one run, each computed when it is asked for, in linear time.

    Args:
        machines: how many of the engine's run the plan's programs; the others are shards of a
            parameter server.
    """

    def __init__(self, engine: Engine, machines: int) -> None:
        self.engine, self.machines = engine, machines

    @cached_property
    def stop_s(self) -> list[float]:
        """When each machine came to its end, or began to wait for ever."""
        found = list(self.engine.end_s)
        for machine, since_s in self.engine.waiting.values():
            found[machine] = since_s
        return found

    @cached_property
    def step_s(self) -> float:
        return max(self.stop_s, default=0.0)

    @cached_property
    def link_bytes(self) -> Mapping[tuple[int, int], int]:
        """(from, to) → what was sent."""
        found: dict[tuple[int, int], int] = defaultdict(int)
        for transfer, count in zip(self.engine.work.transfers, self.engine.sent, strict=True):
            if size_bytes := count * transfer.type.size_bytes:
                found[transfer.source, transfer.to] += size_bytes
        return dict(found)

    @cached_property
    def link_messages(self) -> Mapping[tuple[int, int], int]:
        """(from, to) → how many were sent."""
        found: dict[tuple[int, int], int] = defaultdict(int)
        for transfer, count in zip(self.engine.work.transfers, self.engine.sent, strict=True):
            if count:
                found[transfer.source, transfer.to] += count
        return dict(found)

    def machine(
        self, machine: int, flop: int, peak_bytes: int, parameter_bytes: int
    ) -> MachineForecast:
        engine = self.engine
        compute_s, send_s = engine.compute_s[machine], engine.send_s[machine]
        receive_s = engine.receive_s[machine]
        (out_bytes, out_s), (in_bytes, in_s) = self._out[machine], self._in[machine]
        return MachineForecast(
            busy_s=compute_s + send_s + receive_s + out_s + in_s,
            flop=flop,
            out_bytes=out_bytes,
            in_bytes=in_bytes,
            peak_bytes=peak_bytes,
            parameter_bytes=parameter_bytes,
            compute_s=compute_s,
            send_s=send_s,
            receive_s=receive_s,
            idle_s=max(0.0, self.step_s - compute_s - send_s - receive_s),
            end_s=self.stop_s[machine],
            out_s=out_s,
            in_s=in_s,
            causes=self._causes[machine],
        )

    @cached_property
    def _out(self) -> list[tuple[int, float]]:
        """What each machine sends, and how long that occupies its line."""
        return self._line(0)

    @cached_property
    def _in(self) -> list[tuple[int, float]]:
        return self._line(1)

    def _line(self, end: int) -> list[tuple[int, float]]:
        """Args: end: of a pair (from, to)."""
        cluster = self.engine.work.cluster
        found = [(0, 0.0)] * len(cluster.machines)
        for pair, size_bytes in self.link_bytes.items():
            total_bytes, total_s = found[pair[end]]
            takes_s = size_bytes / cluster.between(*pair).bytes_s
            found[pair[end]] = total_bytes + size_bytes, total_s + takes_s
        return found

    @cached_property
    def _causes(self) -> list[tuple[Cause, ...]]:
        """For each machine the peers that it waits for, the worst first."""
        found: list[dict[int, Cause]] = [{} for _ in self.stop_s]
        waits_s = self.engine.wait_s
        waited_for = [t for t, wait_s in enumerate(waits_s) if wait_s > 0.0]
        for index in sorted(waited_for, key=lambda t: -waits_s[t]):
            transfer, wait_s = self.engine.work.transfers[index], waits_s[index]
            of_machine = found[transfer.to]
            known = of_machine.get(transfer.source, Cause(transfer.source, index, 0.0))
            of_machine[transfer.source] = replace(known, wait_s=known.wait_s + wait_s)
        return [
            tuple(nlargest(_CAUSES, causes.values(), key=lambda cause: cause.wait_s))
            for causes in found
        ]

    @cached_property
    def blocked(self) -> tuple[Blocked, ...]:
        """Of the plan's own programs, by transfer."""
        engine = self.engine
        found = []
        for key, (machine, _) in sorted(engine.waiting.items()):
            index, microbatch = divmod(key, engine.microbatches)
            position = self._own(machine, engine.position[machine])
            if machine < self.machines and position is not None:
                source = engine.work.transfers[index].source
                found.append(Blocked(machine, position, index, microbatch, source))
        return tuple(found)

    def timeline(self, trace: Trace) -> tuple[Span, ...]:
        """The spans of the plan's machines, each up to the end of the step."""
        found: list[Span] = []
        for machine in range(self.machines):
            spans = [self._renumbered(span) for span in trace.spans[machine]]
            if self.stop_s[machine] < self.step_s:
                spans.append(Span(machine, "wait", self.stop_s[machine], self.step_s))
            found += spans
        return tuple(found)

    def critical_path(self, trace: Trace) -> tuple[Span, ...]:
        if self.engine.waiting or not self.stop_s:
            return ()
        last = max(range(len(self.stop_s)), key=self.stop_s.__getitem__)
        path = Path(trace, self.engine.work.transfers, self.engine.microbatches)
        return tuple(map(self._renumbered, path.to(last, self.step_s)))

    def _renumbered(self, span: Span) -> Span:
        """As the plan numbers its instructions."""
        if span.instruction is None:
            return span
        own = self._own(span.machine, span.instruction)
        return span if own == span.instruction else replace(span, instruction=own)

    def _own(self, machine: int, position: int) -> int | None:
        """The index of an instruction in its plan's program; None where it is no part of it."""
        own = self.engine.work.own[machine]
        return position - own.start if position in own else None
