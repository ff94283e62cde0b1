"""Drawings, tables and figures of plans."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import pytest

import dbgraph as dbg
from dbgraph import layers as L
from dbgraph.compile import forecast, make_plan
from dbgraph.errors import DbgraphError
from dbgraph.ir.region import Region
from dbgraph.plan.text import open_plan, save_plan
from dbgraph.show.columns import columns
from dbgraph.show.digest import Digest
from dbgraph.show.dot import plan_dot
from dbgraph.show.flow import flow
from dbgraph.show.json import plan_json
from dbgraph.show.svg import plan_svg
from dbgraph.show.table import partition_page, plan_table
from dbgraph.show.words import describe_region, example_shape, ranges

Golden = Callable[[str, str], None]
SVG = "{http://www.w3.org/2000/svg}"


def network(batch: int = 8) -> dbg.Network:
    """Cut by hand, so that every figure below is known: a halo, a cut inner axis, a skip."""
    with dbg.Network("small", batch=batch) as net:
        image = dbg.input("image", (6, 6, 1))
        label = dbg.input("label", (), dtype="int32")
        h = L.LocallyConnected2D(2, (3, 3), name="local", cut={"rows": 2})(image)
        h = L.Pool2D("max", (2, 2), (1, 1), name="pool", cut={"rows": 2})(h)
        a = L.Dense(6, name="left", cut={"rows": 2})(h)
        with dbg.partition(1):
            b = L.Dense(6, name="right")(h)
            scores = L.Add(name="both")(a, b)
            dbg.loss(L.SoftmaxCrossEntropy(name="error", l2=0.01)(scores, label))
            dbg.output("scores", scores)
    return net


@lru_cache
def digest(partitions: int = 2, mode: str = "training", microbatches: int = 1) -> Digest:
    plan = make_plan(network(), partitions, mode=mode, microbatches=microbatches, strategy="tiles")
    return Digest(plan, forecast(plan))


_FROZEN = Path(__file__).parent / "golden" / "show" / "small.plan"


@pytest.fixture(scope="module")
def frozen(request: pytest.FixtureRequest) -> Digest:
    """The digest of a plan that is kept in a file: the pictures below are to change with what
    draws them, not with the passes."""
    if request.config.getoption("--update-golden"):
        _FROZEN.parent.mkdir(parents=True, exist_ok=True)
        save_plan(digest().plan, _FROZEN)
    plan = open_plan(_FROZEN)
    return Digest(plan, forecast(plan))


# Figures


def test_layers_say_how_they_are_cut() -> None:
    rows = {row.name: row for row in digest().layers}
    assert str(rows["local"].cuts[0]) == "rows 2"
    assert rows["local"].shape == (8, 4, 4, 2)
    assert rows["local"].partitions == (0, 1)
    assert str(rows["left"].cuts[0]) == "inner rows 2"
    assert rows["right"].partitions == (1,)
    assert rows["right"].cuts[0] == ((), ())


def test_the_halo_is_what_crosses() -> None:
    """Row 2 of the filters' output is read by the pools of both machines: 8 × 4 × 2 floats."""
    rows = {row.name: row for row in digest().layers}
    weights = 2 * 4  # a sum of squared weights for the penalty, and its gradient
    assert rows["local"].forward_bytes == 8 * 4 * 2 * 4 + weights
    assert rows["pool"].backward_bytes == 8 * 4 * 2 * 4


def test_figures_add_up() -> None:
    for microbatches in (1, 2):
        one = digest(2, "training", microbatches)
        plan, cost = one.plan, one.forecast
        sent = sum(row.forward_bytes + row.backward_bytes for row in one.layers)
        assert sent == one.traffic_bytes == sum(row.out_bytes for row in one.partitions)
        assert one.traffic_bytes == sum(row.in_bytes for row in one.partitions)
        total = sum(t.size for t in plan.parameter_types.values())
        assert sum(row.parameters for row in one.layers) == total
        assert sum(row.parameters for row in one.partitions) == total
        assert sum(edge.bytes for edge in flow(one).edges) == one.traffic_bytes
        assert sum(cell.parameters for cell in flow(one).cells.values()) == total
        assert sum(cell.flop for cell in flow(one).cells.values()) == sum(
            m.flop for m in cost.machines
        )


