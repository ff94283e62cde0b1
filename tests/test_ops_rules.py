"""The rules of the ops by example: what they refuse and say, what they read and count."""

from __future__ import annotations

import pytest

from dbgraph.errors import NetworkError, PlanError
from dbgraph.ir.graph import Node
from dbgraph.ir.region import Region
from dbgraph.ir.types import Attrs, TensorType, Types
from dbgraph.ops import OPS, OpError, dynamic_names, flops_of, infer_node, op
from dbgraph.ops.derivative import vjp_attrs
from dbgraph.ops.reshape import groups
from dbgraph.source import Source


def types(*texts: str) -> Types:
    return tuple(TensorType.parse(text) for text in texts)


STRIDED = {"strides": (1, 1), "padding": ((0, 0), (0, 0))}
LEAF = {"of": "x", "start": (0,), "shape": (4,), "dtype": "float32"}
DROP = {"rate": 0.5, "seed": 0, "start": (0, 0), "whole": (4, 3)}
USER = {
    "module": "m",
    "name": "f",
    "fingerprint": "0",
    "shape": (4, 2),
    "dtype": "float32",
    "axes": (("b", "_"), ("b", "_")),
    "flops": 1,
}
POOL = {**STRIDED, "size": (2, 2), "kind": "max"}
F34 = "float32[3,4]"

