"""Ops that move elements and calculate nothing: slice, concat, transpose, assemble."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

from dbgraph.ir.region import Region, overlapping
from dbgraph.ir.types import Attrs, TensorType, Types
from dbgraph.ops import check
from dbgraph.ops.leaf import no_flops
from dbgraph.ops.schema import OpDef, OpError, Transposed, all_axes, needs_none, require

# slice


def _infer_slice(attrs: Attrs, types: Types) -> TensorType:
    check.takes("slice", types, 1)
    x = types[0]
    start, stop = check.ints("slice", attrs, "start"), check.ints("slice", attrs, "stop")
    require(
        len(start) == len(stop) == x.rank,
        f"slice: start {start} and stop {stop} must have one entry for each axis of {x}",
    )
    for a, b, n in zip(start, stop, x.shape, strict=True):
        require(0 <= a < b <= n, f"slice: {a}:{b} must be a range, not empty, inside 0:{n} of {x}")
    return x.with_shape(tuple(b - a for a, b in zip(start, stop, strict=True)))


def _reads_slice(attrs: Attrs, types: Types, region: Region) -> tuple[Region, ...]:
    return (region.shift(attrs.ints("start")),)


def _localize_slice(attrs: Attrs, types: Types, region: Region) -> Attrs:
    """Nothing is left to cut off."""
    return attrs.having(start=(0,) * region.rank, stop=region.shape)


SLICE = OpDef(
    "slice",
    "slice(x …) start, stop → stop - start: x[start:stop] along every axis.",
    infer=_infer_slice,
    reads=_reads_slice,
    cut_axes=all_axes,
    flops=no_flops,
    localize=_localize_slice,
    vjp_needs=needs_none,
    view=True,
)

# concat


def _infer_concat(attrs: Attrs, types: Types) -> TensorType:
    check.takes_some("concat", types)
    check.same_dtype("concat", types)
    first = types[0]
    axis = check.axis("concat", check.integer("concat", attrs, "axis"), first.rank)
    others = {t.shape[:axis] + t.shape[axis + 1 :] for t in types if t.rank == first.rank}
    require(
        len(others) == 1 and all(t.rank == first.rank for t in types),
        f"concat: the inputs must agree but for axis {axis}; they are {', '.join(map(str, types))}",
    )
    shape = list(first.shape)
    shape[axis] = sum(t.shape[axis] for t in types)
    return first.with_shape(tuple(shape))


def _reads_concat(attrs: Attrs, types: Types, region: Region) -> tuple[Region, ...]:
    """An input that the region does not touch is read as an empty range of the axis."""
    axis = attrs.int("axis")
    low, high = region.bounds[axis]
    found, position = [], 0
    for type_ in types:
        length = type_.shape[axis]
        start = min(max(low - position, 0), length)
        stop = max(min(high - position, length), start)
        found.append(region.replace(axis, (start, stop)))
        position += length
    return tuple(found)


CONCAT = OpDef(
    "concat",
    "concat(x …, y …, …) axis → …: the inputs one after another along the axis.",
    infer=_infer_concat,
    reads=_reads_concat,
    cut_axes=all_axes,
    flops=no_flops,
    vjp_needs=needs_none,
    view=True,
)

# transpose


def _infer_transpose(attrs: Attrs, types: Types) -> TensorType:
    check.takes("transpose", types, 1)
    x, perm = types[0], check.ints("transpose", attrs, "perm")
    require(
        sorted(perm) == list(range(x.rank)),
        f"transpose: perm {perm} must name each of the {x.rank} axes of {x} once",
    )
    return x.with_shape(tuple(x.shape[k] for k in perm))


def _reads_transpose(attrs: Attrs, types: Types, region: Region) -> tuple[Region, ...]:
    of_axis = dict(zip(attrs.ints("perm"), region.bounds, strict=True))
    return (Region(tuple(of_axis[k] for k in range(region.rank))),)


TRANSPOSE = OpDef(
    "transpose",
    "transpose(x …) perm → …: axis k of the output is axis perm[k] of x.",
    infer=_infer_transpose,
    reads=_reads_transpose,
    cut_axes=all_axes,
    flops=no_flops,
    vjp_needs=needs_none,
)

# assemble


class Piece(NamedTuple):
    """A box of an input, and where it lies in the output."""

    input: int
    source: tuple[int, ...]
    destination: tuple[int, ...]
    extent: tuple[int, ...]

    @property
    def source_box(self) -> Region:
        return Region.at(self.source, self.extent)

    @property
    def box(self) -> Region:
        """In the output."""
        return Region.at(self.destination, self.extent)


def pieces_of(attrs: Attrs) -> tuple[Piece, ...]:
    """The attribute `pieces` of an assemble. Raises OpError where it is none."""
    found = []
    for entry in attrs.tuple("pieces"):
        if not (
            isinstance(entry, tuple)
            and len(entry) == 4
            and type(entry[0]) is int
            and check.is_ints(entry[1])
            and check.is_ints(entry[2])
            and check.is_ints(entry[3])
        ):
            raise OpError(f"assemble: {entry!r} is no (input, source, destination, extent)")
        found.append(Piece(*entry))  # type: ignore[arg-type]  # just checked
    return tuple(found)


def _infer_assemble(attrs: Attrs, types: Types) -> TensorType:
    check.takes_some("assemble", types)
    check.same_dtype("assemble", types)
    shape = check.shape("assemble", attrs)
    require(isinstance(attrs.get("pieces"), tuple), "assemble: pieces must be a tuple")
    pieces = pieces_of(attrs)
    for piece in pieces:
        _check_piece(piece, shape, types)
    filled = sum([prod(piece.extent) for piece in pieces])
    whole = prod(shape)
    require(
        filled == whole,
        f"assemble: the pieces have {filled} elements; the output {shape} has {whole}",
    )
    pair = overlapping([piece.box for piece in pieces]) if len(pieces) > 1 else None
    if pair is not None:
        raise OpError(f"assemble: pieces {pair[0]} and {pair[1]} overlap")
    return TensorType(shape, types[0].dtype)


def _check_piece(piece: Piece, shape: tuple[int, ...], types: Types) -> None:
    require(
        0 <= piece.input < len(types),
        f"assemble: input {piece.input} of a piece is none of {len(types)}",
    )
    source = types[piece.input]
    lengths = (piece.extent, piece.source, piece.destination, source.shape, shape)
    if len(set(map(len, lengths))) > 1:
        raise OpError(f"assemble: a piece of {source} for {shape} has another rank: {piece}")
    for n, a, b, a_length, b_length in zip(*lengths, strict=True):
        if not (n > 0 and 0 <= a <= a_length - n and 0 <= b <= b_length - n):
            raise OpError(
                f"assemble: the piece {piece.source_box} of {source} does not fit at {piece.box} "
                f"of {shape}"
            )


def _cut_pieces(attrs: Attrs, region: Region) -> list[Piece]:
    """The parts of the pieces that lie in the region, in the whole's coordinates."""
    found = []
    for piece in pieces_of(attrs):
        common = piece.box.intersect(region)
        if not common.empty:
            source = common.within(piece.box).shift(piece.source)
            found.append(Piece(piece.input, source.start, common.start, common.shape))
    return found


