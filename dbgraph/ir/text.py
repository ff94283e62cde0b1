"""The text form of a graph: one line per node, which people can read and diff, and which parses
back.

    %hidden1/contract = contract(%frame, %hidden1/weights) {contracted=1} : float32[128,2560] \
layer=hidden1 pin=@0,@1,1:2,inputs:4 cut=[0,128][0,1280,2560]@0,1 @2 at net.py:12
    send %hidden1/contract to 3
    result output class [0:128] = %class/argmax

Of a node's fields those that it has are printed, in this order: attributes, type, layer, pin
(`@0` a partition, `1:2` axis 1 in two pieces, `inputs:4` a reduced axis in four), cut (the bounds
of each axis, then the partition of each tile), its own partition, source. Names hold no
whitespace, comma, parenthesis, percent sign or brace. Parsing evaluates no code.

`send %value to 3` is two nodes in a row, the send `%value>3` and its recv `%value@3`, as
`send_and_recv` makes them: more than half of a large plan's nodes, of which nothing else is to be
said. Where they differ from that, each has its own line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise

from dbgraph.errors import PlanError
from dbgraph.ir.graph import NO_PIN, Cut, Graph, Node, Pin, Result
from dbgraph.ir.region import Region
from dbgraph.ir.transfer import send_and_recv
from dbgraph.ir.types import NO_ATTRS, Attribute, Attrs, TensorType, parse_attribute
from dbgraph.source import Source

NAME = re.compile(r"[A-Za-z0-9_./\[\]'\->:#@]+")
"""What a value may be called."""


def print_graph(graph: Graph) -> str:
    """The graph as text; `parse_graph` is the inverse.

    Raises:
        PlanError: an attribute is NaN, which no text gives back.
    """
    return "".join(graph_lines(graph))


def graph_lines(graph: Graph) -> Iterator[str]:
    """The same text line by line, each with its end, for graphs of millions of nodes."""
    known: dict[int, str] = {}
    sends = _sends(graph)
    for i, node in enumerate(graph.nodes):
        if i in sends:
            yield f"send %{node.inputs[0]} to {graph.nodes[i + 1].partition}\n"
        elif i - 1 not in sends:
            yield _node_text(node, known) + "\n"
    for result in graph.results:
        yield print_result(result) + "\n"


def _sends(graph: Graph) -> set[int]:
    """The positions of the sends that one line says together with the recv behind them."""
    found: set[int] = set()
    before: dict[str, Node] = {}
    for i, (node, after) in enumerate(pairwise(graph.nodes)):
        if node.op == "send" and _is_transfer(before, node, after):
            found.add(i)
        before[node.name] = node
    return found


def _is_transfer(before: dict[str, Node], send: Node, recv: Node) -> bool:
    value, to = before.get("".join(send.inputs)), recv.partition
    if value is None or value.partition is None or to is None:
        return False
    return send_and_recv(value, to) == (send, recv)


def print_node(node: Node) -> str:
    """One line, without its end."""
    return _node_text(node, {})


def print_result(result: Result) -> str:
    """One line, without its end."""
    return f"result {result.kind} {result.name} [{result.region}] = %{result.value}"


def _node_text(node: Node, known: dict[int, str]) -> str:
    """Args: known: texts of what nodes share, by identity: Attrs(x=1) == Attrs(x=True), but not
    as text."""
    inputs = "%" + ", %".join(node.inputs) if node.inputs else ""
    attrs, type_, source = id(node.attrs), id(node.type), id(node.source)
    if attrs not in known:
        known[attrs] = _attrs_text(node.attrs)
    if type_ not in known:
        known[type_] = str(node.type)
    if source not in known:
        known[source] = f" at {_source_text(node.source)}" if node.source is not None else ""
    text = f"%{node.name} = {node.op}({inputs}){known[attrs]} : {known[type_]}"
    if node.layer:
        text += f" layer={node.layer}"
    if node.pin is not NO_PIN and node.pin != NO_PIN:
        text += f" pin={_pin_text(node.pin)}"
    if node.cut is not None:
        text += f" cut={_cut_text(node.cut)}"
    if node.partition is not None:
        text += f" @{node.partition}"
    return text + known[source]


def _attrs_text(attrs: Attrs) -> str:
    if not attrs:
        return ""
    return " {" + ", ".join([f"{k}={_literal(v)}" for k, v in attrs.items()]) + "}"


def _literal(value: Attribute) -> str:
    text = repr(value)
    if "inf" not in text and "nan" not in text:
        return text
    if isinstance(value, tuple):
        inner = ", ".join(_literal(v) for v in value)
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if isinstance(value, float):
        if value != value:
            raise PlanError("an attribute must not be NaN: no text gives it back")
        return text.replace("inf", "1e999")  # the literal that overflows to infinity
    return text


def _pin_text(pin: Pin) -> str:
    items = [f"@{p}" for p in pin.partitions]
    items += [f"{axis}:{pieces}" for axis, pieces in pin.pieces]
    items += [f"{name}:{pieces}" for name, pieces in pin.inner]
    return ",".join(items)


def _cut_text(cut: Cut) -> str:
    splits = "".join([f"[{','.join(map(str, bounds))}]" for bounds in cut.splits])
    return f"{splits}@{','.join(map(str, cut.partitions))}"


def _source_text(source: Source) -> str:
    if source.file.isprintable() and source.file[:1] not in "'\"":
        return str(source)
    return f"{source.file!r}:{source.line}"


# The value of an attribute, quoted strings being the only place of braces and line ends within.
# Possessive quantifiers (`++`): a broken line costs linear time.
_QUOTED = r"""'(?:[^'\\]++|\\.)*+'|"(?:[^"\\]++|\\.)*+\""""
_PARTS = (
    ("a value such as %name", r"%([^\s,(){}%]++)"),
    ("' = '", r" = "),
    ("an op such as contract", r"([A-Za-z_][A-Za-z0-9_]*+)"),
    ("inputs such as (%a, %b)", r"\(((?:%[^\s,(){}%]++(?:, %[^\s,(){}%]++)*+)?)\)"),
    ("attributes such as {axis=1}", rf"(?: \{{((?:[^'\"{{}}]++|{_QUOTED})*+)\}})?"),
    ("a type such as : float32[128,10]", r" : ([a-z0-9]++\[[0-9,]*+\])"),
    ("layer=NAME", r"(?: layer=(\S++))?"),
    ("pin=@0,1:2,inputs:4", r"(?: pin=(\S++))?"),
    ("cut=[0,128]@0", r"(?: cut=(\S++))?"),
    ("a partition such as @2", r"(?: @([0-9]++))?"),
    ("a source such as at net.py:12", r"(?: at (.++))?"),
)
_LINE = re.compile("".join(pattern for _, pattern in _PARTS))
_SEND = re.compile(r"send %([^\s,(){}%]++) to ([0-9]++)")
_RESULT = re.compile(r"result (\S++) (\S++) \[([-0-9:,]*+)\] = %([^\s,(){}%]++)")
_ITEM = re.compile(
    rf"([A-Za-z_][A-Za-z0-9_]*+)=((?:[^'\"(),=]++|{_QUOTED}|\((?:[^'\"()]++|[()]|{_QUOTED})*?\)))"
    r"(?:, (?=[A-Za-z_][A-Za-z0-9_]*+=)|$)"
)