REFUSED = [
    # (op, attributes, input types, the rule with the values)
    ("input", {**LEAF, "shape": (0,)}, [], "input: every length of shape (0,) must be at least 1"),
    ("input", {**LEAF, "shape": (-4,)}, [], "every length of shape (-4,)"),
    ("input", {**LEAF, "shape": 4}, [], "input: shape must be a tuple of integers; it is 4"),
    ("input", {**LEAF, "dtype": "float31"}, [], "'float31' is no dtype; known are float64"),
    ("input", {**LEAF, "start": (0, 0)}, [], "input: start (0, 0) must have 1 entries"),
    ("parameter", {**LEAF, "start": (-1,)}, [], "start (-1,)"),
    ("fill", {"value": "x", "shape": (), "dtype": "float32"}, [], "value must be a finite number"),
    ("fill", {"value": float("nan"), "shape": (), "dtype": "float32"}, [], "it is nan"),
    ("relu", {}, [], "relu takes 1 input; it was given 0"),
    ("relu", {}, ["int32[3]"], "relu: the input must be floating point, not int32[3]; cast it"),
    ("leaky_relu", {}, [F34], "leaky_relu: slope must be a finite number; it is None"),
    ("abs", {}, ["bool[3]"], "abs: the input must be numbers, not bool[3]; cast it"),
    ("cast", {"dtype": "complex64"}, [F34], "'complex64' is no dtype"),
    ("add", {}, [F34, "float64[3,4]"], "add: the inputs' dtypes differ (float32, float64); cast"),
    (
        "multiply",
        {},
        [F34, "float32[3]"],
        "multiply: shapes 3 x 4 and 3 do not fit: aligned at the right, 4 meets 3",
    ),
    ("divide", {}, ["int32[3]", "int32[3]"], "divide: the inputs must be floating point"),
    ("add_n", {}, [], "add_n takes at least one input"),
    ("add_n", {}, [F34, "float32[3]"], "add_n: the inputs' shapes differ: 3 x 4, 3"),
    ("max_n", {}, [F34, "int32[3,4]"], "max_n: the inputs' dtypes differ (float32, int32)"),
    ("dropout", {**DROP, "rate": 1.0}, ["float32[4,3]", "int32[2]"], "rate 1.0 must be in [0, 1)"),
    ("dropout", DROP, ["float32[4,3]", "int32[3]"], "the clock must be int32[2], not int32[3]"),
    ("dropout", DROP, ["float32[]", "int32[2]"], "must have a batch axis"),
    ("dropout", DROP, ["float32[4,9]", "int32[2]"], "does not lie in the whole (4, 3)"),
    (
        "contract",
        {"contracted": 1},
        ["float32[8,16]", "float32[15,4]"],
        "contract: the input's last 1 length (16) must equal the weights' first (15)",
    ),
    ("contract", {"contracted": 0}, [F34, F34], "contracted (0) must be at least 1"),
    ("contract", {"contracted": 3}, [F34, F34], "at most the rank of both inputs"),
    ("contract", {}, [F34, F34], "contract: contracted must be an integer; it is None"),
    ("contract", {"contracted": 1}, ["int32[3,4]", "int32[4,2]"], "must be floating point"),
    ("embedding", {"offset": 0}, ["float32[3]", F34], "the ids must be integers, not float32[3]"),
    ("embedding", {"offset": 0}, ["int32[3]", "float32[]"], "the table must have rows"),
    ("pick", {"offset": 0}, [F34, "float32[3]"], "pick: the labels must be integers"),
    ("pick", {"offset": 0}, [F34, "int32[4]"], "labels' shape (4) must be the scores' (3 x 4)"),
    ("pick", {"offset": 0}, [F34, "bool[3]"], "the labels must be integers, not bool[3]"),
    (
        "conv2d",
        STRIDED,
        ["float32[1,8,8,3]", "float32[3,3,8,4]"],
        "conv2d: the filter's channels (8) must equal the image's (3)",
    ),
    ("conv2d", STRIDED, ["float32[8,8,3]", "float32[3,3,3,4]"], "batch, rows, columns, channels"),
    ("conv2d", STRIDED, ["float32[1,8,8,3]", "float32[3,3,3]"], "filters must have the axes rows"),
    ("conv2d", STRIDED, ["float32[1,8,8,3]", "float64[3,3,3,4]"], "dtypes differ"),
    (
        "conv2d",
        {**STRIDED, "strides": (0, 1)},
        ["float32[1,8,8,3]", "float32[3,3,3,4]"],
        "conv2d: strides must be two integers, each at least 1; they are (0, 1)",
    ),
    (
        "conv2d",
        {**STRIDED, "padding": ((0, -1), (0, 0))},
        ["float32[1,8,8,3]", "float32[3,3,3,4]"],
        "none below 0; it is ((0, -1), (0, 0))",
    ),
    (
        "conv2d",
        {**STRIDED, "padding": ((1, 1), (0, 0))},
        ["float32[1,2,8,3]", "float32[5,3,3,4]"],
        "conv2d: the window (5 rows) exceeds the image (2 rows + 1 + 1 of padding)",
    ),
    (
        "conv2d",
        {**STRIDED, "padding": ((0, 0), (3, 0))},
        ["float32[1,8,8,3]", "float32[3,3,3,4]"],
        "a window of 3 columns must not lie in the padding alone (8 columns + 3 + 0 of padding)",
    ),
    (
        "local2d",
        STRIDED,
        ["float32[1,8,8,3]", "float32[5,6,3,3,3,4]"],
        "local2d: the filters are for 5 x 6 positions; the image has 6 x 6",
    ),
    ("pool2d", {**POOL, "kind": "mean"}, ["float32[1,8,8,3]"], "one of max, average, l2"),
    ("pool2d", {**POOL, "size": (2,)}, ["float32[1,8,8,3]"], "size must be two integers"),
    ("pool2d", {**POOL, "size": (0, 2)}, ["float32[1,8,8,3]"], "at least 1 of rows; it has 0"),
    ("pool2d", {**POOL, "size": (9, 2)}, ["float32[1,8,8,3]"], "the window (9 rows) exceeds"),
    ("pool2d", POOL, ["int32[1,8,8,3]"], "pool2d: the image must be floating point"),
    (
        "pool2d",
        {**POOL, "strides": (4, 1), "padding": ((0, 3), (0, 0))},
        ["float32[1,7,8,3]"],
        "must not lie in the padding alone (7 rows + 0 + 3 of padding)",
    ),
    ("sum", {"axes": (2,), "keepdims": False}, [F34], "sum: axes (2,) must be rising"),
    ("sum", {"axes": (), "keepdims": False}, [F34], "sum: axes () must be rising"),
    ("sum", {"axes": (1, 0), "keepdims": False}, [F34], "axes (1, 0) must be rising"),
    ("sum", {"axes": (0,)}, [F34], "keepdims must be True or False; it is None"),
    ("logsumexp", {"axes": (0,), "keepdims": True}, ["int32[3]"], "must be floating point"),
    ("argmax", {"axis": 2}, [F34], "axis 2 must be at least 0 and below the rank, 2"),
    ("argmax", {"axis": -1}, [F34], "axis -1"),
    ("slice", {"start": (0, 2), "stop": (3, 2)}, [F34], "slice: 2:2 must be a range, not empty"),
    (
        "slice",
        {"start": (0, 0), "stop": (3, 5)},
        [F34],
        "0:5 must be a range, not empty, inside 0:4",
    ),
    ("slice", {"start": (0,), "stop": (3,)}, [F34], "one entry for each axis of float32[3,4]"),
    ("concat", {"axis": 0}, [F34, "float32[3,5]"], "must agree but for axis 0; they are"),
    ("concat", {"axis": 2}, [F34], "concat: axis 2"),
    ("concat", {"axis": 0}, [F34, "float32[3]"], "must agree but for axis 0"),
    ("transpose", {"perm": (0, 0)}, [F34], "perm (0, 0) must name each of the 2 axes"),
    (
        "reshape",
        {"shape": (5, 2), "offset": (), "keep": ()},
        [F34],
        "reshape: float32[3,4] has 12 elements; the shape 5 x 2 has 10",
    ),
    (
        "reshape",
        {"shape": (12,), "offset": (4,), "keep": (9,)},
        [F34],
        "offset (4,) and keep (9,) do not name a region of (12,)",
    ),
    ("reshape", {"shape": (12,), "offset": (4,), "keep": ()}, [F34], "differ in length"),
    (
        "assemble",
        {"shape": (4,), "pieces": ((0, (0,), (0,), (3,)),)},
        ["float32[3]"],
        "assemble: the pieces have 3 elements; the output (4,) has 4",
    ),
    (
        "assemble",
        {"shape": (3,), "pieces": ((0, (0,), (0,), (2,)), (0, (0,), (1,), (1,)))},
        ["float32[3]"],
        "assemble: pieces 0:2 and 1:2 overlap",
    ),
    (
        "assemble",
        {"shape": (4,), "pieces": ((0, (0,), (0,), (4,)),)},
        ["float32[3]"],
        "the piece 0:4 of float32[3] does not fit at 0:4 of (4,)",
    ),
    ("assemble", {"shape": (4,), "pieces": ((1, (0,), (0,), (4,)),)}, ["float32[4]"], "none of 1"),
    ("assemble", {"shape": (4,), "pieces": (3,)}, ["float32[4]"], "3 is no (input, source"),
    ("assemble", {"shape": (4,)}, ["float32[4]"], "pieces must be a tuple"),
    ("custom", USER, ["float32[4]"], "custom f: axes 'b_' must have one letter for each axis"),
    ("custom", USER, ["float32[4,2]"] * 2, "axes must name those of 2 inputs and of the output"),
    ("custom", {**USER, "flops": -1}, ["float32[4,2]"], "flops must not be < 0"),
    (
        "custom",
        {**USER, "axes": (("b", "_"), ("b", "_"), ("b", "_"))},
        ["float32[4,2]", "float32[5,2]"],
        "custom f: the axis 'b' has length 4 in one input and 5 in another",
    ),
    ("send", {"to": -1}, [F34], "send: to must be a partition, 0 or more; it is -1"),
    ("recv", {}, [F34], "recv: source must be an integer"),
]


