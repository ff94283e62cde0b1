"""What a shard owns before any training."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from dbgraph.initial import initial_values
from dbgraph.plan.plan import Plan
from dbgraph.ps.layout import Owned
from dbgraph.state import Pieces, State


def initial_state(plan: Plan, owned: Iterable[Owned]) -> State:
    """The initial values of these regions; the same numbers as on one machine."""
    tensors: dict[tuple[str, str], Pieces] = {}
    for one in owned:
        key = "", one.parameter
        tensors[key] = (*tensors.get(key, ()), (one.region, _values(plan, one)))
    return State(0, tensors)


def _values(plan: Plan, one: Owned) -> np.ndarray:
    node = plan.network[one.parameter]
    init = node.attrs.tuple("init")
    shape, dtype = node.type.shape, node.type.dtype
    return initial_values(one.parameter, init, plan.seed, shape, one.region, dtype)
