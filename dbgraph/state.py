"""Parameters and optimiser slots as regions: what is loaded, collected and kept in checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from dbgraph.errors import CheckpointError
from dbgraph.ir.region import Region, covers

Pieces = tuple[tuple[Region, np.ndarray], ...]
"""Disjoint regions of one tensor with their values."""


@dataclass(frozen=True)
class State:
    """The model at one moment.

    Attributes:
        step: number of steps done.
        tensors: (slot, parameter) → pieces; the slot "" is the parameter itself, others are the
            optimiser's, such as "0.trace".
        scalars: the optimiser's other state, such as its count of steps; equal on all partitions.
    """

    step: int = 0
    tensors: Mapping[tuple[str, str], Pieces] = field(default_factory=dict)
    scalars: Mapping[str, np.ndarray] = field(default_factory=dict)

    @staticmethod
    def merge(states: Iterable[State]) -> State:
        """One state of the states of several partitions."""
        step = 0
        tensors: dict[tuple[str, str], Pieces] = {}
        scalars: dict[str, np.ndarray] = {}
        for state in states:
            step = max(step, state.step)
            scalars.update(state.scalars)
            for key, pieces in state.tensors.items():
                tensors[key] = tensors.get(key, ()) + pieces
        return State(step, tensors, scalars)

    def region(self, parameter: str, region: Region, slot: str = "") -> np.ndarray:
        """One region, put together from the pieces that overlap it.

        Raises CheckpointError where the pieces do not cover it.
        """
        pieces = self.tensors.get((slot, parameter), ())
        what = f"{parameter!r}" + (f", slot {slot!r}" if slot else "")
        if not pieces:
            raise CheckpointError(f"the state holds no {what}")
        for box, array in pieces:
            if box == region:
                return array
        if any(box.rank != region.rank for box, _ in pieces) or not covers(
            region, (box for box, _ in pieces)
        ):
            held = "; ".join(str(box) for box, _ in pieces[:4])
            raise CheckpointError(f"{what}: [{region}] is asked for, the state holds [{held}]")
        out = np.empty(region.shape, pieces[0][1].dtype)
        for box, array in pieces:
            common = box.intersect(region)
            if not common.empty:
                out[common.within(region).slices()] = array[common.within(box).slices()]
        return out

    def whole(self, parameter: str, slot: str = "") -> np.ndarray:
        """The whole tensor."""
        pieces = self.tensors.get((slot, parameter), ())
        if not pieces:
            raise CheckpointError(f"the state holds no {parameter!r}")
        hull = pieces[0][0]
        for box, _ in pieces:
            hull = hull.hull(box)
        return self.region(parameter, hull, slot)
