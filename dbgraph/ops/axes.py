"""What the axes of a value are called in `cut=`, in tables and in plans.

batch; units (one axis); rows, units (two); rows, cols, maps (three); axis1, axis2, … (more). The
last is also called units or maps, whichever it is not.
"""

from __future__ import annotations

from collections.abc import Mapping

_NAMES: Mapping[int, tuple[str, ...]] = {
    0: (),
    1: ("units",),
    2: ("rows", "units"),
    3: ("rows", "cols", "maps"),
}


def axis_names(rank: int) -> dict[str, int]:
    """Of a value of so many axes, the batch included: name → axis."""
    if not rank:
        return {}
    names = _NAMES.get(rank - 1) or tuple(f"axis{i}" for i in range(1, rank))
    found = {"batch": 0, **{name: axis for axis, name in enumerate(names, 1)}}
    if rank > 1:
        found.setdefault("units", rank - 1)
        found.setdefault("maps", rank - 1)
    return found