@pytest.mark.parametrize(("name", "attrs", "inputs", "rule"), REFUSED)
def test_refused_with_the_rule_and_the_values(
    name: str, attrs: dict, inputs: list[str], rule: str
) -> None:
    with pytest.raises(OpError) as caught:
        OPS[name].infer(Attrs(attrs), types(*inputs))
    assert rule in str(caught.value)
    assert str(caught.value).startswith(name) or "dtype" in rule


def test_every_op_that_can_refuse_is_tried() -> None:
    unary = {"sigmoid", "tanh", "gelu", "softplus", "silu", "elu", "exp", "log", "sqrt", "square"}
    alike = unary | {"affine", "power", "subtract", "maximum", "minimum", "logsumexp_n", "max"}
    assert {row[0] for row in REFUSED} | alike | {"clock", "vjp"} == set(OPS)


ADD = OPS["add"]
VJP_ADD = vjp_attrs(ADD, Attrs(), types(F34, F34), 0)
VJP_RELU = vjp_attrs(OPS["relu"], Attrs(), types(F34), 0)


@pytest.mark.parametrize(
    ("attrs", "inputs", "rule"),
    [
        (VJP_ADD.having(vjp_of="argmax"), [F34], "'argmax' is no op with a derivative"),
        (VJP_ADD.having(vjp_of="nothing"), [F34], "'nothing' is no op with a derivative"),
        (VJP_ADD.having(vjp_wrt=2), [F34], "add has no input 2"),
        (VJP_ADD, [F34, F34], "vjp takes 1 input; it was given 2"),
        (VJP_ADD, ["float32[3]"], "the cotangent must be float32[3,4]; it is float32[3]"),
        (VJP_RELU, ["float32[3]", F34], "input 0 of relu is float32[3]; it was float32[3,4]"),
        (VJP_RELU.having(vjp_given=()), [F34], "needs the inputs (0,); vjp_given is ()"),
        (
            vjp_attrs(OPS["embedding"], Attrs(offset=0), types("int32[3]", F34), 0),
            [F34, F34],
            "input 0 of embedding must be floating point, not int32[3]",
        ),
    ],
)
def test_vjp_refuses(attrs: Attrs, inputs: list[str], rule: str) -> None:
    with pytest.raises(OpError) as caught:
        OPS["vjp"].infer(attrs, types(*inputs))
    assert rule in str(caught.value)


