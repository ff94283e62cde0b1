"""The numbers of one shard: parameters, optimiser slots and named vectors, in blocks.

A block is a box of a parameter that is always read and written as a whole. A shard begins with
one block for each region that it owns. When somebody asks for a region that cuts through a block,
the block falls into pieces there, for good: so each piece has had whole updates only, and its
optimiser's count of updates is right, whatever partitions the replicas have.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dbgraph.errors import RunError
from dbgraph.ir.region import Region
from dbgraph.ir.types import DTYPE_BYTES, TensorType
from dbgraph.optim.blockwise import KEY, initial_state, update_blocks, update_rows
from dbgraph.optim.rules import Rule
from dbgraph.optim.slots import slots, with_slots
from dbgraph.optim.sparse import Rows
from dbgraph.optim.vectors import PARAMETERS
from dbgraph.ps.gradients import Change, Gradient, add_to, cut
from dbgraph.ps.layout import Owned
from dbgraph.state import Pieces, State

VECTOR_SLOT = "vector."
"""Before the name of a vector, where it stands in a `State`."""


@dataclass(eq=False)
class Block:
    """One box.

    Attributes:
        slots: the optimiser's state, over {KEY: value}; None where it is not trained.
        updates: how many it has had.
        vectors: by name, one-dimensional.
    """

    parameter: str
    region: Region
    value: jax.Array
    slots: Any
    updates: int = 0
    vectors: dict[str, np.ndarray] = field(default_factory=dict)

    def array(self, vector: str) -> np.ndarray:
        """A view, of the region's shape."""
        if vector == PARAMETERS:
            return np.asarray(self.value)
        return self.vectors[vector].reshape(self.region.shape)

    def copy(self, part: Region, vectors: Iterable[str]) -> Block:
        """A region of it, in memory of its own."""
        inner = part.within(self.region).slices()

        def copied(leaf: jax.Array) -> jax.Array:
            array = np.asarray(leaf)  # slicing in JAX would compile for each shape
            return jnp.array(array[inner] if array.ndim else array)

        return Block(
            self.parameter,
            part,
            copied(self.value),
            jax.tree.map(copied, self.slots),
            self.updates,
            {name: self.array(name)[inner].flatten() for name in vectors},
        )


