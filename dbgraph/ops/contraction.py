"""Products with a table of weights: matrix products, embeddings, picking a class."""

from __future__ import annotations

from math import prod

from dbgraph.ir.region import Region
from dbgraph.ir.types import Attrs, TensorType, Types
from dbgraph.ops import check
from dbgraph.ops.schema import OpDef, Reduction, needs_others, require, work


def _infer_contract(attrs: Attrs, types: Types) -> TensorType:
    check.takes("contract", types, 2)
    check.same_dtype("contract", types)
    x, w = types
    check.floats("contract", "the inputs", x)
    n = check.integer("contract", attrs, "contracted")
    require(
        1 <= n <= min(x.rank, w.rank),
        f"contract: contracted ({n}) must be at least 1 and at most the rank of both inputs, "
        f"{x} and {w}",
    )
    require(
        x.shape[x.rank - n :] == w.shape[:n],
        f"contract: the input's last {check.plural(n, 'length')} "
        f"({check.lengths(x.shape[x.rank - n :])}) must equal the weights' first "
        f"({check.lengths(w.shape[:n])})",
    )
    return TensorType(x.shape[: x.rank - n] + w.shape[n:], x.dtype)


def _reads_contract(attrs: Attrs, types: Types, region: Region) -> tuple[Region, ...]:
    n = attrs.int("contracted")
    lead = types[0].rank - n
    inner = tuple((0, k) for k in types[1].shape[:n])
    return Region(region.bounds[:lead] + inner), Region(inner + region.bounds[lead:])


def _axes_contract(attrs: Attrs, types: Types) -> tuple[int, ...]:
    return tuple(range(types[0].rank + types[1].rank - 2 * attrs.int("contracted")))


def _flops_contract(attrs: Attrs, types: Types, out: TensorType) -> int:
    return 2 * out.size * prod(types[1].shape[: attrs.int("contracted")])


_INNER_NAMES = {1: ("inputs",), 2: ("rows", "inputs"), 3: ("rows", "cols", "inputs")}


def _reductions_contract(attrs: Attrs, types: Types) -> tuple[Reduction, ...]:
    n = attrs.int("contracted")
    names = _INNER_NAMES.get(n) or tuple(f"inputs{k}" for k in range(n))
    lead = types[0].rank - n
    return tuple(Reduction(name, ((0, lead + k), (1, k))) for k, name in enumerate(names))


CONTRACT = OpDef(
    "contract",
    "contract(x lead… k1…kn, w k1…kn out…) contracted=n → lead… out…: the sum over the k of "
    "x times w. A dense layer has n = 1; an image into a dense layer n = 3. "
    "2 · output elements · k1 ··· kn FLOP.",
    infer=_infer_contract,
    reads=_reads_contract,
    cut_axes=_axes_contract,
    flops=_flops_contract,
    reductions=_reductions_contract,
    combine="add_n",
    vjp_needs=needs_others,
    kinds=work("matmul"),
)


def _offset_partial(attrs: Attrs, reduction: Reduction, bounds: tuple[int, int]) -> Attrs:
    return attrs.having(offset=attrs.int("offset") + bounds[0])


def _one_each(attrs: Attrs, types: Types, out: TensorType) -> int:
    """A look-up: comparing and masking, one operation per element."""
    return out.size


def _infer_embedding(attrs: Attrs, types: Types) -> TensorType:
    check.takes("embedding", types, 2)
    ids, table = types
    check.integers("embedding", "the ids", ids)
    check.floats("embedding", "the table", table)
    require(table.rank >= 1, f"embedding: the table must have rows; it is {table}")
    check.integer("embedding", attrs, "offset")
    return TensorType(ids.shape + table.shape[1:], table.dtype)


def _reads_embedding(attrs: Attrs, types: Types, region: Region) -> tuple[Region, ...]:
    ids, table = types
    row = region.bounds[ids.rank :]
    return Region(region.bounds[: ids.rank]), Region(((0, table.shape[0]), *row))


def _axes_embedding(attrs: Attrs, types: Types) -> tuple[int, ...]:
    return tuple(range(types[0].rank + types[1].rank - 1))


def _reductions_embedding(attrs: Attrs, types: Types) -> tuple[Reduction, ...]:
    return (Reduction("vocabulary", ((1, 0),)),)


EMBEDDING = OpDef(
    "embedding",
    "embedding(ids B…, table V D…) offset → B… D…: row ids - offset of the table; zeros where "
    "that is outside [0, V), so that the parts of a cut table add up.",
    infer=_infer_embedding,
    reads=_reads_embedding,
    cut_axes=_axes_embedding,
    flops=_one_each,
    reductions=_reductions_embedding,
    partial=_offset_partial,
    combine="add_n",
    vjp_needs=needs_others,
    kinds=work("gather"),
    dynamic=("offset",),
)


def _infer_pick(attrs: Attrs, types: Types) -> TensorType:
    check.takes("pick", types, 2)
    scores, labels = types
    check.numbers("pick", "the scores", scores)
    check.integers("pick", "the labels", labels)
    require(
        scores.rank >= 1 and scores.shape[:-1] == labels.shape,
        f"pick: the labels' shape ({check.lengths(labels.shape)}) must be the scores' "
        f"({check.lengths(scores.shape)}) without the last axis",
    )
    check.integer("pick", attrs, "offset")
    return TensorType(labels.shape, scores.dtype)


def _reads_pick(attrs: Attrs, types: Types, region: Region) -> tuple[Region, ...]:
    return Region((*region.bounds, (0, types[0].shape[-1]))), region


def _axes_pick(attrs: Attrs, types: Types) -> tuple[int, ...]:
    return tuple(range(types[1].rank))


def _reductions_pick(attrs: Attrs, types: Types) -> tuple[Reduction, ...]:
    return (Reduction("classes", ((0, types[0].rank - 1),)),)


PICK = OpDef(
    "pick",
    "pick(scores … C, labels …) offset → …: scores[…, label - offset]; zero where that is "
    "outside [0, C), so that the parts of cut scores add up.",
    infer=_infer_pick,
    reads=_reads_pick,
    cut_axes=_axes_pick,
    flops=_one_each,
    reductions=_reductions_pick,
    partial=_offset_partial,
    combine="add_n",
    vjp_needs=needs_others,
    kinds=work("gather"),
    dynamic=("offset",),
)
