"""The plan, its file and its rules."""

from dbgraph.plan.plan import Leaf, Plan
from dbgraph.plan.program import (
    Instruction,
    Program,
    Recv,
    Run,
    Segment,
    Send,
    Transfer,
    Update,
)

__all__ = [
    "Instruction",
    "Leaf",
    "Plan",
    "Program",
    "Recv",
    "Run",
    "Segment",
    "Send",
    "Transfer",
    "Update",
]
