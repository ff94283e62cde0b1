"""Where a machine's step goes, and what the step can't be shorter than, layer by layer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from dbgraph.cluster import Cluster
from dbgraph.cost import node_s
from dbgraph.plan.plan import Plan
from dbgraph.plan.program import Run
from dbgraph.show.digest import layer_of
from dbgraph.simulate import Forecast, Span, simulate

_DOES = {"send": "sends", "receive": "receives", "link": "line is busy", "latency": "latency"}


@dataclass(frozen=True, slots=True)
class Load:
    """
    Attributes:
        what: "computes", "sends", "receives" (of its processor), "waits for partition 2", …
        layer: that is computed, or whose value is sent or waited for; "" where it is none's.
        seconds: in one step.
        machines: that do it, or on whose side it is.
    """

    what: str
    layer: str
    seconds: float
    machines: tuple[int, ...]


class Loads:
    """Of one plan on one cluster, by a simulation that notes its spans."""

    def __init__(self, plan: Plan, cluster: Cluster) -> None:
        self.plan, self.cluster = plan, cluster
        self._shares: dict[tuple[int, int], Mapping[str, float]] = {}

    @cached_property
    def forecast(self) -> Forecast:
        plan = self.plan
        return simulate(plan.graph, plan.transfers, plan.programs, self.cluster, timeline=True)

    def of_machine(self, partition: int) -> list[Load]:
        """The heaviest first; together they are the step."""
        spans = (span for span in self.forecast.timeline if span.machine == partition)
        return _summed(load for span in spans for load in self._loads(span))

    def critical(self) -> list[Load]:
        """Of the critical path; the heaviest first. Together they are the step. Empty where the
        programs deadlock."""
        path = self.forecast.critical_path
        return _summed(load for span in path for load in self._loads(span))

    def _loads(self, span: Span) -> Iterator[Load]:
        on = (span.machine,)
        if span.kind == "compute" and span.instruction is not None:
            yield from self._computes(span, span.instruction)
            return
        if span.transfer is None:
            does = "waits for the driver" if span.kind == "orders" else "has ended"
            yield Load(does, "", span.seconds, on)
            return
        transfer = self.plan.transfers[span.transfer]
        layer = layer_of(self.plan.graph[transfer.value])
        if span.kind == "wait":
            yield Load(f"waits for partition {transfer.source}", layer, span.seconds, on)
        else:
            yield Load(_DOES[span.kind], layer, span.seconds, on)

    def _computes(self, span: Span, index: int) -> Iterator[Load]:
        on = (span.machine,)
        instruction = self.plan.programs[span.machine].instructions[index]
        if not isinstance(instruction, Run):
            yield Load("updates its parameters", "", span.seconds, on)
            return
        start_s = min(self.cluster.machines[span.machine].dispatch_s, span.seconds)
        yield Load("starts segments", "", start_s, on)
        for layer, share in self._layers(span.machine, instruction.segment).items():
            yield Load("computes", layer, (span.seconds - start_s) * share, on)

    def _layers(self, partition: int, segment: int) -> Mapping[str, float]:
        """Each layer's share of a segment, by what its nodes would cost one by one."""
        key = (partition, segment)
        if key not in self._shares:
            graph, machine = self.plan.graph, self.cluster.machines[partition]
            found: dict[str, float] = defaultdict(float)
            for name in self.plan.programs[partition].segments[segment].nodes:
                found[layer_of(graph[name])] += node_s(graph, graph[name], machine)
            total_s = sum(found.values()) or 1.0
            self._shares[key] = {layer: seconds / total_s for layer, seconds in found.items()}
        return self._shares[key]


def _summed(found: Iterable[Load]) -> list[Load]:
    groups: dict[tuple[str, str], list[Load]] = defaultdict(list)
    for load in found:
        groups[load.what, load.layer].append(load)
    made = [
        Load(
            what,
            layer,
            sum(load.seconds for load in group),
            tuple(sorted({p for load in group for p in load.machines})),
        )
        for (what, layer), group in groups.items()
    ]
    return sorted(made, key=lambda load: -load.seconds)
