"""A simulated step as a timeline: what each machine does, and who sends what to whom."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from itertools import groupby

from dbgraph.errors import UsageError
from dbgraph.plan.plan import Plan
from dbgraph.plan.program import Instruction, Recv, Run, Send
from dbgraph.show.digest import layer_of
from dbgraph.show.tracks import Arrow, Block, Timeline, Track
from dbgraph.simulate import Forecast, Span

_Message = tuple[int, int]
"""A transfer and a microbatch."""


def forecast_timeline(plan: Plan, forecast: Forecast) -> Timeline:
    """Its tracks are the partitions; the blocks of each follow each other without gaps, from 0 to
    the end of the step. Messages that take no time of a processor are blocks of no length.

    Args:
        forecast: with a timeline. Raises UsageError where it has none.
    """
    if not forecast.timeline:
        raise UsageError("the forecast has no timeline", hint="simulate(…, timeline=True)")
    return _Reading(plan, forecast).timeline()


class _Reading:
    def __init__(self, plan: Plan, forecast: Forecast) -> None:
        self.plan, self.forecast = plan, forecast
        path = forecast.critical_path
        self.path = frozenset(path)
        self.crossing = frozenset(_message(span) for span in path if span.kind == "link")
        self.about_segment = cache(self._about_segment)

    def timeline(self) -> Timeline:
        blocks: list[Block] = []
        ends: dict[tuple[str, _Message], int] = {}
        for partition, spans in groupby(self.forecast.timeline, key=lambda span: span.machine):
            for span in self._with_instant_messages(partition, spans):
                if span.kind in ("send", "receive"):
                    ends[span.kind, _message(span)] = len(blocks)
                blocks.append(self._block(span))
        arrows = tuple(
            Arrow(index, ends["receive", message], message in self.crossing)
            for (kind, message), index in ends.items()
            if kind == "send" and ("receive", message) in ends
        )
        tracks = tuple(Track(f"partition {p}", machine=p) for p in range(self.plan.partitions))
        return Timeline(f"{self.plan.name}: a simulated step", tracks, tuple(blocks), arrows)

    def _with_instant_messages(self, partition: int, spans: Iterable[Span]) -> Iterator[Span]:
        """The simulator notes what takes time; here follow sends and receives that take none,
        each at the moment when the instruction before it had ended."""
        instructions = self.plan.programs[partition].instructions
        done, now_s = 0, 0.0
        for span in spans:
            if span.instruction is not None:
                yield from _instant(partition, instructions, range(done, span.instruction), now_s)
                done = span.instruction + (span.kind != "wait")
            yield span
            now_s = span.stop_s if span.instruction is not None else now_s
        if partition not in {one.partition for one in self.forecast.blocked}:
            rest = range(done, len(instructions))
            yield from _instant(partition, instructions, rest, now_s)

    def _block(self, span: Span) -> Block:
        name, about, size_bytes = self._words(span)
        on_path = span in self.path or (
            span.start_s == span.stop_s and _message(span) in self.crossing
        )
        return Block(
            track=span.machine,
            kind="update" if span.kind == "compute" and not about else span.kind,
            start_s=span.start_s,
            stop_s=span.stop_s,
            name=name,
            about=about,
            bytes=size_bytes if span.kind in ("send", "receive") else 0,
            critical=on_path,
            instruction=span.instruction,
        )

    def _words(self, span: Span) -> tuple[str, str, int]:
        """What it is called, what it is about, and the bytes."""
        if span.kind == "orders":
            return "the driver's orders", "", 0
        if span.transfer is not None:
            return self._about_message(span, span.transfer)
        if span.instruction is None:
            return "ended", "", 0
        instruction = self.plan.programs[span.machine].instructions[span.instruction]
        if not isinstance(instruction, Run):
            return "update", "", 0
        name, layers = self.about_segment(span.machine, instruction.segment)
        return name + self._microbatch(instruction.microbatch), layers, 0

    def _about_message(self, span: Span, transfer: int) -> tuple[str, str, int]:
        if transfer >= len(self.plan.transfers):
            return "the parameter server", "", 0
        t = self.plan.transfers[transfer]
        layer = layer_of(self.plan.graph[t.value])
        back = ", backward" if "'" in t.value else ""
        side = f"to {t.to}" if span.kind == "send" else f"from {t.source}"
        name = f"{layer} {side}{back}{self._microbatch(span.microbatch or 0)}"
        return name, layer, t.type.size_bytes

    def _about_segment(self, partition: int, segment: int) -> tuple[str, str]:
        """`hidden1 … softmax`, and all its layers."""
        names = self.plan.programs[partition].segments[segment].nodes
        layers = list(dict.fromkeys(layer_of(self.plan.graph[name]) for name in names))
        ends = " … ".join(dict.fromkeys((layers[0], layers[-1])))
        back = ", backward" if all("'" in name for name in names) else ""
        return ends + back, ", ".join(layers)

    def _microbatch(self, microbatch: int) -> str:
        return f", microbatch {microbatch}" if self.plan.microbatches > 1 else ""


def _message(span: Span) -> _Message:
    return (-1, -1) if span.transfer is None else (span.transfer, span.microbatch or 0)


def _instant(
    partition: int, instructions: tuple[Instruction, ...], those: range, now_s: float
) -> Iterator[Span]:
    for index in those:
        one = instructions[index]
        if isinstance(one, Send | Recv):
            kind = "send" if isinstance(one, Send) else "receive"
            yield Span(partition, kind, now_s, now_s, index, one.transfer, one.microbatch)
