"""Fewer bytes for pushes and fetches, at the price of rounding.

| codec    | arrays of a part                 | bytes of a float32 | error, relative to            |
|----------|----------------------------------|--------------------|-------------------------------|
| none     | the values                       | 4                  |                               |
| bfloat16 | the values                       | 2                  | 2^-9, the value               |
| float16  | the values; above 65504: 65504   | 2                  | 2^-12, the value              |
| int8     | int8 codes, float32 per block    | 1.02               | 1/254, the block's largest    |
| topk     | uint32 indices, values           | 8 of a fraction    | what is left out is left out  |

What a push loses is not lost for good: the replica keeps the difference and adds it to its next
push ("error feedback": Seide et al., "1-bit stochastic gradient descent", Interspeech 2014;
Karimireddy et al., "Error feedback fixes SignSGD", ICML 2019). Values that are not finite stay so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil, prod

import ml_dtypes
import numpy as np

from dbgraph.errors import UsageError
from dbgraph.suggest import did_you_mean

Arrays = tuple[np.ndarray, ...]
BLOCK = 256
"""Elements that share one scale of int8."""


def _plain(values: np.ndarray, fraction: float) -> Arrays:
    return (values,)


def _unchanged(arrays: Arrays, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    return arrays[0]


def _bfloat16(values: np.ndarray, fraction: float) -> Arrays:
    return (values.astype(ml_dtypes.bfloat16),)


def _float16(values: np.ndarray, fraction: float) -> Arrays:
    limit = values.dtype.type(np.finfo(np.float16).max)
    clipped = np.where(np.isfinite(values), np.clip(values, -limit, limit), values)
    return (clipped.astype(np.float16),)


def _widened(arrays: Arrays, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    return arrays[0].astype(dtype)


def _int8(values: np.ndarray, fraction: float) -> Arrays:
    with np.errstate(over="ignore"):  # a float64 beyond float32 is not finite here
        flat = values.reshape(-1).astype(np.float32)
    blocks = np.pad(flat, (0, -len(flat) % BLOCK)).reshape(-1, BLOCK)
    scales = np.abs(blocks).max(axis=1) / np.float32(127)
    usable = (np.isfinite(scales) & (scales > 0))[:, None]
    # A block with a value that is not finite is so as a whole: times a code that is not zero,
    # its scale says it.
    codes = np.rint(np.where(usable, blocks / np.where(usable, scales[:, None], 1), 1))
    return codes.astype(np.int8).reshape(-1)[: len(flat)], scales


def _from_int8(arrays: Arrays, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    codes, scales = arrays
    whole = np.pad(codes, (0, -len(codes) % BLOCK)).reshape(-1, BLOCK)
    values = whole.astype(np.float32) * scales[:, None]
    return values.reshape(-1)[: len(codes)].astype(dtype).reshape(shape)


def _topk(values: np.ndarray, fraction: float) -> Arrays:
    flat = values.reshape(-1)
    count = min(len(flat), ceil(fraction * len(flat)))
    # One that is not a number must show: it sorts last, as the largest.
    chosen = np.sort(np.argpartition(np.abs(flat), len(flat) - count)[len(flat) - count :])
    return chosen.astype(np.uint32), flat[chosen]


def _from_topk(arrays: Arrays, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    indices, values = arrays
    out = np.zeros(prod(shape), dtype)
    out[indices] = values
    return out.reshape(shape)


@dataclass(frozen=True, slots=True)
class Codec:
    """How values are packed into arrays and unpacked.

    Attributes:
        arrays: how many there are.
        encode: (values, fraction) → arrays; keeps no memory of the values but "none".
        decode: (arrays, shape, dtype) → values.
        whole: whether every value comes through, so that parameters may be fetched by it.
    """

    arrays: int
    encode: Callable[[np.ndarray, float], Arrays]
    decode: Callable[[Arrays, tuple[int, ...], np.dtype], np.ndarray]
    whole: bool = True


CODECS: Mapping[str, Codec] = {
    "none": Codec(1, _plain, _unchanged),
    "bfloat16": Codec(1, _bfloat16, _widened),
    "float16": Codec(1, _float16, _widened),
    "int8": Codec(2, _int8, _from_int8),
    "topk": Codec(2, _topk, _from_topk, whole=False),
}


@dataclass(frozen=True, slots=True)
class Compression:
    """A codec as the user names it.

    Attributes:
        codec: a key of CODECS.
        fraction: of the values that "topk" sends.
    """

    codec: str = "none"
    fraction: float = 0.01

    def __post_init__(self) -> None:
        if self.codec not in CODECS:
            known = ", ".join(CODECS)
            raise UsageError(
                f"no compression {self.codec!r}",
                hint=did_you_mean(self.codec, CODECS) or f"there are: {known}",
            )
        if not 0 < self.fraction <= 1:
            raise UsageError(f"topk:{self.fraction}: the fraction must be above 0, at most 1")

    @staticmethod
    def parse(text: str) -> Compression:
        """`int8`, `topk:0.01`; the inverse of `str`. Raises UsageError."""
        codec, colon, fraction = text.partition(":")
        if not colon:
            return Compression(codec)
        try:
            return Compression(codec, float(fraction))
        except ValueError:
            raise UsageError(f"{text!r}: {fraction!r} is no number") from None

    def __str__(self) -> str:
        return f"{self.codec}:{self.fraction}" if self.codec == "topk" else self.codec

    def encode(self, values: np.ndarray) -> Arrays:
        return CODECS[self.codec].encode(values, self.fraction)


def decode(codec: str, arrays: Arrays, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """The values. Raises ValueError where the arrays are not what the codec makes."""
    try:
        values = CODECS[codec].decode(arrays, shape, dtype)
    except IndexError as error:
        raise ValueError(f"{codec}: {error}") from error
    if values.shape != shape or values.dtype != dtype:
        raise ValueError(f"{values.dtype}{list(values.shape)} came, not {dtype}{list(shape)}")
    return values
