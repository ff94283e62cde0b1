"""A worker's machine that also counts the bytes of all tensors that are alive.

The zmq backend takes it by name (`machine="_live"`). Before and after every instruction it adds up
what the machine holds: parameters, slots, fed inputs, values of the step. While a computation
runs, what XLA allots for its outputs and for the values inside it comes on top, as XLA itself says
(`memory_analysis`). The most of a step is one more loss, `peak bytes of partition N`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import jax

_allotted: list[int] = []
_jit = jax.jit


def _counting(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """`jax.jit` that notes what each call of its function allots."""
    jitted = _jit(function, **options)
    known: dict[Any, int] = {}

    def call(*args: Any) -> Any:
        types = jax.tree_util.tree_map(lambda x: (x.shape, x.dtype.name), args)
        key = jax.tree_util.tree_structure(types), tuple(jax.tree_util.tree_leaves(types))
        if key not in known:
            found = jitted.lower(*args).compile().memory_analysis()
            inside = found.temp_size_in_bytes + found.output_size_in_bytes
            known[key] = inside - found.alias_size_in_bytes
        _allotted.append(known[key])
        return jitted(*args)

    return call


jax.jit = _counting  # before the modules that compile are loaded

from dbgraph import machine  # noqa: E402
from dbgraph.results import PartitionResult  # noqa: E402


class Machine(machine.Machine):
    """See the module."""

    _peak_bytes = 0

    def _execute(self, action: Any) -> None:
        before = self._alive()
        _allotted.clear()
        super()._execute(action)
        self._peak_bytes = max(self._peak_bytes, before + max(_allotted, default=0), self._alive())

    def begin(self, *args: Any, **options: Any) -> None:
        super().begin(*args, **options)
        self._peak_bytes = 0

    def result(self) -> PartitionResult:
        found = super().result()
        peak = {f"peak bytes of partition {self.partition}": float(self._peak_bytes)}
        return replace(found, losses={**found.losses, **peak})

    def _alive(self) -> int:
        model, values = self._model, self._current.worker.values
        held: list[Mapping[Any, Any]] = [values, model.arrays]
        slots = jax.tree_util.tree_leaves(model.slots)
        return _bytes([*(x for some in held for x in some.values()), *slots])


def _bytes(arrays: Iterable[Any]) -> int:
    """Each array once, though it may go by several names."""
    return sum(x.nbytes for x in {id(x): x for x in arrays}.values())
