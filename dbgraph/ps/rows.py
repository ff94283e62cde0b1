"""Gradients of which a step has only some rows: those of tables that are only looked up in.

The derivative of an embedding is a whole table, of which all rows are zero but those that the
batch asked for; only these travel. For a rule that moves nothing where the gradient is zero, such
as SGD or Adagrad, that is the same; others, such as momentum, get their lazy form (`optim.sparse`).
"""

from __future__ import annotations

import numpy as np

from dbgraph.ir.region import Region
from dbgraph.optim.sparse import Rows
from dbgraph.plan.plan import Plan


def tables(plan: Plan, partition: int) -> frozenset[str]:
    """The parameters of a partition that nothing but embeddings reads, by the leaf's name."""
    held = {leaf.node for leaf in plan.leaves("parameter", partition)}
    readers: dict[str, set[str]] = {}
    for node in plan.graph:
        for read in held.intersection(node.inputs):
            readers.setdefault(read, set()).add(node.op)
    return frozenset(name for name, ops in readers.items() if ops == {"embedding"})


def rows_of(gradient: np.ndarray, region: Region) -> Rows:
    """The rows of a region's gradient that are not zero; what is not a number is not."""
    flat = gradient.reshape(len(gradient), -1)
    places = np.flatnonzero(flat.any(axis=1))
    return Rows(places.astype(np.int64) + region.bounds[0][0], gradient[places])
