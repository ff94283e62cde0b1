"""The network while it is declared: names, nodes, parameters, and the layer that adds them."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from types import TracebackType

from dbgraph.dsl import checks, pins
from dbgraph.dsl.initialisers import resolve
from dbgraph.dsl.records import LayerInfo, Penalty, Term
from dbgraph.dsl.symbol import Symbol
from dbgraph.errors import NetworkError
from dbgraph.ir.graph import Node, Pin
from dbgraph.ir.types import NO_ATTRS, Attribute, Attrs, TensorType
from dbgraph.ops import OPS
from dbgraph.ops.schema import OpError
from dbgraph.source import Source, caller

CLOCK = "clock"
TOTAL = "loss"


@dataclass(eq=False)
class Builder:
    """What has been declared so far. Only `Network` makes one."""

    name: str
    batch: int
    seed: int
    dtype: str
    source: Source
    nodes: dict[str, Node] = field(default_factory=dict)
    names: dict[str, tuple[str, Source]] = field(default_factory=dict)
    layers: dict[str, LayerInfo] = field(default_factory=dict)
    terms: dict[str, tuple[Term, Source]] = field(default_factory=dict)
    outputs: dict[str, tuple[Symbol, Source]] = field(default_factory=dict)
    weights: set[str] = field(default_factory=set)
    """The parameters that a loss layer's penalty means."""
    penalties: list[tuple[str, Penalty]] = field(default_factory=list)
    """(parameter, penalty) of layers, and (value of a loss layer, penalty) of losses."""
    partitions: tuple[int, ...] = ()
    scope: Scope | None = None
    closed: bool = False
    # By identity of the layer object, which is kept so that its id stays its own.
    uses: dict[int, tuple[object, str, int]] = field(default_factory=dict)
    # All smaller numbers of a kind are taken: names are never given back.
    tried: dict[str, int] = field(default_factory=dict)
    owned: dict[tuple[int, str], tuple[Symbol, Source]] = field(default_factory=dict)

    def register(self, name: str, what: str, source: Source) -> str:
        """Takes a name for good. Raises NetworkError where it is taken."""
        if name in self.names:
            kind, first = self.names[name]
            raise NetworkError(
                f"the name {name!r} is used twice: first for the {kind} at {first}",
                at=source,
                hint="give this one another name",
            )
        self.names[name] = (what, source)
        return name

    def fresh(self, kind: str) -> str:
        """The first name of `dense1`, `dense2`, … that is free."""
        count = self.tried.get(kind, 1)
        while f"{kind}{count}" in self.names:
            count += 1
        self.tried[kind] = count
        return f"{kind}{count}"

    def layer_name(self, layer: object, kind: str, name: str | None, source: Source) -> str:
        """The name of this use of a layer: `dense1`, and `dense1#2` when it is called again."""
        if id(layer) in self.uses:
            _, first, count = self.uses[id(layer)]
            self.uses[id(layer)] = (layer, first, count + 1)
            return f"{first}#{count + 1}"
        taken = self.register(name or self.fresh(kind.lower()), f"{kind} layer", source)
        self.uses[id(layer)] = (layer, taken, 1)
        return taken

    def emit(self, op: str, *inputs: Symbol, **attrs: Attribute) -> Symbol:
        """One op of a symbol's own: part of the layer being built, or a small layer by itself."""
        if self.scope is not None:
            return self.scope.add(op, *inputs, attrs=attrs)
        source = caller()
        name = self.register(self.fresh(op), op, source)
        with Scope(self, name, op, source) as scope:
            return scope.done(scope.add(op, *inputs, attrs=attrs))

    def leaf(
        self,
        name: str,
        op: str,
        type_: TensorType,
        source: Source,
        layer: str = "",
        **more: Attribute,
    ) -> Symbol:
        """An input or a parameter."""
        attrs = Attrs(of=name, start=(0,) * type_.rank, shape=type_.shape, dtype=type_.dtype)
        self.nodes[name] = Node(
            name, op, (), type_, attrs.having(**more), layer=layer or name, source=source
        )
        return Symbol(self, name, type_, batched=op == "input")

    def clock(self) -> Symbol:
        """The one leaf that tells the step."""
        if CLOCK not in self.nodes:
            type_ = OPS["clock"].infer(Attrs(), ())
            self.nodes[CLOCK] = Node(CLOCK, "clock", (), type_, source=caller())
        return Symbol(self, CLOCK, self.nodes[CLOCK].type, batched=False)

    def check_open(self) -> None:
        if self.closed:
            raise checks.fail(
                f"network {self.name!r} is complete; nothing can be added to it",
                "declare inside its `with` block",
            )

    def check_own(self, symbol: Symbol) -> None:
        """Raises NetworkError where the symbol is none of this network."""
        if symbol.builder is not self:
            raise checks.fail(
                f"{symbol.name} belongs to network {symbol.builder.name!r}, not to {self.name!r}"
            )