def _transposes_assemble(attrs: Attrs, types: Types) -> tuple[Transposed | None, ...]:
    """Assembles that put each input's cotangent together from the output's.

    None for an input of which not every element is taken just once: its derivative holds zeros,
    or sums.
    """
    taken: list[list[Piece]] = [[] for _ in types]
    for piece in pieces_of(attrs):
        taken[piece.input].append(piece)
    return tuple(_scattered(p, t.shape) for p, t in zip(taken, types, strict=True))


def _scattered(pieces: list[Piece], shape: tuple[int, ...]) -> Transposed | None:
    if sum([prod(piece.extent) for piece in pieces]) != prod(shape):
        return None
    if len(pieces) > 1 and overlapping([piece.source_box for piece in pieces]) is not None:
        return None
    back = tuple((0, piece.destination, piece.source, piece.extent) for piece in pieces)
    return Transposed("assemble", Attrs(shape=shape, pieces=back))


def _hulls(pieces: list[Piece], types: Types) -> tuple[Region, ...]:
    """The box of each input that holds all its pieces; empty where it has none."""
    found: dict[int, Region] = {}
    for piece in pieces:
        known = found.get(piece.input)
        found[piece.input] = known.hull(piece.source_box) if known else piece.source_box
    return tuple(found.get(k, Region(((0, 0),) * t.rank)) for k, t in enumerate(types))


def _reads_assemble(attrs: Attrs, types: Types, region: Region) -> tuple[Region, ...]:
    return _hulls(_cut_pieces(attrs, region), types)


def _localize_assemble(attrs: Attrs, types: Types, region: Region) -> Attrs:
    pieces = _cut_pieces(attrs, region)
    hulls = _hulls(pieces, types)
    moved = tuple(
        (
            p.input,
            p.source_box.within(hulls[p.input]).start,
            p.box.within(region).start,
            p.extent,
        )
        for p in pieces
    )
    return attrs.having(shape=region.shape, pieces=moved)


def _axes_assemble(attrs: Attrs, types: Types) -> tuple[int, ...]:
    return tuple(range(len(attrs.ints("shape"))))


ASSEMBLE = OpDef(
    "assemble",
    "assemble(x …, y …, …) shape, pieces → shape: a tensor put together from boxes of the "
    "inputs. A piece is (input, start in it, start in the output, extent); the pieces are "
    "disjoint and cover the output.",
    infer=_infer_assemble,
    reads=_reads_assemble,
    cut_axes=_axes_assemble,
    flops=no_flops,
    localize=_localize_assemble,
    vjp_needs=needs_none,
    transposes=_transposes_assemble,
)