def test_inference_sends_nothing_back() -> None:
    one = digest(2, "inference")
    assert not any(row.backward_bytes for row in one.layers)
    assert not any(edge.backward for edge in flow(one).edges)
    assert "sends back" not in plan_table(one)


def test_ranks_stand_in_the_order_of_reading() -> None:
    ranks = flow(digest()).ranks
    assert ranks["image"] < ranks["local"] < ranks["pool"] < ranks["left"] < ranks["both"]
    assert ranks["left"] == ranks["right"]
    assert ranks["label"] == ranks["error"] - 1


def test_two_inner_axes() -> None:
    with dbg.Network("n", batch=4) as net:
        image = dbg.input("image", (4, 6, 2))
        dbg.output("y", L.Dense(3, name="dense", cut={"rows": 2, "cols": 3, "units": 3})(image))
    plan = make_plan(net, 6, mode="inference", strategy="tiles")
    (row,) = (r for r in Digest(plan, forecast(plan)).layers if r.name == "dense")
    assert str(row.cuts[0]) == "units 3, inner rows 2 × cols 3"


def test_ranges() -> None:
    assert ranges((0, 1, 2, 5, 7, 8)) == "0-2, 5, 7-8"
    assert ranges(()) == ""


def test_regions_in_words() -> None:
    region = Region.of((0, 8), (2, 4), (0, 6), (1, 2))
    assert describe_region(region, (8, 4, 6, 3), 8) == "rows 2:4, maps 1:2"
    assert describe_region(region, (8, 4, 6, 3), 8, short=True) == "2:4 × 1:2"
    assert describe_region(Region.of((0, 8)), (8,), 8) == "all"
    assert describe_region(Region.of((0, 2), (1, 2)), (4, 2), 8) == "axis0 0:2, axis1 1:2"


def test_shapes_for_one_example() -> None:
    assert example_shape((8, 4, 3), 8) == "4 × 3"
    assert example_shape((8,), 8) == "scalar"
    assert example_shape((5, 3), 8) == "5 × 3"


# Tables


def test_table(golden: Golden, frozen: Digest) -> None:
    golden("show/table.txt", plan_table(frozen))


def test_table_of_one_partition(golden: Golden, frozen: Digest) -> None:
    golden("show/partition.txt", partition_page(frozen, 1))


def test_columns_align() -> None:
    text = columns(
        ["name", "n"], [["a", "1"], ["幅", "22"]], foot=["total", "23"], left=frozenset({"name"})
    )
    assert text.split("\n") == [
        "name    n",
        "─────────",
        "a       1",
        "幅     22",
        "─────────",
        "total  23",
    ]


def test_columns_of_unequal_lines_are_refused() -> None:
    with pytest.raises(DbgraphError):
        columns(["a", "b"], [["1"]])


# JSON


def test_json_has_the_documented_keys() -> None:
    found = plan_json(digest())
    assert json.loads(json.dumps(found)) == found
    assert list(found) == [
        "plan",
        "inputs",
        "outputs",
        "forecast",
        "partitions",
        "layers",
        "links",
    ]
    assert found["inputs"]["image"] == {"shape": [8, 6, 6, 1], "dtype": "float32"}
    assert found["forecast"]["deadlock"] is False
    (left,) = (row for row in found["layers"] if row["name"] == "left")
    assert (left["cut"], left["inner"]) == ({}, {"rows": 2})
    assert sum(link["bytes"] for link in found["links"]) == found["forecast"]["traffic_bytes"]