class Blocks:
    """What a shard owns.

    Args:
        types: of all parameters of the network.
        trained: the parameters that have gradients, and therefore slots.
        rule: None where nothing is updated but by vector commands.
    """

    def __init__(
        self,
        types: Mapping[str, TensorType],
        owned: Sequence[Owned],
        trained: Collection[str],
        rule: Rule | None,
    ) -> None:
        self.types, self._owned, self._trained = types, owned, frozenset(trained)
        self.rule = rule
        self._wide = any(DTYPE_BYTES[types[one.parameter].dtype] == 8 for one in owned)
        self._by_parameter: dict[str, list[Block]] = {}
        self._found: dict[Owned, list[Block]] = {}

    def context(self) -> AbstractContextManager[Any]:
        """64-bit types only where a parameter has them; never as a global setting."""
        return jax.enable_x64(True) if self._wide else nullcontext()

    def __iter__(self) -> Iterator[Block]:
        return chain.from_iterable(self._by_parameter.values())

    @property
    def vectors(self) -> set[str]:
        """The names of those that there are."""
        return {PARAMETERS, *next(iter(self)).vectors}

    @property
    def updates(self) -> int:
        """Of the most updated block."""
        return max(block.updates for block in self)

    # Loading and collecting

    def load(self, state: State) -> None:
        """Sets everything; slots begin anew where the state comes from before any training.

        Raises CheckpointError where the state lacks something.
        """
        self._by_parameter, self._found = {}, {}
        vectors = {s for s, _ in state.tensors if s.startswith(VECTOR_SLOT)}
        with self.context():
            for one in self._owned:
                block = self._loaded(one, state, vectors)
                self._by_parameter.setdefault(one.parameter, []).append(block)

    def _loaded(self, one: Owned, state: State, vectors: set[str]) -> Block:
        value = jnp.array(state.region(one.parameter, one.region))
        slots = self._loaded_slots(one, value, state) if self._learns(one.parameter) else None
        named = {
            slot.removeprefix(VECTOR_SLOT): state.region(one.parameter, one.region, slot).flatten()
            for slot in vectors
        }
        return Block(one.parameter, one.region, value, slots, state.step, named)

    def _learns(self, parameter: str) -> bool:
        return self.rule is not None and parameter in self._trained

    def _loaded_slots(self, one: Owned, value: jax.Array, state: State) -> Any:
        assert self.rule is not None
        fresh = initial_state(self.rule, value)
        if not state.step and not state.scalars:
            return fresh
        wanted, counts = slots(fresh)
        given = {
            (slot, KEY): jnp.array(state.region(one.parameter, one.region, slot))
            for slot, _ in wanted
        }
        held = {k: jnp.array(v) for k, v in state.scalars.items() if k in counts}
        return with_slots(fresh, given, held)

    def copy(self, vectors: Collection[str]) -> Blocks:
        """All of it, with these vectors, in memory of its own."""
        twin = Blocks(self.types, self._owned, self._trained, self.rule)
        with self.context():
            twin._by_parameter = {
                name: [block.copy(block.region, vectors) for block in blocks]
                for name, blocks in self._by_parameter.items()
            }
        return twin

    def collect(self) -> State:
        """Everything, as views: for the copy of a shard that changes no more.

        Its step is the number of updates of the most updated block, and its scalars are that
        block's: all have had equally many, unless a replica died between two shards.
        """
        tensors: dict[tuple[str, str], Pieces] = {}
        scalars: dict[str, np.ndarray] = {}
        for block in sorted(self, key=lambda block: block.updates):
            found, own = slots(block.slots)
            values = {"": block.value, **{slot: value for (slot, _), value in found.items()}}
            values |= {f"{VECTOR_SLOT}{name}": block.array(name) for name in block.vectors}
            for slot, value in values.items():
                key = slot, block.parameter
                tensors[key] = (*tensors.get(key, ()), (block.region, np.asarray(value)))
            scalars |= {name: np.asarray(value) for name, value in own.items()}
        return State(self.updates, tensors, scalars)

    # Regions

    def cover(self, one: Owned) -> list[Block]:
        """The blocks that make up a region; those that stand out of it are cut first.

        Raises RunError where the shard does not own all of the region.
        """
        found = self._found.get(one)
        if found is None:
            self._cut_at(one)
            found = self._found[one] = self.overlapping(one)
        return found

    def overlapping(self, one: Owned) -> list[Block]:
        """The blocks that have something of a region.

        Raises RunError where the shard does not own all of it.
        """
        found = [
            block
            for block in self._by_parameter.get(one.parameter, ())
            if block.region.rank == one.region.rank and block.region.overlaps(one.region)
        ]
        held = sum(block.region.intersect(one.region).size for block in found)
        if not found or held != one.region.size:
            raise RunError(f"this shard does not own {one.parameter!r} [{one.region}]")
        return found

    def _cut_at(self, one: Owned) -> None:
        held = self._by_parameter[one.parameter]
        with self.context():
            for block in self.overlapping(one):
                if one.region.contains(block.region):
                    continue
                parts = block.region.intersect(one.region), *block.region.subtract(one.region)
                held.remove(block)
                held += [block.copy(part, block.vectors) for part in parts]
                self._found = {}

    def version(self, regions: Iterable[Owned]) -> int:
        """How many updates the most updated part of some regions has had."""
        return max((b.updates for one in regions for b in self.overlapping(one)), default=0)

    def read(self, one: Owned, vector: str) -> np.ndarray:
        """The values of a region as they are now, whatever is done to the blocks later.

        They may be read-only: what is still read, an update leaves as it is (JAX donates no
        memory that somebody else refers to).
        """
        pieces = tuple((b.region, b.array(vector)) for b in self.overlapping(one))
        values = State(0, {("", one.parameter): pieces}).region(one.parameter, one.region)
        changes = values is pieces[0][1] and values.flags.writeable
        return np.array(values) if changes else values

    def add(self, one: Owned, vector: str, gradient: Gradient) -> None:
        """Adds a gradient to a named vector."""
        for block in self.overlapping(one):
            add_to(block.array(vector), block.region, gradient, one.region)

    # Updates

    def check_rule(self) -> None:
        """Raises RunError where there is none."""
        if self.rule is None:
            raise RunError("this shard has no rule to update by")

    def check_change(self, one: Owned, gradient: Gradient) -> None:
        """Raises RunError where it is no gradient of a region that is trained here."""
        self.overlapping(one)
        if one.parameter not in self._trained:
            raise RunError(f"{one.parameter!r} is not trained")
        values = gradient if isinstance(gradient, np.ndarray) else gradient.values
        shape = one.region.shape
        if isinstance(gradient, Rows):
            (low, high), *_ = one.region.bounds
            shape = (len(gradient.indices), *shape[1:])
            if gradient.indices.ndim != 1 or gradient.indices.dtype.kind not in "iu":
                raise RunError(f"rows of {one.parameter!r} are no list of whole numbers")
            if np.any((gradient.indices < low) | (gradient.indices >= high)):
                raise RunError(f"rows of {one.parameter!r} lie outside [{one.region}]")
        dtype = self.types[one.parameter].dtype
        if values.shape != shape or values.dtype.name != dtype:
            given = f"{values.dtype.name}{list(values.shape)}"
            raise RunError(f"a gradient of {one.parameter!r} is {given}, not {dtype}{list(shape)}")

    def update(self, changes: Sequence[Change], factor: float | None = None) -> None:
        """Applies the rule, of which there is one.

        Args:
            changes: of regions that do not overlap; each has passed `check_change`.
            factor: on the change that the rule makes; None leaves it as it is.
        """
        dense: list[tuple[Block, np.ndarray]] = []
        with self.context():
            for one, gradient in changes:
                for block in self.cover(one):
                    part = cut(gradient, one.region, block.region)
                    if isinstance(part, Rows):
                        self._update_rows(block, part, factor)
                    else:
                        dense.append((block, part))
            self._update_dense(dense, factor)

    def _update_dense(
        self, changes: Sequence[tuple[Block, np.ndarray]], factor: float | None
    ) -> None:
        assert self.rule is not None
        blocks = [block for block, _ in changes]
        values, states = update_blocks(self.rule)(
            [block.value for block in blocks],
            [block.slots for block in blocks],
            [gradient for _, gradient in changes],
            factor,
        )
        # An answer says that it is done; and a gradient's memory may be used again after it.
        jax.block_until_ready((values, states))  # type: ignore[no-untyped-call]
        for block, value, state in zip(blocks, values, states, strict=True):
            block.value, block.slots = value, state
            block.updates += 1

    def _update_rows(self, block: Block, rows: Rows, factor: float | None) -> None:
        assert self.rule is not None
        low, high = block.region.bounds[0]
        padded = rows.combined().padded(outside=high)
        indices = (padded.indices - low).astype(np.int32)
        block.value, block.slots = update_rows(self.rule)(
            block.value, block.slots, indices, padded.values, factor
        )
        jax.block_until_ready((block.value, block.slots))  # type: ignore[no-untyped-call]
        block.updates += 1

    def update_by(self, vector: str, factor: float) -> None:
        """The rule's update of all that is trained, by factor * vector as the gradient."""
        changes = [(b, _times(b.array(vector), factor)) for b in self if b.slots is not None]
        with self.context():
            self._update_dense(changes, None)


def _times(array: np.ndarray, factor: float) -> np.ndarray:
    return array if factor == 1.0 else array * array.dtype.type(factor)
