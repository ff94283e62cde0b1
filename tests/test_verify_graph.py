"""The rules of a graph at each stage: each broken one is found, and named."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from strategies_networks import networks

import dbgraph as dbg
from dbgraph import layers as L
from dbgraph.errors import PlanError
from dbgraph.ir.graph import Cut, Graph
from dbgraph.ir.text import parse_graph
from dbgraph.ir.verify import STAGES, verify
from dbgraph.ops import OPS

NETWORK = """\
%x = input() {of='x', start=(0, 0), shape=(4, 3), dtype='float32'} : float32[4,3]
%w = parameter() {of='w', start=(0, 0), shape=(3, 2), dtype='float32', init=('zeros',)} : \
float32[3,2]
%y = contract(%x, %w) {contracted=1} : float32[4,2] layer=d at net.py:7
%s = slice(%y) {start=(0, 0), stop=(4, 1)} : float32[4,1]
%z = sum(%s) {axes=(0, 1), keepdims=False} : float32[]
result loss loss [] = %z
result output y [0:4,0:2] = %y
"""
PLACED = """\
%x = input() {of='x', start=(0, 0), shape=(4, 3), dtype='float32'} : float32[4,3]
%w = parameter() {of='w', start=(0, 0), shape=(3, 2), dtype='float32', init=('zeros',)} : \
float32[3,2]
%y = contract(%x, %w) {contracted=1} : float32[4,2] cut=[0,4][0,1,2]@0,1
%s = slice(%y) {start=(0, 0), stop=(4, 1)} : float32[4,1]
%z = sum(%s) {axes=(0, 1), keepdims=False} : float32[] cut=@0
result loss loss [] = %z
"""
COMMUNICATING = """\
%x = input() {of='x', start=(0, 0), shape=(4, 3), dtype='float32'} : float32[4,3] @0
%p = assemble(%x) {shape=(4, 1), pieces=((0, (0, 1), (0, 0), (4, 1)),)} : float32[4,1] @0
%p>1 = send(%p) {to=1} : float32[4,1] @0
%p@1 = recv(%p>1) {source=0} : float32[4,1] @1
%z = sum(%p@1) {axes=(0, 1), keepdims=False} : float32[] @1
%one = fill() {value=1.0, shape=(), dtype='float32'} : float32[] @1
%z'0 = vjp(%one) {axes=(0, 1), keepdims=False, vjp_of='sum', vjp_wrt=0, \
vjp_types=(((4, 1), 'float32'),), vjp_given=()} : float32[4,1] @1
result loss loss [] = %z
result output g [0:4,0:1] = %z'0
"""


def refused(text: str, stage: str) -> PlanError:
    with pytest.raises(PlanError) as caught:
        verify(parse_graph(text), stage)
    return caught.value


def test_legal_graphs_pass() -> None:
    verify(parse_graph(NETWORK), "network")
    verify(parse_graph(PLACED), "placed")
    verify(parse_graph(COMMUNICATING), "communicating")


# (stage, text, what is replaced, by what, a part of the rule)
BROKEN: dict[str, tuple[str, str, str, str, str]] = {
    "name twice": ("network", NETWORK, "%s =", "%y =", "its name is used twice"),
    "unknown value": ("network", NETWORK, "sum(%s)", "sum(%t)", "%t, which is defined nowhere"),
    "later value": ("network", NETWORK, "slice(%y)", "slice(%z)", "%z, which is defined after it"),
    "unknown op": ("network", NETWORK, "= sum(", "= summ(", "there is no op 'summ'"),
    "wrong type": (
        "network",
        NETWORK,
        "float32[4,2]",
        "float32[4,9]",
        "its type is float32[4,9], but its op gives float32[4,2]",
    ),
    "wrong shapes": ("network", NETWORK, "float32[4,3]", "float32[4,5]", "but its op gives"),
    "a rule of the op": ("network", NETWORK, "contracted=1", "contracted=2", "contract: "),
    "an attribute gone": ("network", NETWORK, "contracted=1", "contract=1", "contracted"),
    "an attribute of another kind": ("network", NETWORK, "axes=(0, 1)", "axes='a'", "axes"),
    "an input gone": ("network", NETWORK, "(%x, %w)", "(%x)", "takes 2 inputs"),
    "a tile's partition": ("network", NETWORK, "at net.py", "@1 at net.py", "before it is a tile"),
    "an early cut": (
        "network",
        NETWORK,
        "layer=d",
        "cut=[0,4][0,2]@0",
        "before the partition pass",
    ),
    "an early assemble": (
        "network",
        NETWORK,
        "slice(%y) {start=(0, 0), stop=(4, 1)}",
        "assemble(%y) {shape=(4, 1), pieces=((0, (0, 1), (0, 0), (4, 1)),)}",
        "a assemble must not occur at this stage",
    ),
    "result of nothing": ("network", NETWORK, "= %y\n", "= %q\n", "%q is defined nowhere"),
    "result of another region": ("network", NETWORK, "[0:4,0:2]", "[0:4,0:3]", "does not fit %y"),
    "result of another kind": ("network", NETWORK, "output y", "outputs y", "its kind is none of"),
    "loss of a vector": (
        "network",
        NETWORK,
        "loss loss [] = %z",
        "loss loss [0:4,0:1] = %s",
        "must be a scalar",
    ),
    "no cut": ("placed", PLACED, " cut=@0", "", "sum %z: it has no cut"),
    "cut of another rank": ("placed", PLACED, "[0,4][0,1,2]", "[0,4]", "has 1 axes"),
    "cut beyond the end": ("placed", PLACED, "[0,1,2]", "[0,1,3]", "must rise from 0 to 2"),
    "cut backwards": ("placed", PLACED, "[0,1,2]", "[0,2,1,2]", "must rise"),
    "empty tile": ("placed", PLACED, "[0,1,2]", "[0,1,1,2]", "must rise"),
    "too few partitions": ("placed", PLACED, "@0,1", "@0", "2 tiles, but names 1 partitions"),
    "partition below zero": ("placed", PLACED, "@0,1", "@0,-1", "must be 0 or more"),
    "no partition": (
        "communicating",
        COMMUNICATING,
        "float32[] @1\n%one",
        "float32[]\n%one",
        "its partition is None",
    ),
    "a crossing edge": (
        "communicating",
        COMMUNICATING,
        "sum(%p@1)",
        "sum(%p)",
        "on partition 1 and reads %p of partition 0 without a send and a recv",
    ),
    "a send read": ("communicating", COMMUNICATING, "sum(%p@1)", "sum(%p>1)", "only a recv may"),
    "a send to itself": (
        "communicating",
        COMMUNICATING,
        "{to=1}",
        "{to=0}",
        "from partition 0 to 0",
    ),
    "a recv of no send": (
        "communicating",
        COMMUNICATING,
        "recv(%p>1)",
        "recv(%p)",
        "it receives %p, which is a assemble, not a send",
    ),
    "a recv elsewhere": (
        "communicating",
        COMMUNICATING,
        "{source=0} : float32[4,1] @1",
        "{source=0} : float32[4,1] @2",
        "stands on partition 2, but %p>1 sends to 1",
    ),
    "a recv from elsewhere": (
        "communicating",
        COMMUNICATING,
        "{source=0}",
        "{source=3}",
        "it expects partition 3, but %p>1 stands on 0",
    ),
    "sent twice": (
        "communicating",
        COMMUNICATING,
        "%p@1 = recv",
        "%again = send(%p) {to=1} : float32[4,1] @0\n%p@1 = recv",
        "%p is sent to partition 1 twice",
    ),
    "an early vjp": ("tiled", COMMUNICATING, "", "", "a send must not occur at this stage"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_rule_is_found(what: str) -> None:
    stage, text, old, new, rule = BROKEN[what]
    assert old in text
    error = refused(text.replace(old, new, 1), stage)
    assert rule in error.rule
    assert error.rule.startswith(f"{stage} graph: ")


def test_an_axis_that_no_rule_lets_be_cut_is_refused() -> None:
    assert OPS["custom"].cut_axes is not None
    text = """\
