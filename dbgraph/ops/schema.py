"""What an op states of itself; everything that a pass knows of an op stands here.

A rule that is missing is an error, never zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dbgraph.ir.region import Region
from dbgraph.ir.types import NO_ATTRS, Attrs, TensorType, Types


class OpError(Exception):
    """An op's rule is broken; whoever knows the user's line turns it into a NetworkError."""


@dataclass(frozen=True, slots=True)
class Reduction:
    """An axis that the op reduces away, and that may be cut into partial results.

    Attributes:
        name: what `cut=` calls it: "inputs", "classes", …
        axes: (input, axis of that input) along which all these inputs are sliced together.
    """

    name: str
    axes: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Transposed:
    """The derivative by one input of an op that moves elements: an op on the cotangent alone.

    Attributes:
        op: its name; empty: the cotangent itself.
    """

    op: str = ""
    attrs: Attrs = NO_ATTRS


Infer = Callable[[Attrs, Types], TensorType]
Reads = Callable[[Attrs, Types, Region], tuple[Region, ...]]
CutAxes = Callable[[Attrs, Types], tuple[int, ...]]
Flops = Callable[[Attrs, Types, TensorType], int]
Localize = Callable[[Attrs, Types, Region], Attrs]
Reductions = Callable[[Attrs, Types], tuple[Reduction, ...]]
Partial = Callable[[Attrs, Reduction, tuple[int, int]], Attrs]
Needs = Callable[[int, int], tuple[int, ...]]
Loops = Callable[[Attrs], bool]
Transposes = Callable[[Attrs, Types], tuple[Transposed | None, ...]]


def unchanged(attrs: Attrs, types: Types, region: Region) -> Attrs:
    return attrs


def no_reductions(attrs: Attrs, types: Types) -> tuple[Reduction, ...]:
    return ()


def same_partial(attrs: Attrs, reduction: Reduction, bounds: tuple[int, int]) -> Attrs:
    return attrs


def no_transposes(attrs: Attrs, types: Types) -> tuple[Transposed | None, ...]:
    return ()


POINTWISE = "pointwise"
"""The kind of ops that a compiler joins with their neighbours into one loop: what is calculated
and read at once need not be written in between."""


UPDATE = "update"
"""The kind of what a rule does with parameters and gradients, which is no op."""


@dataclass(frozen=True, slots=True)
class Kinds:
    """Of work, by which a machine's measured rates are found (`MachineSpec.kinds`).

    Attributes:
        of: which it is, by the attributes.
        names: all that it may be; for a derivative see `ops.kinds`.
    """

    of: Callable[[Attrs], str]
    names: tuple[str, ...] = ()


def work(kind: str) -> Kinds:
    """One kind, whatever the attributes."""
    return Kinds(lambda attrs: kind, (kind,))


_LOOP = work(POINTWISE)


def no_scratch(attrs: Attrs, types: Types, out: TensorType) -> int:
    return 0


def never(attrs: Attrs) -> bool:
    return False


def needs_all(wrt: int, inputs: int) -> tuple[int, ...]:
    return tuple(range(inputs))


def needs_none(wrt: int, inputs: int) -> tuple[int, ...]:
    """For ops that are linear: the derivative does not depend on the inputs' values."""
    return ()


def needs_others(wrt: int, inputs: int) -> tuple[int, ...]:
    """For products: the derivative by one factor needs the other ones."""
    return tuple(i for i in range(inputs) if i != wrt)


@dataclass(frozen=True, slots=True)
class OpDef:
    """One op.

    Attributes:
        name: key in OPS, KERNELS and REFERENCES.
        doc: what it computes, with shapes.
        infer: the type of the output; raises OpError where the inputs do not fit.
        reads: for a region of the output, the region of each input that it depends on.
        cut_axes: the axes of the output along which it may be cut.
        flops: floating point operations of the whole node; a tile is a node too.
        localize: the attributes of the tile that computes a region of the output from the
            regions that `reads` names, such as a window's padding, which only a border has.
        reductions: the reduced axes that may be cut; `combine` joins the partial results.
        partial: the attributes of the partial result over a range of a reduced axis.
        combine: the n-ary op that joins partial results; empty where nothing may be cut.
        vjp_needs: (wrt, number of inputs) → the inputs whose values the vector-Jacobian product
            by input `wrt` needs; it always needs their types.
        transposes: for each input the derivative as an op on the cotangent alone, where it is that
            simple, else None; () where it never is. An op with an input for every partition needs
            it, since a vjp names the types of all inputs: that would take their number squared.
        dynamic: attributes (ints or tuples of ints) that the kernel takes as run-time arrays, so
            that tiles which differ only in them share one compilation.
        differentiable: False where no derivative flows back (argmax, a mask).
        kinds: of work, one of which a node is.
        scratch_bytes: of intermediate values that its kernel writes and reads again.
        workspace_bytes: that its kernel holds at once, besides inputs and output.
        loops: whether its kernel fills its output step by step.
        view: True where the value only renames parts of its inputs (slice, concat): such a node
            is resolved away when its readers are tiled.
    """

    name: str
    doc: str
    infer: Infer
    reads: Reads
    cut_axes: CutAxes
    flops: Flops
    localize: Localize = unchanged
    reductions: Reductions = no_reductions
    partial: Partial = same_partial
    combine: str = ""
    vjp_needs: Needs = needs_all
    transposes: Transposes = no_transposes
    dynamic: tuple[str, ...] = ()
    differentiable: bool = True
    kinds: Kinds = _LOOP
    scratch_bytes: Flops = no_scratch
    workspace_bytes: Flops = no_scratch
    loops: Loops = never
    view: bool = False


def all_axes(attrs: Attrs, types: Types) -> tuple[int, ...]:
    """Any axis of an output that has the shape of the first input."""
    return tuple(range(types[0].rank))


def require(condition: bool, rule: str) -> None:
    """Raises OpError with the rule where the condition does not hold."""
    if not condition:
        raise OpError(rule)
