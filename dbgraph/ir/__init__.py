"""The intermediate representation: types, regions, graphs, their text and their rules."""

from dbgraph.ir.graph import Cut, Graph, Node, Pin, Result
from dbgraph.ir.region import Region
from dbgraph.ir.types import Attribute, Attrs, TensorType

__all__ = ["Attribute", "Attrs", "Cut", "Graph", "Node", "Pin", "Region", "Result", "TensorType"]
