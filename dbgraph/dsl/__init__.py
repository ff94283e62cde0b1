"""Declaring a network: symbols, layers, losses."""

from dbgraph.dsl.custom import op
from dbgraph.dsl.network import Network, Parameter, input, loss, output, parameter, partition
from dbgraph.dsl.symbol import Symbol

__all__ = [
    "Network",
    "Parameter",
    "Symbol",
    "input",
    "loss",
    "op",
    "output",
    "parameter",
    "partition",
]
