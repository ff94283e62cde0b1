"""A random layered network: for `compile_time`, a graph of as many nodes as is asked for."""

import random

import dbgraph as dbg
from dbgraph import layers as L
from dbgraph.dsl import Symbol

NODES, WIDTH, UNITS, BATCH = 100_000, 40, 64, 32
_NODES_OF_A_UNIT = 5  # a few units are read by no other, and dropped
_SQUASHED = ("relu", "tanh", "sigmoid")


def network(nodes: int = NODES, seed: int = 1) -> dbg.Network:
    """Layers of WIDTH units each: a unit adds two or three values of the two layers before, and is
    a small dense layer of the sum, with a function of each element; that is six nodes.

    Args:
        nodes: of the declared graph, to within the last layer's.
    """
    draw = random.Random(seed)
    with dbg.Network(f"layered{nodes}", batch=BATCH) as net:
        before: list[Symbol] = []
        last = [dbg.input("x", (UNITS,))]
        for _ in range(max(1, nodes // (WIDTH * _NODES_OF_A_UNIT))):
            before, last = last, [_unit(draw, before + last) for _ in range(WIDTH)]
        dbg.loss(L.MeanSquaredError()(L.Add()(*last), dbg.input("target", (UNITS,))))
    return net


def _unit(draw: random.Random, values: list[Symbol]) -> Symbol:
    read = draw.sample(values, min(len(values), draw.choice((2, 3))))
    mixed = L.Add()(*read) if len(read) > 1 else read[0]
    return L.Dense(UNITS, activation=draw.choice(_SQUASHED))(mixed)


def small() -> dbg.Network:
    return network(2_000)
