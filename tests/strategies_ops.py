"""Random nodes: for each op, attributes and input types that its rule accepts, and their values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import prod

import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from dbgraph.ir.region import Region
from dbgraph.ir.types import NO_ATTRS, Attrs, TensorType, Types
from dbgraph.kernels.custom import register
from dbgraph.ops import OPS, OpDef
from dbgraph.ops.leaf import CLOCK_TYPE

Draw = Callable[[st.SearchStrategy], object]


@dataclass(frozen=True)
class Case:
    """A node without a graph."""

    op: str
    attrs: Attrs
    types: Types

    @property
    def definition(self) -> OpDef:
        return OPS[self.op]

    @property
    def out(self) -> TensorType:
        return self.definition.infer(self.attrs, self.types)

    def tile(self, region: Region) -> Case:
        """The tile of a region of the output, over the regions that it reads."""
        reads = self.definition.reads(self.attrs, self.types, region)
        types = tuple(t.with_shape(r.shape) for t, r in zip(self.types, reads, strict=True))
        return Case(self.op, self.definition.localize(self.attrs, self.types, region), types)


def split_attrs(op: str, attrs: Attrs) -> tuple[Attrs, list[np.ndarray]]:
    """The static attributes, and the dynamic ones as the arrays that a kernel takes."""
    names = OPS[attrs.str("vjp_of") if op == "vjp" else op].dynamic
    static = Attrs({k: v for k, v in attrs.items() if k not in names})
    return static, [np.asarray(attrs[name], np.int32) for name in names]


# What the cases are made of

LENGTHS = st.integers(1, 5)
FLOAT_DTYPES = st.sampled_from(["float32", "float64"])


def shapes(least: int = 0, most: int = 3) -> st.SearchStrategy[tuple[int, ...]]:
    return st.lists(LENGTHS, min_size=least, max_size=most).map(tuple)


@st.composite
def ranges(draw: Draw, length: int) -> tuple[int, int]:
    a = draw(st.integers(0, length - 1))
    return a, draw(st.integers(a + 1, length))


@st.composite
def regions(draw: Draw, shape: tuple[int, ...], axes: tuple[int, ...] | None = None) -> Region:
    """A box in the shape, cut along the axes alone (all of them by default)."""
    return Region(
        tuple(draw(ranges(n)) if axes is None or k in axes else (0, n) for k, n in enumerate(shape))
    )


@st.composite
def splits(draw: Draw, length: int) -> list[tuple[int, int]]:
    """One to three uneven ranges that cover the length."""
    inner = draw(st.sets(st.integers(1, max(1, length - 1)), max_size=2)) if length > 1 else set()
    bounds = [0, *sorted(inner), length]
    return list(pairwise(bounds))


# One strategy per op


@st.composite
def _leaf(draw: Draw, op: str) -> Case:
    shape = draw(shapes(1))
    start = tuple(draw(st.integers(0, 9)) for _ in shape)
    attrs = Attrs(of="x", start=start, shape=shape, dtype=draw(FLOAT_DTYPES))
    return Case(op, attrs.having(init=("zeros",)) if op == "parameter" else attrs, ())


@st.composite
def _fill(draw: Draw) -> Case:
    value = draw(st.floats(-4, 4, width=16))
    return Case("fill", Attrs(value=value, shape=draw(shapes()), dtype=draw(FLOAT_DTYPES)), ())


@st.composite
def _pointwise(draw: Draw, op: str, **attributes: st.SearchStrategy) -> Case:
    attrs = Attrs({key: draw(value) for key, value in attributes.items()})
    return Case(op, attrs, (TensorType(draw(shapes()), draw(FLOAT_DTYPES)),))


@st.composite
def _binary(draw: Draw, op: str) -> Case:
    """Some axes of length 1, some missing, in either input."""
    shape, dtype = draw(shapes()), draw(FLOAT_DTYPES)

    def part() -> TensorType:
        axes = tuple(draw(st.sampled_from([n, n, 1])) for n in shape)
        return TensorType(axes[draw(st.integers(0, len(axes))) :], dtype)

    full = TensorType(shape, dtype)
    return Case(op, NO_ATTRS, draw(st.sampled_from([(full, part()), (part(), full)])))


@st.composite
def _joining(draw: Draw, op: str) -> Case:
    one = TensorType(draw(shapes()), draw(FLOAT_DTYPES))
    return Case(op, NO_ATTRS, (one,) * draw(st.integers(1, 3)))


@st.composite
def _dropout(draw: Draw) -> Case:
    whole = draw(shapes(1))
    region = draw(regions(whole))
    attrs = Attrs(
        rate=draw(st.sampled_from([0.0, 0.25, 0.5, 0.9])),
        seed=draw(st.integers(0, 2**64)),
        start=region.start,
        whole=whole,
    )
    return Case("dropout", attrs, (TensorType(region.shape, draw(FLOAT_DTYPES)), CLOCK_TYPE))


@st.composite
def _contract(draw: Draw) -> Case:
    inner, dtype = draw(shapes(1)), draw(FLOAT_DTYPES)
    x, w = draw(shapes(0, 2)) + inner, inner + draw(shapes(0, 2))
    attrs = Attrs(contracted=len(inner))
    return Case("contract", attrs, (TensorType(x, dtype), TensorType(w, dtype)))


INT_DTYPES = st.sampled_from(["int32", "int64", "uint8"])


@st.composite
def _embedding(draw: Draw) -> Case:
    ids = TensorType(draw(shapes(0, 2)), draw(INT_DTYPES))
    table = TensorType(draw(shapes(1)), draw(FLOAT_DTYPES))
    return Case("embedding", Attrs(offset=draw(st.integers(0, 3))), (ids, table))


@st.composite
def _pick(draw: Draw) -> Case:
    scores = TensorType(draw(shapes(1)), draw(FLOAT_DTYPES))
    labels = TensorType(scores.shape[:-1], draw(INT_DTYPES))
    return Case("pick", Attrs(offset=draw(st.integers(0, 3))), (scores, labels))


@st.composite
def _window(draw: Draw) -> tuple[int, int, int, tuple[int, int], int]:
    """Length, size, stride, padding and number of positions along one axis."""
    size, stride = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    low, high = (draw(st.integers(0, size - 1)) for _ in range(2))
    length = draw(st.integers(max(1, size - low - high), 9))
    return length, size, stride, (low, high), (length + low + high - size) // stride + 1


@st.composite
def _image(draw: Draw) -> tuple[TensorType, tuple[int, int], tuple[int, int], Attrs]:
    """An image, the windows' size, their positions, and strides and padding."""
    rows, columns = draw(_window()), draw(_window())
    batch, channels = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    x = TensorType((batch, rows[0], columns[0], channels), draw(FLOAT_DTYPES))
    attrs = Attrs(strides=(rows[2], columns[2]), padding=(rows[3], columns[3]))
    return x, (rows[1], columns[1]), (rows[4], columns[4]), attrs