def test_json_of_one_partition() -> None:
    found = plan_json(digest(), 1)
    assert [row["partition"] for row in found["partitions"]] == [1]
    assert found["program"][-1] == "UPDATE"
    assert {"parameter": "right/biases", "region": "0:6"} in found["held"]


# DOT


def test_dot(golden: Golden, frozen: Digest) -> None:
    golden("show/plan.dot", plan_dot(frozen, 0))


@pytest.mark.parametrize("partition", [None, 0, 1])
def test_dot_names_every_node_it_joins(partition: int | None) -> None:
    text = plan_dot(digest(), partition)
    assert text.count("{") == text.count("}")
    name = r'("(?:[^"\\]|\\.)*"|peer_\d+)'
    declared = set(re.findall(rf"^ +{name} \[", text, re.M))
    for source, to in re.findall(rf"^ +{name} -> {name}", text, re.M):
        assert {source, to} <= declared


def test_dot_draws_every_transfer_once_with_its_bytes() -> None:
    plan = digest().plan
    assert len(re.findall(r'label="t\d+: [0-9.]+ K?i?B"', plan_dot(digest()))) == len(
        plan.transfers
    )


# SVG


def test_svg(golden: Golden, frozen: Digest) -> None:
    golden("show/plan.svg", plan_svg(frozen))


@pytest.mark.parametrize("partitions", [1, 2, 12, 40])
def test_svg_fits_its_page(partitions: int) -> None:
    with dbg.Network("wide", batch=40) as net:
        x = dbg.input("x", (80,))
        h = L.Dense(80, "relu", name="a_layer_with_a_name_that_is_too_long_for_a_column")(x)
        dbg.loss(L.MeanSquaredError()(L.Dense(80)(h), x))
    plan = make_plan(net, partitions, strategy="tiles")
    root = ElementTree.fromstring(plan_svg(Digest(plan, forecast(plan))))
    width, height = (float(root.attrib[side]) for side in ("width", "height"))
    boxes = root.findall(f".//{SVG}rect")
    assert len(boxes) > 3 * partitions
    for box in boxes[1:]:
        left, top, wide, high = (float(box.attrib[k]) for k in ("x", "y", "width", "height"))
        assert left >= 0
        assert top >= 0
        assert left + wide <= width
        assert top + high <= height


def test_boxes_of_a_drawing_do_not_overlap() -> None:
    root = ElementTree.fromstring(plan_svg(digest()))
    cells = [group.find(f"{SVG}rect") for group in root.findall(f"{SVG}g")]
    regions = []
    for cell in cells:
        assert cell is not None
        x, y, w, h = (int(float(cell.attrib[k]) * 10) for k in ("x", "y", "width", "height"))
        regions.append(Region.of((x, x + w), (y, y + h)))
    for i, one in enumerate(regions):
        assert not any(one.overlaps(other) for other in regions[:i])


def test_svg_of_one_partition_draws_its_edges_alone() -> None:
    with dbg.Network("four", batch=4) as net:
        h = L.Dense(8, cut={"units": 4})(dbg.input("x", (8,)))
        dbg.output("y", L.Dense(8, cut={"units": 4})(h))
    plan = make_plan(net, 4, mode="inference", strategy="tiles")
    one = Digest(plan, forecast(plan))
    assert plan_svg(one).count("stroke-opacity") == 12
    assert plan_svg(one, 1).count("stroke-opacity") == 6


def test_svg_takes_linear_time_and_place() -> None:
    """Twice the partitions of a chain of stages: twice the text."""
    sizes = []
    for stages in (8, 16):
        with dbg.Network("chain", batch=4) as net:
            h = dbg.input("x", (4,))
            for _ in range(stages):
                h = L.Dense(4)(h)
            dbg.output("y", h)
        plan = make_plan(net, stages, mode="inference", strategy="stages")
        sizes.append(len(plan_svg(Digest(plan, forecast(plan)))))
    assert sizes[1] < 2.2 * sizes[0]