def node(name: str, attrs: Attrs, out: str = F34) -> Node:
    return Node("n", name, (), TensorType.parse(out), attrs, source=Source("net.py", 7))


def test_errors_name_the_users_line() -> None:
    with pytest.raises(NetworkError, match=r"^net\.py:7: relu takes 1 input"):
        infer_node(node("relu", Attrs()), ())


@pytest.mark.parametrize(
    ("name", "attrs", "inputs"),
    [
        ("conv2d", {"strides": "ab", "padding": 3}, ["float32[1,8,8,3]", "float32[3,3,3,4]"]),
        ("pool2d", {**POOL, "kind": ()}, ["float32[1,8,8,3]"]),
        ("vjp", {"vjp_of": "relu"}, [F34]),
        ("vjp", {"vjp_of": "relu", "vjp_wrt": 0, "vjp_types": ((3, 4),), "vjp_given": ()}, [F34]),
        ("custom", {"name": 3}, [F34]),
        ("slice", {"start": None, "stop": ((),)}, [F34]),
    ],
)
def test_malformed_attributes_are_a_network_error(name: str, attrs: dict, inputs: list) -> None:
    """As an edited plan has them."""
    with pytest.raises(NetworkError):
        infer_node(node(name, Attrs(attrs)), types(*inputs))


def test_unknown_op() -> None:
    with pytest.raises(PlanError, match=r"no op is called 'conv3d'\n  did you mean conv2d\?"):
        op("conv3d")
    with pytest.raises(PlanError, match="known ops: abs, add"):
        op("zzzz")


FLOPS = [
    (
        "contract",
        {"contracted": 1},
        ["float32[128,440]", "float32[440,2560]"],
        2 * 128 * 440 * 2560,
    ),
    ("contract", {"contracted": 3}, ["float32[2,3,4,5]", "float32[3,4,5,7]"], 2 * 2 * 60 * 7),
    ("conv2d", STRIDED, ["float32[2,8,8,3]", "float32[3,3,3,4]"], 2 * (2 * 6 * 6 * 4) * 27),
    ("local2d", STRIDED, ["float32[2,8,8,3]", "float32[6,6,3,3,3,4]"], 2 * (2 * 6 * 6 * 4) * 27),
    ("pool2d", POOL, ["float32[1,3,3,2]"], 8 * 4),
    ("pool2d", {**POOL, "kind": "average"}, ["float32[1,3,3,2]"], 8 * 5),
    ("pool2d", {**POOL, "kind": "l2"}, ["float32[1,3,3,2]"], 8 * (8 + 8)),
    ("relu", {}, [F34], 12),
    ("sigmoid", {}, [F34], 120),
    ("affine", {"scale": 2.0, "shift": 1.0}, [F34], 24),
    ("multiply", {}, [F34, "float32[4]"], 12),
    ("add_n", {}, [F34] * 3, 24),
    ("sum", {"axes": (1,), "keepdims": False}, [F34], 12),
    ("logsumexp", {"axes": (1,), "keepdims": False}, [F34], 12 * 10 + 3 * 8),
    ("embedding", {"offset": 0}, ["int32[5]", F34], 20),
    ("transpose", {"perm": (1, 0)}, [F34], 0),
]