@st.composite
def _conv2d(draw: Draw) -> Case:
    x, size, _, attrs = draw(_image())
    w = TensorType((*size, x.shape[3], draw(st.integers(1, 3))), x.dtype)
    return Case("conv2d", attrs, (x, w))


@st.composite
def _local2d(draw: Draw) -> Case:
    x, size, positions, attrs = draw(_image())
    w = TensorType((*positions, *size, x.shape[3], draw(st.integers(1, 3))), x.dtype)
    return Case("local2d", attrs, (x, w))


@st.composite
def _pool2d(draw: Draw) -> Case:
    x, size, _, attrs = draw(_image())
    kind = draw(st.sampled_from(["max", "average", "l2"]))
    return Case("pool2d", attrs.having(kind=kind, size=size), (x,))


@st.composite
def _reduction(draw: Draw, op: str) -> Case:
    x = TensorType(draw(shapes(1, 4)), draw(FLOAT_DTYPES))
    axes = draw(st.sets(st.integers(0, x.rank - 1), min_size=1))
    return Case(op, Attrs(axes=tuple(sorted(axes)), keepdims=draw(st.booleans())), (x,))


@st.composite
def _argmax(draw: Draw) -> Case:
    x = TensorType(draw(shapes(1)), draw(FLOAT_DTYPES))
    return Case("argmax", Attrs(axis=draw(st.integers(0, x.rank - 1))), (x,))


@st.composite
def _slice(draw: Draw) -> Case:
    x = TensorType(draw(shapes()), draw(FLOAT_DTYPES))
    region = draw(regions(x.shape))
    return Case("slice", Attrs(start=region.start, stop=region.stop), (x,))


