"""Ops that calculate each element of the output from the elements at the same place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from dbgraph.ir.region import Region
from dbgraph.ir.types import Attrs, TensorType, Types
from dbgraph.ops import check
from dbgraph.ops.schema import (
    Needs,
    OpDef,
    OpError,
    Transposed,
    all_axes,
    needs_all,
    needs_none,
    needs_others,
    require,
)

TRANSCENDENTAL_FLOPS = 8
"""What one exp, log, tanh, erf, square root or power counts: about the polynomial's terms.
An addition, multiplication, division or comparison counts 1."""
_T = TRANSCENDENTAL_FLOPS

Check = Callable[[Attrs], None]


def _no_attributes(attrs: Attrs) -> None:
    """Nothing to check."""


def _numbers(op: str, *keys: str) -> Check:
    def run(attrs: Attrs) -> None:
        for key in keys:
            check.number(op, attrs, key)

    return run


def _reads_same(attrs: Attrs, types: Types, region: Region) -> tuple[Region, ...]:
    return tuple(region for _ in types)


def _unary(
    name: str,
    formula: str,
    flops: int,
    *,
    integers: bool = False,
    needs: Needs = needs_all,
    attributes: Check = _no_attributes,
) -> OpDef:
    """One input, same shape and dtype; `flops` per element."""

    def infer(attrs: Attrs, types: Types) -> TensorType:
        check.takes(name, types, 1)
        if integers:
            check.numbers(name, "the input", types[0])
        else:
            check.floats(name, "the input", types[0])
        attributes(attrs)
        return types[0]

    def count(attrs: Attrs, types: Types, out: TensorType) -> int:
        return flops * out.size

    return OpDef(
        name,
        f"{name}(x …) → …: {formula}",
        infer=infer,
        reads=_reads_same,
        cut_axes=all_axes,
        flops=count,
        vjp_needs=needs,
    )


UNARY = (
    _unary("relu", "max(x, 0); the derivative at 0 is 0.", 1),
    _unary("sigmoid", "1 / (1 + exp(-x)).", _T + 2),
    _unary("tanh", "hyperbolic tangent.", _T),
    _unary("gelu", "x Φ(x), Φ the normal distribution by erf, not the tanh form.", _T + 4),
    _unary("softplus", "log(1 + exp(x)), stable for large |x|.", 2 * _T + 2),
    _unary("silu", "x sigmoid(x).", _T + 3),
    _unary("elu", "x where x > 0, else exp(x) - 1.", _T + 2),
    _unary(
        "leaky_relu",
        "x where x >= 0, else slope * x.",
        2,
        attributes=_numbers("leaky_relu", "slope"),
    ),
    _unary("exp", "e to the x.", _T),
    _unary("log", "natural logarithm; -inf at 0, as IEEE 754 has it.", _T),
    _unary("sqrt", "square root; the derivative at 0 is taken as 0, so that no inf·0 arises.", _T),
    _unary("square", "x * x.", 1, integers=True),
    _unary("abs", "|x|; the derivative at 0 is 0.", 1, integers=True),
    _unary(
        "affine",
        "x * scale + shift.",
        2,
        needs=needs_none,
        attributes=_numbers("affine", "scale", "shift"),
    ),
    _unary("power", "x to the exponent.", _T, attributes=_numbers("power", "exponent")),
)


def _infer_cast(attrs: Attrs, types: Types) -> TensorType:
    check.takes("cast", types, 1)
    return TensorType(types[0].shape, check.dtype("cast", attrs))


def _one_each(attrs: Attrs, types: Types, out: TensorType) -> int:
    return out.size


CAST = OpDef(
    "cast",
    "cast(x …) dtype → …: the same numbers in another dtype; floats to integers towards 0.",
    infer=_infer_cast,
    reads=_reads_same,
    cut_axes=all_axes,
    flops=_one_each,
    vjp_needs=needs_none,
)


def broadcast(op: str, x: tuple[int, ...], y: tuple[int, ...]) -> tuple[int, ...]:
    """The common shape, aligned at the right (NumPy's rule). Raises OpError."""
    rank = max(len(x), len(y))
    pairs = zip((1,) * (rank - len(x)) + x, (1,) * (rank - len(y)) + y, strict=True)
    shape = []
    for a, b in pairs:
        if a != b and a != 1 and b != 1:
            raise OpError(
                f"{op}: shapes {check.lengths(x)} and {check.lengths(y)} do not fit: "
                f"aligned at the right, {a} meets {b}, and neither is 1"
            )
        shape.append(b if a == 1 else a)
    return tuple(shape)


def _reads_broadcast(attrs: Attrs, types: Types, region: Region) -> tuple[Region, ...]:
    def part(type_: TensorType) -> Region:
        bounds = region.bounds[region.rank - type_.rank :]
        return Region(
            tuple((0, 1) if n == 1 else b for n, b in zip(type_.shape, bounds, strict=True))
        )

    return tuple(part(t) for t in types)


def _axes_broadcast(attrs: Attrs, types: Types) -> tuple[int, ...]:
    return tuple(range(max(t.rank for t in types)))


def needs_quotient(wrt: int, inputs: int) -> tuple[int, ...]:
    """x / y: the derivative by x needs y alone, the one by y needs both."""
    return (1,) if wrt == 0 else (0, 1)


def _binary(name: str, formula: str, needs: Needs, *, integers: bool = True) -> OpDef:
    """Two inputs with NumPy's broadcasting."""

    def infer(attrs: Attrs, types: Types) -> TensorType:
        check.takes(name, types, 2)
        check.same_dtype(name, types)
        (check.numbers if integers else check.floats)(name, "the inputs", types[0])
        return TensorType(broadcast(name, types[0].shape, types[1].shape), types[0].dtype)

    return OpDef(
        name,
        f"{name}(x …, y …) → …: {formula}, with NumPy's broadcasting (shapes align at the right).",
        infer=infer,
        reads=_reads_broadcast,
        cut_axes=_axes_broadcast,
        flops=_one_each,
        vjp_needs=needs,
    )


BINARY = (
    _binary("add", "x + y", needs_none),
    _binary("subtract", "x - y", needs_none),
    _binary("multiply", "x * y", needs_others),
    _binary("divide", "x / y", needs_quotient, integers=False),
    _binary("maximum", "the larger; equal ones share the gradient", needs_all),
    _binary("minimum", "the smaller; equal ones share the gradient", needs_all),
)


def _joining(
    name: str,
    formula: str,
    flops: Callable[[int], int],
    needs: Needs,
    *,
    integers: bool = True,
) -> OpDef:
    """Any number of inputs of one type: the combiners of partial results.

    Args:
        flops: per element of the output, of the number of inputs.
    """

    def infer(attrs: Attrs, types: Types) -> TensorType:
        check.takes_some(name, types)
        check.same_dtype(name, types)
        shapes = dict.fromkeys(check.lengths(t.shape) for t in types)
        require(len(shapes) == 1, f"{name}: the inputs' shapes differ: {', '.join(shapes)}")
        (check.numbers if integers else check.floats)(name, "the inputs", types[0])
        return types[0]

    def count(attrs: Attrs, types: Types, out: TensorType) -> int:
        return flops(len(types)) * out.size

    return OpDef(
        name,
        f"{name}(x …, y …, …) → …: {formula}",
        infer=infer,
        reads=_reads_same,
        cut_axes=all_axes,
        flops=count,
        vjp_needs=needs,
    )


def _passes_on(attrs: Attrs, types: Types) -> tuple[Transposed, ...]:
    """The cotangent of a sum is that of each of its parts."""
    return (Transposed(),) * len(types)


JOINING = (
    replace(
        _joining("add_n", "the sum of all inputs.", lambda n: n - 1, needs_none),
        transposes=_passes_on,
    ),
    _joining("max_n", "the largest of all inputs.", lambda n: n - 1, needs_all),
    _joining(
        "logsumexp_n",
        "log of the sum of exp of all inputs, stable.",
        lambda n: n * (_T + 2) + _T,
        needs_all,
        integers=False,
    ),
)


def _infer_dropout(attrs: Attrs, types: Types) -> TensorType:
    check.takes("dropout", types, 2)
    x, clock = types
    check.floats("dropout", "the input", x)
    require(x.rank >= 1, "dropout: the input must have a batch axis")
    require(
        clock.shape == (2,) and clock.dtype == "int32",
        f"dropout: the clock must be int32[2], not {clock}",
    )
    rate = check.number("dropout", attrs, "rate")
    require(0 <= rate < 1, f"dropout: rate {rate} must be in [0, 1)")
    require(check.integer("dropout", attrs, "seed") >= 0, "dropout: seed must be at least 0")
    start, whole = check.ints("dropout", attrs, "start"), check.shape("dropout", attrs, "whole")
    require(
        len(start) == len(whole) == x.rank and all(a >= 0 for a in start),
        f"dropout: start {start} and whole {whole} must have one entry for each axis of {x}",
    )
    require(
        all(a + n <= w for a, n, w in list(zip(start, x.shape, whole, strict=True))[1:]),
        f"dropout: {x} from {start} on does not lie in the whole {whole}",
    )
    return x


def _reads_dropout(attrs: Attrs, types: Types, region: Region) -> tuple[Region, ...]:
    return region, Region.of((0, 2))


def _localize_dropout(attrs: Attrs, types: Types, region: Region) -> Attrs:
    return attrs.having(start=region.shift(attrs.ints("start")).start)


def _flops_dropout(attrs: Attrs, types: Types, out: TensorType) -> int:
    return (_T + 2) * out.size


DROPOUT = OpDef(
    "dropout",
    "dropout(x B…, clock 2) rate, seed, start, whole → B…: each element 0 with probability "
    "`rate`, else divided by 1 - rate. The mask is a hash of seed, step, example and place "
    "(`ir.counter`), so it does not depend on the cut. start: where x begins in the uncut value, "
    "whose shape is `whole`. The hash counts as one transcendental function.",
    infer=_infer_dropout,
    reads=_reads_dropout,
    cut_axes=all_axes,
    flops=_flops_dropout,
    localize=_localize_dropout,
    vjp_needs=needs_others,
    dynamic=("start",),
)
