"""Cuts as text in a plan's file, and plans that are made anew of edited ones."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from strategies_networks import networks
from test_cut_equals_uncut import check

import dbgraph as dbg
from dbgraph import layers as L
from dbgraph.compile import Options, forecast, make_plans
from dbgraph.errors import DbgraphError, NoCutError, PlanError
from dbgraph.ir.graph import Cut
from dbgraph.numerics import compare
from dbgraph.passes.partition.choice import reductions_of
from dbgraph.passes.partition.given import CutError, Given, against_pins
from dbgraph.plan.choice import Choice, InnerCut
from dbgraph.plan.cuts import line_of, parse_cuts, print_cuts
from dbgraph.plan.declared import Declared
from dbgraph.plan.edited import edited_node
from dbgraph.plan.plan import Plan
from dbgraph.plan.text import open_plan, print_plan, save_plan
from dbgraph.plan.verify import verify_plan

_ALL = settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))


def network(batch: int = 8, units: int = 4) -> dbg.Network:
    with dbg.Network("small", batch=batch) as net:
        image, label = dbg.input("image", (6, 4, 1)), dbg.input("label", (), dtype="int32")
        h = L.LocallyConnected2D(2, (3, 3), name="local", activation="relu")(image)
        h = L.Dense(units, "relu", name="hidden")(h)
        scores = L.Dense(3, name="scores", l2=0.01)(h)
        dbg.loss(L.SoftmaxCrossEntropy(name="error")(scores, label))
        dbg.output("scores", scores)
    return net


LINES = """\
local/local2d local/add local/relu: batch 8, rows 0|1|4, cols 2, maps 2 -> 0 1
hidden/contract: inner rows 0|1|4; parts batch 8, units 4 -> 0 1; combined batch 8, units 4 -> 0
hidden/add hidden/relu: batch 8, units 4 -> 0
scores/contract scores/add: batch 8, units 0|1|3 -> 1 0
error/logsumexp: inner units 0|1|3; parts batch 8 -> 1 0; combined batch 8 -> 0
error/pick error/subtract: batch 0|2|8 -> 1 0
loss#error/sum: inner batch 0|3|8; parts scalar -> 1 0; combined scalar -> 1
"""


def plan(net: dbg.Network | None = None, partitions: int = 2, **more: object) -> Plan:
    options = Options(partitions, **{"strategy": "tiles", "microbatches": 1, **more})  # type: ignore[arg-type]
    return make_plans(net or network(), options)[options.modes[0]]


def again(old: Plan, partitions: int | None = None, microbatches: int | None = None) -> Plan:
    """What `compile --from` does."""
    count = microbatches or old.microbatches
    options = Options(
        partitions=partitions or old.partitions,
        microbatches=count,
        strategy=old.strategy,
        order=old.order,
        modes=(old.mode,),
        given=Given.by(old, count),
    )
    return make_plans(Declared.of(old), options)[old.mode]


def edited(old: Plan, *lines: str) -> Plan:
    """With these lines in the place of those that name the same nodes."""
    new = parse_cuts(lines, old.network, old.batch)
    return replace(old, cuts={**old.cuts, **new})


# Text


def test_cuts_read_as_people_would_say_them() -> None:
    net = network()
    cuts = parse_cuts(LINES.split("\n"), net.graph, net.batch)
    assert cuts["local/add"] == Choice(Cut(((0, 8), (0, 1, 4), (0, 2), (0, 2)), (0, 1)))
    inner = cuts["hidden/contract"].inner
    assert inner is not None
    assert [r.name for r in inner.reductions] == ["rows"]
    assert inner.splits == ((0, 1, 4),)
    assert inner.partials == (Cut(((0, 8), (0, 4)), (0,)), Cut(((0, 8), (0, 4)), (1,)))
    classes = cuts["error/logsumexp"].inner
    assert classes is not None
    assert classes.reductions[0].axes == ((0, 1),)


def test_lines_are_printed_as_they_were_read() -> None:
    net = network()
    assert print_cuts(parse_cuts(LINES.split("\n"), net.graph, 8), net.graph, 8) + "\n" == LINES


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("scores/add: batch 8, units 3/2 -> 0 1", "scores/add: batch 8, units 0|2|3 -> 0 1"),
        ("scores/add: batch 8/8, units 3 -> 0-7", "scores/add: batch 8/8, units 3 -> 0 1 2 3-7"),
        ("  scores/add: axis0 8, axis1 3 -> 0 ", "scores/add: batch 8, units 3 -> 0"),
        ("scores/add: batch 8, maps 3 -> 0", "scores/add: batch 8, units 3 -> 0"),
        ("# a note", ""),
    ],
)
def test_other_ways_to_write(short: str, long: str) -> None:
    graph = network().graph
    assert parse_cuts([short], graph, 8) == parse_cuts([long], graph, 8)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("scores/add", "expected 'NODE …: AXIS BOUNDS"),
        (": batch 8 -> 0", "expected 'NODE …: AXIS BOUNDS"),
        ("scores/add: batch 8, units 3", "expected 'AXIS BOUNDS, … -> PARTITION …'"),
        ("scores/add: batch 8, cols 3 -> 0", "axis 1 of 2 is called units or maps, not 'cols'"),
        ("scores/add: units 3, batch 8 -> 0", "axis 0 of 2 is called batch, not 'units'"),
        ("scores/add: batch 8, units 3|0 -> 0", "bounds of units must rise from 0; they are 3|0"),
        ("scores/add: batch 8, units 0|2|2|3 -> 0 0 0", "must rise from 0"),
        ("scores/add: batch 8, units 0 -> 0", "must rise from 0"),
        ("scores/add: batch 8, units x -> 0", "expected an axis such as 'units 128'"),
        ("scores/add: batch 8, units 3/4 -> 0 0 0 0", "3 elements and can't be cut into 4"),
        ("scores/add: batch 8, units 3/0 -> 0", "can't be cut into 0 pieces"),
        ("scores/add: batch 8, units 0|1|3 -> 0", "make 2 tiles, but 1 partitions are named"),
        ("scores/add: batch 8, units 3 -> -1", "'-1' is no partition"),
        ("scores/add: batch 8, units 3 -> 3-1", "there are no partitions 3-1"),
        ("scores/add: batch 8, units 3 -> 0-99999999999", "there are no partitions"),
        ("scores/add: batch 8, units 3 ->", "expected 'AXIS BOUNDS, … -> PARTITION …'"),
        ("scores/add scores/add: batch 8, units 3 -> 0", "scores/add has a line already"),
        ("scores/ad: inner inputs 2; parts scalar -> 0; combined scalar -> 0", "no node"),
        ("scores/add: inner inputs 2; parts scalar -> 0; combined scalar -> 0", "no reduced axis"),
        (
            "scores/contract: inner input 4; parts batch 8, units 3 -> 0; combined scalar -> 0",
            "contract %scores/contract has no reduced axis 'input'; did you mean 'inputs'?",
        ),
        ("scores/contract: inner inputs 4", "after 'inner …' come '; parts …' and '; combined …'"),
        (
            "scores/contract: inner inputs 4/2; parts batch 8, units 3 -> 0; "
            "combined batch 8, units 3 -> 0",
            "the inner axes make 2 cells, the parts are 1",
        ),
        (
            "scores/contract: inner inputs 4/2; parts batch 8, units 3/3 -> 0 1 2 3; "
            "combined batch 8, units 3 -> 0",
            "a part has 3 tiles, which does not divide 4 partitions",
        ),
        (
            "scores/contract: inner inputs 4/2; wholes batch 8 -> 0; combined batch 8 -> 0",
            "expected 'parts …'",
        ),
        (
            "scores/contract: inner inputs 4, inputs 4; parts batch 8, units 3 -> 0; "
            "combined batch 8, units 3 -> 0",
            "a reduced axis is named twice",
        ),
    ],
)
def test_lines_that_do_not_parse(line: str, text: str) -> None:
    with pytest.raises(PlanError) as caught:
        parse_cuts(["", line], network().graph, 8, first_line=30)
    assert str(caught.value).startswith("line 31: cuts: ")
    assert text in str(caught.value)


@given(
    net=networks(partitions=4),
    strategy=st.sampled_from(["tiles", "stages"]),
    partitions=st.integers(1, 6),
    microbatches=st.integers(1, 3),
)
@_ALL
def test_cuts_of_strategies_parse_back(
    net: dbg.Network, strategy: str, partitions: int, microbatches: int
) -> None:
    """And the plan that is made of them anew is the plan."""
    mode = "training" if any(r.kind == "loss" for r in net.graph.results) else "inference"
    try:
        old = plan(net, partitions, strategy=strategy, microbatches=microbatches, modes=(mode,))
    except NoCutError:
        assume(False)
    text = print_cuts(old.cuts, net.graph, net.batch)
    assert parse_cuts(text.split("\n"), net.graph, net.batch) == old.cuts
    assert edited_node(old) == ""
    assert again(old) == old


@st.composite
def cuts_of(draw: st.DrawFn, shape: tuple[int, ...]) -> Cut:
    splits = tuple(draw(bounds_of(n)) for n in shape)
    count = Cut(splits, ()).count
    places = st.lists(st.integers(0, 30), min_size=count, max_size=count)
    return Cut(splits, tuple(draw(places)))


@st.composite
def bounds_of(draw: st.DrawFn, length: int) -> tuple[int, ...]:
    inner = draw(st.sets(st.integers(1, length - 1), max_size=3)) if length > 1 else set()
    return (0, *sorted(inner), length)


@given(data=st.data())
@_ALL
def test_any_cut_parses_back(data: st.DataObject) -> None:
    """Also such as no strategy makes: other tiles for each partial result."""
    graph = network().graph
    nodes = data.draw(st.sets(st.sampled_from(graph.nodes), max_size=6))
    cuts = {node.name: Choice(data.draw(cuts_of(node.type.shape))) for node in nodes}
    node = graph["hidden/contract"]
    splits = tuple(data.draw(bounds_of(n)) for n in (4, 2, 2))
    partials = tuple(data.draw(cuts_of((8, 4))) for _ in range(Cut(splits, ()).count))
    inner = InnerCut(reductions_of(graph, node), splits, partials)
    cuts[node.name] = Choice(data.draw(cuts_of((8, 4))), inner)
    assert parse_cuts(print_cuts(cuts, graph, 8).split("\n"), graph, 8) == cuts


# Made anew


MOVED = ["local/local2d local/add local/relu: batch 8, rows 0|2|4, cols 2, maps 2 -> 1 0"]
EDITS = {
    "other axes": [
        "local/local2d local/add: batch 8, rows 4, cols 0|1|2, maps 0|1|2 -> 0 1 1 0",
        "local/relu: batch 0|3|8, rows 4, cols 2, maps 2 -> 1 0",
    ],
    "a tile on a third machine": [
        *MOVED,
        "scores/contract scores/add: batch 8, units 3 -> 2",
    ],
    "an inner axis": LINES.split("\n"),
    "no inner axis": [
        "hidden/contract hidden/add hidden/relu: batch 8, units 0|1|2|4 -> 1 0 1",
        "scores/contract: batch 0|4|8, units 3 -> 0 1",
    ],
    "parts cut otherwise": [
        "scores/contract: inner inputs 0|1|4; parts batch 8, units 3/2 -> 0 1; parts batch 8, "
        "units 3 -> 1; combined batch 8/2, units 3 -> 0 1"
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", EDITS)
def test_an_edited_plan_computes_what_the_uncut_network_does(name: str) -> None:
    net = network()
    old = edited(plan(net), *EDITS[name])
    new = again(old, partitions=1 + max(p for c in old.cuts.values() for p in c.partitions))
    assert new != replace(old, cuts=new.cuts)
    assert all(new.cuts[n] == choice for n, choice in old.cuts.items())
    assert edited_node(old)
    assert edited_node(new) == ""
    check(net, new, seed=1)


def test_a_moved_tile_and_another_cut_compute_what_they_did() -> None:
    """The fast one of these tests."""
    old = edited(plan(modes=("inference",)), *MOVED, "scores/add: batch 0|2|8, units 3 -> 1 0")
    assert all(one.close for one in compare(again(old)))


@pytest.mark.slow
@given(data=st.data(), net=networks(loss=True, partitions=3), seed=st.integers(0, 99))
@settings(_ALL, max_examples=5)
def test_any_tiles_may_move(data: st.DataObject, net: dbg.Network, seed: int) -> None:
    try:
        old = plan(net, 3, strategy="tiles")
    except NoCutError:
        assume(False)

    def moved(cut: Cut) -> Cut:
        places = tuple(data.draw(st.integers(0, 2)) for _ in cut.partitions)
        return replace(cut, partitions=places)

    cuts = {}
    for name, choice in old.cuts.items():
        inner = choice.inner
        if inner is not None:
            inner = replace(inner, partials=tuple(map(moved, inner.partials)))
        cuts[name] = Choice(moved(choice.cut), inner)
    try:
        new = again(replace(old, cuts=cuts))
    except NoCutError:
        assume(False)  # a machine without work
    check(net, new, seed)


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(1, 2), (4, 2), (2, 1)])
def test_another_number_of_microbatches(before: int, after: int) -> None:
    """Cuts along the batch are stretched; what a penalty needs comes and goes."""
    net = network()
    size = net.batch // before
    old = edited(
        plan(net, microbatches=before),
        f"local/relu: batch {size}/2, rows 4, cols 2, maps 2 -> 1 0",
        f"loss#error/sum: inner batch {size}/2; parts scalar -> 0 1; combined scalar -> 0",
    )
    new = again(old, microbatches=after)
    assert new.microbatches == after
    assert new.cuts["local/relu"].cut.splits[0] == (0, 4 // after, 8 // after)
    check(net, new, seed=2)


def test_a_line_that_is_left_out_takes_its_inputs_cut() -> None:
    old = plan()
    left_out = {"local/add", "local/relu", "scores/add", "error/subtract"}
    cuts = {name: choice for name, choice in old.cuts.items() if name not in left_out}
    assert again(replace(old, cuts=cuts)) == old


@pytest.mark.parametrize(
    ("line", "rule", "hint"),
    [
        ("hiden/add: batch 8, units 4 -> 0", "computes no node of that name", "'hidden/add'"),
        ("image: batch 8, rows 6, cols 4, maps 1 -> 0", "computes no node of that name", ""),
        ("hidden/add: batch 8, units 5 -> 0", "are 8 × 4 long, the cut is for 8 × 5", "last bound"),
        ("hidden/add: batch 8 -> 0", "are 8 × 4 long, the cut is for 8", ""),
        ("loss#error/sum: batch 8 -> 0", "are scalar long", ""),
        ("hidden/add: batch 8, units 4 -> 2", "stands on partition 2, but there are 2", "0 to 1"),
        (
            "hidden/contract: inner rows 5; parts batch 8, units 4 -> 0; "
            "combined batch 8, units 4 -> 0",
            "inner axes are 4 long, the cut is for 5",
            "",
        ),
        (
            "hidden/contract: inner rows 4; parts batch 8, units 4 -> 7; "
            "combined batch 8, units 4 -> 0",
            "stands on partition 7",
            "",
        ),
    ],
)
def test_cuts_that_do_not_fit(line: str, rule: str, hint: str) -> None:
    with pytest.raises(CutError) as caught:
        again(edited(plan(), line))
    assert rule in caught.value.rule
    assert hint in caught.value.hint
    assert caught.value.node == line.split(":")[0]


def mixed(x: Any) -> Any:
    return x[:, ::-1]


def test_an_axis_that_cannot_be_cut() -> None:
    """One's own function is cut along the batch alone."""
    with dbg.Network("own", batch=4) as net:
        x = L.Dense(4, cut={"units": 2}, name="dense")(dbg.input("x", (3,)))
        dbg.output("y", dbg.op(mixed, name="mixed")(x))
    old = plan(net, modes=("inference",))
    name = next(name for name in old.cuts if name.startswith("mixed"))
    with pytest.raises(CutError) as caught:
        again(edited(old, f"{name}: batch 4, units 0|1|4 -> 0 1"))
    assert "axis 1 is in 2 pieces, but a custom can't be cut there" in caught.value.rule
    assert caught.value.hint == "axes that can be cut: 0"


