"""search: cuts a weighted graph for N machines by the busiest machine's load.

The core knows nodes, values and machines, not layers or files; `search` takes a `Problem` and an
`Objective`, and gives the machine of each node with a bound that no cut can beat.
"""

from __future__ import annotations

from dbgraph.passes.search.budget import Budget
from dbgraph.passes.search.objective import ADDED, DUPLEX, OVERLAPPED, WORK_ONLY, Objective
from dbgraph.passes.search.problem import Machine, Place, Problem, Value
from dbgraph.passes.search.search import PROVED_GAP, Found, Progress, search

__all__ = [
    "ADDED",
    "DUPLEX",
    "OVERLAPPED",
    "PROVED_GAP",
    "WORK_ONLY",
    "Budget",
    "Found",
    "Machine",
    "Objective",
    "Place",
    "Problem",
    "Progress",
    "Value",
    "search",
]