def parse_graph(text: str, *, first_line: int = 1) -> Graph:
    """The inverse of `print_graph`. Empty lines and lines that begin with `#` are passed over.

    Args:
        text: the lines of nodes, then of results.
        first_line: the number of its first line in the file that it is from, for errors.

    Raises:
        PlanError: a line does not parse; the error names it.
    """
    return parse_lines(text.split("\n"), first_line=first_line)


def parse_lines(lines: Iterable[str], *, first_line: int = 1) -> Graph:
    """The same of lines without their ends."""
    reader = _Reader()
    nodes: list[Node] = []
    results: list[Result] = []
    for number, one in enumerate(lines, first_line):
        if not one or one[0] == "#":
            continue
        try:
            if one[0] == "%":
                nodes.append(reader.node(one))
            elif one.startswith("send "):
                nodes += reader.transfer(one)
            else:
                results.append(_result(one))
        except ValueError as error:
            raise PlanError(f"line {number}: {error}") from error
    return Graph(tuple(nodes), tuple(results))


class _Reader:
    """Parses lines; equal texts of a field are parsed once and share one object."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.attrs: dict[str | None, Attrs] = {None: NO_ATTRS}
        self.values: dict[str, Attribute] = {}
        self.types: dict[str, TensorType] = {}
        self.pins: dict[str | None, Pin] = {None: NO_PIN}
        self.cuts: dict[str | None, Cut | None] = {None: None}
        self.sources: dict[str | None, Source | None] = {None: None}

    def node(self, line: str) -> Node:
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError(_complaint(line))
        name, op, inputs, attrs, type_, layer, pin, cut, partition, source = match.groups()
        nodes, read = self.nodes, inputs[1:].split(", %") if inputs else []
        if attrs not in self.attrs:
            self.attrs[attrs] = self._attrs(attrs)
        if type_ not in self.types:
            self.types[type_] = TensorType.parse(type_)
        if pin not in self.pins:
            self.pins[pin] = _pin(pin)
        if cut not in self.cuts:
            self.cuts[cut] = _cut(cut)
        if source not in self.sources:
            self.sources[source] = _source(source)
        node = nodes[name] = Node(
            name,
            op,
            tuple([nodes[value].name if value in nodes else value for value in read]),
            self.types[type_],
            self.attrs[attrs],
            layer or "",
            self.sources[source],
            self.pins[pin],
            self.cuts[cut],
            int(partition) if partition else None,
        )
        return node

    def transfer(self, line: str) -> tuple[Node, Node]:
        """The send and its recv."""
        match = _SEND.fullmatch(line)
        if match is None:
            raise ValueError(f"expected send %name to PARTITION, found {line[:40]!r}")
        value = self.nodes.get(match[1])
        if value is None:
            raise ValueError(f"%{match[1]} is sent, which is not defined before it")
        if value.partition is None:
            raise ValueError(f"%{match[1]} is sent, which stands on no partition")
        send, recv = send_and_recv(value, int(match[2]))
        self.nodes[send.name], self.nodes[recv.name] = send, recv
        return send, recv

    def _attrs(self, text: str) -> Attrs:
        items: dict[str, Attribute] = {}
        end = 0
        while end < len(text):
            match = _ITEM.match(text, end)
            if match is None or match[1] in items:
                raise ValueError(f"{text[end:]!r} are no attributes such as axis=1, keepdims=True")
            items[match[1]] = self._value(match[2])
            end = match.end()
        return Attrs(items)

    def _value(self, text: str) -> Attribute:
        if text not in self.values:
            self.values[text] = parse_attribute(text)
        return self.values[text]


def _complaint(line: str) -> str:
    """Which part of the line is the first that does not fit."""
    end = 0
    for what, pattern in _PARTS:
        match = re.compile(pattern).match(line, end)
        if match is None:
            return f"expected {what} at column {end + 1}, found {line[end : end + 40]!r}"
        end = match.end()
    return f"unexpected {line[end : end + 40]!r} at column {end + 1}"


def _ints(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(","))) if text else ()


def _pin(text: str) -> Pin:
    partitions: list[int] = []
    pieces: list[tuple[int, int]] = []
    inner: list[tuple[str, int]] = []
    for item in text.split(","):
        if item.startswith("@"):
            partitions.append(int(item[1:]))
            continue
        axis, colon, count = item.rpartition(":")
        if not colon:
            raise ValueError(f"{text!r} is no pin such as @0,@1,1:2,inputs:4")
        if axis.isdigit():
            pieces.append((int(axis), int(count)))
        else:
            inner.append((axis, int(count)))
    return Pin(tuple(partitions), tuple(pieces), tuple(inner))


def _cut(text: str) -> Cut:
    splits, at, partitions = text.rpartition("@")
    if not at or (splits and not (splits.startswith("[") and splits.endswith("]"))):
        raise ValueError(f"{text!r} is no cut such as [0,128][0,5,10]@0,1")
    bounds: Iterable[str] = splits[1:-1].split("][") if splits else ()
    return Cut(tuple(_ints(axis) for axis in bounds), _ints(partitions))


def _source(text: str) -> Source:
    if text[0] not in "'\"":
        return Source.parse(text)
    quoted, _, line = text.rpartition(":")
    file = parse_attribute(quoted)
    if not isinstance(file, str):
        raise ValueError(f"{text!r} is no source such as net.py:12")
    return Source(file, int(line))


def _result(line: str) -> Result:
    match = _RESULT.fullmatch(line)
    if match is None:
        raise ValueError(
            f"expected %name = op(…) or result KIND NAME [region] = %value, found {line[:40]!r}"
        )
    kind, name, region, value = match.groups()
    return Result(kind, name, Region.parse(region), value)