class Scope:
    """The layer that is being built: a context in which its nodes are added."""

    def __init__(
        self,
        builder: Builder,
        name: str,
        kind: str,
        source: Source,
        cut: Mapping[str, int] | None = None,
        layer: object = None,
        prefix: str | None = None,
    ) -> None:
        self.builder, self.name, self.kind, self.source = builder, name, kind, source
        self.cut, self.layer = cut or {}, layer
        self.prefix = name if prefix is None else prefix
        self.added: list[str] = []
        self.inner: dict[str, Mapping[str, str]] = {}

    def __enter__(self) -> Scope:
        self.builder.check_open()
        self.outer, self.builder.scope = self.builder.scope, self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.builder.scope = self.outer
        if error is None:
            self._pin()

    def add(
        self,
        op: str,
        *inputs: Symbol,
        label: str = "",
        batched: bool | None = None,
        inner: Mapping[str, str] | None = None,
        attrs: Mapping[str, Attribute] = NO_ATTRS,
        **more: Attribute,
    ) -> Symbol:
        """One node of the layer.

        Args:
            op: a key of OPS.
            inputs: of the op.
            label: what to call it after the layer's name; the op by default.
            batched: whether axis 0 of the value is the batch; by default where an input's is.
            inner: what `cut=` calls the op's reduced axes here, where that is not their own name.
            attrs: of the op.
            more: attributes too.
        """
        for symbol in inputs:
            self.builder.check_own(symbol)
        frozen = Attrs(attrs, **more)
        type_ = self._infer(op, frozen, inputs)
        name = self._value_name(label or op)
        names = tuple(symbol.name for symbol in inputs)
        self.builder.nodes[name] = Node(
            name, op, names, type_, frozen, layer=self.name, source=self.source
        )
        self.added.append(name)
        if inner:
            self.inner[name] = inner
        if batched is None:
            batched = any(symbol.batched for symbol in inputs)
        return Symbol(self.builder, name, type_, batched)

    def fill(self, value: float, shape: tuple[int, ...], dtype: str) -> Symbol:
        """A constant."""
        return self.add("fill", batched=False, value=value, shape=shape, dtype=dtype)

    def parameter(
        self, role: str, shape: tuple[int, ...], init: object, fans: tuple[int, int]
    ) -> Symbol:
        """The layer's parameter of a role, made on its first use."""
        known = self.builder.owned.get((id(self.layer), role))
        name = f"{self.name.partition('#')[0]}/{role}"
        if known is None:
            type_ = TensorType(shape, self.builder.dtype)
            symbol = self.builder.leaf(
                name, "parameter", type_, self.source, self.name, init=resolve(init, fans)
            )
            self.own(role, symbol)
            return symbol
        symbol, first = known
        if symbol.shape != shape:
            raise NetworkError(
                f"layer {self.name.partition('#')[0]!r} was first called at {first}, where its "
                f"{role} took the shape {symbol.shape}; this input needs {shape}",
                at=self.source,
                hint="a layer that is called again must get inputs of the same shape; "
                "make a second layer otherwise",
            )
        return symbol

    def own(self, role: str, symbol: Symbol) -> None:
        """Notes what a role of the layer is."""
        self.builder.owned.setdefault((id(self.layer), role), (symbol, self.source))

    def done(self, output: Symbol) -> Symbol:
        """Notes the layer's value."""
        self.builder.layers[self.name] = LayerInfo(
            self.name, self.kind, output.name, output.shape, self.source
        )
        return output

    def _value_name(self, label: str) -> str:
        name, count = f"{self.prefix}/{label}", 1
        while name in self.builder.nodes:
            count += 1
            name = f"{self.prefix}/{label}{count}"
        return name

    def _infer(self, op: str, attrs: Attrs, inputs: tuple[Symbol, ...]) -> TensorType:
        try:
            return OPS[op].infer(attrs, tuple(symbol.type for symbol in inputs))
        except OpError as error:
            given = ", ".join(f"{s.name} is {s.dtype}{list(s.shape)} per example" for s in inputs)
            raise NetworkError(
                f"{self.kind} {self.name!r}: {error}", at=self.source, hint=given
            ) from error

    def _pin(self) -> None:
        """Fixes what the user fixed, on the nodes that it concerns."""
        nodes = [self.builder.nodes[name] for name in self.added]
        computed = [node for node in nodes if node.inputs]
        found = pins.resolve(self.cut, computed, self.builder.nodes, self.inner, self.source)
        for node in computed:
            pieces, inner = found.get(node.name, ((), ()))
            pin = Pin(self.builder.partitions, pieces, inner)
            self.builder.nodes[node.name] = replace(node, pin=pin)


_CURRENT: ContextVar[Builder | None] = ContextVar("network", default=None)


def current(what: str) -> Builder:
    """The network whose `with` block is open. Raises NetworkError where none is."""
    builder = _CURRENT.get()
    if builder is None:
        raise checks.fail(
            f"{what} is outside of a network", "declare it inside `with dbg.Network(…) as net:`"
        )
    builder.check_open()
    return builder


def enter(builder: Builder | None) -> Builder | None:
    """Makes a network the current one; returns the one before."""
    before = _CURRENT.get()
    _CURRENT.set(builder)
    return before
