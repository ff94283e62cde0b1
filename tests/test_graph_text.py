"""The text form of graphs: parse(print(graph)) == graph, for any field of any node."""

from __future__ import annotations

import ast
import math
import time
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies_networks import networks

import dbgraph as dbg
from dbgraph import layers as L
from dbgraph.errors import PlanError
from dbgraph.ir.graph import Cut, Graph, Node, Pin, Result
from dbgraph.ir.region import Region
from dbgraph.ir.text import parse_graph, print_graph, print_node
from dbgraph.ir.transfer import send_and_recv
from dbgraph.ir.types import DTYPE_BYTES, Attrs, TensorType, parse_attribute
from dbgraph.source import Source

# Any graph, legal or not: the text must not depend on the rules.

NAMES = st.text("aZ09_./[]'->:#@", min_size=1, max_size=8)
WORDS = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,5}", fullmatch=True)
COUNTS = st.integers(0, 10**6)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(max_size=6),
    st.sampled_from(["} : float32[1]", "'", '"', "a, b=1", "\\", "\n", "%x", ")", "(", "inf"]),
)
ATTRIBUTES = st.recursive(SCALARS, lambda a: st.lists(a, max_size=3).map(tuple), max_leaves=6)
INTS = st.lists(COUNTS, max_size=4).map(tuple)
TYPES = st.builds(TensorType, INTS, st.sampled_from(sorted(DTYPE_BYTES)))
SOURCES = st.builds(
    Source, st.one_of(st.sampled_from(["net.py", "my net at @1.py", "C:\\a:b"]), st.text()), COUNTS
)
INNER = WORDS.filter(lambda word: not word.isdigit())
PINS = st.builds(
    Pin,
    INTS,
    st.lists(st.tuples(COUNTS, COUNTS), max_size=2).map(tuple),
    st.lists(st.tuples(INNER, COUNTS), max_size=2).map(tuple),
)
CUTS = st.builds(
    Cut, st.lists(st.lists(COUNTS, min_size=1, max_size=3).map(tuple), max_size=3).map(tuple), INTS
)
NODES = st.builds(
    Node,
    name=NAMES,
    op=WORDS,
    inputs=st.lists(NAMES, max_size=3).map(tuple),
    type=TYPES,
    attrs=st.dictionaries(WORDS, ATTRIBUTES, max_size=3).map(Attrs),
    layer=st.one_of(st.just(""), NAMES),
    source=st.one_of(st.none(), SOURCES),
    pin=PINS,
    cut=st.one_of(st.none(), CUTS),
    partition=st.one_of(st.none(), COUNTS),
)
RESULTS = st.builds(
    Result,
    kind=st.sampled_from(["loss", "term", "output", "gradient"]),
    name=NAMES,
    region=st.lists(st.tuples(COUNTS, COUNTS), max_size=3).map(lambda b: Region(tuple(b))),
    value=NAMES,
)
GRAPHS = st.builds(
    Graph, st.lists(NODES, max_size=3).map(tuple), st.lists(RESULTS, max_size=2).map(tuple)
)


@settings(deadline=None, max_examples=120)
@given(GRAPHS)
def test_any_graph_comes_back(graph: Graph) -> None:
    text = print_graph(graph)
    again = parse_graph(text)
    assert again == graph
    assert print_graph(again) == text  # also what == does not see: 1, 1.0 and True are equal
    assert text.count("\n") == len(graph.nodes) + len(graph.results)


@settings(deadline=None, max_examples=60)
@given(NODES, COUNTS, COUNTS, st.booleans(), st.data())
def test_a_transfer_is_one_line_where_nothing_else_is_to_be_said(
    value: Node, place: int, to: int, after: bool, data: st.DataObject
) -> None:
    value = replace(value, partition=place)
    pair = send_and_recv(value, to)
    again = send_and_recv(pair[1], place)  # what was received goes on
    graph = Graph((value, *pair, *again))
    text = print_graph(graph)
    assert text.splitlines()[-2:] == [
        f"send %{n.name} to {p}" for n, p in ((value, to), (pair[1], place))
    ]
    assert parse_graph(text) == graph
    changed = data.draw(st.sampled_from(("name", "layer", "partition", "type", "attrs")))
    other = {
        "name": "b",
        "layer": "b",
        "partition": to + 1,
        "type": TensorType((7, 7, 7)),
        "attrs": Attrs(b=1),
    }
    index = 2 if after else 1
    nodes = list(graph.nodes[:3])
    nodes[index] = replace(nodes[index], **{changed: other[changed]})
    unlike = Graph(tuple(nodes))
    assert parse_graph(print_graph(unlike)) == unlike
    apart = Graph((pair[0], value, pair[1]))  # sent before it is there
    assert print_graph(apart).count("\n") == 3
    assert parse_graph(print_graph(apart)) == apart


