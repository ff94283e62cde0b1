"""Initial values of parameters: a function of seed, name and place alone.

So any region of a parameter is computed by itself, on the machine that holds it, and equals the
slice of the whole bit for bit. Values are computed in float64 and then rounded, so a network in
float32 and one in float64 begin alike.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from math import prod, sqrt
from typing import Any

import numpy as np

from dbgraph.errors import NetworkError
from dbgraph.ir.counter import uniform_bits, unit_floats
from dbgraph.ir.region import Region
from dbgraph.ir.types import Attribute

Array = np.ndarray[Any, np.dtype[Any]]
Indices = np.ndarray[Any, np.dtype[np.int64]]
Uniforms = Callable[[int], Array]
"""Of the draw 0 or 1: for each element of a chunk a number in (0, 1)."""
Law = Callable[[Uniforms], Array | float]
"""Values of a chunk."""

_CHUNK = 1 << 15  # elements whose temporaries stay in the cache


def _constant(value: float) -> Law:
    return lambda draw: value


def _uniform(low: float, high: float) -> Law:
    return lambda draw: low + (high - low) * draw(0)


def _normal(mean: float, std: float) -> Law:
    """Box and Muller, "A note on the generation of random normal deviates" (1958)."""

    def law(draw: Uniforms) -> Array:
        radius = np.sqrt(-2.0 * np.log(draw(0)))
        return mean + std * radius * np.cos(2.0 * np.pi * draw(1))

    return law


def _symmetric(limit: float) -> Law:
    return _uniform(-limit, limit)


LAWS: Mapping[str, Callable[..., Law]] = {
    "zeros": lambda: _constant(0.0),
    "ones": lambda: _constant(1.0),
    "constant": _constant,
    "uniform": _uniform,
    "normal": _normal,
    "glorot_uniform": lambda fan_in, fan_out: _symmetric(sqrt(6.0 / (fan_in + fan_out))),
    "glorot_normal": lambda fan_in, fan_out: _normal(0.0, sqrt(2.0 / (fan_in + fan_out))),
    "he_uniform": lambda fan_in: _symmetric(sqrt(6.0 / fan_in)),
    "he_normal": lambda fan_in: _normal(0.0, sqrt(2.0 / fan_in)),
    "lecun_uniform": lambda fan_in: _symmetric(sqrt(3.0 / fan_in)),
    "lecun_normal": lambda fan_in: _normal(0.0, sqrt(1.0 / fan_in)),
}
"""The kinds that `dbgraph.dsl.initialisers` lets the user say."""


def initial_values(
    name: str,
    init: tuple[Attribute, ...],
    seed: int,
    shape: tuple[int, ...],
    region: Region,
    dtype: str,
) -> Array:
    """One region of a parameter as it begins.

    Args:
        name: of the parameter; another name gives other values.
        init: the kind and its numbers, such as ("he_normal", 64.0).
        seed: of the network.
        shape: of the whole parameter.
        region: the part that is wanted.
        dtype: of the result.

    Raises:
        NetworkError: there is no such initialiser.
    """
    law = _law(init)
    if region.rank != len(shape) or not Region.whole(shape).contains(region):
        raise NetworkError(f"region [{region}] does not lie in parameter {name!r} of {shape}")
    values = np.empty(region.shape, _numpy_dtype(dtype))
    flat = values.reshape(-1)
    stream = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    done = 0
    for indices in _chunks(shape, region):
        draw = partial(_draw, seed, stream, indices)
        flat[done : done + indices.size] = law(draw)
        done += indices.size
    return values


def _law(init: tuple[Attribute, ...]) -> Law:
    kind, *numbers = init or ("",)
    make = LAWS.get(str(kind))
    if make is None:
        raise NetworkError(f"there is no initialiser {kind!r}; there is {', '.join(LAWS)}")
    try:
        return make(*numbers)
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise NetworkError(f"initialiser {init!r} has wrong numbers: {error}") from error


def _numpy_dtype(dtype: str) -> np.dtype[Any]:
    if dtype == "bfloat16":
        from ml_dtypes import bfloat16  # comes with JAX

        found: np.dtype[Any] = np.dtype(bfloat16)
        return found
    return np.dtype(dtype)


def _draw(seed: int, stream: int, indices: Indices, draw: int) -> Array:
    """A uniform number in (0, 1) for each flat index of the whole parameter."""
    low = indices.astype(np.uint32)  # modulo 2**32
    last = int(indices[-1])
    # Chunks rise, so the upper half is one number but where a chunk crosses a multiple of 2**32.
    high: Any = last >> 32
    if int(indices[0]) >> 32 != high:
        high = (indices >> 32).astype(np.uint32)
    return unit_floats(uniform_bits(seed, stream ^ draw, high, low))


def _chunks(shape: tuple[int, ...], region: Region) -> Iterator[Indices]:
    """The flat indices, in the whole, of the region's elements in row-major order."""
    if region.empty:
        return
    run, outer = _runs(shape, region)
    if run >= _CHUNK:
        for start in (int(s) for batch in _starts(shape, region, outer, 256) for s in batch):
            for offset in range(0, run, _CHUNK):
                yield np.arange(start + offset, start + min(offset + _CHUNK, run), dtype=np.int64)
        return
    inner = np.arange(run, dtype=np.int64)
    for starts in _starts(shape, region, outer, max(_CHUNK // run, 1)):
        yield (starts[:, None] + inner).reshape(-1)


def _runs(shape: tuple[int, ...], region: Region) -> tuple[int, int]:
    """(length of the contiguous runs, number of leading axes that number the runs)."""
    axis = len(shape)
    while axis > 0 and (axis == len(shape) or region.shape[axis] == shape[axis]):
        axis -= 1
    return prod(region.shape[axis:]), axis


def _starts(shape: tuple[int, ...], region: Region, outer: int, count: int) -> Iterator[Indices]:
    """The flat index of each run's first element, `count` runs at a time."""
    strides = [prod(shape[axis + 1 :]) for axis in range(len(shape))]
    base = sum(a * s for a, s in zip(region.start, strides, strict=True))
    total = prod(region.shape[:outer])
    for first in range(0, total, count):
        rest = np.arange(first, min(first + count, total), dtype=np.int64)
        index = np.full(rest.shape, base, dtype=np.int64)
        for axis in reversed(range(outer)):
            rest, place = np.divmod(rest, region.shape[axis])
            index += place * strides[axis]
        yield index
