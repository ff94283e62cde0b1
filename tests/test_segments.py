"""Segments of the same structure share one compilation, whatever their names and positions."""

from __future__ import annotations

import dbgraph as dbg
from dbgraph import layers as L
from dbgraph.kernels.segment import compiled, structure_of
from dbgraph.plan.program import Segment


def dense(partitions: int) -> dbg.Plan:
    with dbg.Network("alike", batch=8) as net:
        h = dbg.input("x", (64,))
        for k in range(2):
            h = L.Dense(128, activation="relu", cut={"units": partitions}, name=f"h{k}")(h)
        dbg.loss(L.MeanSquaredError()(L.Dense(1)(h), dbg.input("t", (1,))))
    return dbg.make_plan(net, partitions, strategy="tiles")


def structures(plan: dbg.Plan) -> tuple[set[object], int]:
    segments: list[Segment] = [s for program in plan.programs for s in program.segments]
    return {structure_of(plan.graph, segment)[0] for segment in segments}, len(segments)


def test_thirty_two_like_partitions_compile_a_handful_of_functions() -> None:
    found, segments = structures(dense(32))
    assert segments >= 4 * 32
    assert len(found) <= 8


def test_more_partitions_need_no_more_functions() -> None:
    few, _ = structures(dense(8))
    many, _ = structures(dense(32))
    assert len(many) <= len(few) + 4


def test_equal_structures_are_one_function() -> None:
    plan = dense(4)
    first, second = (plan.programs[p].segments[0] for p in (1, 2))
    one, _ = structure_of(plan.graph, first)
    other, _ = structure_of(plan.graph, second)
    assert one == other
    assert compiled(one) is compiled(other)


def test_where_a_tile_lies_is_no_part_of_its_structure() -> None:
    """Dropout's place in the uncut value travels in the vector of dynamic attributes."""
    with dbg.Network("drop", batch=4) as net:
        x = dbg.input("x", (8,))
        dbg.loss(L.MeanSquaredError()(L.Dropout(0.5, cut={"units": 2})(L.Dense(8)(x)), x))
    plan = dbg.make_plan(net, 2, strategy="tiles")
    drops = [n for n in plan.graph if n.op == "dropout"]
    assert len(drops) == 2
    made = [structure_of(plan.graph, Segment((n.name,), n.inputs, (n.name,))) for n in drops]
    assert made[0][0] == made[1][0]
    assert made[0][1].tolist() != made[1][1].tolist()