@settings(deadline=None, max_examples=40)
@given(networks(partitions=2))
def test_any_network_comes_back(network: dbg.Network) -> None:
    assert parse_graph(network.text) == network.graph


@settings(deadline=None, max_examples=80)
@given(GRAPHS.map(print_graph), st.data())
def test_an_edited_text_parses_or_is_refused(text: str, data: st.DataObject) -> None:
    """With no other error, whatever is changed."""
    at = data.draw(st.integers(0, len(text)))
    stop = data.draw(st.integers(at, min(at + 4, len(text))))
    edited = text[:at] + data.draw(st.text(max_size=3)) + text[stop:]
    with suppress(PlanError):
        parse_graph(edited)


def test_the_text_is_what_the_contract_shows() -> None:
    node = Node(
        "hidden1/contract",
        "contract",
        ("frame", "hidden1/weights"),
        TensorType((128, 2560)),
        Attrs(contracted=1),
        "hidden1",
        Source("net.py", 12),
        Pin((0, 1), ((1, 2),), (("inputs", 4),)),
        Cut(((0, 128), (0, 1280, 2560)), (0, 1)),
        2,
    )
    assert print_node(node) == (
        "%hidden1/contract = contract(%frame, %hidden1/weights) {contracted=1} "
        ": float32[128,2560] layer=hidden1 pin=@0,@1,1:2,inputs:4 "
        "cut=[0,128][0,1280,2560]@0,1 @2 at net.py:12"
    )


def test_a_small_network_as_text() -> None:
    with dbg.Network("n", batch=2) as net:
        x = dbg.input("x", (3,))
        with dbg.partition(1):
            y = L.Dense(4, "tanh", name="h", cut={"units": 2})(x)
        dbg.output("y", y)
    lines = [line.partition(" at ")[0] for line in net.text.splitlines()]
    assert lines == [
        "%x = input() {of='x', start=(0, 0), shape=(2, 3), dtype='float32'} : float32[2,3] layer=x",
        "%h/weights = parameter() {of='h/weights', start=(0, 0), shape=(3, 4), dtype='float32', "
        "init=('glorot_uniform', 3.0, 4.0)} : float32[3,4] layer=h",
        "%h/contract = contract(%x, %h/weights) {contracted=1} : float32[2,4] layer=h pin=@1,1:2",
        "%h/biases = parameter() {of='h/biases', start=(0,), shape=(4,), dtype='float32', "
        "init=('zeros',)} : float32[4] layer=h",
        "%h/add = add(%h/contract, %h/biases) : float32[2,4] layer=h pin=@1,1:2",
        "%h/tanh = tanh(%h/add) : float32[2,4] layer=h pin=@1,1:2",
        "result output y [0:2,0:4] = %h/tanh",
    ]


