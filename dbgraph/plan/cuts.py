"""The section `cuts` of a plan's file: how each node is cut and where its tiles stand, as text
that people can edit; `dbgraph compile --from PLAN` then makes the plan anew.

    hidden1/add hidden1/relu: batch 128, units 0|64|128 -> 0 1
    hidden2/contract: inner inputs 0|64|128; parts batch 128, units 10 -> 0 1; \
combined batch 128, units 10 -> 0
    error/affine: scalar -> 0

A line is for one node, or for several of a layer that are cut alike. It names each axis as `cut=`
does, with the bounds of its ranges, or its length where it is whole; `units 128/2` is read as two
even ranges. After the arrow stand the partitions of the tiles, the last axis running fastest;
`0-3` is `0 1 2 3`. Where reduced axes are cut (`inner`), `parts` are the partial results, one for
each cell of the inner grid, row-major, and `combined` is their combination.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, pairwise
from math import prod

from dbgraph.errors import PlanError
from dbgraph.ir.graph import Cut, Graph, Node
from dbgraph.ir.region import even_splits
from dbgraph.ir.types import Types
from dbgraph.ops import op
from dbgraph.ops.axes import axis_names
from dbgraph.ops.schema import Reduction
from dbgraph.plan.choice import Choice, Choices, InnerCut
from dbgraph.suggest import did_you_mean

_SCALAR = "scalar"
_EXPECTED = "NODE …: AXIS BOUNDS, … -> PARTITION …"
SUCH_AS = "a line is such as: hidden/add: batch 128, units 0|64|128 -> 0 1"
"""The hint for one that is wrong."""
_BOUNDS = re.compile(r"[0-9]++(?:(?:\|[0-9]++)++|/[0-9]++)?")
_PLACES = re.compile(r"([0-9]++)(?:-([0-9]++))?")
# So many partitions in a row are written out, and so easily edited one by one.
_LONG = 8
# A slip of the hand in a shorthand (`128/2`, `0-3`) must not fill the memory.
_MOST = 2**20


def names_of_axes(shape: tuple[int, ...], batch: int) -> list[str]:
    """What `cut=` calls the axes of a value; those of one without a batch have numbers."""
    found: dict[int, str] = {}
    if shape[:1] == (batch,):
        for name, axis in axis_names(len(shape)).items():
            found.setdefault(axis, name)
    return [found.get(axis, f"axis{axis}") for axis in range(len(shape))]


def name_of_reduction(types: Types, reduction: Reduction, batch: int) -> str:
    """What `cut=` calls a reduced axis: its own name, or that of the axis of the input.

    Args:
        types: of the node's inputs.
    """
    index, axis = reduction.axes[0]
    if reduction.name != f"axis{axis}":
        return reduction.name
    return names_of_axes(types[index].shape, batch)[axis]


# Printing


def print_cuts(cuts: Choices, network: Graph, batch: int) -> str:
    """The lines; `parse_cuts` is the inverse."""
    lines: dict[tuple[str, str], list[str]] = {}
    for name, choice in cuts.items():
        node = network.by_name.get(name)
        key = (node.layer if node else "", _choice_text(choice, network, node, batch))
        lines.setdefault(key, []).append(name)
    return "\n".join(f"{' '.join(names)}: {text}" for (_, text), names in lines.items())


def _choice_text(choice: Choice, network: Graph, node: Node | None, batch: int) -> str:
    """Args: node: None for one that the `microbatch` pass made."""
    cut, inner = choice.cut, choice.inner
    axes = names_of_axes(node.type.shape if node else (), batch) or [
        f"axis{axis}" for axis in range(len(cut.splits))
    ]
    whole = _box_text(axes, cut.splits, cut.partitions)
    if inner is None:
        return whole
    assert node is not None  # what `microbatch` adds reduces nothing
    types = network.input_types(node)
    names = [name_of_reduction(types, r, batch) for r in inner.reductions]
    parts = [
        f"parts {_box_text(axes, splits, [p for cut in cuts for p in cut.partitions])}"
        for splits, cuts in groupby(inner.partials, key=lambda cut: cut.splits)
    ]
    return "; ".join([f"inner {_axes_text(names, inner.splits)}", *parts, f"combined {whole}"])


def _box_text(
    names: Sequence[str], splits: Sequence[tuple[int, ...]], partitions: Sequence[int]
) -> str:
    return f"{_axes_text(names, splits) or _SCALAR} -> {_places_text(partitions)}"


def _axes_text(names: Sequence[str], splits: Sequence[tuple[int, ...]]) -> str:
    return ", ".join(
        f"{name} {'|'.join(map(str, bounds if len(bounds) > 2 else bounds[-1:]))}"
        for name, bounds in zip(names, splits, strict=True)
    )


def _places_text(partitions: Sequence[int]) -> str:
    """Many in a row as `first-last`."""
    spans: list[list[int]] = []
    for p in partitions:
        if spans and p == spans[-1][1] + 1:
            spans[-1][1] = p
        else:
            spans.append([p, p])
    return " ".join(
        f"{a}-{b}" if b - a >= _LONG else " ".join(map(str, range(a, b + 1))) for a, b in spans
    )


# Parsing


def parse_cuts(
    lines: Iterable[str], network: Graph, batch: int, *, first_line: int = 1
) -> dict[str, Choice]:
    """The inverse of `print_cuts`. Empty lines and lines that begin with `#` are passed over.

    That a cut fits its node is checked where the plan is made anew, in the graph of a microbatch.

    Raises:
        PlanError: a line does not parse; the error names it.
    """
    found: dict[str, Choice] = {}
    for number, line in enumerate(map(str.strip, lines), first_line):
        try:
            for name in names_in(line):
                if name in found:
                    raise ValueError(f"{name} has a line already; each node has one")
                found[name] = _choice(line.rpartition(": ")[2], name, network, batch)
        except ValueError as error:
            raise PlanError(f"line {number}: cuts: {error}", hint=SUCH_AS) from None
    return found


def names_in(line: str) -> list[str]:
    """The nodes that a line is for. Raises ValueError."""
    if not line or line.startswith("#"):
        return []
    names, colon, _ = line.rpartition(": ")
    if not colon or not names.split():
        raise ValueError(f"expected {_EXPECTED!r}, found {line[:60]!r}")
    return names.split()


def _choice(text: str, name: str, network: Graph, batch: int) -> Choice:
    if not text.startswith("inner "):
        return Choice(_cut(text))
    node = network.by_name.get(name)
    if node is None:
        near = did_you_mean(name, network.by_name)
        raise ValueError(f"the network has no node {name!r} with an axis to reduce; {near}")
    inner, *parts = text.split("; ")
    if len(parts) < 2 or not parts[-1].startswith("combined "):
        raise ValueError("after 'inner …' come '; parts …' and '; combined …'")
    combined = parts.pop()
    reductions, splits = _inner(inner.removeprefix("inner "), network, node, batch)
    cells = prod(len(bounds) - 1 for bounds in splits)
    partials = tuple(cut for part in parts for cut in _partials(part))
    if len(partials) != cells:
        raise ValueError(f"the inner axes make {cells} cells, the parts are {len(partials)}")
    cut = _cut(combined.removeprefix("combined "))
    return Choice(cut, InnerCut(reductions, splits, partials))


def _inner(
    text: str, network: Graph, node: Node, batch: int
) -> tuple[tuple[Reduction, ...], tuple[tuple[int, ...], ...]]:
    types = network.input_types(node)
    known = {
        name_of_reduction(types, reduction, batch): reduction
        for reduction in op(node.op).reductions(node.attrs, types)
    }
    named = [_axis(item) for item in text.split(", ")]
    for name, _ in named:
        if name not in known:
            near = did_you_mean(name, known) or f"it has: {', '.join(known) or 'none'}"
            raise ValueError(f"{node.op} %{node.name} has no reduced axis {name!r}; {near}")
    if len({name for name, _ in named}) < len(named):
        raise ValueError("a reduced axis is named twice")
    return tuple(known[name] for name, _ in named), tuple(bounds for _, bounds in named)


def _partials(text: str) -> Iterator[Cut]:
    """One cut for each cell that a `parts …` holds."""
    if not text.startswith("parts "):
        raise ValueError(f"expected 'parts …', found {text[:60]!r}")
    splits, partitions = _box(text.removeprefix("parts "))
    tiles = prod(len(bounds) - 1 for bounds in splits)
    if len(partitions) % tiles:
        raise ValueError(
            f"a part has {tiles} tiles, which does not divide {len(partitions)} partitions"
        )
    for k in range(0, len(partitions), tiles):
        yield Cut(splits, partitions[k : k + tiles])


def _cut(text: str) -> Cut:
    splits, partitions = _box(text)
    tiles = prod(len(bounds) - 1 for bounds in splits)
    if len(partitions) != tiles:
        raise ValueError(
            f"the axes make {tiles} tiles, but {len(partitions)} partitions are named; "
            "name one for each tile, the last axis running fastest"
        )
    return Cut(splits, partitions)


def _box(text: str) -> tuple[tuple[tuple[int, ...], ...], tuple[int, ...]]:
    axes, arrow, places = text.rpartition(" -> ")
    if not arrow:
        raise ValueError(f"expected 'AXIS BOUNDS, … -> PARTITION …', found {text[:60]!r}")
    named = [] if axes == _SCALAR else [_axis(item) for item in axes.split(", ")]
    for position, (name, _) in enumerate(named):
        known = [n for n, axis in axis_names(len(named)).items() if axis == position]
        if name not in (*known, f"axis{position}"):
            raise ValueError(
                f"axis {position} of {len(named)} is called {' or '.join(known)}, not {name!r}; "
                "all axes are named, in order"
            )
    return tuple(bounds for _, bounds in named), _places(places)


def _axis(text: str) -> tuple[str, tuple[int, ...]]:
    name, _, bounds = text.partition(" ")
    if not _BOUNDS.fullmatch(bounds):
        raise ValueError(f"expected an axis such as 'units 128' or 'units 0|64|128', not {text!r}")
    if "/" in bounds:
        length, pieces = map(int, bounds.split("/"))
        if not 1 <= pieces <= min(length, _MOST):
            raise ValueError(f"{name} has {length} elements and can't be cut into {pieces} pieces")
        return name, even_splits(length, pieces)
    found = tuple(map(int, bounds.split("|")))
    found = found if len(found) > 1 else (0, *found)
    if found[0] != 0 or any(a >= b for a, b in pairwise(found)):
        raise ValueError(f"the bounds of {name} must rise from 0; they are {bounds}")
    return name, found


def _places(text: str) -> tuple[int, ...]:
    found: list[int] = []
    for item in text.split():
        match = _PLACES.fullmatch(item)
        if match is None:
            raise ValueError(f"{item!r} is no partition such as 2, or several such as 0-3")
        first, last = int(match[1]), int(match[2] or match[1])
        if not first <= last < _MOST:
            raise ValueError(f"there are no partitions {item}")
        found += range(first, last + 1)
    return tuple(found)


def line_of(text: str, node: str) -> int:
    """The number of the line of a plan's file that is for a node; of the section's head where
    none is."""
    lines = text.split("\n")
    head = lines.index("cuts {")
    for number, line in enumerate(lines[head + 1 :], head + 2):
        if line == "}":
            break
        if node in names_in(line.strip()):
            return number
    return head + 1
