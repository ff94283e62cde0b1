"""What a layer is: an object that, called on symbols, adds nodes to the network."""

from __future__ import annotations

from typing import ClassVar, TypedDict, Unpack

from dbgraph.dsl import checks
from dbgraph.dsl.builder import Scope, current
from dbgraph.dsl.initialisers import Init, resolve
from dbgraph.dsl.records import Penalty
from dbgraph.dsl.symbol import Symbol
from dbgraph.ir.types import Attribute
from dbgraph.source import caller


class Common(TypedDict, total=False):
    """What every layer takes.

    name: of the layer; `dense1`, `dense2`, … by default.
    cut: axis name → pieces, such as {"rows": 2, "cols": 2} or {"units": 4}; uneven is allowed.
    """

    name: str | None
    cut: dict[str, int] | None


class Trained(Common, total=False):
    """What every layer with weights takes, beside what all take.

    weights_init: an initialiser: "he_normal", ("uniform", -0.05, 0.05), 0.1, …
    biases_init: the same for the biases; zeros by default.
    l1: adds l1 * sum |w| over the layer's weights to the loss.
    l2: adds l2 * sum w² over the layer's weights to the loss.
    weights: a symbol to use as weights: `dbg.parameter(…)`, or another layer's `.weights`.
    """

    weights_init: Init | None
    biases_init: Init | None
    l1: float
    l2: float
    weights: Symbol | None


class Layer:
    """Base of all layers. Calling one object again shares its parameters."""

    arity: ClassVar[int | None] = 1
    """How many symbols it takes; None: one or more."""

    def __init__(self, **common: Unpack[Common]) -> None:
        unknown = set(common) - {"name", "cut"}
        if unknown:
            raise TypeError(f"{self.kind} takes no argument {sorted(unknown)[0]!r}")
        name = common.get("name")
        self.name = None if name is None else checks.name(name, "the name of a layer")
        self.cut = checks.cut(common.get("cut"))

    @property
    def kind(self) -> str:
        return type(self).__name__

    def __call__(self, *symbols: Symbol | list[Symbol] | tuple[Symbol, ...]) -> Symbol:
        """Adds the layer to the network.

        Raises:
            NetworkError: the symbols do not fit, or no network is open.
        """
        builder = current(f"layer {self.kind}")
        source = caller()
        inputs = self._inputs(symbols)
        for symbol in inputs:
            builder.check_own(symbol)
        name = builder.layer_name(self, self.kind, self.name, source)
        with Scope(builder, name, self.kind, source, self.cut, self) as scope:
            return scope.done(self.build(scope, *inputs))

    def build(self, scope: Scope, *inputs: Symbol) -> Symbol:
        """Adds the layer's nodes; returns its value."""
        raise NotImplementedError

    def _inputs(
        self, symbols: tuple[Symbol | list[Symbol] | tuple[Symbol, ...], ...]
    ) -> tuple[Symbol, ...]:
        flat: list[Symbol] = []
        for one in symbols:
            flat += one if isinstance(one, list | tuple) else [one]
        for symbol in flat:
            if not isinstance(symbol, Symbol):
                raise checks.fail(
                    f"{self.kind} takes symbols of the network, not {type(symbol).__name__}",
                    "declare data with dbg.input(…)",
                )
        if self.arity is None and not flat:
            raise checks.fail(f"{self.kind} takes at least 1 symbol, not 0")
        if self.arity is not None and len(flat) != self.arity:
            raise checks.fail(f"{self.kind} takes {self.arity} symbol(s), not {len(flat)}")
        return tuple(flat)

    def need_rank(self, symbol: Symbol, rank: int, axes: str) -> tuple[int, ...]:
        """The symbol's shape, which must have so many axes."""
        if len(symbol.shape) != rank or not symbol.batched:
            raise checks.fail(
                f"{self.kind} takes a value with the axes {axes} per example; "
                f"{symbol.name} has the shape {symbol.shape}",
                "L.Reshape gives it another shape",
            )
        return symbol.shape