def test_empty_lines_and_remarks_are_passed_over() -> None:
    text = "# of a test\n\n%a = fill() {value=1.0} : float32[]\n\n# end\n"
    assert [node.name for node in parse_graph(text)] == ["a"]
    assert parse_graph("") == Graph(())


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("a = fill() : float32[]", r"expected %name = op\(…\) or result"),
        ("%a  = fill() : float32[]", "expected ' = ' at column 3"),
        ("%a = () : float32[]", "expected an op such as contract at column 6"),
        ("%a = add(%b %c) : float32[]", r"expected inputs such as \(%a, %b\) at column 9"),
        ("%a = add(b) : float32[]", "expected inputs"),
        ("%a = fill() {value=1 : float32[]", "expected a type .* at column 12"),
        ("%a = fill() {value} : float32[]", "'value' are no attributes"),
        ("%a = fill() {a=1, a=2} : float32[]", "'a=2' are no attributes"),
        ("%a = fill() {a=__import__('os')} : float32[]", "are no attributes"),
        ("%a = fill() {a=(open('f'),)} : float32[]", "is no literal"),
        ("%a = fill() {a=x} : float32[]", "'x' is no literal"),
        ("%a = fill() {a=1,} : float32[]", "are no attributes"),
        ("%a = fill() : float31[]", "'float31\\[\\]' is no tensor type"),
        ("%a = fill() : float32[1,,2]", "invalid literal"),
        ("%a = fill() : float32[] @-1", "unexpected ' @-1' at column 24"),
        ("%a = fill() : float32[] later=x", "unexpected ' later=x' at column 24"),
        ("%a = fill() : float32[] pin=rows", "'rows' is no pin"),
        ("%a = fill() : float32[] cut=0,1", "'0,1' is no cut"),
        ("%a = fill() : float32[] cut=[0,1@0", "is no cut"),
        ("%a = fill() : float32[] at net.py", "invalid literal|no source"),
        ("send %x to", "expected send %name to PARTITION, found 'send %x to'"),
        ("send %x to -1", "expected send %name to PARTITION"),
        ("send x to 1", "expected send %name to PARTITION"),
        ("send %y to 1", "%y is sent, which is not defined before it"),
        ("send %x to 1", "%x is sent, which stands on no partition"),
        ("result loss loss [0:a] = %a", "expected %name"),
        ("result loss loss [0-1] = %a", "is no region"),
        ("result loss loss = %a", "expected %name"),
    ],
)
def test_a_broken_line_is_named(line: str, rule: str) -> None:
    text = f"%x = fill() : float32[]\n{line}\n"
    with pytest.raises(PlanError, match=rule) as caught:
        parse_graph(text, first_line=7)
    assert caught.value.rule.startswith("line 8: ")


def test_a_text_that_stops_in_the_middle_is_refused() -> None:
    with dbg.Network("n", batch=2) as net:
        dbg.output("y", L.Dense(4)(dbg.input("x", (3,))))
    text = net.text
    with pytest.raises(PlanError):
        parse_graph(text[: text.index("contract(") + 5])


def test_infinity_comes_back_and_nan_is_refused() -> None:
    def graph(value: float) -> Graph:
        attrs = Attrs(value=value, values=(value, ("inf", value)))
        return Graph((Node("a", "fill", (), TensorType(()), attrs),))

    for value in (math.inf, -math.inf, -0.0, 1e-320, 0.1):
        assert parse_graph(print_graph(graph(value))) == graph(value)
    with pytest.raises(PlanError, match="NaN"):
        print_graph(graph(math.nan))


def test_literals_come_back_as_python_reads_them() -> None:
    for text in ("(1)", "((1), 2)", "[1]", "{}", "null", "true", "NaN", "0x10", "'it\\'s'", "1e3"):
        try:
            expected = ast.literal_eval(text)
        except ValueError:
            expected = None
        if expected is None or isinstance(expected, list | dict):
            with pytest.raises(ValueError, match="is no"):
                parse_attribute(text)
        else:
            assert repr(parse_attribute(text)) == repr(expected)


def test_a_plan_of_many_tiles_parses_fast() -> None:
    nodes = tuple(
        Node(
            f"layer{i % 50}/contract[{i}]",
            "vjp",
            (f"layer{i % 50}/x[{i}].in0", f"layer{i % 50}/w[{i}]"),
            TensorType((32, 8 + i % 7)),
            Attrs(start=(i, i % 9), contracted=1, vjp_types=(((32, 8), "float32"),)),
            f"layer{i % 50}",
            Source("net.py", i % 50),
            partition=i % 32,
        )
        for i in range(5_000)
    )
    text = print_graph(Graph(nodes))
    best = math.inf
    for _ in range(3):
        start = time.process_time()
        parse_graph(text)
        best = min(best, time.process_time() - start)
    assert 5_000 / best > 15_000  # about 60,000 per second on an idle machine of 2020