@pytest.mark.parametrize(("name", "attrs", "inputs", "flops"), FLOPS)
def test_flops(name: str, attrs: dict, inputs: list[str], flops: int) -> None:
    given = types(*inputs)
    out = OPS[name].infer(Attrs(attrs), given)
    forward = Node("n", name, (), out, Attrs(attrs))
    assert flops_of(forward, given) == flops
    backward = vjp_attrs(OPS[name], Attrs(attrs), given, len(given) - 1)
    assert OPS["vjp"].flops(backward, (*given, out), given[-1]) == flops


def test_custom_flops_are_the_share_of_the_output() -> None:
    tile = types("float32[1,2]")
    assert OPS["custom"].flops(Attrs({**USER, "flops": 100}), tile, tile[0]) == 25


def test_dynamic_names_of_a_vjp_are_the_forward_ops() -> None:
    attrs = vjp_attrs(OPS["embedding"], Attrs(offset=3), types("int32[3]", F34), 1)
    assert attrs.int("offset") == 3
    assert dynamic_names(node("vjp", attrs)) == ("offset",)
    assert dynamic_names(node("dropout", Attrs())) == ("start",)
    assert dynamic_names(node("relu", Attrs())) == ()


# What a tile reads, by hand


def test_halo_of_a_convolution() -> None:
    """Rows 2 to 3 of a 5-row window, stride 1, 2 of padding: rows 0 to 5, none of it padding."""
    attrs = Attrs(strides=(1, 1), padding=((2, 2), (2, 2)))
    given = types("float32[1,8,8,3]", "float32[5,5,3,4]")
    region = Region.of((0, 1), (2, 4), (0, 4), (1, 3))
    reads = OPS["conv2d"].reads(attrs, given, region)
    assert list(map(str, reads)) == ["0:1,0:6,0:6,0:3", "0:5,0:5,0:3,1:3"]
    assert OPS["conv2d"].localize(attrs, given, region)["padding"] == ((0, 0), (2, 0))


def test_rows_that_no_window_reads_are_not_read() -> None:
    attrs = Attrs(strides=(3, 3), padding=((0, 0), (0, 0)), size=(2, 2), kind="max")
    given = types("float32[1,9,9,1]")
    whole = Region.whole(OPS["pool2d"].infer(attrs, given).shape)
    assert str(OPS["pool2d"].reads(attrs, given, whole)[0]) == "0:1,0:8,0:8,0:1"


def test_each_position_reads_its_own_filters() -> None:
    given = types("float32[2,8,8,3]", "float32[6,6,3,3,3,4]")
    region = Region.of((0, 2), (0, 3), (3, 6), (0, 4))
    reads = OPS["local2d"].reads(Attrs(STRIDED), given, region)
    assert list(map(str, reads)) == ["0:2,0:5,3:8,0:3", "0:3,3:6,0:3,0:3,0:3,0:4"]


def test_a_dense_layer_reads_its_columns() -> None:
    given = types("float32[8,16]", "float32[16,6]")
    reads = OPS["contract"].reads(Attrs(contracted=1), given, Region.of((0, 8), (2, 4)))
    assert list(map(str, reads)) == ["0:8,0:16", "0:16,2:4"]
    reductions = OPS["contract"].reductions(Attrs(contracted=1), given)
    assert [(r.name, r.axes) for r in reductions] == [("inputs", ((0, 1), (1, 0)))]


