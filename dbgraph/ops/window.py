"""Sliding windows over images: layout batch, rows, columns, channels (B, H, W, C)."""

from __future__ import annotations

from dbgraph.ir.region import Clip, Region, window_range
from dbgraph.ir.types import Attrs, TensorType, Types
from dbgraph.ops import check
from dbgraph.ops.pointwise import TRANSCENDENTAL_FLOPS
from dbgraph.ops.schema import Kinds, OpDef, OpError, Reduction, needs_others, require, work

POOL_KINDS = ("max", "average", "l2")
_AXES = ("rows", "columns")


def _positions(op: str, attrs: Attrs, image: TensorType, size: tuple[int, ...]) -> tuple[int, int]:
    """How many windows fit along rows and columns. Raises OpError."""
    require(
        image.rank == 4,
        f"{op}: the image must have the axes batch, rows, columns, channels; it is {image}",
    )
    strides, padding = attrs.get("strides"), attrs.get("padding")
    require(
        check.is_ints(strides, 2) and all(s > 0 for s in attrs.ints("strides")),
        f"{op}: strides must be two integers, each at least 1; they are {strides!r}",
    )
    require(
        isinstance(padding, tuple)
        and len(padding) == 2
        and all(check.is_ints(p, 2) for p in padding)
        and all(n >= 0 for p in attrs.pairs("padding") for n in p),
        f"{op}: padding must be two pairs of integers, none below 0; it is {padding!r}",
    )
    rows, columns = (
        _positions_along(op, _AXES[k], image.shape[1 + k], size[k], stride, pad)
        for k, (stride, pad) in enumerate(
            zip(attrs.ints("strides"), attrs.pairs("padding"), strict=True)
        )
    )
    return rows, columns


def _positions_along(
    op: str, axis: str, length: int, size: int, stride: int, padding: tuple[int, int]
) -> int:
    low, high = padding
    padded = f"{length} {axis}" + (f" + {low} + {high} of padding" if low or high else "")
    require(size >= 1, f"{op}: the window must have at least 1 of {axis}; it has {size}")
    require(
        size <= length + low + high,
        f"{op}: the window ({size} {axis}) exceeds the image ({padded})",
    )
    count = (length + low + high - size) // stride + 1
    require(
        low < size and (count - 1) * stride - low < length,
        f"{op}: a window of {size} {axis} must not lie in the padding alone ({padded})",
    )
    return count


def _clips(attrs: Attrs, image: TensorType, size: tuple[int, ...], region: Region) -> list[Clip]:
    """What the windows of an output region read along rows and columns."""
    return [
        window_range(
            region.bounds[1 + k],
            size[k],
            attrs.ints("strides")[k],
            attrs.pairs("padding")[k][0],
            image.shape[1 + k],
        )
        for k in (0, 1)
    ]


def _with_padding(attrs: Attrs, clips: list[Clip]) -> Attrs:
    return attrs.having(padding=tuple(clip.padding for clip in clips))


def _all_four(attrs: Attrs, types: Types) -> tuple[int, ...]:
    return (0, 1, 2, 3)


def _same_channels(op: str, image: TensorType, channels: int) -> None:
    require(
        channels == image.shape[3],
        f"{op}: the filter's channels ({channels}) must equal the image's ({image.shape[3]})",
    )


def _filters(op: str, types: Types, axes: tuple[str, ...]) -> tuple[TensorType, TensorType]:
    """Image and filters, checked for dtype and for the filters' rank."""
    check.takes(op, types, 2)
    check.same_dtype(op, types)
    x, w = types
    check.floats(op, "the image", x)
    require(
        w.rank == len(axes), f"{op}: the filters must have the axes {', '.join(axes)}; they are {w}"
    )
    return x, w


# conv2d


def _infer_conv2d(attrs: Attrs, types: Types) -> TensorType:
    x, w = _filters("conv2d", types, ("rows", "columns", "channels", "maps"))
    rows, columns = _positions("conv2d", attrs, x, w.shape[:2])
    _same_channels("conv2d", x, w.shape[2])
    return TensorType((x.shape[0], rows, columns, w.shape[3]), x.dtype)


def _reads_conv2d(attrs: Attrs, types: Types, region: Region) -> tuple[Region, ...]:
    x, w = types
    batch, _, _, maps = region.bounds
    rows, columns = _clips(attrs, x, w.shape[:2], region)
    image = Region.of(batch, rows.range, columns.range, (0, x.shape[3]))
    return image, Region.whole(w.shape).replace(3, maps)


def _localize_conv2d(attrs: Attrs, types: Types, region: Region) -> Attrs:
    return _with_padding(attrs, _clips(attrs, types[0], types[1].shape[:2], region))


def _flops_conv2d(attrs: Attrs, types: Types, out: TensorType) -> int:
    rows, columns, channels, _ = types[1].shape
    return 2 * out.size * rows * columns * channels


def _reductions_conv2d(attrs: Attrs, types: Types) -> tuple[Reduction, ...]:
    return (Reduction("channels", ((0, 3), (1, 2))),)


CONV2D = OpDef(
    "conv2d",
    "conv2d(x B H W C, w PH PW C M) strides (sh, sw), padding ((lo, hi), (lo, hi)) → B OH OW M: "
    "the same filters at every position; zeros around the image; OH = (H + lo + hi - PH) // sh "
    "+ 1. Not flipped (cross-correlation). 2 · output elements · PH PW C FLOP.",
    infer=_infer_conv2d,
    reads=_reads_conv2d,
    cut_axes=_all_four,
    flops=_flops_conv2d,
    kinds=work("convolution"),
    localize=_localize_conv2d,
    reductions=_reductions_conv2d,
    combine="add_n",
    vjp_needs=needs_others,
)

