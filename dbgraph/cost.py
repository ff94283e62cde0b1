"""What nodes and segments cost on a machine, by the FLOPs and bytes of the ops' own rules.

One op takes its start, plus its FLOPs over the machine's rate for its kind of work, plus the bytes
that it reads and writes over the rate of memory. They add up: on a processor's cores arithmetic
waits for memory more than it overlaps with it, and a kernel that gathers before it multiplies
(locally connected filters) overlaps nothing.

A segment takes its dispatch and what its nodes take one by one. XLA fuses neighbouring pointwise
ops, which saves memory traffic, and then computes some of them several times over: against segments
that were timed in steps of the paper's kinds of networks, a model of fused loops was no nearer.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from dbgraph.cluster import MachineSpec, Rates
from dbgraph.ir.graph import Graph, Node, Signature
from dbgraph.ir.types import Attrs, TensorType, Types
from dbgraph.ops import COMMUNICATION, LEAVES, flops_of, op
from dbgraph.ops.schema import POINTWISE, UPDATE


class Work(NamedTuple):
    """What one execution of a node is.

    Attributes:
        traffic_bytes: read and written, values in between included.
    """

    kind: str
    flop: float
    traffic_bytes: float


UPDATE_TOUCHES = 5
"""An update of a rule with one slot, such as momentum, reads parameter, gradient and slot, and
writes two of them."""
ADDING_TOUCHES = 3
"""A gradient and the sum are read, and the sum is written."""
_NOTHING = Work(POINTWISE, 0, 0)


def node_flop(graph: Graph, node: Node) -> int:
    """FLOPs of one execution of a node; leaves and communication have none."""
    if node.op in LEAVES or node.op in COMMUNICATION:
        return 0
    return flops_of(node, graph.input_types(node))


def node_work(graph: Graph, node: Node) -> Work:
    """Kind, FLOPs and bytes of one execution of a node; leaves and communication do none."""
    return op_work(node.op, node.attrs, graph.input_types(node), node.type)


@lru_cache(maxsize=2**16)
def signature_work(signature: Signature) -> Work:
    """The same of all nodes with that signature."""
    return op_work(signature.op, signature.attrs, signature.inputs, signature.type)


@lru_cache(maxsize=2**16)  # the tiles of a layer have few shapes
def op_work(name: str, attrs: Attrs, types: Types, out: TensorType) -> Work:
    """What an op does for inputs and an output of these types; see `node_work`."""
    if name in LEAVES or name in COMMUNICATION:
        return _NOTHING
    rule = op(name)
    moved = out.size_bytes + sum(t.size_bytes for t in types)
    scratch = rule.scratch_bytes(attrs, types, out)
    return Work(rule.kinds.of(attrs), rule.flops(attrs, types, out), moved + 2 * scratch)


class _Table(dict[tuple[str, str], Rates]):
    """A machine's rates by kind of work and dtype: as measured for this dtype, or for any; else
    its general ones."""

    def __init__(self, machine: MachineSpec) -> None:
        super().__init__({(kind, dtype): rates for kind, dtype, rates in machine.kinds})
        self._flop_s = dict(machine.dtype_flop_s)
        self._machine = machine

    def __missing__(self, key: tuple[str, str]) -> Rates:
        kind, dtype = key
        general = self._flop_s.get(dtype, self._machine.flop_s)
        found = self.get((kind, ""), Rates(general, self._machine.memory_bytes_s))
        self[key] = found
        return found

    def seconds(self, work: Work, dtype: str) -> float:
        found = self[work.kind, dtype]
        flops_s, bytes_s = work.flop / found.flop_s, work.traffic_bytes / found.memory_bytes_s
        return found.start_s + flops_s + bytes_s


_table = lru_cache(maxsize=256)(_Table)


def node_s(graph: Graph, node: Node, machine: MachineSpec) -> float:
    """Seconds of one execution of a node, alone."""
    if node.op in LEAVES or node.op in COMMUNICATION:
        return 0.0
    return work_s(node_work(graph, node), node.type.dtype, machine)


def work_s(work: Work, dtype: str, machine: MachineSpec) -> float:
    """Seconds of some work, such as a tile's share of a node's."""
    return _table(machine).seconds(work, dtype)


def segment_s(graph: Graph, nodes: Iterable[str], machine: MachineSpec) -> float:
    """Seconds of one execution of a segment, its dispatch included."""
    signatures, table = graph.signatures, _table(machine)
    nodes_s = 0.0
    for name in nodes:
        signature = signatures[name]
        if (work := signature_work(signature)) is not _NOTHING:
            nodes_s += table.seconds(work, signature.type.dtype)
    return machine.dispatch_s + nodes_s


def adding_s(gradient_bytes: int, machine: MachineSpec) -> float:
    """Seconds of adding gradients of so many bytes to the sums over the microbatches before."""
    return work_s(Work(UPDATE, 0, ADDING_TOUCHES * gradient_bytes), "float32", machine)


def update_s(parameter_bytes: int, machine: MachineSpec) -> float:
    """Seconds of an UPDATE of parameters of so many bytes."""
    return work_s(Work(UPDATE, 0, UPDATE_TOUCHES * parameter_bytes), "float32", machine)