@st.composite
def _concat(draw: Draw) -> Case:
    shape, dtype = draw(shapes(1)), draw(FLOAT_DTYPES)
    axis = draw(st.integers(0, len(shape) - 1))
    lengths = draw(st.lists(LENGTHS, min_size=1, max_size=3))
    types = tuple(TensorType((*shape[:axis], n, *shape[axis + 1 :]), dtype) for n in lengths)
    return Case("concat", Attrs(axis=axis), types)


@st.composite
def _transpose(draw: Draw) -> Case:
    x = TensorType(draw(shapes(0, 4)), draw(FLOAT_DTYPES))
    return Case("transpose", Attrs(perm=tuple(draw(st.permutations(range(x.rank))))), (x,))


@st.composite
def _factored(draw: Draw, factors: list[int]) -> tuple[int, ...]:
    """A shape of product(factors): neighbours merged at random, axes of length 1 put in."""
    shape: list[int] = []
    for factor in factors:
        if shape and draw(st.booleans()):
            shape[-1] *= factor
        else:
            shape.append(factor)
    if draw(st.integers(0, 3)) == 0:
        shape.insert(draw(st.integers(0, len(shape))), 1)
    return tuple(shape)


@st.composite
def _reshape(draw: Draw) -> Case:
    """Also shapes that share no factor group, such as 4 x 6 to 3 x 8, and tiles of reshapes."""
    factors = draw(st.lists(st.sampled_from([2, 2, 3, 4, 5]), max_size=4))
    other = draw(st.permutations(factors)) if draw(st.booleans()) else factors
    x = TensorType(draw(_factored(factors)), draw(FLOAT_DTYPES))
    attrs = Attrs(shape=draw(_factored(list(other))), offset=(), keep=())
    if draw(st.booleans()):
        box = draw(regions(attrs.ints("shape")))
        attrs = attrs.having(offset=box.start, keep=box.shape)
    return Case("reshape", attrs, (x,))


@st.composite
def _boxes(draw: Draw, box: Region, depth: int) -> list[Region]:
    """Disjoint boxes that cover a box: cut in two, again and again."""
    axes = [k for k, n in enumerate(box.shape) if n > 1]
    if not depth or not axes or draw(st.integers(0, 3)) == 0:
        return [box]
    axis = draw(st.sampled_from(axes))
    a, b = box.bounds[axis]
    middle = draw(st.integers(a + 1, b - 1))
    halves = (box.replace(axis, (a, middle)), box.replace(axis, (middle, b)))
    return [piece for half in halves for piece in draw(_boxes(half, depth - 1))]


PINWHEEL = tuple(
    Region.of(rows, columns)
    for rows, columns in (
        ((0, 1), (0, 2)),
        ((0, 2), (2, 3)),
        ((2, 3), (1, 3)),
        ((1, 3), (0, 1)),
        ((1, 2), (1, 2)),
    )
)
"""Five boxes of a square that no straight cut separates."""


@st.composite
def _assemble(draw: Draw) -> Case:
    if draw(st.integers(0, 4)) == 0:
        shape, boxes = (3, 3), list(PINWHEEL)
    else:
        shape = draw(shapes(1))
        boxes = draw(_boxes(Region.whole(shape), 3))
    boxes = draw(st.permutations(boxes))
    dtype = draw(FLOAT_DTYPES)
    count = draw(st.integers(1, len(boxes)))
    owners = [k if k < count else draw(st.integers(0, count - 1)) for k in range(len(boxes))]
    margins = [tuple(draw(st.integers(0, 2)) for _ in shape) for _ in boxes]
    needed = [[0] * len(shape) for _ in range(count)]
    for owner, box, margin in zip(owners, boxes, margins, strict=True):
        for k, n in enumerate(box.shape):
            needed[owner][k] = max(needed[owner][k], n + margin[k])
    pieces = tuple(
        (owner, margin, box.start, box.shape)
        for owner, box, margin in zip(owners, boxes, margins, strict=True)
    )
    types = tuple(TensorType(tuple(n), dtype) for n in needed)
    return Case("assemble", Attrs(shape=tuple(shape), pieces=pieces), types)


def user_function(x: jnp.ndarray, w: jnp.ndarray) -> jnp.ndarray:
    """The custom op of the tests: any JAX function, here a layer."""
    return jnp.tanh(jnp.matmul(x, w))


USER_KEY = ("strategies_ops", "user_function", "of the tests")
register(USER_KEY, user_function)


