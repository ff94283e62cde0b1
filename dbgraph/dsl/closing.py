"""What leaving a network's block does: penalties, the total loss, the last checks, the graph."""

from __future__ import annotations

from collections.abc import Iterable

from dbgraph.dsl.builder import TOTAL, Builder, Scope
from dbgraph.dsl.layers import parameters_behind
from dbgraph.dsl.records import Term
from dbgraph.dsl.symbol import Symbol
from dbgraph.errors import NetworkError
from dbgraph.ir.graph import Graph, Node, Result
from dbgraph.ir.region import Region
from dbgraph.source import Source


def close(builder: Builder) -> Graph:
    """The graph of what was declared.

    Raises:
        NetworkError: there is nothing to compute, or an input leads nowhere.
    """
    if not builder.terms and not builder.outputs:
        raise NetworkError(
            f"network {builder.name!r} has no loss and no output",
            at=builder.source,
            hint="say what to compute: dbg.loss(…) to train, dbg.output(name, …) to read a value",
        )
    values = [term.value for term, _ in builder.terms.values()]
    _check_read(builder, _behind(builder, [*values, *(s for s, _ in builder.outputs.values())]))
    terms = [term for term, _ in builder.terms.values()]
    if terms:
        terms += _penalty_terms(builder, _behind(builder, values))
    results = _loss_results(builder, terms)
    results += [_result("output", name, value) for name, (value, _) in builder.outputs.items()]
    return Graph(tuple(builder.nodes.values()), tuple(results)).live()


def _result(kind: str, name: str, value: Symbol) -> Result:
    return Result(kind, name, Region.whole(value.type.shape), value.name)


def _behind(builder: Builder, symbols: Iterable[Symbol]) -> set[str]:
    """All values that these are computed from, themselves included."""
    needed = {symbol.name for symbol in symbols}
    for node in reversed(builder.nodes.values()):
        if node.name in needed:
            needed.update(node.inputs)
    return needed


def _check_read(builder: Builder, needed: set[str]) -> None:
    read = {name for node in builder.nodes.values() for name in node.inputs}
    for node in builder.nodes.values():
        # Of the parameters only the user's own: a layer's are read if the layer is.
        own = node.op == "input" or (node.op == "parameter" and node.layer == node.name)
        if own and node.name not in needed:
            why = "leads to no loss and no output" if node.name in read else "is read by nothing"
            raise NetworkError(
                f"{node.op} {node.name!r} {why}", at=node.source, hint="use it, or take it out"
            )


def _loss_results(builder: Builder, terms: list[Term]) -> list[Result]:
    if not terms:
        return []
    if len(terms) == 1:
        total = terms[0].value
    else:
        with Scope(builder, f"{TOTAL}#total", "total", builder.source) as scope:
            total = scope.add("add_n", *(term.value for term in terms))
    found = [_result("loss", TOTAL, total)]
    if len(terms) > 1 or terms[0].named:
        found += [_result("term", term.name, term.value) for term in terms]
    return found


def _penalty_terms(builder: Builder, trained: set[str]) -> list[Term]:
    """One term per parameter and norm; what several layers and losses ask for adds up."""
    factors: dict[tuple[str, str], tuple[float, Source]] = {}
    for value, penalty in builder.penalties:
        if value not in trained:
            continue
        for norm, factor in (("l1", penalty.l1), ("l2", penalty.l2)):
            for name in _penalised(builder, value) if factor else ():
                before, source = factors.get((name, norm), (0.0, penalty.source))
                factors[name, norm] = before + factor, source
    return [
        _penalty(builder, name, norm, factor, source)
        for (name, norm), (factor, source) in sorted(factors.items())
    ]


def _penalised(builder: Builder, value: str) -> list[str]:
    """The parameter itself, or, of a loss, the weights that lead to it."""
    node = builder.nodes[value]
    if node.op == "parameter":
        return [value]
    symbol = Symbol(builder, value, node.type, batched=True)
    return sorted(parameters_behind(symbol) & builder.weights)


def _penalty(builder: Builder, name: str, norm: str, factor: float, source: Source) -> Term:
    """factor * sum |w| or factor * sum w², where the layer stands."""
    node = builder.nodes[name]
    builder.partitions = _partitions_of(builder, node)
    with Scope(builder, node.layer, "penalty", source, prefix=f"{name}/{norm}") as scope:
        weights = Symbol(builder, name, node.type, batched=False)
        each = scope.add("abs" if norm == "l1" else "square", weights)
        if node.type.rank:
            axes = tuple(range(node.type.rank))
            each = scope.add("sum", each, axes=axes, keepdims=False)
        value = scope.add("affine", each, scale=factor, shift=0.0)
    builder.partitions = ()
    return Term(f"{name}/{norm}", value, named=True)


def _partitions_of(builder: Builder, parameter: Node) -> tuple[int, ...]:
    for node in builder.nodes.values():
        if parameter.name in node.inputs:
            return node.pin.partitions
    return ()
