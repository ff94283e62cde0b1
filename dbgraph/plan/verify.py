"""The rules of a plan: what its file, edited by hand perhaps, must still fulfil."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from dbgraph.errors import DbgraphError, PlanError
from dbgraph.ir.verify import verify as verify_graph
from dbgraph.ops import COMMUNICATION, LEAVES
from dbgraph.plan.plan import Plan
from dbgraph.plan.program import Program, Recv, Run, Send, Transfer, Update


@dataclass(frozen=True, slots=True)
class Failure:
    """A rule that a plan breaks, and where, as far as that is known.

    Attributes:
        node: in the plan's graph; "" for none.
        partition: whose program; None for none.
        position: of the instruction in that program; None for none.
    """

    error: DbgraphError
    node: str = ""
    partition: int | None = None
    position: int | None = None


def verify_plan(plan: Plan) -> None:
    """Checks both graphs, and that the programs compute every node and move every transfer
    exactly once per microbatch, each after what it needs. Deadlocks are the dry run's to find
    (`dbgraph.simulate`). Raises PlanError."""
    for failure in failures(plan):
        raise failure.error


def failures(plan: Plan) -> Iterator[Failure]:
    """All that `verify_plan` would raise: of each graph and each program the first."""
    sound = True
    for failure in _graph_failures(plan):
        sound = False
        yield failure
    if not sound:
        return  # the rest would follow edges and numbers that lead nowhere
    yield from _pairs(plan)
    yield from _segments(plan)
    shares = _shares(plan)
    for program in plan.programs:
        yield from _order(plan, program, shares[program.partition])


def _graph_failures(plan: Plan) -> Iterator[Failure]:
    for graph, stage in ((plan.network, "network"), (plan.graph, "communicating")):
        try:
            verify_graph(graph, stage)
        except DbgraphError as error:
            yield Failure(error)
    if plan.batch % plan.microbatches:
        rule = f"batch {plan.batch} is not divisible by microbatches {plan.microbatches}"
        yield Failure(PlanError(rule))
    yield from _partitions(plan)


def _partitions(plan: Plan) -> Iterator[Failure]:
    for node in plan.graph:
        if node.partition is None or not 0 <= node.partition < plan.partitions:
            rule = (
                f"{node.name} stands on partition {node.partition}; "
                f"the plan has 0 to {plan.partitions - 1}"
            )
            yield Failure(PlanError(rule, at=node.source), node.name)


def _pairs(plan: Plan) -> Iterator[Failure]:
    """Each send has one recv; that each is an instruction once is `_order`'s."""
    taken = Counter(node.inputs[0] for node in plan.graph if node.op == "recv")
    for node in plan.graph:
        if node.op == "send" and taken[node.name] != 1:
            found = "none" if not taken[node.name] else str(taken[node.name])
            rule = (
                f"%{node.name} sends to partition {node.attrs['to']}, where {found} of the recvs "
                "takes it; each send has one recv"
            )
            yield Failure(PlanError(rule, at=node.source), node.name, node.partition)


def _segments(plan: Plan) -> Iterator[Failure]:
    """Each computed node is in exactly one segment, of its own partition."""
    if _all_in_segments(plan):
        return
    holders: dict[str, list[int]] = defaultdict(list)
    for program in plan.programs:
        for segment in program.segments:
            for name in segment.nodes:
                holders[name].append(program.partition)
    for node in plan.graph:
        computed = node.op not in LEAVES and node.op not in COMMUNICATION
        found, expected = holders.get(node.name, []), [node.partition] if computed else []
        if found != expected:
            wrong = next((p for p in found if p != node.partition), node.partition)
            rule = (
                f"program {wrong}: {node.name} must be in {expected.count(wrong)} of its segments"
                f" (it stands on partition {node.partition})"
            )
            yield Failure(PlanError(rule, at=node.source), node.name, wrong)