def test_names_of_the_inner_axes() -> None:
    given = types("float32[2,3,4,5]", "float32[3,4,5,7]")
    found = OPS["contract"].reductions(Attrs(contracted=3), given)
    assert [r.name for r in found] == ["rows", "cols", "inputs"]
    assert found[2].axes == ((0, 3), (1, 2))


@pytest.mark.parametrize(
    ("source", "target", "wanted"),
    [
        ((5, 2, 3), (5, 6), [((0,), (0,)), ((1, 2), (1,))]),
        ((4, 6), (3, 8), [((0, 1), (0, 1))]),
        ((4, 1), (4,), [((0,), (0,)), ((1,), ())]),
        ((4,), (1, 4), [((0,), (0, 1))]),
        ((), (), []),
        ((), (1, 1), [((), (0, 1))]),
        ((2, 6, 5), (2, 2, 3, 5), [((0,), (0,)), ((1,), (1, 2)), ((2,), (3,))]),
    ],
)
def test_factor_groups(source: tuple, target: tuple, wanted: list) -> None:
    assert [(tuple(a), tuple(b)) for a, b in groups(source, target)] == wanted


@pytest.mark.parametrize(
    ("source", "target", "region", "read"),
    [
        # Flattening: the batch, rows, and part of a row are read exactly.
        ((8, 4, 5, 2), (8, 40), "2:4,0:40", "2:4,0:4,0:5,0:2"),
        ((8, 4, 5, 2), (8, 40), "0:8,10:30", "0:8,1:3,0:5,0:2"),
        ((8, 4, 5, 2), (8, 40), "0:8,12:16", "0:8,1:2,1:3,0:2"),
        ((8, 4, 5, 2), (8, 40), "0:8,13:14", "0:8,1:2,1:2,1:2"),
        # Across rows: both rows.
        ((8, 4, 5, 2), (8, 40), "0:8,8:12", "0:8,0:2,0:5,0:2"),
        # And back: rows exactly, columns of several rows with what lies between.
        ((8, 40), (8, 4, 5, 2), "0:8,1:3,0:5,0:2", "0:8,10:30"),
        ((8, 40), (8, 4, 5, 2), "0:8,1:2,1:3,0:2", "0:8,12:16"),
        ((8, 40), (8, 4, 5, 2), "0:8,1:3,1:3,0:2", "0:8,10:30"),
    ],
)
def test_reshape_reads(source: tuple, target: tuple, region: str, read: str) -> None:
    attrs = Attrs(shape=target, offset=(), keep=())
    found = OPS["reshape"].reads(attrs, (TensorType(source),), Region.parse(region))
    assert [str(r) for r in found] == [read]


def test_an_aligned_reshape_keeps_all() -> None:
    attrs = Attrs(shape=(8, 40), offset=(), keep=())
    tile = OPS["reshape"].localize(attrs, types("float32[8,4,5,2]"), Region.of((2, 4), (10, 30)))
    assert tile == Attrs(shape=(2, 20), offset=(), keep=())


def test_custom_axes() -> None:
    attrs = Attrs({**USER, "axes": ("bk", "k_", "b_"), "shape": (4, 2)})
    given = types("float32[4,3]", "float32[3,2]")
    assert OPS["custom"].cut_axes(attrs, given) == (0,)
    reads = OPS["custom"].reads(attrs, given, Region.of((1, 3), (0, 2)))
    assert list(map(str, reads)) == ["1:3,0:3", "0:3,0:2"]


def test_assemble_reads_the_hull_of_its_pieces() -> None:
    pieces = ((0, (5,), (0,), (2,)), (1, (0,), (2,), (2,)), (0, (8,), (4,), (2,)))
    attrs = Attrs(shape=(6,), pieces=pieces)
    given = types("float32[10]", "float32[2]")
    reads = OPS["assemble"].reads(attrs, given, Region.of((1, 5)))
    assert list(map(str, reads)) == ["6:9", "0:2"]
    reads = OPS["assemble"].reads(attrs, given, Region.of((2, 4)))
    assert [r.size for r in reads] == [0, 2]
