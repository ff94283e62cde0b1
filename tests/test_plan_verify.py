"""The rules of a plan, each broken once."""

from __future__ import annotations

from dataclasses import replace

import pytest

import dbgraph as dbg
from dbgraph import layers as L
from dbgraph.errors import PlanError
from dbgraph.ir.graph import Graph
from dbgraph.plan.derive import segments_of, transfers_of
from dbgraph.plan.program import Program, Recv, Run, Segment, Send, Update
from dbgraph.plan.verify import verify_plan


def rows(microbatches: int = 2) -> dbg.Plan:
    """A convolution in two rows of tiles, whose weights and halo cross."""
    with dbg.Network("rows", batch=4) as net:
        x, t = dbg.input("x", (4, 2, 1)), dbg.input("t", (4, 2, 1))
        first = L.Conv2D(maps=1, patch=(3, 1), padding="same", cut={"rows": 2}, name="first")
        second = L.Conv2D(maps=1, patch=(3, 1), padding="same", cut={"rows": 2}, name="second")
        dbg.loss(L.MeanSquaredError()(second(first(x)), t))
    return dbg.make_plan(net, 2, microbatches=microbatches, strategy="tiles")


def with_program(plan: dbg.Plan, partition: int, **changes: object) -> dbg.Plan:
    programs = list(plan.programs)
    programs[partition] = replace(programs[partition], **changes)  # type: ignore[arg-type]
    return replace(plan, programs=tuple(programs))


def without(program: Program, *gone: object) -> tuple[object, ...]:
    return tuple(i for i in program.instructions if i not in gone)


def test_a_plan_as_it_was_made_holds() -> None:
    verify_plan(rows())


def test_a_node_in_no_segment_and_one_in_two() -> None:
    plan = rows()
    first, *others = plan.programs[0].segments
    shorter = Segment(first.nodes[1:], first.inputs, first.outputs)
    with pytest.raises(PlanError, match=r"program 0: \S+ must be in 1 of its segments"):
        verify_plan(with_program(plan, 0, segments=(shorter, *others)))
    of_another = (*plan.programs[1].segments, first)
    with pytest.raises(PlanError, match=r"program 1: \S+ must be in 0 .* partition 0\)"):
        verify_plan(with_program(plan, 1, segments=of_another))


@pytest.mark.parametrize("kind", [Run, Send, Recv])
def test_an_instruction_that_is_missing_or_stands_there_twice(kind: type) -> None:
    plan = rows()
    program = plan.programs[0]
    one = next(i for i in reversed(program.instructions) if isinstance(i, kind))
    with pytest.raises(PlanError, match=r"is missing|is not there yet"):
        verify_plan(with_program(plan, 0, instructions=without(program, one)))
    with pytest.raises(PlanError, match="unknown, twice, or another partition's"):
        verify_plan(with_program(plan, 0, instructions=(*program.instructions, one)))


def test_a_value_before_it_is_there() -> None:
    plan = rows()
    *others, update = plan.programs[0].instructions
    assert update == Update()
    with pytest.raises(PlanError, match="is not there yet"):
        verify_plan(with_program(plan, 0, instructions=(*reversed(others), update)))


def test_what_is_the_same_for_all_microbatches_crosses_in_the_first() -> None:
    plan = rows()
    weights = next(t for t in plan.transfers if t.invariant)
    instructions = plan.programs[weights.source].instructions
    again = with_program(plan, weights.source, instructions=(*instructions, Send(weights.index, 1)))
    with pytest.raises(PlanError, match="unknown, twice"):
        verify_plan(again)


def test_segments_and_transfers_follow_from_the_graph() -> None:
    plan = rows()
    graph: Graph = plan.graph
    assert transfers_of(graph) == plan.transfers
    for program in plan.programs:
        groups = [[graph.positions[name] for name in s.nodes] for s in program.segments]
        for segment, found in zip(program.segments, segments_of(graph, groups), strict=True):
            inside = set(segment.nodes)
            read = {n for name in inside for n in graph[name].inputs} - inside
            used = {
                name
                for name in inside
                if name in graph.result_values
                or any(reader.name not in inside for reader in graph.consumers[name])
            }
            assert set(segment.inputs) == read
            assert set(segment.outputs) == used
            assert found == segment