%x = input() {of='x', start=(0, 0), shape=(4, 3), dtype='float32'} : float32[4,3]
%y = custom(%x) {module='m', name='f', fingerprint='0', file='', shape=(4, 3), dtype='float32', \
axes=(('b', '_'), ('b', '_')), flops=1} : float32[4,3] cut=[0,2,4][0,3]@0,1
"""
    verify(parse_graph(text), "placed")
    error = refused(text.replace("[0,2,4][0,3]", "[0,4][0,1,3]"), "placed")
    assert "axis 1 is in 2 pieces, but it can't be cut" in error.rule


def test_a_view_must_not_stay_after_tiling() -> None:
    nodes = tuple(replace(node, partition=0) for node in parse_graph(NETWORK))
    with pytest.raises(PlanError, match="views are resolved"):
        verify(Graph(nodes), "tiled")


def test_the_error_names_layer_and_line() -> None:
    error = refused(NETWORK.replace("contracted=1", "contracted=2"), "network")
    assert "contract %y of layer d" in error.rule
    assert str(error).startswith("net.py:7: network graph: ")


def test_a_name_that_the_text_could_not_give_back_is_refused() -> None:
    graph = parse_graph(NETWORK)
    bad = replace(graph, nodes=(replace(graph.nodes[0], name="a b"), *graph.nodes[1:]))
    with pytest.raises(PlanError, match="'a b' is no name"):
        verify(bad, "network")


def test_an_unknown_stage_is_refused() -> None:
    with pytest.raises(PlanError, match=r"no stage 'tile'; the stages are network, .*tiled"):
        verify(Graph(()), "tile")


def test_stages_allow_what_their_passes_make() -> None:
    graph = parse_graph(COMMUNICATING)
    made = {"tiled": "assemble", "gradient": "vjp", "communicating": "send"}
    for stage, op in made.items():
        assert op in STAGES[stage].made
    without = tuple(n for n in graph.nodes if n.op not in ("send", "recv"))
    here = tuple(replace(n, inputs=tuple(i.replace("@1", "") for i in n.inputs)) for n in without)
    verify(Graph(here), "gradient")
    with pytest.raises(PlanError, match="a vjp must not occur"):
        verify(Graph(here), "tiled")
    verify(Graph(tuple(n for n in here if n.op != "vjp")), "tiled")


def whole_cut(graph: Graph) -> Graph:
    return replace(
        graph,
        nodes=tuple(
            replace(n, cut=Cut.whole(n.type.shape, 0)) if n.inputs else n for n in graph.nodes
        ),
    )


@settings(deadline=None, max_examples=40)
@given(networks())
def test_any_network_is_legal_and_with_whole_cuts_placed(network: dbg.Network) -> None:
    verify(network.graph, "network")
    verify(whole_cut(network.graph), "placed")


def test_a_large_graph_is_verified_fast() -> None:
    with dbg.Network("deep", batch=4) as net:
        x = dbg.input("x", (3,))
        for _ in range(100):
            x = L.Activation("tanh")(x)
        dbg.output("y", x)
    nodes = tuple(
        replace(n, name=f"{n.name}.{i}", inputs=tuple(f"{k}.{i}" for k in n.inputs))
        for i in range(200)
        for n in net.graph
    )
    best = min(_timed(Graph(nodes)) for _ in range(3))
    assert len(nodes) / best > 50_000  # about 300,000 per second on an idle machine


def _timed(graph: Graph) -> float:
    start = time.process_time()
    verify(graph, "network")
    return time.process_time() - start
