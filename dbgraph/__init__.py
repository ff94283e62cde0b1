"""dbgraph compiles a layered network into programs for many machines, and runs them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from dbgraph.compile import make_plan as make_plan
    from dbgraph.coordinate.options import Sandblaster as Sandblaster
    from dbgraph.coordinate.options import Sync as Sync
    from dbgraph.data import Data as Data
    from dbgraph.dsl.custom import op as op
    from dbgraph.dsl.network import Network as Network
    from dbgraph.dsl.network import input as input
    from dbgraph.dsl.network import loss as loss
    from dbgraph.dsl.network import output as output
    from dbgraph.dsl.network import parameter as parameter
    from dbgraph.dsl.network import partition as partition
    from dbgraph.errors import DbgraphError as DbgraphError
    from dbgraph.optim.rules import Rule as Rule
    from dbgraph.plan.plan import Plan as Plan
    from dbgraph.plan.text import open_plan as open_plan
    from dbgraph.ps.options import Downpour as Downpour
    from dbgraph.train.trainer import Trainer as Trainer

# Loaded on first use, so that `import dbgraph` takes milliseconds and loads neither jax nor zmq.
_WHERE = {
    "Data": "dbgraph.data",
    "Downpour": "dbgraph.ps.options",
    "DbgraphError": "dbgraph.errors",
    "Network": "dbgraph.dsl.network",
    "Plan": "dbgraph.plan.plan",
    "Rule": "dbgraph.optim.rules",
    "Sandblaster": "dbgraph.coordinate.options",
    "Sync": "dbgraph.coordinate.options",
    "Trainer": "dbgraph.train.trainer",
    "input": "dbgraph.dsl.network",
    "loss": "dbgraph.dsl.network",
    "make_plan": "dbgraph.compile",
    "op": "dbgraph.dsl.custom",
    "open_plan": "dbgraph.plan.text",
    "output": "dbgraph.dsl.network",
    "parameter": "dbgraph.dsl.network",
    "partition": "dbgraph.dsl.network",
}

__all__ = ["__version__", *_WHERE]


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module 'dbgraph' has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
