"""Kernels of products with tables, reductions, and ops that move elements."""

from __future__ import annotations

from math import prod

import jax
import jax.numpy as jnp
from jax import lax

from dbgraph.ir.region import Region
from dbgraph.ir.types import Attrs
from dbgraph.ops.shape import Piece, pieces_of


def fill(attrs: Attrs) -> jax.Array:
    value: float = attrs.float("value")
    return jnp.full(attrs.ints("shape"), value, attrs.str("dtype"))


def contract(attrs: Attrs, x: jax.Array, w: jax.Array) -> jax.Array:
    """One matrix product: the shapes merge without moving an element."""
    n = attrs.int("contracted")
    lead, out = x.shape[: x.ndim - n], w.shape[n:]
    inner = prod(w.shape[:n])
    rows = lax.reshape(x, (prod(lead), inner))
    product = lax.dot(rows, lax.reshape(w, (inner, prod(out))))
    return lax.reshape(product, lead + out)


def embedding(attrs: Attrs, ids: jax.Array, table: jax.Array, offset: jax.Array) -> jax.Array:
    index = ids.astype(jnp.int32) - offset
    inside = (index >= 0) & (index < table.shape[0])
    rows = jnp.take(table, jnp.where(inside, index, 0), axis=0, mode="clip")
    return jnp.where(inside.reshape(ids.shape + (1,) * (table.ndim - 1)), rows, 0)


def pick(attrs: Attrs, scores: jax.Array, labels: jax.Array, offset: jax.Array) -> jax.Array:
    index = labels.astype(jnp.int32) - offset
    inside = (index >= 0) & (index < scores.shape[-1])
    place = jnp.where(inside, index, 0)[..., None]
    found = jnp.take_along_axis(scores, place, axis=-1, mode="clip")
    return jnp.where(inside, found[..., 0], 0)


def sum_(attrs: Attrs, x: jax.Array) -> jax.Array:
    return jnp.sum(x, attrs.ints("axes"), dtype=x.dtype, keepdims=bool(attrs["keepdims"]))


def max_(attrs: Attrs, x: jax.Array) -> jax.Array:
    return jnp.max(x, attrs.ints("axes"), keepdims=bool(attrs["keepdims"]))


def logsumexp(attrs: Attrs, x: jax.Array) -> jax.Array:
    return jax.nn.logsumexp(x, attrs.ints("axes"), keepdims=bool(attrs["keepdims"]))


def argmax(attrs: Attrs, x: jax.Array) -> jax.Array:
    return lax.argmax(x, attrs.int("axis"), jnp.int32)


def slice_(attrs: Attrs, x: jax.Array) -> jax.Array:
    return lax.slice(x, attrs.ints("start"), attrs.ints("stop"))


def concat(attrs: Attrs, *inputs: jax.Array) -> jax.Array:
    return lax.concatenate(inputs, attrs.int("axis"))


def transpose(attrs: Attrs, x: jax.Array) -> jax.Array:
    return lax.transpose(x, attrs.ints("perm"))


def reshape(attrs: Attrs, x: jax.Array) -> jax.Array:
    offset, keep = attrs.ints("offset"), attrs.ints("keep")
    found = lax.reshape(x, attrs.ints("shape"))
    return lax.slice(found, offset, Region.at(offset, keep).stop) if keep else found


def assemble(attrs: Attrs, *inputs: jax.Array) -> jax.Array:
    """Slices and concatenations along guillotine cuts; updates in place where there are none."""
    pieces = pieces_of(attrs)
    whole = Region.whole(attrs.ints("shape"))
    joined = _joined(whole, pieces, inputs)
    if joined is not None:
        return joined
    found = jnp.zeros(whole.shape, inputs[0].dtype)
    for piece in pieces:
        found = lax.dynamic_update_slice(found, _part(piece, inputs), piece.destination)
    return found


def _part(piece: Piece, inputs: tuple[jax.Array, ...]) -> jax.Array:
    source = piece.source_box
    return lax.slice(inputs[piece.input], source.start, source.stop)


def _joined(
    box: Region, pieces: tuple[Piece, ...], inputs: tuple[jax.Array, ...]
) -> jax.Array | None:
    """The box's value by cuts that go right through; None where no axis has one."""
    if len(pieces) == 1:
        return _part(pieces[0], inputs)
    for axis in range(box.rank):
        strips = _strips(pieces, axis)
        if len(strips) > 1:
            parts = [_joined(_strip_box(box, s, axis), s, inputs) for s in strips]
            done = [part for part in parts if part is not None]
            return lax.concatenate(done, axis) if len(done) == len(parts) else None
    return None


def _strips(pieces: tuple[Piece, ...], axis: int) -> list[tuple[Piece, ...]]:
    """The pieces by the places along an axis where no piece lies across."""
    strips: list[list[Piece]] = []
    reached = -1
    for piece in sorted(pieces, key=lambda p: p.destination[axis]):
        low, high = piece.box.bounds[axis]
        if low >= reached:
            strips.append([])
        strips[-1].append(piece)
        reached = max(reached, high)
    return [tuple(strip) for strip in strips]


def _strip_box(box: Region, strip: tuple[Piece, ...], axis: int) -> Region:
    bounds = [piece.box.bounds[axis] for piece in strip]
    return box.replace(axis, (min(a for a, _ in bounds), max(b for _, b in bounds)))
