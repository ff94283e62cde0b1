"""What is declared inside a network's block: input, parameter, loss, output, partition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType

from dbgraph.dsl import checks
from dbgraph.dsl.builder import TOTAL, Builder, Scope, current
from dbgraph.dsl.initialisers import Init, resolve
from dbgraph.dsl.records import Term
from dbgraph.dsl.symbol import Symbol
from dbgraph.errors import NetworkError
from dbgraph.ir.types import TensorType
from dbgraph.source import caller


def input(name: str, shape: int | Sequence[int] = (), dtype: str | None = None) -> Symbol:
    """Declares an input.

    Args:
        name: of the input, for whoever feeds it.
        shape: of one example; () is a scalar per example.
        dtype: the network's by default; "int32" for labels and ids.

    Raises:
        NetworkError: the name is taken, or an argument is wrong.
    """
    builder = current(f"input {name!r}")
    checks.name(name, "the name of an input")
    lengths = checks.shape(shape, "the shape of an input")
    kind = builder.dtype if dtype is None else checks.dtype(dtype, "the dtype of an input")
    source = caller()
    builder.register(name, "input", source)
    return builder.leaf(name, "input", TensorType((builder.batch, *lengths), kind), source)


def parameter(name: str, shape: int | Sequence[int], init: Init = "glorot_uniform") -> Symbol:
    """Declares a parameter of its own, for arithmetic or for layers to share as their weights.

    Args:
        name: of the parameter.
        shape: of the whole parameter.
        init: an initialiser: "zeros", 0.1, ("normal", 0.0, 0.05), "he_normal" (fan in: all axes
            but the last; fan out: the last), …

    Raises:
        NetworkError: the name is taken, or an argument is wrong.
    """
    builder = current(f"parameter {name!r}")
    checks.name(name, "the name of a parameter")
    lengths = checks.shape(shape, "the shape of a parameter")
    type_ = TensorType(lengths, builder.dtype)
    fan_out = lengths[-1] if lengths else 1
    start = resolve(init, (max(type_.size // fan_out, 1), fan_out))
    source = caller()
    builder.register(name, "parameter", source)
    return builder.leaf(name, "parameter", type_, source, init=start)


def loss(symbol: Symbol, weight: float = 1.0, name: str | None = None) -> None:
    """Adds `weight` times the mean over the batch to what training makes smaller.

    Args:
        symbol: a scalar per example, such as `L.SoftmaxCrossEntropy()(scores, label)`.
        weight: of this loss among several.
        name: of the loss in reports; the layer's by default.

    Raises:
        NetworkError: the symbol is no scalar per example, or the name is taken.
    """
    builder = current("dbg.loss")
    source = caller()
    value = _value_of(symbol, builder, "dbg.loss")
    if value.shape or not value.batched:
        raise checks.fail(
            f"a loss is a scalar per example; {value.name} has the shape {value.shape}"
            + ("" if value.batched else " and no batch axis"),
            "a loss layer such as L.MeanSquaredError(), or .mean(), gives one",
        )
    if value.dtype != builder.dtype:
        raise checks.fail(
            f"a loss has the network's dtype, {builder.dtype}; {value.name} is {value.dtype}",
            f'.astype("{builder.dtype}")',
        )
    factor = checks.number(weight, "the weight of a loss")
    layer = builder.nodes[value.name].layer
    called = _taken_once(builder.terms, name, layer.replace("#", "."), "loss")
    with Scope(builder, layer, "loss", source, prefix=f"{TOTAL}#{called}") as scope:
        total = scope.add("sum", value, axes=(0,), keepdims=False, batched=False)
        mean = scope.add("affine", total, scale=factor / builder.batch, shift=0.0)
    builder.terms[called] = Term(called, mean, named=name is not None), source


def output(name: str, symbol: Symbol) -> None:
    """Names a value that leaves the network.

    Args:
        name: of the output; layers may have the same.
        symbol: the value.

    Raises:
        NetworkError: the name is taken by another output.
    """
    builder = current(f"output {name!r}")
    value = _value_of(symbol, builder, "dbg.output")
    called = _taken_once(builder.outputs, checks.name(name, "the name of an output"), "", "output")
    builder.outputs[called] = value, caller()


def _value_of(symbol: object, builder: Builder, what: str) -> Symbol:
    if not isinstance(symbol, Symbol):
        raise checks.fail(f"{what} takes a symbol of the network, not {type(symbol).__name__}")
    builder.check_own(symbol)
    return symbol


def _taken_once(
    known: Mapping[str, tuple[object, object]], name: str | None, default: str, what: str
) -> str:
    """The user's name, which must be free, or the default with a number where it is not."""
    if name is None:
        free, count = default, 1
        while free in known:
            count += 1
            free = f"{default}.{count}"
        return free
    checks.name(name, f"the name of a {what}")
    if name in known:
        raise NetworkError(
            f"the {what} {name!r} is declared twice: first at {known[name][1]}",
            at=caller(),
            hint="give this one another name",
        )
    return name


class partition:  # reads as a statement: `with dbg.partition(3):`
    """Places the layers that are declared inside, by hand.

    Args:
        ids: the partitions, counted from 0; several where the layers are cut among them.

    Raises:
        NetworkError: an id is negative or there twice.
    """

    def __init__(self, *ids: int) -> None:
        self.builder = current("dbg.partition")
        if not ids:
            raise checks.fail("dbg.partition takes at least one partition", "dbg.partition(0)")
        self.ids = tuple(checks.index(i, "a partition", least=0) for i in ids)
        if len(set(self.ids)) < len(self.ids):
            raise checks.fail(f"dbg.partition{self.ids} names a partition twice")

    def __enter__(self) -> None:
        self.outer, self.builder.partitions = self.builder.partitions, self.ids

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.builder.partitions = self.outer