# local2d


def _infer_local2d(attrs: Attrs, types: Types) -> TensorType:
    axes = ("output rows", "output columns", "rows", "columns", "channels", "maps")
    x, w = _filters("local2d", types, axes)
    rows, columns = _positions("local2d", attrs, x, w.shape[2:4])
    _same_channels("local2d", x, w.shape[4])
    require(
        w.shape[:2] == (rows, columns),
        f"local2d: the filters are for {check.lengths(w.shape[:2])} positions; "
        f"the image has {rows} x {columns}",
    )
    return TensorType((x.shape[0], rows, columns, w.shape[5]), x.dtype)


def _reads_local2d(attrs: Attrs, types: Types, region: Region) -> tuple[Region, ...]:
    x, w = types
    batch, out_rows, out_columns, maps = region.bounds
    rows, columns = _clips(attrs, x, w.shape[2:4], region)
    patch = tuple((0, n) for n in w.shape[2:5])
    image = Region.of(batch, rows.range, columns.range, (0, x.shape[3]))
    return image, Region((out_rows, out_columns, *patch, maps))


def _localize_local2d(attrs: Attrs, types: Types, region: Region) -> Attrs:
    return _with_padding(attrs, _clips(attrs, types[0], types[1].shape[2:4], region))


def _flops_local2d(attrs: Attrs, types: Types, out: TensorType) -> int:
    rows, columns, channels = types[1].shape[2:5]
    return 2 * out.size * rows * columns * channels


def _patches_local2d(attrs: Attrs, types: Types, out: TensorType) -> int:
    """The patches, gathered position by position."""
    batch, rows, columns, _ = out.shape
    patch = TensorType(types[1].shape[2:5], out.dtype)
    return batch * rows * columns * patch.size_bytes


def _workspace_local2d(attrs: Attrs, types: Types, out: TensorType) -> int:
    """Image and output with the batch as the last axis, and the patches of one row."""
    row = _patches_local2d(attrs, types, out) // out.shape[1]
    return types[0].size_bytes + out.size_bytes + row


def _reductions_local2d(attrs: Attrs, types: Types) -> tuple[Reduction, ...]:
    return (Reduction("channels", ((0, 3), (1, 4))),)


LOCAL2D = OpDef(
    "local2d",
    "local2d(x B H W C, w OH OW PH PW C M) strides, padding → B OH OW M: a locally connected "
    "layer, conv2d with filters of its own at each position (Dean et al. 2012, section 5). "
    "2 · output elements · PH PW C FLOP.",
    infer=_infer_local2d,
    reads=_reads_local2d,
    cut_axes=_all_four,
    flops=_flops_local2d,
    kinds=work("local"),
    scratch_bytes=_patches_local2d,
    workspace_bytes=_workspace_local2d,
    loops=lambda attrs: True,
    localize=_localize_local2d,
    reductions=_reductions_local2d,
    combine="add_n",
    vjp_needs=needs_others,
)

# pool2d


def _infer_pool2d(attrs: Attrs, types: Types) -> TensorType:
    check.takes("pool2d", types, 1)
    x = types[0]
    check.floats("pool2d", "the image", x)
    if attrs.get("kind") not in POOL_KINDS:
        raise OpError(
            f"pool2d: kind must be one of {', '.join(POOL_KINDS)}; it is {attrs.get('kind')!r}"
        )
    size = check.ints("pool2d", attrs, "size")
    require(len(size) == 2, f"pool2d: size must be two integers; it is {size}")
    rows, columns = _positions("pool2d", attrs, x, size)
    return TensorType((x.shape[0], rows, columns, x.shape[3]), x.dtype)


def _reads_pool2d(attrs: Attrs, types: Types, region: Region) -> tuple[Region, ...]:
    batch, _, _, channels = region.bounds
    rows, columns = _clips(attrs, types[0], attrs.ints("size"), region)
    return (Region.of(batch, rows.range, columns.range, channels),)


def _localize_pool2d(attrs: Attrs, types: Types, region: Region) -> Attrs:
    return _with_padding(attrs, _clips(attrs, types[0], attrs.ints("size"), region))


_POOL_FLOPS = {"max": (1, 0), "average": (1, 1), "l2": (2, TRANSCENDENTAL_FLOPS)}
"""Per element of a window, and per window."""


def _flops_pool2d(attrs: Attrs, types: Types, out: TensorType) -> int:
    rows, columns = attrs.ints("size")
    each, once = _POOL_FLOPS[attrs.str("kind")]
    return out.size * (each * rows * columns + once)


def _kind_pool2d(attrs: Attrs) -> str:
    return f"pool {attrs.str('kind')}"


POOL2D = OpDef(
    "pool2d",
    "pool2d(x B H W C) kind, size (PH, PW), strides, padding → B OH OW C: per channel the "
    "largest value (max), the mean of the positions inside the image (average), or the root of "
    "the sum of squares (l2; derivative 0 where that is 0). Output elements · (PH PW "
    "(twice for l2) + 0, 1 or a square root) FLOP.",
    infer=_infer_pool2d,
    reads=_reads_pool2d,
    cut_axes=_all_four,
    flops=_flops_pool2d,
    kinds=Kinds(_kind_pool2d, tuple(f"pool {kind}" for kind in POOL_KINDS)),
    localize=_localize_pool2d,
)
