"""Layout: shards own disjoint regions that cover all, balanced, and near to their partitions."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ps_tools import leaves

import dbgraph as dbg
from dbgraph import layers as L
from dbgraph.errors import PlanError, UsageError
from dbgraph.ir.region import Region, covers
from dbgraph.ir.types import TensorType
from dbgraph.job import Job
from dbgraph.machine import Machine
from dbgraph.plan.plan import Leaf, Plan
from dbgraph.ps.initial import initial_state
from dbgraph.ps.layout import SLACK, Layout, lay_out
from dbgraph.ps.routes import Routes, pushing

SPEECH = {
    **{f"w{i}": TensorType((440 if i == 0 else 2560, 2560)) for i in range(4)},
    **{f"b{i}": TensorType((2560,)) for i in range(4)},
    "softmax": TensorType((2560, 8192)),
}


@st.composite
def layouts(draw: st.DrawFn) -> tuple[dict[str, TensorType], list[list[Leaf]], Layout]:
    shapes = st.lists(st.integers(1, 40), min_size=1, max_size=3).map(tuple)
    dtypes = st.sampled_from(["float32", "float64", "bfloat16"])
    kinds = draw(st.lists(st.builds(TensorType, shapes, dtypes), min_size=1, max_size=5))
    types = {f"p{i}": kind for i, kind in enumerate(kinds)}
    held = leaves(types, draw(st.integers(1, 5)))
    shards = draw(st.integers(1, 8))
    try:
        return types, held, lay_out(types, held, shards)
    except UsageError as error:
        fewer = int(error.hint.removeprefix("use "))
        assert fewer < shards
        return types, held, lay_out(types, held, fewer)


@settings(deadline=None, max_examples=50)
@given(layouts())
def test_shards_own_disjoint_regions_that_cover_all(
    case: tuple[dict[str, TensorType], list[list[Leaf]], Layout],
) -> None:
    types, _, layout = case
    for name, kind in types.items():
        regions = [o.region for owned in layout.shards for o in owned if o.parameter == name]
        assert covers(Region.whole(kind.shape), regions)
        assert not any(a.overlaps(b) for a, b in combinations(regions, 2))


@settings(deadline=None, max_examples=50)
@given(layouts())
def test_shards_are_balanced_within_a_row(
    case: tuple[dict[str, TensorType], list[list[Leaf]], Layout],
) -> None:
    types, held, layout = case
    sizes = [layout.size_bytes(s) for s in range(len(layout.shards))]
    assert sum(sizes) == sum(kind.size_bytes for kind in types.values())
    assert all(sizes)
    share = sum(sizes) / len(sizes)
    rows = [
        types[leaf.of].with_shape(leaf.region.shape).size_bytes / max(leaf.region.shape)
        for of_one in held
        for leaf in of_one
    ]
    assert max(abs(size - share) for size in sizes) <= max(*rows, 2 * SLACK * share, share / 64)


@settings(deadline=None, max_examples=50)
@given(layouts())
def test_partitions_talk_to_few_shards(
    case: tuple[dict[str, TensorType], list[list[Leaf]], Layout],
) -> None:
    types, held, layout = case
    traffic = layout.traffic(held)
    assert len(traffic) <= len(held) + len(layout.shards) - 1
    assert sum(traffic.values()) == sum(kind.size_bytes for kind in types.values())


@settings(deadline=None, max_examples=40)
@given(layouts(), st.data())
def test_any_region_is_found_in_pieces(
    case: tuple[dict[str, TensorType], list[list[Leaf]], Layout], data: st.DataObject
) -> None:
    types, _, layout = case
    name = data.draw(st.sampled_from(list(types)))
    bounds = []
    for n in types[name].shape:
        low = data.draw(st.integers(0, n - 1))
        bounds.append((low, data.draw(st.integers(low + 1, n))))
    region = Region(tuple(bounds))
    marks = np.zeros(types[name].shape, int)
    for piece in layout.pieces(name, region):
        assert any(
            o.parameter == name and o.region.contains(piece.region)
            for o in layout.shards[piece.shard]
        )
        marks[piece.region.slices()] += 1
    expected = np.zeros_like(marks)
    expected[region.slices()] = 1
    np.testing.assert_array_equal(marks, expected)


def test_equal_partitions_and_shards_pair_off() -> None:
    held = leaves(SPEECH, 8)
    assert set(lay_out(SPEECH, held, 8).traffic(held)) == {(p, p) for p in range(8)}
    # Partitions that differ a little still pair off: a cut moves to a partition's end nearby.
    held = leaves(SPEECH, 7)
    assert len({leaf.region.size for leaf in (of[0] for of in held)}) > 1
    assert set(lay_out(SPEECH, held, 7).traffic(held)) == {(p, p) for p in range(7)}


def test_pieces_are_contiguous_in_their_leaf() -> None:
    held = leaves(SPEECH, 2)
    layout = lay_out(SPEECH, held, 5)
    for of_one in held:
        for leaf in of_one:
            for piece in layout.pieces(leaf.of, leaf.region):
                array = np.empty(leaf.region.shape, np.int8)
                assert array[piece.region.within(leaf.region).slices()].flags.c_contiguous


def test_elements_that_two_partitions_hold_are_owned_once() -> None:
    types = {"filter": TensorType((10, 4)), "w": TensorType((20,))}
    whole = Region.whole((10, 4))
    held = [
        [Leaf("f@0", "filter", whole, 0), Leaf("w@0", "w", Region.of((0, 12)), 0)],
        [Leaf("f@1", "filter", whole, 1), Leaf("w@1", "w", Region.of((8, 20)), 1)],
    ]
    layout = lay_out(types, held, 3)
    assert sum(layout.size_bytes(s) for s in range(3)) == 4 * (40 + 20)
    fetched = layout.traffic(held)
    assert sum(b for (p, _), b in fetched.items() if p == 1) == 4 * (40 + 12)


def test_a_number_is_not_cut() -> None:
    types = {"a": TensorType(()), "b": TensorType(()), "c": TensorType(())}
    held = [[Leaf(name, name, Region(()), 0) for name in types]]
    assert [len(owned) for owned in lay_out(types, held, 3).shards] == [1, 1, 1]
    with pytest.raises(UsageError, match="4 shards are more than the parameters can be cut for"):
        lay_out(types, held, 4)


def test_bad_input_is_refused() -> None:
    types = {"w": TensorType((3, 2))}
    held = leaves(types, 1)
    with pytest.raises(UsageError, match="0 shards"):
        lay_out(types, held, 0)
    with pytest.raises(UsageError, match="use 3"):
        lay_out(types, held, 5)
    with pytest.raises(UsageError, match="no parameters"):
        lay_out({}, [[]], 1)
    layout = lay_out(types, held, 1)
    for name, region in (("v", Region.of((0, 1))), ("w", Region.of((0, 4), (0, 1)))):
        with pytest.raises(PlanError, match="no shard holds all"):
            layout.pieces(name, region)


def plan_of(partitions: int) -> Plan:
    with dbg.Network("two", batch=4, seed=3) as net:
        hidden = L.Dense(16, activation="sigmoid", name="hidden")(dbg.input("x", (12,)))
        dbg.output("aside", L.Dense(5, name="aside")(hidden))
        dbg.loss(L.MeanSquaredError()(L.Dense(6, name="out")(hidden), dbg.input("t", (6,))))
    return dbg.make_plan(net, partitions)


@pytest.mark.parametrize(("partitions", "shards"), [(1, 1), (2, 3), (4, 2)])
def test_a_plans_parameters_are_laid_out(partitions: int, shards: int) -> None:
    plan = plan_of(partitions)
    layout = Layout.of(plan, shards)
    total = sum(kind.size_bytes for kind in plan.parameter_types.values())
    assert sum(layout.size_bytes(s) for s in range(shards)) == total
    whole = Machine(Job({"train": plan_of(1)}), 0)
    whole.load(None)
    expected = whole.collect()
    for owned in layout.shards:
        state = initial_state(plan, owned)
        for one in owned:
            np.testing.assert_array_equal(
                state.region(one.parameter, one.region),
                expected.region(one.parameter, one.region),
            )


def test_only_what_has_a_gradient_is_pushed() -> None:
    plan = plan_of(2)
    layout = Layout.of(plan, 3)
    trained = {r.name for r in plan.graph.results if r.kind == "gradient"}
    assert trained == {name for name in plan.parameter_types if not name.startswith("aside")}
    held = [plan.leaves("parameter", p) for p in range(2)]
    for partition, leaves_of_one in enumerate(held):
        routes = Routes.of(layout, plan, partition)
        fetched = {(way.leaf.of, way.region) for w in routes.fetched.values() for way in w}
        pushed = {(way.leaf.of, way.region) for w in routes.pushed.values() for way in w}
        assert pushed == {(name, region) for name, region in fetched if name in trained}
        assert sum(r.size for _, r in fetched) == sum(leaf.region.size for leaf in leaves_of_one)
        of_shard = {
            shard: sum(
                plan.parameter_types[w.leaf.of].with_shape(w.region.shape).size_bytes for w in way
            )
            for shard, way in routes.fetched.items()
        }
        traffic = layout.traffic(held)
        assert of_shard == {s: n for (p, s), n in traffic.items() if p == partition}
        pushers = pushing(layout, plan)
        assert {s for s, ps in pushers.items() if partition in ps} == {*routes.pushed}


def test_a_layout_fits_replicas_with_other_partitions() -> None:
    layout = Layout.of(plan_of(4), 3)
    for partitions in (1, 2, 3):
        plan = plan_of(partitions)
        held = [plan.leaves("parameter", p) for p in range(partitions)]
        total = sum(kind.size_bytes for kind in plan.parameter_types.values())
        assert sum(layout.traffic(held).values()) == total


def test_another_networks_plan_is_refused() -> None:
    with pytest.raises(PlanError, match="no shard holds all"):
        lay_out(SPEECH, leaves(SPEECH, 2), 2).traffic([plan_of(1).leaves("parameter", 0)])
