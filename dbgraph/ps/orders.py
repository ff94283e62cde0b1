"""The coordinator's orders to a shard: commands on vectors, staged gradients, updates.

Commands on vectors are executed block by block, since within a batch no scalar comes back. Their
scalars are combined here over the blocks, and on the coordinator over the shards, by the same
function (`optim.vectors.combine`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import jax.numpy as jnp
import numpy as np

from dbgraph.errors import RunError
from dbgraph.optim.space import execute
from dbgraph.optim.vectors import (
    PARAMETERS,
    Add,
    AnyCommand,
    Axpy,
    Copy,
    Multiply,
    Scalars,
    Scale,
    Zero,
    combine,
)
from dbgraph.ps.blocks import Block, Blocks
from dbgraph.ps.messages import Commit, Discard, Order, Update
from dbgraph.ps.staging import Staging
from dbgraph.ps.streams import Streams


def check_orders(
    orders: Sequence[Order], blocks: Blocks, staging: Staging, streams: Streams
) -> None:
    """Raises RunError where one of them can't be executed."""
    known = blocks.vectors
    for order in orders:
        missing = _read(order) - known
        if missing:
            raise RunError(f"{type(order).__name__}: there is no vector {min(missing)!r}")
        known |= set(filter(None, [_written(order)]))
        for key in order.pushes if isinstance(order, Commit) else ():
            partitions = streams.partitions(*key[:2])
            if partitions is None or not staging.has(key, partitions):
                raise RunError(f"nothing is staged as {key}")
        if isinstance(order, Update):
            blocks.check_rule()


def _read(order: Order) -> set[str]:
    """The vectors that must be there."""
    fields = ("x", "y", "out") if isinstance(order, Commit) else ("x", "y")
    return {getattr(order, name) for name in fields if hasattr(order, name)}


def _written(order: Order) -> str | None:
    match order:
        case Zero(out) | Copy(out=out) | Add(out=out) | Multiply(out=out):
            return out
        case Scale(x=x):
            return x
        case Axpy(y=y):
            return y
    return None


def execute_orders(orders: Iterable[Order], blocks: Blocks, staging: Staging) -> Scalars:
    """Executes orders that have been checked, one after another; returns their scalars."""
    scalars: list[float] = []
    for order in orders:
        match order:
            case Commit(pushes, out):
                for key in pushes:
                    staging.commit(key, blocks, out)
            case Discard(pushes, epochs):
                for key in pushes:
                    staging.discard(key)
                staging.discard_epochs(epochs)
            case Update(x, factor):
                blocks.update_by(x, factor)
            case _:
                scalars += _execute(order, blocks)
    return tuple(scalars)


def _execute(command: AnyCommand, blocks: Blocks) -> Scalars:
    with blocks.context():
        partial = [_execute_on(block, command) for block in blocks]
    return combine((command,), partial)


def _execute_on(block: Block, command: AnyCommand) -> Scalars:
    flat = np.asarray(block.value).reshape(-1)
    if _written(command) != PARAMETERS:
        vectors = {**block.vectors, PARAMETERS: flat}
        scalars = execute((command,), vectors)
        block.vectors = {name: v for name, v in vectors.items() if name != PARAMETERS}
        return scalars
    changed = np.array(flat)
    scalars = execute((command,), {**block.vectors, PARAMETERS: changed})
    block.value = jnp.array(changed.reshape(block.region.shape))
    return scalars
