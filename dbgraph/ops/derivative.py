"""The one op of the backward pass: the vector-Jacobian product of any other op."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from dbgraph.ir.region import Region
from dbgraph.ir.types import Attrs, TensorType, Types
from dbgraph.ops import check
from dbgraph.ops.schema import POINTWISE, Kinds, OpDef, OpError, require


def vjp_attrs(forward: OpDef, attrs: Attrs, types: Types, wrt: int) -> Attrs:
    """The attributes of the vjp of a node by its input `wrt`.

    The node's inputs are then the forward inputs `vjp_given`, in order, and the cotangent.
    """
    return attrs.having(
        vjp_of=forward.name,
        vjp_wrt=wrt,
        vjp_types=tuple((t.shape, t.dtype) for t in types),
        vjp_given=forward.vjp_needs(wrt, len(types)),
    )


@lru_cache(maxsize=4096)  # tiles repeat their layer's attributes
def forward_types(attrs: Attrs) -> Types:
    """The types of all inputs of the forward op. Raises OpError where the attribute is none."""
    found = []
    for entry in attrs.tuple("vjp_types"):
        if not isinstance(entry, tuple) or len(entry) != 2 or not check.is_ints(entry[0]):
            raise OpError(f"vjp: {entry!r} in vjp_types is no (shape, dtype)")
        found.append(TensorType(entry[0], str(entry[1])))  # type: ignore[arg-type]
    return tuple(found)


def _known(table: Mapping[str, OpDef], attrs: Attrs) -> OpDef:
    forward = table.get(str(attrs.get("vjp_of")))
    if forward is None or not forward.differentiable:
        raise OpError(f"vjp: {attrs.get('vjp_of')!r} is no op with a derivative")
    return forward


def _check_given(forward: OpDef, attrs: Attrs, types: Types, whole: Types, wrt: int) -> None:
    given = check.ints("vjp", attrs, "vjp_given")
    needed = forward.vjp_needs(wrt, len(whole))
    require(
        set(needed) <= set(given) <= set(range(len(whole))) and sorted(set(given)) == list(given),
        f"vjp: {forward.name} by input {wrt} needs the inputs {needed}; vjp_given is {given}",
    )
    check.takes("vjp", types, len(given) + 1)
    for k, type_ in zip(given, types, strict=False):
        require(
            type_ == whole[k], f"vjp: input {k} of {forward.name} is {type_}; it was {whole[k]}"
        )


GRADIENT_KINDS = {POINTWISE: POINTWISE, "matmul": "matmul", "reduction": POINTWISE}
"""The kinds of derivatives that are work of a known kind: that of a product is a product, that of
a sum repeats the cotangent. Any other is a kind of its own."""
GRADIENT = " gradient "
"""Stands between the op's kind and the number of the input by which is derived."""


def vjp(table: Mapping[str, OpDef]) -> OpDef:
    """The op `vjp` over the ops of a table."""

    def infer(attrs: Attrs, types: Types) -> TensorType:
        forward = _known(table, attrs)
        whole, wrt = forward_types(attrs), check.integer("vjp", attrs, "vjp_wrt")
        require(0 <= wrt < len(whole), f"vjp: {forward.name} has no input {wrt}")
        check.floats("vjp", f"input {wrt} of {forward.name}", whole[wrt])
        _check_given(forward, attrs, types, whole, wrt)
        out = forward.infer(attrs, whole)
        require(types[-1] == out, f"vjp: the cotangent must be {out}; it is {types[-1]}")
        return whole[wrt]

    def flops(attrs: Attrs, types: Types, out: TensorType) -> int:
        # The cotangent, which comes last, has the type of the forward op's output.
        return _known(table, attrs).flops(attrs, forward_types(attrs), types[-1])

    def scratch_bytes(attrs: Attrs, types: Types, out: TensorType) -> int:
        return _known(table, attrs).scratch_bytes(attrs, forward_types(attrs), types[-1])

    def workspace_bytes(attrs: Attrs, types: Types, out: TensorType) -> int:
        return _known(table, attrs).workspace_bytes(attrs, forward_types(attrs), types[-1])

    def loops(attrs: Attrs) -> bool:
        return _known(table, attrs).loops(attrs)

    def kind(attrs: Attrs) -> str:
        of = _known(table, attrs).kinds.of(attrs)
        return GRADIENT_KINDS.get(of) or f"{of}{GRADIENT}{attrs.int('vjp_wrt')}"

    return OpDef(
        "vjp",
        "vjp(inputs…, cotangent) vjp_of, vjp_wrt, vjp_types, vjp_given and the forward op's own → "
        "the type of the forward input vjp_wrt: the cotangent times the derivative of the op "
        "`vjp_of` by that input. FLOP: those of the forward op. Made from tiles, and not cut.",
        infer=infer,
        reads=_whole,
        cut_axes=_no_axes,
        flops=flops,
        kinds=Kinds(kind),
        scratch_bytes=scratch_bytes,
        workspace_bytes=workspace_bytes,
        loops=loops,
        differentiable=False,
    )


def _whole(attrs: Attrs, types: Types, region: Region) -> tuple[Region, ...]:
    return tuple(Region.whole(t.shape) for t in types)


def _no_axes(attrs: Attrs, types: Types) -> tuple[int, ...]:
    return ()
