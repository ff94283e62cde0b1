"""What is noted of a network beside its nodes."""

from __future__ import annotations

from dataclasses import dataclass

from dbgraph.dsl.symbol import Symbol
from dbgraph.source import Source


@dataclass(frozen=True, slots=True)
class LayerInfo:
    """One use of a layer.

    Attributes:
        name: `Node.layer` of its nodes.
        kind: the layer's class, or the op of a symbol's arithmetic.
        output: the name of its value.
        shape: of its value, for one example.
        source: the user's line.
    """

    name: str
    kind: str
    output: str
    shape: tuple[int, ...]
    source: Source


@dataclass(frozen=True, slots=True)
class Term:
    """One loss: its weighted mean over the batch."""

    name: str
    value: Symbol
    named: bool


@dataclass(frozen=True, slots=True)
class Penalty:
    """`l1 * sum |w| + l2 * sum w²` of one parameter, or of all weights that lead to a symbol."""

    l1: float
    l2: float
    source: Source
