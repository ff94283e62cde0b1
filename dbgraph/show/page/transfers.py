"""Transfers, and what a machine does in which order, as columns.

transfers  source, to (machines), bytes (of one message), times (in a step), back (1: of the
           backward pass), layer (of the value), reader (the layer that reads it first; -1 for
           none), value (a row of `values`)
values     the names, each once: a value may be sent to several machines
segments   per machine: nodes, first, last (rows of `layers`), flop of one microbatch
programs   per machine one number for each instruction:
           (index × 4 + kind) × microbatches + microbatch, kind 0 RUN, 1 SEND, 2 RECV, 3 UPDATE
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dbgraph.cost import node_flop
from dbgraph.ir.graph import Graph
from dbgraph.plan.program import Instruction, Program, Recv, Run, Send, Transfer
from dbgraph.show.digest import layer_of
from dbgraph.show.page.tiles import Tiles

_RUN, _SEND, _RECV, _UPDATE = range(4)


def transfer_columns(tiles: Tiles) -> dict[str, Any]:
    """`transfers` and `values`."""
    plan, graph = tiles.digest.plan, tiles.digest.plan.graph
    values: dict[str, int] = {}
    moved = plan.transfers
    return {
        "transfers": {
            "source": [t.source for t in moved],
            "to": [t.to for t in moved],
            "bytes": [t.type.size_bytes for t in moved],
            "times": [t.times(plan.microbatches) for t in moved],
            "back": [int(t.value in tiles.digest.backward) for t in moved],
            "layer": [tiles.layer_index.get(layer_of(graph[t.value]), -1) for t in moved],
            "reader": [_reader(tiles, t) for t in moved],
            "value": [values.setdefault(t.value, len(values)) for t in moved],
        },
        "values": list(values),
    }


def _reader(tiles: Tiles, transfer: Transfer) -> int:
    layers = _reading(tiles.digest.plan.graph, transfer.recv)
    return tiles.layer_index.get(next(layers, ""), -1)


def _reading(graph: Graph, value: str) -> Iterator[str]:
    """The layers that read a value, seen through what only puts it together."""
    for reader in graph.consumers[value]:
        if reader.op == "assemble":
            yield from _reading(graph, reader.name)
        else:
            yield layer_of(reader)


def program_columns(tiles: Tiles) -> dict[str, Any]:
    """`segments` and `programs`."""
    plan = tiles.digest.plan
    return {
        "segments": [_segments(tiles, program) for program in plan.programs],
        "programs": [
            [_code(one, plan.microbatches) for one in program.instructions]
            for program in plan.programs
        ],
    }


def _segments(tiles: Tiles, program: Program) -> dict[str, list[int]]:
    graph = tiles.digest.plan.graph
    nodes = [[graph[name] for name in segment.nodes] for segment in program.segments]
    index = tiles.layer_index
    return {
        "nodes": [len(some) for some in nodes],
        "first": [index.get(layer_of(some[0]), -1) for some in nodes],
        "last": [index.get(layer_of(some[-1]), -1) for some in nodes],
        "flop": [sum(node_flop(graph, node) for node in some) for some in nodes],
    }


def _code(instruction: Instruction, microbatches: int) -> int:
    match instruction:
        case Run(index, microbatch):
            kind = _RUN
        case Send(index, microbatch):
            kind = _SEND
        case Recv(index, microbatch):
            kind = _RECV
        case _:
            index, microbatch, kind = 0, 0, _UPDATE
    return (index * 4 + kind) * microbatches + microbatch
