"""States as messages: what a shard is given to start from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dbgraph.actor import Arrays
from dbgraph.actors.messages import Restore
from dbgraph.ir.region import Region
from dbgraph.ps.layout import Owned
from dbgraph.state import Pieces, State
from dbgraph.wire.messages import Box


def restoring(state: State | None, owned: Sequence[Owned]) -> tuple[Restore, Arrays]:
    """What a shard that owns these regions is to be told; None: the initial state.

    Raises CheckpointError where the state does not hold them.
    """
    if state is None:
        return Restore(False), ()
    boxes: list[Box] = []
    arrays: list[np.ndarray] = []
    for slot, parameter in state.tensors:
        for region in (one.region for one in owned if one.parameter == parameter):
            boxes.append(Box(parameter, region.bounds, slot))
            arrays.append(state.region(parameter, region, slot))
    names = tuple(state.scalars)
    return Restore(True, state.step, tuple(boxes), names), (*arrays, *state.scalars.values())


def state_of(message: Restore, arrays: Arrays) -> State:
    """The inverse of `restoring`."""
    tensors: dict[tuple[str, str], Pieces] = {}
    for box, array in zip(message.boxes, arrays, strict=False):
        key = box.slot, box.name
        tensors[key] = (*tensors.get(key, ()), (Region(box.bounds), array))
    scalars = dict(zip(message.scalars, arrays[len(message.boxes) :], strict=True))
    return State(message.step, tensors, scalars)
