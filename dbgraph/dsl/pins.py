"""`cut=` of a layer: names of axes, and the nodes that they pin.

The axes of a value are called batch; units (one axis); rows, units (two); rows, cols, maps
(three); axis1, axis2, … (more). The last is also called units or maps, whichever it is not. The
axes that an op reduces away have names of their own: inputs, channels, vocabulary, classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dbgraph.dsl.checks import suggest
from dbgraph.errors import NetworkError
from dbgraph.ir.graph import Node
from dbgraph.ir.types import Types
from dbgraph.ops import OPS
from dbgraph.ops.axes import axis_names
from dbgraph.source import Source

Pieces = tuple[tuple[int, int], ...]
Inner = tuple[tuple[str, int], ...]


def resolve(
    cut: Mapping[str, int],
    nodes: Sequence[Node],
    known: Mapping[str, Node],
    inner: Mapping[str, Mapping[str, str]],
    source: Source,
) -> dict[str, tuple[Pieces, Inner]]:
    """What each node of a layer is pinned to.

    Args:
        cut: axis name → pieces.
        nodes: the layer's computed nodes.
        known: all nodes, for the types of inputs.
        inner: for a node the layer's own names of reduced axes.
        source: the user's line.

    Raises:
        NetworkError: an axis that no node of the layer can be cut along, or into so many pieces.
    """
    if not cut:
        return {}
    axes = [_Axes(node, known, inner.get(node.name, {})) for node in nodes]
    for name, pieces in cut.items():
        if not any(one.length(name) >= pieces for one in axes):
            raise _refusal(name, pieces, axes, source)
    return {one.node.name: one.pins(cut) for one in axes}


class _Axes:
    """The axes of one node that may be cut: name → (axis or reduction, length)."""

    def __init__(self, node: Node, known: Mapping[str, Node], inner: Mapping[str, str]) -> None:
        self.node = node
        types: Types = tuple(known[name].type for name in node.inputs)
        rule = OPS[node.op]
        cuttable = rule.cut_axes(node.attrs, types)
        self.named = axis_names(node.type.rank)
        shape = node.type.shape
        self.outer = {n: (a, shape[a]) for n, a in self.named.items() if a in cuttable}
        called = {own: name for name, own in inner.items()}
        self.inner = {}
        for reduction in rule.reductions(node.attrs, types):
            index, axis = reduction.axes[0]
            name = called.get(reduction.name, reduction.name)
            self.inner[name] = (reduction.name, types[index].shape[axis])

    def length(self, name: str) -> int:
        """Of the named axis; 0 where there is none to cut."""
        return (self.outer.get(name) or self.inner.get(name) or ("", 0))[1]

    def pins(self, cut: Mapping[str, int]) -> tuple[Pieces, Inner]:
        """An axis that is too short (a broadcast one) stays whole."""
        pieces, inner = {}, {}
        for name, count in cut.items():
            if self.length(name) < count:
                continue
            if name in self.outer:
                pieces[self.outer[name][0]] = count
            else:
                inner[self.inner[name][0]] = count
        return tuple(sorted(pieces.items())), tuple(inner.items())


def _refusal(name: str, pieces: int, axes: Sequence[_Axes], source: Source) -> NetworkError:
    longest = max((one.length(name) for one in axes), default=0)
    can = list(dict.fromkeys(n for one in axes for n in (*one.outer, *one.inner)))
    if longest:
        rule = f"axis {name!r} has {longest} elements and can't be cut into {pieces} pieces"
        hint = f"at most {longest}"
    elif any(name in one.named for one in axes):
        rule = f"axis {name!r} of this layer can't be cut"
        hint = f"these can: {', '.join(can)}" if can else "none of its axes can"
    else:
        rule = f"this layer has no axis {name!r} to cut"
        hint = suggest(name, can) if can else "it has none that can be cut"
    return NetworkError(rule, at=source, hint=hint)
