"""Ops without inputs: what is fed, and constants."""

from __future__ import annotations

from dbgraph.ir.region import Region
from dbgraph.ir.types import Attrs, TensorType, Types
from dbgraph.ops import check
from dbgraph.ops.schema import OpDef, require

CLOCK_TYPE = TensorType((2,), "int32")


def no_flops(attrs: Attrs, types: Types, out: TensorType) -> int:
    """Moves, names or invents values; calculates nothing."""
    return 0


def _reads_nothing(attrs: Attrs, types: Types, region: Region) -> tuple[Region, ...]:
    return ()


def _every_axis(attrs: Attrs, types: Types) -> tuple[int, ...]:
    return tuple(range(len(attrs.ints("shape"))))


def _fed(name: str, doc: str) -> OpDef:
    """A leaf whose value is a region, from `start` on, of a named array outside the graph."""

    def infer(attrs: Attrs, types: Types) -> TensorType:
        check.takes(name, types, 0)
        require(isinstance(attrs.get("of"), str), f"{name}: `of` must name what is fed")
        shape = check.shape(name, attrs)
        start = check.ints(name, attrs, "start")
        require(
            len(start) == len(shape) and all(a >= 0 for a in start),
            f"{name}: start {start} must have {len(shape)} entries (shape {shape}), none below 0",
        )
        return TensorType(shape, check.dtype(name, attrs))

    def localize(attrs: Attrs, types: Types, region: Region) -> Attrs:
        start = region.shift(attrs.ints("start")).start
        return attrs.having(start=start, shape=region.shape)

    return OpDef(
        name,
        doc,
        infer=infer,
        reads=_reads_nothing,
        cut_axes=_every_axis,
        flops=no_flops,
        localize=localize,
        dynamic=("start",),
    )


INPUT = _fed(
    "input",
    "input() of, start, shape, dtype → shape: the region of the network's input `of` that begins "
    "at `start`; fed at run time.",
)
PARAMETER = _fed(
    "parameter",
    "parameter() of, start, shape, dtype, init → shape: the region of the parameter `of` that "
    "begins at `start`; fed at run time. init: how it is initialised.",
)


def _infer_clock(attrs: Attrs, types: Types) -> TensorType:
    check.takes("clock", types, 0)
    return CLOCK_TYPE


def _no_axes(attrs: Attrs, types: Types) -> tuple[int, ...]:
    return ()


CLOCK = OpDef(
    "clock",
    "clock() → int32[2]: the step, and the index in the batch of the microbatch's first example; "
    "fed at run time.",
    infer=_infer_clock,
    reads=_reads_nothing,
    cut_axes=_no_axes,
    flops=no_flops,
    differentiable=False,
)


def _infer_fill(attrs: Attrs, types: Types) -> TensorType:
    check.takes("fill", types, 0)
    check.number("fill", attrs, "value")
    return TensorType(check.shape("fill", attrs), check.dtype("fill", attrs))


def _localize_fill(attrs: Attrs, types: Types, region: Region) -> Attrs:
    return attrs.having(shape=region.shape)


FILL = OpDef(
    "fill",
    "fill() value, shape, dtype → shape: the same number everywhere.",
    infer=_infer_fill,
    reads=_reads_nothing,
    cut_axes=_every_axis,
    flops=no_flops,
    localize=_localize_fill,
)
