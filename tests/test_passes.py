"""Each pass on small graphs: its text, and what it promises."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dbgraph as dbg
from dbgraph import layers as L
from dbgraph.compile import PASSES, Options, forecast, make_plans
from dbgraph.errors import NetworkError, NoCutError
from dbgraph.ir.graph import Graph
from dbgraph.ir.region import Region, covers, grid
from dbgraph.ir.text import print_graph
from dbgraph.passes.microbatch import Microbatch
from dbgraph.passes.pieces import Grid, Local, Loose, Piece, pieces_of
from dbgraph.passes.simplify import Simplify
from dbgraph.passes.tile import atoms_of
from dbgraph.plan.program import Send
from dbgraph.plan.text import lines_of
from dbgraph.plan.verify import verify_plan

Golden = Callable[[str, str], None]


def image_network() -> dbg.Network:
    """A locally connected layer in two rows of tiles, and a dense layer whose inner axis is cut."""
    with dbg.Network("image", batch=4) as net:
        image = dbg.input("image", (6, 4, 1))
        target = dbg.input("target", (3,))
        first = L.LocallyConnected2D(maps=2, patch=(3, 3), cut={"rows": 2}, name="first")
        second = L.Conv2D(maps=2, patch=(3, 1), padding="same", cut={"rows": 2}, name="second")
        h = second(first(image))
        scores = L.Dense(3, cut={"rows": 2}, name="scores")(h)
        dbg.loss(L.MeanSquaredError()(scores, target))
        dbg.output("scores", scores)
    return net


def graphs(network: dbg.Network, **options: object) -> tuple[dict[str, Graph], dbg.Plan]:
    """The graph after every pass, and the plan."""
    seen: dict[str, Graph] = {}
    chosen = Options(watch=seen.__setitem__, **options)  # type: ignore[arg-type]
    (plan,) = make_plans(network, chosen).values()
    return seen, plan


def text_of(graph: Graph) -> str:
    """Without the lines of this file, which change with it."""
    return re.sub(r" at \S+:\d+$", "", print_graph(graph), flags=re.MULTILINE)


def test_every_pass_prints_as_expected(golden: Golden) -> None:
    seen, plan = graphs(image_network(), partitions=2, strategy="tiles")
    assert tuple(seen) == PASSES
    for name, graph in seen.items():
        golden(f"passes/{name}.txt", text_of(graph))
    golden("passes/schedule.txt", "\n".join(lines_of(plan.programs)))


def test_two_microbatches_print_as_expected(golden: Golden) -> None:
    seen, plan = graphs(image_network(), partitions=2, strategy="stages", microbatches=2)
    golden("passes/two_microbatches.txt", text_of(seen["microbatch"]))
    golden("passes/two_microbatches_schedule.txt", "\n".join(lines_of(plan.programs)))


def test_passes_leave_their_argument_alone() -> None:
    network = image_network()
    before = print_graph(network.graph)
    dbg.make_plan(network, 2, microbatches=2)
    assert print_graph(network.graph) == before


class TestSimplify:
    def test_equal_expressions_are_computed_once_and_dead_ones_never(self) -> None:
        with dbg.Network("twice", batch=2) as net:
            x = dbg.input("x", (3,))
            dbg.output("y", (x * 2.0) + (x * 2.0) + L.Reshape((3,))(x))
        graph = Simplify()(net.graph)
        assert [n.op for n in graph] == ["input", "affine", "add", "add"]

    def test_equal_dropouts_of_different_layers_stay_apart(self) -> None:
        with dbg.Network("drop", batch=2) as net:
            x = dbg.input("x", (3,))
            dbg.output("y", L.Dropout(0.5)(x) + L.Dropout(0.5)(x))
        assert [n.op for n in Simplify()(net.graph)].count("dropout") == 2


class TestMicrobatch:
    def test_a_batch_that_does_not_divide_is_refused(self) -> None:
        with pytest.raises(NoCutError, match="a batch of 4 can't be cut into 3"):
            Microbatch(4, 3)(image_network().graph)

    def test_all_shapes_shrink_and_penalties_count_by_their_share(self) -> None:
        with dbg.Network("penalty", batch=4) as net:
            x = dbg.input("x", (3,))
            y = L.Dense(2, l2=0.1, name="y")(x)
            dbg.loss(L.MeanSquaredError()(y, dbg.input("t", (2,))))
        graph = Microbatch(4, 2)(net.graph)
        assert graph["x"].type.shape == (2, 3)
        assert graph["y/contract"].type.shape == (2, 2)
        shares = [n for n in graph if n.name.endswith("/share")]
        assert shares
        assert {n.attrs["scale"] for n in shares} == {0.5}


class TestMode:
    def test_inference_needs_no_labels(self) -> None:
        plan = dbg.make_plan(image_network(), 2, mode="inference")
        assert {n.attrs["of"] for n in plan.graph if n.op == "input"} == {"image"}
        assert {r.kind for r in plan.graph.results} == {"output"}

    def test_training_needs_a_loss(self) -> None:
        with dbg.Network("none", batch=2) as net:
            dbg.output("y", dbg.input("x", (3,)) * 2.0)
        with pytest.raises(NetworkError, match="a plan for training needs a loss"):
            dbg.make_plan(net, 1)

    def test_dropout_is_for_training_only(self) -> None:
        with dbg.Network("drop", batch=2) as net:
            x = dbg.input("x", (3,))
            dbg.loss(L.MeanSquaredError()(L.Dropout(0.5)(L.Dense(3)(x)), x))
        plans = make_plans(net, Options(2, modes=("training", "evaluation")))
        assert "dropout" in {n.op for n in plans["training"].graph}
        assert "dropout" not in {n.op for n in plans["evaluation"].graph}

    def test_all_modes_place_parameters_alike(self) -> None:
        modes = ("training", "evaluation", "inference")
        plans = make_plans(image_network(), Options(2, modes=modes))
        held = [{p: plan.leaves("parameter", p) for p in range(2)} for plan in plans.values()]
        assert held[0] == held[1] == held[2]


class TestTile:
    def test_the_halo_of_a_locally_connected_layer_crosses_once_and_nothing_else(self) -> None:
        """Two layers of 3×3 patches on 8×8, in two rows of tiles. Counted by hand: `low` gives
        6×6×2, the tiles of `high` (4×4) read rows 0–3 and 2–5 of it and hold rows 0–2 and 3–5:
        so row 3 goes up and row 2 goes down, 6×2 elements of 4 bytes for each of 5 examples, and
        as much comes back. The weights are read where they stand."""
        with dbg.Network("halo", batch=5) as net:
            image = dbg.input("image", (8, 8, 1))
            low = L.LocallyConnected2D(maps=2, patch=(3, 3), cut={"rows": 2}, name="low")(image)
            high = L.LocallyConnected2D(maps=1, patch=(3, 3), cut={"rows": 2}, name="high")(low)
            dbg.output("y", high)
            dbg.loss(L.MeanSquaredError()(high, dbg.input("t", (4, 4, 1))))
        plan = dbg.make_plan(net, 2, strategy="tiles")
        row_bytes = 5 * 6 * 2 * 4
        crossing = {
            (t.source, t.to, t.type.size_bytes, "forward" if "'" not in t.value else "backward")
            for t in plan.transfers
            if t.type.rank == 4
        }
        assert crossing == {
            (0, 1, row_bytes, "forward"),
            (1, 0, row_bytes, "forward"),
            (0, 1, row_bytes, "backward"),
            (1, 0, row_bytes, "backward"),
        }
        # Beside them only the partial sums of the loss cross, one way and back.
        others = [t for t in plan.transfers if t.type.rank != 4]
        assert sum(t.type.size_bytes for t in others) <= 2 * 5 * 4

    def test_a_value_is_sent_once_however_many_tiles_read_it(self) -> None:
        with dbg.Network("many", batch=4) as net:
            x = dbg.input("x", (6,))
            with dbg.partition(0):
                h = L.Dense(6, name="h")(x)
            with dbg.partition(1):
                a = L.Dense(4, cut={"units": 4}, name="a")(h)
                b = L.Dense(4, cut={"units": 2}, name="b")(h)
                dbg.loss(L.MeanSquaredError()(a, b))
        plan = dbg.make_plan(net, 2)
        there = [t for t in plan.transfers if (t.source, t.to) == (0, 1)]
        back = [t for t in plan.transfers if (t.source, t.to) == (1, 0)]
        assert [t.type.shape for t in there] == [(4, 6)]
        assert [t.type.shape for t in back] == [(4, 6)]

    def test_overlapping_halos_of_two_readers_cross_once(self) -> None:
        """Patches of 3 and of 5 rows read the same tile: the wider halo holds the narrower."""
        with dbg.Network("overlap", batch=2) as net:
            image = dbg.input("image", (8, 4, 1))
            h = L.Conv2D(maps=1, patch=(1, 1), cut={"rows": 2}, name="h")(image)
            narrow = L.Conv2D(maps=1, patch=(3, 1), padding="same", cut={"rows": 2}, name="n")(h)
            wide = L.Conv2D(maps=1, patch=(5, 1), padding="same", cut={"rows": 2}, name="w")(h)
            dbg.output("y", L.Add()(narrow, wide))
        plan = dbg.make_plan(net, 2, mode="inference", strategy="tiles")
        halos = [t for t in plan.transfers if t.value.startswith("h/add")]
        assert sorted((t.source, t.to, t.type.shape) for t in halos) == [
            (0, 1, (2, 2, 4, 1)),
            (1, 0, (2, 2, 4, 1)),
        ]

    def test_a_dense_layers_parameters_split_with_its_tiles(self) -> None:
        with dbg.Network("dense", batch=4) as net:
            y = L.Dense(8, cut={"units": 4}, name="y")(dbg.input("x", (6,)))
            dbg.output("y", y)
        plan = dbg.make_plan(net, 4, mode="inference", strategy="tiles")
        for p in range(4):
            held = {leaf.of: str(leaf.region) for leaf in plan.leaves("parameter", p)}
            columns = f"{2 * p}:{2 * p + 2}"
            assert held == {"y/weights": f"0:6,{columns}", "y/biases": columns}

    def test_each_partition_reads_only_its_region_of_an_input(self) -> None:
        plan = dbg.make_plan(image_network(), 2, strategy="tiles")
        rows = [
            leaf.region.bounds[1]
            for p in range(2)
            for leaf in plan.leaves("input", p)
            if leaf.of == "image"
        ]
        assert rows == [(0, 4), (2, 6)]


class TestPartition:
    def test_layers_stand_where_the_user_put_them(self) -> None:
        with dbg.Network("placed", batch=4) as net:
            x = dbg.input("x", (6,))
            with dbg.partition(2):
                h = L.Dense(4, name="low")(x)
            with dbg.partition(1):
                h = L.Dense(4, name="middle")(h)
            with dbg.partition(0):
                dbg.loss(L.MeanSquaredError()(h, dbg.input("t", (4,))))
        for strategy in ("tiles", "stages"):
            plan = dbg.make_plan(net, 3, strategy=strategy)
            places = {n.layer: n.partition for n in plan.graph if n.op == "contract"}
            assert places == {"low": 2, "middle": 1}

    def test_an_inner_cut_adds_partial_results(self) -> None:
        with dbg.Network("inner", batch=4) as net:
            y = L.Dense(4, cut={"inputs": 3}, name="y")(dbg.input("x", (7,)))
            dbg.output("y", y)
        plan = dbg.make_plan(net, 3, mode="inference")
        parts = [n for n in plan.graph if n.op == "contract"]
        assert [n.partition for n in parts] == [0, 1, 2]
        widths = [plan.graph.input_types(n)[1].shape[0] for n in parts]
        assert sorted(widths) == [2, 2, 3]

    def test_a_partition_that_does_not_exist(self) -> None:
        with dbg.Network("far", batch=4) as net, dbg.partition(5):
            dbg.output("y", L.Dense(4, name="far")(dbg.input("x", (6,))))
        with pytest.raises(NoCutError, match=r"far is placed on partition 5, but there are 2"):
            dbg.make_plan(net, 2, mode="inference")

    def test_more_partitions_than_work(self) -> None:
        with dbg.Network("tiny", batch=1) as net:
            dbg.output("y", L.Dense(2, name="y")(dbg.input("x", (2,))))
        with pytest.raises(NoCutError, match=r"partitions are asked for|stages need as many"):
            dbg.make_plan(net, 16, mode="inference")

    def test_stages_balance_by_flops_exactly(self) -> None:
        from dbgraph.passes.partition.stages import balanced

        assert balanced([1, 1, 1, 9, 1], 3) == [(0, 3), (3, 4), (4, 5)]
        assert balanced([5, 5, 5, 5], 2) == [(0, 2), (2, 4)]

    @given(st.lists(st.integers(0, 9), min_size=1, max_size=8), st.data())
    def test_no_division_into_stages_is_better(self, weights: list[int], data) -> None:
        from dbgraph.passes.partition.stages import balanced

        parts, count = data.draw(st.integers(1, len(weights))), len(weights)
        ranges = balanced(weights, parts)
        assert [a for a, _ in ranges] + [count] == [0, *(b for _, b in ranges)]
        assert len(ranges) == parts
        assert all(a < b for a, b in ranges)
        ways = ((0, *ends, count) for ends in combinations(range(1, count), parts - 1))
        least = min(max(sum(weights[a:b]) for a, b in pairwise(way)) for way in ways)
        assert max(sum(weights[a:b]) for a, b in ranges) == least


class TestSchedule:
    def test_a_chain_of_stages_with_microbatches_is_one_forward_one_backward(self) -> None:
        """As a picture: stage 0 starts the third microbatch before the first comes back, and
        afterwards goes one backward, one forward."""
        with dbg.Network("chain", batch=8) as net:
            h = dbg.input("x", (4,))
            for k in range(2):
                with dbg.partition(k):
                    h = L.Dense(4, name=f"s{k}")(h)
                    if k == 1:
                        dbg.loss(L.MeanSquaredError()(h, dbg.input("t", (4,))))
        plan = dbg.make_plan(net, 2, microbatches=4, strategy="stages")
        runs = [str(i) for i in plan.programs[0].instructions if str(i).startswith("RUN")]
        assert runs == [
            "RUN s0.0",
            "RUN s0.1",
            "RUN s1.0",
            "RUN s0.2",
            "RUN s1.1",
            "RUN s0.3",
            "RUN s1.2",
            "RUN s1.3",
        ]

    def test_what_is_the_same_for_all_microbatches_crosses_in_the_first_alone(self) -> None:
        """A convolution's weights, read by both machines; its image's halo crosses each time."""
        with dbg.Network("rows", batch=8) as net:
            first = L.Conv2D(maps=2, patch=(3, 1), padding="same", cut={"rows": 2}, name="first")
            second = L.Conv2D(maps=2, patch=(3, 1), padding="same", cut={"rows": 2}, name="second")
            dbg.output("y", second(first(dbg.input("x", (4, 2, 1)))))
        plan = dbg.make_plan(net, 2, microbatches=4, strategy="tiles", mode="inference")
        sent = Counter(
            plan.transfers[i.transfer].value
            for program in plan.programs
            for i in program.instructions
            if isinstance(i, Send)
        )
        times = {plan.graph[name].op: count for name, count in sent.items()}
        assert times == {"parameter": 1, "assemble": 4}
        assert {t.value for t in plan.transfers if t.invariant} == {
            name for name in sent if plan.graph[name].op == "parameter"
        }
        assert not forecast(plan).blocked
        verify_plan(plan)


class TestPieces:
    """The tiles that overlap a region, whatever form they have."""

    @settings(deadline=None)
    @given(data=st.data())
    def test_all_forms_find_what_overlaps(self, data: st.DataObject) -> None:
        bounds = st.sets(st.integers(1, 8), max_size=3).map(lambda s: (0, *sorted(s), 9))
        boxes = list(grid(data.draw(st.tuples(bounds, bounds))))
        kept = data.draw(st.sets(st.sampled_from(boxes), min_size=1))
        pieces = [Piece(box, 0, str(box)) for box in sorted(kept)]
        one, other = data.draw(st.tuples(*2 * [st.sampled_from(sorted(kept))]))
        inner = one.replace(0, (one.start[0], one.start[0] + 1))
        for region in (one, inner, one.hull(other)):
            if not covers(region, kept):
                continue  # nobody reads what nobody holds
            near = [piece for piece in pieces if piece.region.overlaps(region)]
            expected = [(piece, piece.region.intersect(region)) for piece in near]
            assert list(pieces_of(pieces).taken(region, 0)) == expected
            assert list(Loose(pieces).taken(region, 0)) == expected
            assert list(Local(pieces).taken(region, 0)) == expected
            assert not list(Local(pieces).taken(region, 1))

    def test_a_grid_is_found_out(self) -> None:
        boxes = list(grid([(2, 4, 7), (0, 5)]))
        assert isinstance(pieces_of([Piece(box, 0, "") for box in boxes]), Grid)
        assert isinstance(pieces_of([Piece(box, 0, "") for box in grid([])]), Grid)
        loose = [Region.of((0, 2), (0, 2)), Region.of((2, 3), (1, 2))]
        assert isinstance(pieces_of([Piece(box, 0, "") for box in loose]), Loose)


def test_a_parameter_s_boxes_are_disjoint_and_know_their_readers() -> None:
    a, b, c = Region.of((0, 4), (0, 4)), Region.of((2, 6), (0, 4)), Region.of((8, 9), (0, 1))
    atoms = atoms_of({0: {a}, 1: {b, c}, 2: {a}})
    assert atoms == [
        (Region.of((0, 2), (0, 4)), (0, 2)),
        (Region.of((2, 4), (0, 4)), (0, 1, 2)),
        (Region.of((4, 6), (0, 4)), (1,)),
        (c, (1,)),
    ]
