"""From one algorithm to another: what a state needs that the one before did not have."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from dbgraph.actors.sandblaster import PROGRESS, progress_of
from dbgraph.ir.region import Region
from dbgraph.optim.rules import Rule
from dbgraph.optim.slots import slots
from dbgraph.optim.update import initial_slots
from dbgraph.train.resume import Begin


def handed_over(begin: Begin, rule: Rule | None) -> Begin:
    """The same, with new optimiser slots where Sandblaster, which has none, made the state.

    Args:
        rule: of the run that begins; None: it has no use for slots.
    """
    state = begin.state
    if state is None or rule is None or progress_of(state) is None:
        return begin
    parameters = {name: state.whole(name) for slot, name in state.tensors if slot == ""}
    kept = {key: pieces for key, pieces in state.tensors.items() if key[0] == ""}
    with jax.enable_x64(True):
        leaves = {name: jnp.asarray(value) for name, value in parameters.items()}
        found, counts = slots(initial_slots(rule, leaves))
        new = {key: ((Region.whole(v.shape), np.asarray(v)),) for key, v in found.items()}
    scalars = {name: array for name, array in state.scalars.items() if name != PROGRESS}
    scalars |= {name: np.asarray(value) for name, value in counts.items()}
    return replace(begin, state=replace(state, tensors={**kept, **new}, scalars=scalars))