@st.composite
def _custom(draw: Draw) -> Case:
    b, k, n = draw(LENGTHS), draw(LENGTHS), draw(LENGTHS)
    dtype = draw(FLOAT_DTYPES)
    axes = draw(
        st.sampled_from(
            [(("b", "_"), ("_", "_"), ("b", "_")), (("b", "k"), ("k", "n"), ("b", "n"))]
        )
    )
    module, name, fingerprint = USER_KEY
    attrs = Attrs(
        module=module,
        name=name,
        fingerprint=fingerprint,
        file="",
        shape=(b, n),
        dtype=dtype,
        axes=axes,
        flops=2 * b * k * n,
    )
    return Case("custom", attrs, (TensorType((b, k), dtype), TensorType((k, n), dtype)))


@st.composite
def _moving(draw: Draw, op: str, key: str) -> Case:
    x = TensorType(draw(shapes()), draw(FLOAT_DTYPES))
    return Case(op, Attrs({key: draw(st.integers(0, 9))}), (x,))


PLAIN = (
    *("relu", "sigmoid", "tanh", "gelu", "softplus", "silu"),
    *("elu", "exp", "log", "sqrt", "square", "abs"),
)
_NUMBERS = st.sampled_from([-2.0, -0.5, 0.25, 1.0, 3])

CASES: Mapping[str, st.SearchStrategy[Case]] = {
    "input": _leaf("input"),
    "parameter": _leaf("parameter"),
    "clock": st.just(Case("clock", NO_ATTRS, ())),
    "fill": _fill(),
    **{name: _pointwise(name) for name in PLAIN},
    "leaky_relu": _pointwise("leaky_relu", slope=st.sampled_from([0.01, 0.3])),
    "affine": _pointwise("affine", scale=_NUMBERS, shift=_NUMBERS),
    "power": _pointwise("power", exponent=_NUMBERS),
    "cast": _pointwise("cast", dtype=FLOAT_DTYPES),
    **{
        name: _binary(name)
        for name in ("add", "subtract", "multiply", "divide", "maximum", "minimum")
    },
    **{name: _joining(name) for name in ("add_n", "max_n", "logsumexp_n")},
    "dropout": _dropout(),
    "contract": _contract(),
    "embedding": _embedding(),
    "pick": _pick(),
    "conv2d": _conv2d(),
    "local2d": _local2d(),
    "pool2d": _pool2d(),
    **{name: _reduction(name) for name in ("sum", "max", "logsumexp")},
    "argmax": _argmax(),
    "slice": _slice(),
    "concat": _concat(),
    "transpose": _transpose(),
    "reshape": _reshape(),
    "assemble": _assemble(),
    "custom": _custom(),
    "send": _moving("send", "to"),
    "recv": _moving("recv", "source"),
}
"""A strategy of valid cases for each op but vjp, which is made from a case of another op."""

# Values

_POSITIVE = ("log", "sqrt", "power")


def values(case: Case, seed: int) -> list[np.ndarray]:
    """The inputs' values, away from every kink.

    Floats are a shuffled, evenly spaced grid in [-2, 2] without 0, shifted a little from input
    to input: no two are equal, so that a derivative by differences crosses no tie. Where the op
    needs it they are positive. Integers are ids, some outside the table.
    """
    rng = np.random.default_rng(seed)
    return [_value(case, k, t, rng) for k, t in enumerate(case.types)]


def _value(case: Case, k: int, type_: TensorType, rng: np.random.Generator) -> np.ndarray:
    if case.op == "dropout" and k == 1:
        return rng.integers(0, 1000, 2).astype(np.int32)
    if not type_.is_float:
        other = case.types[1 - k].shape
        rows = other[0] if case.op == "embedding" else other[-1]
        return rng.integers(0, rows + 4, type_.shape).astype(type_.dtype)
    n = max(1, prod(type_.shape))
    grid = (rng.permutation(n)[: prod(type_.shape)] - n // 2 + 0.25 + 0.13 * k) / n * 4
    if case.op in _POSITIVE:
        grid = np.abs(grid) + 0.1
    return grid.reshape(type_.shape).astype(type_.dtype)


def cut(arrays: list[np.ndarray], reads: tuple[Region, ...]) -> list[np.ndarray]:
    """The parts of the inputs that a tile reads."""
    return [a[r.slices()] for a, r in zip(arrays, reads, strict=True)]
