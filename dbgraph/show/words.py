"""Shapes, regions and lists of partitions in words."""

from __future__ import annotations

from dbgraph.ir.region import Region
from dbgraph.plan.cuts import names_of_axes


def example_shape(shape: tuple[int, ...], batch: int) -> str:
    """A value's shape for one example, for people."""
    inner = shape[1:] if shape[:1] == (batch,) else shape
    return " × ".join(map(str, inner)) or "scalar"


def ranges(numbers: tuple[int, ...]) -> str:
    """`(0, 1, 2, 5)` → `0-2, 5`."""
    spans: list[list[int]] = []
    for n in numbers:
        if spans and spans[-1][1] == n - 1:
            spans[-1][1] = n
        else:
            spans.append([n, n])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)


def describe_region(
    region: Region, shape: tuple[int, ...], batch: int, *, short: bool = False
) -> str:
    """The axes along which a region is less than the whole: `rows 0:12, cols 6:12`, or in short
    `0:12 × 6:12`."""
    names = names_of_axes(shape, batch)
    parts = [
        (name, f"{a}:{b}")
        for name, (a, b), n in zip(names, region.bounds, shape, strict=True)
        if (a, b) != (0, n)
    ]
    if short:
        return " × ".join(bounds for _, bounds in parts) or "all"
    return ", ".join(f"{name} {bounds}" for name, bounds in parts) or "all"
