"""Locally connected filters: a bank of filters of its own at every output position.

The kernel of Dean et al., "Large Scale Distributed Deep Networks" (NIPS 2012, section 5) and
Le et al., "Building High-level Features Using Large Scale Unsupervised Learning" (ICML 2012,
section 3): a convolution whose weights are not shared.

One scan over the output's rows; a step gathers the patches of one row and multiplies them with
that row's weights, one small matrix product per position. Why this form (float32, 48x48x8,
10x10 patches, 8 maps, batch 32: 9.7 M weights; XLA on 2 cores):

- The patches of the whole image are 16 times the weights. Written to memory at once they cost
  4 times and more the time of a scan whose few MB stay in the cache, mostly in page faults.
- The batch is the last axis, so that a matrix product is (maps x patch) @ (patch x batch): 2 to 3
  times faster than (batch x patch) @ (patch x maps), whose result is only `maps` wide.
- The backward pass gathers the patches again instead of keeping them, and adds the patches'
  cotangents up row by row. Left to itself, JAX would keep all patches and add each step's
  cotangent of x to a whole image.
"""

from functools import partial, reduce

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

Pair = tuple[int, int]
Padding = tuple[Pair, Pair]

# The patches of one step; a row that has more is cut into blocks of columns, which bounds the
# memory too. Rows of 16 MB take up to 2 times as long whole as in blocks, but rows of 9 MB take
# half as long whole as column by column, which is the only way to cut 23 columns evenly.
_STEP_BYTES = 12 << 20


def local2d(x: Array, w: Array, *, strides: Pair, padding: Padding) -> Array:
    """Filters x with the weights w, which differ from position to position.

    x (B, H, W, C), w (OH, OW, PH, PW, C, M) -> (B, OH, OW, M), where
    OH = (H + padding[0][0] + padding[0][1] - PH) // strides[0] + 1, and OW likewise; padding is
    with zeros. All of one dtype, which is the result's; sums are taken in float32 at least.
    Differentiable in x and w by reverse mode, once (`jax.vjp`, `jax.grad`).
    Source: Dean et al. 2012, section 5; Le et al. 2012, section 3.
    """
    return _local2d(x, w, strides, padding)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _local2d(x: Array, w: Array, strides: Pair, padding: Padding) -> Array:
    oh, ow, _, _, _, maps = w.shape
    blocks = _Blocks(x, w, strides, padding)
    image = blocks.image(x)

    def step(_: None, block: tuple[Array, Array]) -> tuple[None, Array]:
        start, w_block = block
        patches = blocks.patches(blocks.window(image, start))
        return None, jnp.einsum("okm,okb->omb", w_block, patches)

    _, y = lax.scan(step, None, (blocks.starts, blocks.weights(w)))
    return y.reshape(oh, ow, maps, -1).transpose(3, 0, 1, 2)


def _forward(
    x: Array, w: Array, strides: Pair, padding: Padding
) -> tuple[Array, tuple[Array, Array]]:
    return _local2d(x, w, strides, padding), (x, w)


