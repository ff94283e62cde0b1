"""Ops that reduce axes away: sum, max, log-sum-exp, argmax."""

from __future__ import annotations

from dbgraph.ir.region import Region
from dbgraph.ir.types import Attrs, TensorType, Types
from dbgraph.ops import check
from dbgraph.ops.pointwise import TRANSCENDENTAL_FLOPS
from dbgraph.ops.schema import Needs, OpDef, Reduction, needs_all, needs_none, require, work


def reduced_shape(shape: tuple[int, ...], axes: tuple[int, ...], keep: bool) -> tuple[int, ...]:
    """The shape without the axes, or with length 1 there."""
    if keep:
        return tuple(1 if k in axes else n for k, n in enumerate(shape))
    return tuple(n for k, n in enumerate(shape) if k not in axes)


def _reads_reduced(
    shape: tuple[int, ...], axes: tuple[int, ...], keep: bool, region: Region
) -> tuple[Region, ...]:
    """The reduced axes are read whole; the others as the output's region has them."""
    others = iter(b for k, b in enumerate(region.bounds) if not (keep and k in axes))
    return (Region(tuple((0, n) if k in axes else next(others) for k, n in enumerate(shape))),)


def _reads(attrs: Attrs, types: Types, region: Region) -> tuple[Region, ...]:
    return _reads_reduced(types[0].shape, attrs.ints("axes"), bool(attrs["keepdims"]), region)


def _cut_axes(attrs: Attrs, types: Types) -> tuple[int, ...]:
    """All axes that remain, but for those kept with length 1."""
    axes = attrs.ints("axes")
    if attrs["keepdims"]:
        return tuple(k for k in range(types[0].rank) if k not in axes)
    return tuple(range(types[0].rank - len(axes)))


def _reductions(attrs: Attrs, types: Types) -> tuple[Reduction, ...]:
    return tuple(Reduction(f"axis{k}", ((0, k),)) for k in attrs.ints("axes"))


def _reduction(
    name: str, formula: str, combine: str, each: int, once: int, needs: Needs, *, integers: bool
) -> OpDef:
    """A reduction of `each` FLOP per element of the input and `once` per one of the output."""

    def infer(attrs: Attrs, types: Types) -> TensorType:
        check.takes(name, types, 1)
        x = types[0]
        (check.numbers if integers else check.floats)(name, "the input", x)
        axes = check.axes(name, attrs, x.rank)
        keep = attrs.get("keepdims")
        require(isinstance(keep, bool), f"{name}: keepdims must be True or False; it is {keep!r}")
        return TensorType(reduced_shape(x.shape, axes, bool(keep)), x.dtype)

    def flops(attrs: Attrs, types: Types, out: TensorType) -> int:
        return each * types[0].size + once * out.size

    return OpDef(
        name,
        f"{name}(x …) axes, keepdims → the shape without the axes (or with length 1 there): "
        f"{formula}",
        infer=infer,
        reads=_reads,
        cut_axes=_cut_axes,
        flops=flops,
        reductions=_reductions,
        combine=combine,
        vjp_needs=needs,
        kinds=work("reduction"),
    )


_T = TRANSCENDENTAL_FLOPS
SUM = _reduction("sum", "the sum.", "add_n", 1, 0, needs_none, integers=True)
MAX = _reduction(
    "max", "the largest; equal ones share the gradient.", "max_n", 1, 0, needs_all, integers=True
)
LOGSUMEXP = _reduction(
    "logsumexp",
    "log of the sum of exp, stable.",
    "logsumexp_n",
    _T + 2,
    _T,
    needs_all,
    integers=False,
)


def _infer_argmax(attrs: Attrs, types: Types) -> TensorType:
    check.takes("argmax", types, 1)
    x = types[0]
    check.numbers("argmax", "the input", x)
    axis = check.axis("argmax", check.integer("argmax", attrs, "axis"), x.rank)
    return TensorType(reduced_shape(x.shape, (axis,), False), "int32")


def _reads_argmax(attrs: Attrs, types: Types, region: Region) -> tuple[Region, ...]:
    return _reads_reduced(types[0].shape, (attrs.int("axis"),), False, region)


def _axes_argmax(attrs: Attrs, types: Types) -> tuple[int, ...]:
    return tuple(range(types[0].rank - 1))


def _flops_argmax(attrs: Attrs, types: Types, out: TensorType) -> int:
    return types[0].size


ARGMAX = OpDef(
    "argmax",
    "argmax(x …) axis → int32, the shape without the axis: the index of the largest element, "
    "the first of equal ones.",
    infer=_infer_argmax,
    reads=_reads_argmax,
    cut_axes=_axes_argmax,
    flops=_flops_argmax,
    kinds=work("argmax"),
    differentiable=False,
)
