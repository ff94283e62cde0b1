"""What each transfer carries, in the words of the network."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from dbgraph.ir.graph import Node
from dbgraph.ir.region import Region
from dbgraph.ops import op
from dbgraph.ops.shape import pieces_of
from dbgraph.plan.plan import Plan
from dbgraph.plan.program import Transfer

_TILE, _PART = re.compile(r"\[\d+\]$"), re.compile(r"\.part(\d+)$")


@dataclass(frozen=True, slots=True)
class Cargo:
    """A box of a value, on its way to those that read it; or its gradient, on the way back.

    Attributes:
        value: the node of the network.
        part: which of its partial results it is; None: the value itself.
        region: the box, in the coordinates of one microbatch.
        holder, reader: the partitions on which the value stands, and on which it is read.
        readers: the nodes of the network that read it there. Of a gradient: those from which it
            comes.
        backward: whether it is the gradient. That of a sum goes to what is summed up without a
            stop where the sum stands, so it may come from another partition than `reader`.
    """

    transfer: Transfer
    value: str
    part: int | None
    region: Region
    holder: int
    reader: int
    readers: tuple[str, ...]
    backward: bool = False


def cargoes(plan: Plan) -> tuple[Cargo, ...]:
    """One for each transfer, in order."""
    return _Manifest(plan).all()


class _Manifest:
    def __init__(self, plan: Plan) -> None:
        self.plan, self.graph = plan, plan.graph
        self.received = {t.recv: t for t in plan.transfers}
        self.forward = {
            (t.value, t.to): self._forward(t) for t in plan.transfers if "'" not in t.value
        }

    def all(self) -> tuple[Cargo, ...]:
        return tuple(
            self.forward.get((t.value, t.to)) or self._backward(t) for t in self.plan.transfers
        )

    def _forward(self, transfer: Transfer) -> Cargo:
        value = self.graph[transfer.value]
        name, part = self._name(_tile_of(self, value))
        found = list(self._readers(transfer.recv))
        forward = [node for node in found if "'" not in node.name] or found
        readers = dict.fromkeys(self._name(node)[0] for node in forward)
        region, ends = _region(self, value), (transfer.source, transfer.to)
        return Cargo(transfer, name, part, region, *ends, tuple(readers))

    def _backward(self, transfer: Transfer) -> Cargo:
        """As what it is the gradient of went forward."""
        value = self._differentiated(transfer.value)
        sent = self.forward.get((value, transfer.source))
        found = itertools.chain([sent] if sent else [], self._summed(value))
        back = next(cargo for cargo in found if cargo.holder == transfer.to)
        return replace(back, transfer=transfer, backward=True)

    def _summed(self, value: str) -> Iterator[Cargo]:
        """What a sum received, and sums before it: their gradient is its own."""
        node = self.graph[value]
        transposes = op(node.op).transposes(node.attrs, self.graph.input_types(node))
        handed_on = [
            name
            for name, transposed in zip(node.inputs, transposes, strict=False)
            if transposed is not None and not transposed.op
        ]
        for name in handed_on:
            if name in self.received:
                transfer = self.received[name]
                yield self.forward[transfer.value, transfer.to]
        for name in handed_on:
            yield from self._summed(self.received[name].value if name in self.received else name)

    def _differentiated(self, name: str) -> str:
        """The value whose gradient, or a part of it, a value of the backward pass is. The
        `gradient` pass calls it NODE'INPUT, NODE'.PARTITION or NODE'."""
        node, _, suffix = name.partition("'")
        if not suffix.isdigit():
            return node
        source = self.graph[node].inputs[int(suffix)]
        return self.received[source].value if source in self.received else source

    def _readers(self, name: str) -> Iterator[Node]:
        """Seen through what only puts boxes together."""
        for node in self.graph.consumers[name]:
            if node.op == "assemble":
                yield from self._readers(node.name)
            else:
                yield node

    def _name(self, tile: Node) -> tuple[str, int | None]:
        """(node of the network, number of the partial result)."""
        name = _TILE.sub("", tile.name.partition("'")[0])
        if name in self.plan.network.by_name:
            return name, None
        part = _PART.search(name)
        return (name[: part.start()], int(part[1])) if part else (name, None)


def _tile_of(manifest: _Manifest, value: Node) -> Node:
    """The tile that a box was cut out of."""
    return value if value.op != "assemble" else _tile_of(manifest, manifest.graph[value.inputs[0]])


def _region(manifest: _Manifest, value: Node) -> Region:
    if value.cut is not None:
        return Region(tuple((s[0], s[-1]) for s in value.cut.splits))
    tile = _region(manifest, manifest.graph[value.inputs[0]])
    (piece,) = pieces_of(value.attrs)
    return piece.source_box.shift(tile.start)
