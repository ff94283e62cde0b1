"""What nodes and segments cost, on nodes whose FLOPs and bytes are counted by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies_ops import CASES, Case

import dbgraph as dbg
from dbgraph import layers as L
from dbgraph.cluster import Cluster, Link, MachineSpec, Rates
from dbgraph.cost import UPDATE_TOUCHES, Work, node_s, node_work, segment_s, update_s, work_s
from dbgraph.ir.graph import Graph, Node
from dbgraph.ir.types import NO_ATTRS, Attrs, TensorType
from dbgraph.memory import peak_bytes
from dbgraph.ops import COMMUNICATION, LEAVES, OPS
from dbgraph.ops.derivative import vjp_attrs
from dbgraph.ops.schema import OpDef
from dbgraph.plan.plan import Plan
from dbgraph.simulate import simulate

FLOP_S, BYTES_S = 1e3, 1e2
MACHINE = MachineSpec(flop_s=FLOP_S, memory_bytes_s=BYTES_S, dispatch_s=0.5)


def graph_of(*lines: tuple[str, str, str, tuple[int, ...]]) -> Graph:
    """(name, op, inputs apart by blanks, shape) each; all float32."""
    nodes = [
        Node(name, op, tuple(inputs.split()), TensorType(shape), partition=0)
        for name, op, inputs, shape in lines
    ]
    return Graph(tuple(nodes))


def with_attrs(graph: Graph, **attrs: Attrs) -> Graph:
    return Graph(tuple(replace(n, attrs=attrs.get(n.name, n.attrs)) for n in graph))


PRODUCT = with_attrs(
    graph_of(
        ("x", "parameter", "", (4, 5)),
        ("w", "parameter", "", (5, 3)),
        ("y", "contract", "x w", (4, 3)),
    ),
    y=Attrs(contracted=1),
)


def test_a_product_of_matrices() -> None:
    """2·4·5·3 = 120 FLOP; 20 + 15 + 12 floats."""
    assert node_work(PRODUCT, PRODUCT["y"]) == Work("matmul", 120, 4 * 47)
    expected = 120 / FLOP_S + 4 * 47 / BYTES_S
    assert node_s(PRODUCT, PRODUCT["y"], MACHINE) == pytest.approx(expected)
    assert segment_s(PRODUCT, ["y"], MACHINE) == pytest.approx(0.5 + expected)


def test_leaves_and_communication_cost_nothing() -> None:
    graph = graph_of(("x", "parameter", "", (4,)), ("s", "send", "x", (4,)))
    assert [node_s(graph, node, MACHINE) for node in graph] == [0.0, 0.0]


CHAIN = with_attrs(
    graph_of(
        ("x", "parameter", "", (100,)),
        ("a", "affine", "x", (100,)),
        ("b", "relu", "a", (100,)),
        ("c", "square", "b", (100,)),
    ),
    a=Attrs(scale=1.0, shift=0.0),
)


def test_a_segment_takes_its_dispatch_and_what_its_nodes_take() -> None:
    flop, moved = 200 + 100 + 100, 6 * 400
    expected = 0.5 + flop / FLOP_S + moved / BYTES_S
    assert segment_s(CHAIN, ["a", "b", "c"], MACHINE) == pytest.approx(expected)


def test_a_locally_connected_layer_moves_its_patches_twice() -> None:
    """3 × 3 positions, patches of 2 × 2 × 1, batch 5: 5·9·4 floats are written and read again."""
    graph = with_attrs(
        graph_of(
            ("x", "parameter", "", (5, 4, 4, 1)),
            ("w", "parameter", "", (3, 3, 2, 2, 1, 6)),
            ("y", "local2d", "x w", (5, 3, 3, 6)),
        ),
        y=Attrs(strides=(1, 1), padding=((0, 0), (0, 0))),
    )
    there = 4 * (5 * 16 + 9 * 4 * 6 + 5 * 9 * 6)
    assert node_work(graph, graph["y"]) == Work(
        "local", 2 * 5 * 9 * 6 * 4, there + 2 * 4 * 5 * 9 * 4
    )


def test_a_kernels_workspace_counts_while_it_runs() -> None:
    """The same layer holds its image and output once more, and the patches of one row."""
    with dbg.Network("local", batch=5) as net:
        x = dbg.input("x", (4, 4, 1))
        dbg.output("y", L.LocallyConnected2D(6, patch=(2, 2), use_bias=False)(x))
    plan = dbg.make_plan(net, 1, mode="inference")
    held = 4 * (5 * 16 + 9 * 4 * 6 + 5 * 9 * 6)
    workspace = 4 * (5 * 16 + 5 * 9 * 6 + 5 * 3 * 4)
    assert peak_bytes(plan.graph, plan.transfers, plan.programs) == (held + workspace,)


def test_what_a_loop_fills_is_there_from_the_beginning() -> None:
    """The second layer's output stands beside all that the first one's kernel holds."""
    with dbg.Network("local", batch=5) as net:
        h = L.LocallyConnected2D(3, patch=(2, 2), use_bias=False)(dbg.input("x", (6, 6, 4)))
        dbg.output("y", L.LocallyConnected2D(2, patch=(2, 2), use_bias=False)(h))
    plan = dbg.make_plan(net, 1, mode="inference")
    x, weights, first, second = 5 * 144, 25 * 16 * 3 + 16 * 12 * 2, 5 * 75, 5 * 32
    workspace = x + first + 5 * 5 * 16
    held = 4 * (x + weights + first + second + workspace)
    assert peak_bytes(plan.graph, plan.transfers, plan.programs) == (held,)


@pytest.mark.parametrize(
    ("op", "attrs", "types", "kinds"),
    [
        ("contract", Attrs(contracted=1), ((4, 5), (5, 3)), ("matmul", "matmul")),
        ("sigmoid", NO_ATTRS, ((4, 5),), ("pointwise",)),
        ("sum", Attrs(axes=(0,), keepdims=False), ((4, 5),), ("pointwise",)),
        (
            "pool2d",
            Attrs(kind="max", size=(2, 2), strides=(2, 2), padding=((0, 0), (0, 0))),
            ((1, 4, 4, 1),),
            ("pool max gradient 0",),
        ),
        (
            "conv2d",
            Attrs(strides=(1, 1), padding=((0, 0), (0, 0))),
            ((1, 4, 4, 1), (2, 2, 1, 3)),
            ("convolution gradient 0", "convolution gradient 1"),
        ),
    ],
)
def test_derivatives_are_kinds_of_their_own_where_they_are_other_work(
    op: str, attrs: Attrs, types: tuple[tuple[int, ...], ...], kinds: tuple[str, ...]
) -> None:
    rule = OPS[op]
    given = tuple(TensorType(shape) for shape in types)
    found = [OPS["vjp"].kinds.of(vjp_attrs(rule, attrs, given, k)) for k in range(len(given))]
    assert tuple(found) == kinds


def test_rates_are_by_kind_and_dtype_then_by_kind_then_general() -> None:
    machine = replace(
        MACHINE,
        dtype_flop_s=(("float64", 500.0),),
        kinds=(("matmul", "float32", Rates(10.0, 20.0, 3.0)), ("local", "", Rates(40.0, 50.0))),
    )
    flop_alone = Work("matmul", 100, 0)
    assert work_s(flop_alone, "float32", machine) == pytest.approx(3.0 + 10.0)
    assert work_s(flop_alone, "float64", machine) == pytest.approx(0.2)
    assert work_s(flop_alone, "bfloat16", machine) == pytest.approx(0.1)
    assert work_s(Work("local", 80, 100), "float64", machine) == pytest.approx(2.0 + 2.0)


def test_an_update_touches_each_parameter_five_times() -> None:
    assert update_s(1000, MACHINE) == pytest.approx(5 * 1000 / BYTES_S)
    measured = replace(MACHINE, kinds=(("update", "", Rates(float("inf"), 1e4)),))
    assert update_s(1000, measured) == pytest.approx(UPDATE_TOUCHES * 1000 / 1e4)


@settings(deadline=None, max_examples=100)
@given(st.one_of(*CASES.values()))
def test_every_op_has_a_kind_and_work_that_is_not_negative(case: Case) -> None:
    rule: OpDef = case.definition
    leaves = [Node(f"i{k}", "parameter", (), t) for k, t in enumerate(case.types)]
    node = Node("o", case.op, tuple(n.name for n in leaves), case.out, case.attrs)
    graph = Graph((*leaves, node))
    if case.op in LEAVES | COMMUNICATION:
        assert node_s(graph, node, MACHINE) == 0.0
        return
    work = node_work(graph, node)
    assert work.kind == rule.kinds.of(case.attrs)
    assert work.kind
    assert work.flop >= 0
    assert work.traffic_bytes >= case.out.size_bytes
    assert rule.workspace_bytes(case.attrs, case.types, case.out) >= 0
    assert node_s(graph, node, MACHINE) > 0
    alone = segment_s(graph, ["o"], MACHINE) - MACHINE.dispatch_s
    assert alone == pytest.approx(node_s(graph, node, MACHINE))


# What a message and a step cost beside


def two_stages() -> Plan:
    with dbg.Network("stages", batch=4) as net:
        h = dbg.input("x", (5,))
        for k in range(2):
            with dbg.partition(k):
                h = L.Dense(5, use_bias=False)(h)
        dbg.output("y", h)
    return dbg.make_plan(net, 2, mode="inference")


def step_s(link: Link, control_s: float = 0.0) -> float:
    plan = two_stages()
    cluster = Cluster((MACHINE,) * 2, link, control_s=control_s)
    return simulate(plan.graph, plan.transfers, plan.programs, cluster).step_s


def test_each_byte_of_a_message_occupies_both_ends() -> None:
    """80 bytes cross once; sender and receiver work on them one after the other."""
    link = Link(bytes_s=1e9, latency_s=0.0, message_s=0.0)
    assert step_s(replace(link, byte_s=0.01)) - step_s(link) == pytest.approx(2 * 80 * 0.01)


def test_a_step_begins_with_the_drivers_orders_to_each_machine() -> None:
    link = Link()
    assert step_s(link, control_s=0.25) - step_s(link) == pytest.approx(2 * 0.25)


def test_orders_are_part_of_the_timeline_and_of_the_critical_path() -> None:
    plan = two_stages()
    cluster = Cluster((MACHINE,) * 2, control_s=0.25)
    found = simulate(plan.graph, plan.transfers, plan.programs, cluster, timeline=True)
    assert found.critical_path[0].kind == "orders"
    assert found.critical_path[0].stop_s == pytest.approx(0.5)
    assert sum(span.seconds for span in found.critical_path) == pytest.approx(found.step_s)
    for machine in range(2):
        spans = [span for span in found.timeline if span.machine == machine]
        assert sum(span.seconds for span in spans) == pytest.approx(found.step_s)
