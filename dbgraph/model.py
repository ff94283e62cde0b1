"""The parameters and optimiser slots that one partition holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from dbgraph.initial import initial_values
from dbgraph.loaded import Compiled, LoadedPlan
from dbgraph.optim.rules import Rule
from dbgraph.optim.slots import slots, with_slots
from dbgraph.optim.update import Arrays, Wiring, initial_slots, run_and_update, update
from dbgraph.plan.plan import Leaf, Plan
from dbgraph.plan.program import Run
from dbgraph.state import Pieces, State


class Model:
    """Parameters by leaf, and the optimiser's state over those that have a gradient.

    Inside jitted functions parameters go by their number ("0", "1", …), not by name, so that
    partitions alike share a compilation.
    """

    def __init__(self, loaded: LoadedPlan, rule: Rule | None) -> None:
        self.loaded, self.rule = loaded, rule
        self.arrays: Arrays = {}
        self.slots: Any = None
        trained = loaded.gradients if rule is not None else {}
        self._key = {leaf: str(i) for i, leaf in enumerate(trained)}
        lent = loaded.lent()
        self._own = tuple(leaf for leaf in trained if leaf not in lent)
        self._lent = tuple(leaf for leaf in trained if leaf in lent)
        self._wiring = self._wire() if loaded.ends_in_one_go and rule is not None else None
        self._run_and_update = self._fused()

    # Loading and collecting

    def load(self, state: State | None) -> None:
        """Sets everything from a state, or to the initial values."""
        plan = self.loaded.plan
        self.arrays = {
            node: jnp.array(_value(plan, leaf, state)) for node, leaf in self.leaves.items()
        }
        if self.rule is None:
            return
        self.slots = initial_slots(self.rule, self._by_key(self._key))
        if state is not None and (state.step or state.scalars):
            self.slots = self._slots_of(state)

    def set(self, values: Mapping[str, np.ndarray]) -> None:
        """Parameters, by leaf; slots stay as they are."""
        self.arrays |= {node: jnp.asarray(value) for node, value in values.items()}

    @property
    def leaves(self) -> Mapping[str, Leaf]:
        return self.loaded.parameters

    def _slots_of(self, state: State) -> Any:
        wanted, scalars = slots(self.slots)
        leaf_of = {key: self.leaves[node] for node, key in self._key.items()}
        given = {
            (slot, key): jnp.array(state.region(leaf_of[key].of, leaf_of[key].region, slot))
            for slot, key in wanted
        }
        held = {k: jnp.array(v) for k, v in state.scalars.items() if k in scalars}
        return with_slots(self.slots, given, held)

    def collect(self, step: int) -> State:
        """Copies of everything, for a checkpoint."""
        tensors: dict[tuple[str, str], Pieces] = {}

        def add(slot: str, leaf: Leaf, value: Any) -> None:
            key = (slot, leaf.of)
            tensors[key] = (*tensors.get(key, ()), (leaf.region, np.array(value)))

        for node, leaf in self.leaves.items():
            add("", leaf, self.arrays[node])
        leaf_of = {key: self.leaves[node] for node, key in self._key.items()}
        found, scalars = slots(self.slots) if self.slots is not None else ({}, {})
        for (slot, key), value in found.items():
            add(slot, leaf_of[key], value)
        if not self._key:  # nothing is updated here: its count of updates stands still
            scalars = {}
        return State(step, tensors, {k: np.array(v) for k, v in scalars.items()})

    # Updating

    def update(self) -> None:
        """Applies the rule with the step's gradients."""
        if self.rule is None or not self._key:
            return
        gradients = {key: self.loaded.gradient(leaf) for leaf, key in self._key.items()}
        own, lent = self._by_key(self._own), self._by_key(self._lent)
        changed, self.slots = update(self.rule)(own, lent, self.slots, gradients)
        self._set(changed)

    @property
    def updates_with_last_segment(self) -> bool:
        return self._wiring is not None

    def run_and_update(self, segment: int) -> list[tuple[str, Any]]:
        """The last segment and the update in one computation; the outputs that stay."""
        assert self._wiring is not None
        assert self._run_and_update is not None
        loaded, code = self.loaded, self.loaded.segments[segment]
        made = {name for name, _ in self._wiring.gradients}
        values = [loaded.worker.values[name, 0] for name in code.inputs if name not in self._key]
        gradients = {
            key: loaded.gradient(leaf) for leaf, key in self._key.items() if key not in made
        }
        own, lent = self._by_key(self._own), self._by_key(self._lent)
        kept, changed, self.slots = self._run_and_update(
            values, code.vector, own, lent, self.slots, gradients
        )
        self._set(changed)
        return [(code.outputs[i], value) for i, value in zip(self._wiring.kept, kept, strict=True)]

    def _fused(self) -> Callable[..., Any] | None:
        """The function of `run_and_update`, looked up once: hashing a structure is slow."""
        if self._wiring is None or self.rule is None:
            return None
        return run_and_update(self._last_segment().structure, self.rule, self._wiring)

    def _last_segment(self) -> Compiled:
        last = self.loaded.worker.program.instructions[-2]
        assert isinstance(last, Run)
        return self.loaded.segments[last.segment]

    def _wire(self) -> Wiring:
        code = self._last_segment()
        index = {name: i for i, name in enumerate(code.outputs)}
        gradients = tuple(
            (key, index[self.loaded.gradients[leaf]])
            for leaf, key in self._key.items()
            if self.loaded.gradients[leaf] in index
        )
        used = {i for _, i in gradients}
        return Wiring(
            parameters=tuple(self._key.get(name, "") for name in code.inputs),
            gradients=gradients,
            kept=tuple(i for i in range(len(code.outputs)) if i not in used),
        )

    def _by_key(self, leaves: Any) -> Arrays:
        return {self._key[leaf]: self.arrays[leaf] for leaf in leaves}

    def _set(self, changed: Arrays) -> None:
        for leaf, key in self._key.items():
            self.arrays[leaf] = changed[key]


def _value(plan: Plan, leaf: Leaf, state: State | None) -> np.ndarray:
    if state is not None:
        return state.region(leaf.of, leaf.region)
    node = plan.network[leaf.of]
    init = node.attrs.tuple("init")
    return initial_values(leaf.of, init, plan.seed, node.type.shape, leaf.region, node.type.dtype)
