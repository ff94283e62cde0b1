"""An optimiser's state as slots: arrays by (slot, parameter), and what belongs to no parameter.

A leaf of the state whose path ends in a dict's key is a slot of that parameter, since parameters
are a dict by name; the path before the key names the slot, such as `0.trace` or `0.mu`. Every
other leaf is a scalar, such as `0.count`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.tree_util import DictKey, FlattenedIndexKey, GetAttrKey, SequenceKey

from dbgraph.errors import CheckpointError

Slots = dict[tuple[str, str], Any]
Path = tuple[Any, ...]


def slots(opt_state: Any) -> tuple[Slots, dict[str, Any]]:
    """({(slot, parameter): array}, {path of a scalar: array}).

    Args:
        opt_state: what `GradientTransformation.init` and `update` return for a dict of
            parameters; its leaves may be arrays of any kind.
    """
    found: Slots = {}
    scalars: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(opt_state):
        if _is_slot(path):
            found[_text(path[:-1]), str(path[-1].key)] = leaf
        else:
            scalars[_text(path)] = leaf
    return found, scalars


def with_slots(
    template: Any, given: Mapping[tuple[str, str], Any], scalars: Mapping[str, Any]
) -> Any:
    """An optimiser's state with the template's structure and the values given: the inverse of
    `slots`.

    Args:
        template: such as `transformation.init(parameters)`, or its `jax.eval_shape`.

    Raises CheckpointError where a value is missing, or has another shape: the state was made by
    another rule.
    """

    def value(path: Path, leaf: Any) -> Any:
        if _is_slot(path):
            slot, parameter = _text(path[:-1]), str(path[-1].key)
            what = f"slot {slot!r} of {parameter!r}"
            found = given.get((slot, parameter))
        else:
            what = f"the optimiser's {_text(path)!r}"
            found = scalars.get(_text(path))
        if found is None:
            raise CheckpointError(
                f"{what} is missing", hint="the state was made by another rule: give the same one"
            )
        if np.shape(found) != leaf.shape:
            raise CheckpointError(f"{what} has shape {np.shape(found)}, expected {leaf.shape}")
        return found

    return jax.tree_util.tree_map_with_path(value, template)


def _is_slot(path: Path) -> bool:
    return bool(path) and isinstance(path[-1], DictKey)


def _text(path: Path) -> str:
    return ".".join(map(_key_text, path)) or "state"


def _key_text(key: Any) -> str:
    match key:
        case DictKey() | FlattenedIndexKey():
            return str(key.key)
        case GetAttrKey():
            return str(key.name)
        case SequenceKey():
            return str(key.idx)
        case _:
            return str(key)
