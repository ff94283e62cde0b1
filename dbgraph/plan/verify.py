"""The rules of a plan: what its file, edited by hand perhaps, must still fulfil."""

from __future__ import annotations

from collections import Counter

from dbgraph.errors import PlanError
from dbgraph.ir.verify import verify as verify_graph
from dbgraph.ops import COMMUNICATION, LEAVES
from dbgraph.plan.plan import Plan
from dbgraph.plan.program import Program, Recv, Run, Send, Update


def verify_plan(plan: Plan) -> None:
    """Checks both graphs, and that the programs compute every node and move every transfer
    exactly once per microbatch, each after what it needs. Deadlocks are the dry run's to find
    (`dbgraph.simulate`). Raises PlanError."""
    verify_graph(plan.network, "network")
    verify_graph(plan.graph, "communicating")
    if plan.batch % plan.microbatches:
        raise PlanError(f"batch {plan.batch} is not divisible by microbatches {plan.microbatches}")
    _check_partitions(plan)
    _check_pairs(plan)
    for program in plan.programs:
        _check_segments(plan, program)
        _check_order(plan, program)


def _check_partitions(plan: Plan) -> None:
    for node in plan.graph:
        if node.partition is None or not 0 <= node.partition < plan.partitions:
            raise PlanError(
                f"{node.name} stands on partition {node.partition}; "
                f"the plan has 0 to {plan.partitions - 1}",
                at=node.source,
            )


def _check_pairs(plan: Plan) -> None:
    """Each send has one recv; that each is an instruction once is `_check_order`'s."""
    taken = Counter(node.inputs[0] for node in plan.graph if node.op == "recv")
    for node in plan.graph:
        if node.op == "send" and taken[node.name] != 1:
            found = "none" if not taken[node.name] else str(taken[node.name])
            raise PlanError(
                f"%{node.name} sends to partition {node.attrs['to']}, where {found} of the recvs "
                "takes it; each send has one recv",
                at=node.source,
            )


def _check_segments(plan: Plan, program: Program) -> None:
    """Each node of the partition is in exactly one segment."""
    held = Counter(name for segment in program.segments for name in segment.nodes)
    for node in plan.graph:
        computed = node.op not in LEAVES and node.op not in COMMUNICATION
        expected = int(computed and node.partition == program.partition)
        if held.pop(node.name, 0) != expected:
            raise PlanError(
                f"program {program.partition}: {node.name} must be in {expected} of its segments"
                f" (it stands on partition {node.partition})",
                at=node.source,
            )


def _check_order(plan: Plan, program: Program) -> None:
    """Every instruction once per microbatch, after what it reads."""
    mine = [t for t in plan.transfers if program.partition in (t.source, t.to)]
    todo = {
        instruction
        for m in range(plan.microbatches)
        for instruction in (
            *(Run(i, m) for i in range(len(program.segments))),
            *(Send(t.index, m) for t in mine if t.source == program.partition),
            *(Recv(t.index, m) for t in mine if t.to == program.partition),
        )
    }
    leaves = {n.name for n in plan.graph if n.op in LEAVES and n.partition == program.partition}
    there = {(name, m) for name in leaves for m in range(plan.microbatches)}
    for instruction in program.instructions:
        where = f"program {program.partition}: {instruction}"
        if isinstance(instruction, Update):
            continue
        if instruction not in todo:
            raise PlanError(f"{where}: unknown, twice, or another partition's")
        todo.discard(instruction)
        reads, makes = _effect(plan, program, instruction)
        missing = [name for name in reads if (name, instruction.microbatch) not in there]
        if missing:
            raise PlanError(f"{where}: {missing[0]} is not there yet")
        there.update((name, instruction.microbatch) for name in makes)
    if todo:
        raise PlanError(f"program {program.partition}: {min(map(str, todo))} is missing")
    _check_update(plan, program)


def _effect(
    plan: Plan, program: Program, instruction: Run | Send | Recv
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(values that it reads, values that it makes)."""
    if isinstance(instruction, Run):
        segment = program.segments[instruction.segment]
        return segment.inputs, segment.outputs
    transfer = plan.transfers[instruction.transfer]
    return ((transfer.value,), ()) if isinstance(instruction, Send) else ((), (transfer.recv,))


def _check_update(plan: Plan, program: Program) -> None:
    """A training program ends with its one UPDATE."""
    at = [i for i, x in enumerate(program.instructions) if isinstance(x, Update)]
    expected = [len(program.instructions) - 1] if plan.mode == "training" else []
    if at != expected:
        rule = "ends with one UPDATE" if expected else f"has no UPDATE in mode {plan.mode}"
        raise PlanError(f"program {program.partition}: a program {rule}")