def _all_in_segments(plan: Plan) -> bool:
    held: dict[str, int | None] = {}
    count = 0
    for program in plan.programs:
        for segment in program.segments:
            held.update(dict.fromkeys(segment.nodes, program.partition))
            count += len(segment.nodes)
    apart = LEAVES | COMMUNICATION
    computed = {node.name: node.partition for node in plan.graph if node.op not in apart}
    return count == len(held) and held == computed


@dataclass
class _Share:
    """What is one partition's: transfers, and the names of its leaves."""

    sends: list[Transfer] = field(default_factory=list)
    recvs: list[Transfer] = field(default_factory=list)
    leaves: list[str] = field(default_factory=list)


def _shares(plan: Plan) -> Mapping[int, _Share]:
    found: dict[int, _Share] = {p: _Share() for p in range(plan.partitions)}
    for transfer in plan.transfers:
        found[transfer.source].sends.append(transfer)
        found[transfer.to].recvs.append(transfer)
    for node in plan.graph:
        if node.op in LEAVES and node.partition is not None:
            found[node.partition].leaves.append(node.name)
    return found


def _order(plan: Plan, program: Program, share: _Share) -> Iterator[Failure]:
    """Every instruction once per microbatch, after what it reads; what is the same for all
    microbatches crosses in the first."""
    todo = set(_expected(plan, program, share))
    there = {(name, m) for name in share.leaves for m in range(plan.microbatches)}
    invariant = {t.recv for t in share.recvs if t.invariant}
    partition = program.partition
    for position, instruction in enumerate(program.instructions):
        if isinstance(instruction, Update):
            continue
        key = _key(instruction)
        if key not in todo:
            rule = f"program {partition}: {instruction}: unknown, twice, or another partition's"
            yield Failure(PlanError(rule), "", partition, position)
            return
        todo.discard(key)
        reads, makes = _effect(plan, program, instruction)
        microbatch = instruction.microbatch
        keys = [(name, 0 if name in invariant else microbatch) for name in reads]
        missing = [name for name, m in keys if (name, m) not in there]
        if missing:
            rule = f"program {partition}: {instruction}: {missing[0]} is not there yet"
            yield Failure(PlanError(rule), missing[0], partition, position)
            return
        there.update((name, microbatch) for name in makes)
    if todo:
        missing_one = min(str(kind(*numbers)) for kind, *numbers in todo)
        rule = f"program {partition}: {missing_one} is missing"
        yield Failure(PlanError(rule), "", partition)
        return
    yield from _update(plan, program)


_Key = tuple[type[Run | Send | Recv], int, int]
"""An instruction, as what hashes fast: its class, its segment or transfer, its microbatch."""


def _key(instruction: Run | Send | Recv) -> _Key:
    if isinstance(instruction, Run):
        return Run, instruction.segment, instruction.microbatch
    return type(instruction), instruction.transfer, instruction.microbatch


def _expected(plan: Plan, program: Program, share: _Share) -> Iterator[_Key]:
    """What a program has to do."""
    for m in range(plan.microbatches):
        yield from ((Run, i, m) for i in range(len(program.segments)))
        for kind, transfers in ((Send, share.sends), (Recv, share.recvs)):
            yield from ((kind, t.index, m) for t in transfers if m < t.times(plan.microbatches))


def _effect(
    plan: Plan, program: Program, instruction: Run | Send | Recv
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(values that it reads, values that it makes)."""
    if isinstance(instruction, Run):
        segment = program.segments[instruction.segment]
        return segment.inputs, segment.outputs
    transfer = plan.transfers[instruction.transfer]
    return ((transfer.value,), ()) if isinstance(instruction, Send) else ((), (transfer.recv,))


def _update(plan: Plan, program: Program) -> Iterator[Failure]:
    """A training program ends with its one UPDATE."""
    at = [i for i, x in enumerate(program.instructions) if isinstance(x, Update)]
    expected = [len(program.instructions) - 1] if plan.mode == "training" else []
    if at != expected:
        rule = "ends with one UPDATE" if expected else f"has no UPDATE in mode {plan.mode}"
        error = PlanError(f"program {program.partition}: a program {rule}")
        yield Failure(error, "", program.partition, at[0] if at else None)