def test_a_node_without_a_cut_needs_an_input_of_its_shape() -> None:
    old = plan()
    cuts = {name: choice for name, choice in old.cuts.items() if name != "hidden/contract"}
    with pytest.raises(CutError, match="it has no cut, nor has an input of its shape") as caught:
        again(replace(old, cuts=cuts))
    assert caught.value.node == "hidden/contract"


def test_microbatches_that_are_too_small_for_a_cut_along_the_batch() -> None:
    old = edited(plan(), "local/relu: batch 8/4, rows 4, cols 2, maps 2 -> 0 1 0 1")
    with pytest.raises(CutError, match="2 examples of a microbatch can't be cut into 4"):
        again(old, microbatches=4)


@given(data=st.data())
@settings(_ALL, max_examples=80)
def test_any_edit_is_refused_or_makes_a_plan(data: st.DataObject) -> None:
    """Characters of the section changed, or lines deleted, doubled or swapped."""
    old = edited(plan(), *LINES.split("\n"))
    lines = print_cuts(old.cuts, old.network, old.batch).split("\n")
    for _ in range(data.draw(st.integers(1, 2))):
        i = data.draw(st.integers(0, len(lines) - 1))
        kind = data.draw(st.sampled_from(("delete", "double", "swap", "change", "change")))
        if kind == "delete" and len(lines) > 1:
            del lines[i]
        elif kind == "double":
            lines.insert(i, lines[i])
        elif kind == "swap":
            lines[i], lines[i - 1] = lines[i - 1], lines[i]
        else:
            at = data.draw(st.integers(0, len(lines[i]) - 1))
            character = data.draw(st.sampled_from("0123 |,;:->/x"))
            lines[i] = lines[i][:at] + character + lines[i][at + 1 :]
    with suppress(DbgraphError):
        new = again(replace(old, cuts=parse_cuts(lines, old.network, old.batch)))
        verify_plan(new)
        assert edited_node(new) == ""
        assert not forecast(new).blocked


