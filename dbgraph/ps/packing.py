"""The parts of a message as arrays, and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from dbgraph.errors import RunError
from dbgraph.ir.region import Region, overlapping
from dbgraph.ir.types import TensorType
from dbgraph.optim.sparse import Rows
from dbgraph.ps.compress import CODECS, Arrays, Compression, decode
from dbgraph.ps.gradients import Change, Gradient
from dbgraph.ps.layout import Owned
from dbgraph.ps.messages import Part
from dbgraph.wire.parcel import DTYPES


def part_of(one: Owned, gradient: Gradient | None = None) -> Part:
    return Part(one.parameter, one.region.bounds, isinstance(gradient, Rows))


def region_of(part: Part) -> Owned:
    return Owned(part.name, Region(part.bounds))


def pack(values: Iterable[Gradient], compression: Compression) -> Arrays:
    """The arrays of a message; rows are never compressed."""
    found: list[np.ndarray] = []
    for one in values:
        found += (one.indices, one.values) if isinstance(one, Rows) else compression.encode(one)
    return tuple(found)


def unpack(
    parts: Sequence[Part], codec: str, arrays: Arrays, types: Mapping[str, TensorType]
) -> list[Change]:
    """The inverse of `pack`. Raises RunError where arrays and parts do not agree."""
    if codec not in CODECS:
        raise RunError(f"no compression {codec!r}")
    counts = [2 if part.rows else CODECS[codec].arrays for part in parts]
    if sum(counts) != len(arrays):
        raise RunError(f"{len(arrays)} arrays for {len(parts)} parts")
    rest = iter(arrays)
    return [
        _unpacked(part, codec, tuple(next(rest) for _ in range(count)), types)
        for part, count in zip(parts, counts, strict=True)
    ]


def _unpacked(part: Part, codec: str, arrays: Arrays, types: Mapping[str, TensorType]) -> Change:
    one = region_of(part)
    if one.parameter not in types:
        raise RunError(f"there is no parameter {one.parameter!r}")
    if part.rows:
        return one, Rows(*arrays)
    try:
        dtype = DTYPES[types[one.parameter].dtype]
        return one, decode(codec, arrays, one.region.shape, dtype)
    except ValueError as error:
        raise RunError(f"{one.parameter!r} [{one.region}]: {error}") from error


def check_disjoint(parts: Sequence[Part]) -> None:
    """Raises RunError where an element stands in two parts."""
    by_name: dict[str, list[Region]] = {}
    for part in parts:
        by_name.setdefault(part.name, []).append(Region(part.bounds))
    for name, regions in by_name.items():
        if len({region.rank for region in regions}) > 1 or overlapping(regions):
            raise RunError(f"parts of {name!r} overlap")
