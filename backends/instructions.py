"""A program's instruction as people read it."""

from __future__ import annotations

from dbgraph.plan.plan import Plan
from dbgraph.plan.program import Run

_LAYERS = 4


def instruction_words(plan: Plan, partition: int, position: int) -> str:
    """`RUN s3.0 (hidden1, hidden2)`: with its layers; "" beyond the program's end."""
    program = plan.programs[partition]
    if not 0 <= position < len(program.instructions):
        return ""
    instruction = program.instructions[position]
    if not isinstance(instruction, Run):
        return str(instruction)
    nodes = program.segments[instruction.segment].nodes
    layers = list(dict.fromkeys(layer for n in nodes if (layer := plan.graph[n].layer)))
    names = ", ".join(layers[:_LAYERS]) + (", …" if len(layers) > _LAYERS else "")
    return f"{instruction} ({names})" if names else str(instruction)