def test_a_machine_may_be_left_without_work() -> None:
    new = again(plan(), partitions=3)
    verify_plan(new)
    assert not forecast(new).blocked


def test_edits_overrule_pins() -> None:
    with dbg.Network("pinned", batch=4) as net:
        x = dbg.input("x", (6,))
        with dbg.partition(1):
            h = L.Dense(4, name="first")(x)
        h = L.Dense(4, name="second", cut={"units": 2})(h)
        h = L.Dense(4, name="third", cut={"inputs": 2})(h)
        dbg.output("y", h)
    old = plan(net, modes=("inference",))
    assert against_pins(net.graph, old.cuts) == []
    new = again(
        edited(
            old,
            "first/contract: batch 4, units 4 -> 0",
            "second/contract: batch 4, units 0|1|2|4 -> 0 1 0",
            "third/contract: batch 4, units 4 -> 1",
        )
    )
    found = [node.name for node in against_pins(net.graph, new.cuts)]
    assert found == ["first/contract", "second/contract", "third/contract"]


# Files


def test_a_file_whose_cuts_were_edited_is_refused_until_it_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.plan"
    save_plan(edited(plan(), *MOVED), path)
    with pytest.raises(PlanError) as caught:
        open_plan(path)
    line = 1 + path.read_text().split("\n").index(MOVED[0])
    said = f"{path}: line {line}: local/local2d has other tiles in the graph than in the cuts"
    assert said in caught.value.rule
    assert caught.value.hint == f"make the plan anew: dbgraph compile --from {path} -o {path}"
    save_plan(again(open_plan(path, edited=True)), path)
    verify_plan(open_plan(path))


@pytest.mark.parametrize("mode", ["training", "evaluation", "inference"])
@pytest.mark.parametrize("microbatches", [1, 2])
def test_cuts_agree_with_the_graph_in_every_mode(mode: str, microbatches: int) -> None:
    one = plan(modes=(mode,), microbatches=microbatches)
    assert edited_node(one) == ""
    assert not forecast(one).blocked


def test_the_line_of_a_node() -> None:
    text = print_plan(plan())
    line = line_of(text, "hidden/relu")
    assert "hidden/relu" in text.split("\n")[line - 1].split(": ")[0].split()
    assert text.split("\n")[line_of(text, "nothing") - 1] == "cuts {"