def _backward(
    strides: Pair, padding: Padding, saved: tuple[Array, Array], dy: Array
) -> tuple[Array, Array]:
    x, w = saved
    blocks = _Blocks(x, w, strides, padding)
    image = blocks.image(x)
    # Up to PH * PW cotangents meet in one pixel: half precision would round each addition.
    wide = jnp.promote_types(x.dtype, jnp.float32)

    def step(dimage: Array, block: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        start, w_block, dy_block = block
        patches = blocks.patches(blocks.window(image, start))
        dw_block = jnp.einsum("okb,omb->okm", patches, dy_block)
        dpatches = jnp.einsum("okm,omb->okb", w_block, dy_block, preferred_element_type=wide)
        dwindow = blocks.window(dimage, start) + blocks.overlap_add(dpatches)
        return lax.dynamic_update_slice(dimage, dwindow, list(start)), dw_block

    dimage, dw = lax.scan(
        step,
        jnp.zeros(image.shape, wide),
        (blocks.starts, blocks.weights(w), blocks.cotangents(dy)),
    )
    return blocks.image_transposed(dimage).astype(x.dtype), dw.reshape(w.shape)


_local2d.defvjp(_forward, _backward)


class _Blocks:
    """The steps of a scan: each computes `columns` neighbouring positions of one output row.

    Inside, images are (rows, columns, C, B); the patches of a step (columns, PH * PW * C, B).
    """

    def __init__(self, x: Array, w: Array, strides: Pair, padding: Padding) -> None:
        (batch, height, width, channels), (oh, ow, ph, pw, _, _) = x.shape, w.shape
        self.patch = (ph, pw, channels, batch)
        self.stride = strides[1]
        self.columns = _columns(ow, ph * pw * channels * batch * x.dtype.itemsize)
        self.window_shape = (ph, (self.columns - 1) * self.stride + pw, channels, batch)
        first = np.arange(0, oh * ow, self.columns)
        rows, columns = first // ow * strides[0], first % ow * strides[1]
        starts = np.stack([rows, columns, 0 * rows, 0 * rows], axis=1)
        self.starts = jnp.asarray(starts, jnp.int32)
        # What the patches reach: less than the padded image where the strides leave some over.
        low_row, low_column = padding[0][0], padding[1][0]
        reach = ((oh - 1) * strides[0] + ph, (ow - 1) * strides[1] + pw)
        self.margins = (
            (low_row, reach[0] - height - low_row),
            (low_column, reach[1] - width - low_column),
            (0, 0),
            (0, 0),
        )

    def image(self, x: Array) -> Array:
        """x (B, H, W, C) -> what the patches reach of it, zeros where that is padding."""
        zero = jnp.zeros((), x.dtype)
        return lax.pad(x.transpose(1, 2, 3, 0), zero, [(lo, hi, 0) for lo, hi in self.margins])

    def image_transposed(self, dimage: Array) -> Array:
        """The cotangent of `image`: -> (B, H, W, C)."""
        zero = jnp.zeros((), dimage.dtype)
        dx = lax.pad(dimage, zero, [(-lo, -hi, 0) for lo, hi in self.margins])
        return dx.transpose(3, 0, 1, 2)

    def weights(self, w: Array) -> Array:
        """w (OH, OW, PH, PW, C, M) -> (steps, columns, PH * PW * C, M), without moving a byte."""
        return w.reshape(len(self.starts), self.columns, -1, w.shape[-1])

    def cotangents(self, dy: Array) -> Array:
        """dy (B, OH, OW, M) -> (steps, columns, M, B)."""
        batch, _, _, maps = dy.shape
        return dy.transpose(1, 2, 3, 0).reshape(len(self.starts), self.columns, maps, batch)

    def window(self, image: Array, start: Array) -> Array:
        """The part of an image that the patches of one step reach."""
        return lax.dynamic_slice(image, list(start), self.window_shape)

    def patches(self, window: Array) -> Array:
        """(PH, L, C, B) -> (columns, PH * PW * C, B)."""
        ph, pw, channels, batch = self.patch
        slid = _slide(window.swapaxes(0, 1), self.columns, pw, self.stride)
        return slid.swapaxes(1, 2).reshape(self.columns, ph * pw * channels, batch)

    def overlap_add(self, dpatches: Array) -> Array:
        """The cotangent of `patches`: every patch is added where it was taken."""
        ph, pw, channels, batch = self.patch
        taken = dpatches.reshape(self.columns, ph, pw, channels, batch)
        zero, keep = jnp.zeros((), dpatches.dtype), ((0, 0, 0),) * 3
        # Updating slices of one array takes 1.2 to 1.5 times as long.
        spread = [
            lax.pad(taken[:, :, p], zero, ((p, pw - 1 - p, self.stride - 1), *keep))
            for p in range(pw)
        ]
        return reduce(lax.add, spread).swapaxes(0, 1)


def _columns(ow: int, patch_bytes: int) -> int:
    """The most columns that divide a row evenly and whose patches fit one step."""
    most = max(1, _STEP_BYTES // patch_bytes)
    return max(n for n in range(1, ow + 1) if ow % n == 0 and n <= most)


def _slide(x: Array, count: int, size: int, stride: int) -> Array:
    """x (L, ...) -> (count, size, ...), where result[i, j] = x[i * stride + j].

    Copies of x behind one another, read in rows that are `stride` longer than x: each row
    begins `stride` later in its copy. All of this is one loop for XLA, where stacked slices
    are as many loops and one more copy (1.2 to 1.4 times the forward time, twice to compile).
    """
    length, rest = x.shape[0], x.shape[1:]
    row = length + stride
    copies = -(-count * row // length)
    flat = jnp.broadcast_to(x, (copies, *x.shape)).reshape(copies * length, *rest)
    return flat[: count * row].reshape(count, row, *rest)[:, :size]
