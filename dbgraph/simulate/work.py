"""What there is to do in a step, in seconds and bytes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dbgraph.cluster import Cluster, MachineSpec
from dbgraph.cost import adding_s, segment_s, signature_work, update_s
from dbgraph.ir.graph import Graph
from dbgraph.plan.program import Instruction, Program, Run, Segment, Transfer
from dbgraph.profile import Profile


@dataclass(frozen=True)
class Work:
    """What the engine executes.

    Attributes:
        instructions: of each machine, in order.
        own: of each machine which of them are its program; the others are traffic with a
            parameter server.
        segment_s: of each machine the seconds of each of its segments, on free cores.
        adding_s: of each machine what each of its segments takes longer with every microbatch
            but the first: its gradients are added to the sums.
        update_s: of each machine the seconds of an UPDATE.
        begin_s: when the machines begin: the driver's orders, and the answers that it collects
            at the end, are all counted before.
    """

    cluster: Cluster
    transfers: tuple[Transfer, ...]
    instructions: Sequence[Sequence[Instruction]]
    own: Sequence[range]
    segment_s: Sequence[Sequence[float]]
    update_s: Sequence[float]
    adding_s: Sequence[Sequence[float]] = ()
    begin_s: float = 0.0


def work_of(
    graph: Graph,
    transfers: tuple[Transfer, ...],
    programs: tuple[Program, ...],
    cluster: Cluster,
    profile: Profile | None = None,
) -> Work:
    """What programs make of a cluster's machines, the first for the first."""
    held = parameter_bytes(graph)
    gradients = frozenset(r.value for r in graph.results if r.kind == "gradient")
    return Work(
        cluster=cluster,
        transfers=transfers,
        instructions=[program.instructions for program in programs],
        own=[range(len(program.instructions)) for program in programs],
        segment_s=[
            [_segment_s(graph, segment, machine, profile) for segment in p.segments]
            for p, machine in zip(programs, cluster.machines, strict=True)
        ],
        adding_s=[
            [adding_s(_held(graph, gradients, segment), machine) for segment in p.segments]
            for p, machine in zip(programs, cluster.machines, strict=True)
        ],
        begin_s=cluster.driver_s + len(programs) * cluster.control_s,
        update_s=[update_s(held.get(p, 0), machine) for p, machine in enumerate(cluster.machines)],
    )


def _segment_s(
    graph: Graph, segment: Segment, machine: MachineSpec, profile: Profile | None
) -> float:
    """As measured, where it was; else what its ops cost."""
    measured_s = profile.segment_s(graph, segment) if profile else None
    if measured_s is not None:
        return measured_s
    return segment_s(graph, segment.nodes, machine)


def _held(graph: Graph, gradients: frozenset[str], segment: Segment) -> int:
    """Bytes of the gradients that a segment gives."""
    by_name = graph.by_name
    return sum([by_name[n].type.size_bytes for n in segment.outputs if n in gradients])


def flop_of(graph: Graph, program: Program) -> int:
    """FLOPs of one step."""
    signatures = graph.signatures
    flop = [
        sum([signature_work(signatures[name]).flop for name in segment.nodes])
        for segment in program.segments
    ]
    return int(sum(flop[i.segment] for i in program.instructions if isinstance(i, Run)))


def parameter_bytes(graph: Graph) -> Mapping[int, int]:
    """What each partition holds."""
    found: dict[int, int] = defaultdict(int)
    for node in graph:
        if node.op == "parameter" and node.partition is not None:
            found[node.partition] += node.type.size_bytes
    return found
