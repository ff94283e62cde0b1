"""The network that a plan was made of, to make another plan of it."""

from __future__ import annotations

from dataclasses import dataclass

from dbgraph.ir.graph import Graph
from dbgraph.plan.plan import Plan


@dataclass(frozen=True)
class Declared:
    """What the compiler needs of a `dbg.Network`."""

    name: str
    batch: int
    seed: int
    fingerprint: str
    graph: Graph

    @staticmethod
    def of(plan: Plan) -> Declared:
        return Declared(plan.name, plan.batch, plan.seed, plan.fingerprint, plan.network)