class TrainedLayer(Layer):
    """Base of the layers that have weights."""

    def __init__(self, **common: Unpack[Trained]) -> None:
        super().__init__(**{k: v for k, v in common.items() if k in ("name", "cut")})  # type: ignore[arg-type]
        unknown = set(common) - set(Trained.__annotations__) - set(Common.__annotations__)
        if unknown:
            raise TypeError(f"{self.kind} takes no argument {sorted(unknown)[0]!r}")
        self.weights_init = common.get("weights_init")
        self.biases_init = common.get("biases_init")
        for init in (self.weights_init, self.biases_init):
            if init is not None:
                resolve(init, fans=(1, 1))  # a wrong one is reported here, not when it is called
        self.l1 = checks.at_least_zero(common.get("l1", 0.0), "l1")
        self.l2 = checks.at_least_zero(common.get("l2", 0.0), "l2")
        self.given = common.get("weights")
        if self.given is not None and not isinstance(self.given, Symbol):
            raise checks.fail(
                f"weights must be a symbol, not {type(self.given).__name__}",
                "such as dbg.parameter(…), or another layer's .weights",
            )

    @property
    def weights(self) -> Symbol:
        """The layer's weights, for another layer to share. Raises NetworkError before a call."""
        builder = current(f"the weights of layer {self.kind}")
        known = builder.owned.get((id(self), "weights"))
        if known is None:
            raise checks.fail(f"this {self.kind} has no weights yet", "call it first")
        return known[0]

    def add_weights(
        self, scope: Scope, shape: tuple[int, ...], fans: tuple[int, int], default: Init
    ) -> Symbol:
        """The weights, and their penalty on first use.

        Args:
            scope: the layer that is being built.
            shape: of the weights.
            fans: how many inputs each output reads, and how many outputs read each input.
            default: the initialiser, unless the user said one.
        """
        again = (id(self), "weights") in scope.builder.owned
        if self.given is None:
            init = default if self.weights_init is None else self.weights_init
            weights = scope.parameter("weights", shape, init, fans)
        else:
            weights = self._tied(scope, shape)
        if not again:
            penalise(scope, weights, self.l1, self.l2)
        return weights

    def add_biases(self, scope: Scope, shape: tuple[int, ...]) -> Symbol:
        init: Init = "zeros" if self.biases_init is None else self.biases_init
        return scope.parameter("biases", shape, init, (1, 1))

    def _tied(self, scope: Scope, shape: tuple[int, ...]) -> Symbol:
        weights = self.given
        assert weights is not None  # the caller has looked
        scope.builder.check_own(weights)
        if weights.batched or weights.shape != shape:
            raise checks.fail(
                f"{self.kind} {scope.name!r} needs weights of shape {shape}; "
                f"{weights.name} has {weights.shape}"
            )
        scope.own("weights", weights)
        scope.builder.weights |= parameters_behind(weights)
        return weights


def penalise(scope: Scope, weights: Symbol, l1: float, l2: float) -> None:
    """Notes that a value is a layer's weights, with its penalty."""
    names = parameters_behind(weights)
    scope.builder.weights |= names
    if l1 or l2:
        penalty = Penalty(l1, l2, scope.source)
        scope.builder.penalties += [(name, penalty) for name in sorted(names)]


def parameters_behind(symbol: Symbol) -> set[str]:
    """The parameters that a value is computed from."""
    nodes = symbol.builder.nodes
    found, open_ = {symbol.name}, [symbol.name]
    while open_:
        for name in nodes[open_.pop()].inputs:
            if name not in found:
                found.add(name)
                open_.append(name)
    return {name for name in found if nodes[name].op == "parameter"}


_POINTWISE: dict[str, dict[str, Attribute]] = {
    "relu": {},
    "sigmoid": {},
    "tanh": {},
    "gelu": {},
    "softplus": {},
    "silu": {},
    "elu": {},
    "leaky_relu": {"slope": 0.01},
    "exp": {},
    "log": {},
    "sqrt": {},
    "square": {},
    "abs": {},
}
_RECTIFYING = ("relu", "gelu", "silu", "elu", "leaky_relu")
ACTIVATIONS = ("linear", "softmax", *_POINTWISE)
"""What `activation=` and `L.Activation` understand. Softmax is over the last axis."""


def check_activation(value: object) -> str:
    if value is None:
        return "linear"
    if isinstance(value, str) and value in ACTIVATIONS:
        return value
    raise checks.fail(f"there is no activation {value!r}", checks.suggest(value, ACTIVATIONS))


def activate(scope: Scope, x: Symbol, activation: str) -> Symbol:
    """The activation of a value."""
    if activation == "linear":
        return x
    x.need_float(f"activation {activation!r}")
    if activation == "softmax":
        return softmax(scope, x)
    return scope.add(activation, x, attrs=_POINTWISE[activation])


def softmax(scope: Scope, x: Symbol) -> Symbol:
    """exp(x - log sum exp x) over the last axis."""
    if not x.shape:
        raise checks.fail(f"softmax needs an axis; {x.name} is a scalar per example")
    axes = (x.type.rank - 1,)
    total = scope.add("logsumexp", x, inner={"classes": f"axis{axes[0]}"}, axes=axes, keepdims=True)
    return scope.add("exp", x - total)


def default_init(activation: str) -> Init:
    """He's for rectifying activations, else Glorot's."""
    return "he_normal" if activation in _RECTIFYING else "glorot_uniform"
