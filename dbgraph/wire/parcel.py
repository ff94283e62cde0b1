"""A message with its arrays, cut into frames of about 1 MiB, and put together again.

Small frames pipeline: a multipart message of 64 MB would be delivered only when whole, into
fresh memory (1.3 GB/s instead of 4.7). Each array is received into one buffer, aligned to 64
bytes, which JAX on CPU takes without a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod

import ml_dtypes  # gives NumPy bfloat16
import numpy as np

from dbgraph.wire.codec import ArraySpec, Envelope, Refusal, WireError
from dbgraph.wire.messages import Any, Chunk

CHUNK_BYTES = 1 << 20
ALIGNMENT_BYTES = 64
DTYPES = {
    np.dtype(t).name: np.dtype(t)
    for t in (
        *(np.float64, np.float32, np.float16, ml_dtypes.bfloat16, np.bool_),
        *(np.int64, np.int32, np.int16, np.int8, np.uint64, np.uint32, np.uint16, np.uint8),
    )
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}  # `dtype.name` takes microseconds


@dataclass(frozen=True, slots=True)
class Parcel:
    """A message that has arrived, or is to be sent."""

    message: Any
    arrays: tuple[np.ndarray, ...] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """What one frame pair carries."""

    message: Any
    arrays: tuple[ArraySpec, ...] = ()
    data: memoryview | None = None
    area: int | None = None

    @property
    def size_bytes(self) -> int:
        return 64 + (self.data.nbytes if self.data is not None else 0)


def empty_aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An uninitialised C-ordered array whose first byte is at a multiple of 64."""
    size = prod(shape) * dtype.itemsize
    memory = np.empty(size + ALIGNMENT_BYTES, np.uint8)
    address: int = memory.__array_interface__["data"][0]  # `.ctypes` takes microseconds
    offset = -address % ALIGNMENT_BYTES
    return memory[offset : offset + size].view(dtype).reshape(shape)


def raw(array: np.ndarray) -> memoryview:
    """An array's bytes, C-ordered; without a copy where it is contiguous."""
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat.view(np.uint8).data


def spec_of(array: np.ndarray) -> ArraySpec:
    """Raises ValueError for a dtype that the wire has no name for."""
    name = _NAMES.get(array.dtype)
    if name is None:
        raise ValueError(f"arrays of dtype {array.dtype} can't be sent")
    return ArraySpec(name, array.shape)


def pieces(message: Any, arrays: Sequence[np.ndarray] = ()) -> Iterator[Piece]:
    """The frames of a parcel. The first one carries the message, and bytes if there are any."""
    specs = tuple(spec_of(array) for array in arrays)
    cuts = _cuts(specs)
    views = [raw(array) for array in arrays]
    first = next(cuts, None)
    if first is None:
        yield Piece(message, specs)
        return
    index, start, stop = first
    yield Piece(message, specs, views[index][start:stop])
    for index, start, stop in cuts:
        yield Piece(Chunk(index, start), (), views[index][start:stop])


def _cuts(specs: Sequence[ArraySpec]) -> Iterator[tuple[int, int, int]]:
    """(array, first byte, end) of each chunk, in the order in which they travel."""
    for index, spec in enumerate(specs):
        size = size_bytes(spec)
        for start in range(0, size, CHUNK_BYTES):
            yield index, start, min(start + CHUNK_BYTES, size)


def size_bytes(spec: ArraySpec) -> int:
    """Raises KeyError for a dtype that the wire does not know."""
    return prod(spec.shape) * DTYPES[spec.dtype].itemsize


Take = Callable[[int, Sequence[ArraySpec]], list[np.ndarray]]


def not_shared(area: int, specs: Sequence[ArraySpec]) -> list[np.ndarray]:
    """A `Take` where there is no shared memory. Raises WireError."""
    raise WireError(Refusal.MALFORMED, f"arrays in area {area} of memory that is not shared")


class Assembly:
    """Puts parcels together; the frames come in order, so that it is a cursor.

    `slot` names the memory for the payload that comes next and changes nothing; `filled` says
    that it has arrived and is right.

    Args:
        take: gives the arrays that lie in an area of the sender's shared memory.
    """

    def __init__(self, take: Take = not_shared) -> None:
        self._take = take
        self._open: _Open | None = None
        self._next: _Open | None = None

    def slot(self, envelope: Envelope) -> memoryview | None:
        """Where the payload belongs; None where there is none. Raises WireError."""
        if isinstance(envelope.message, Chunk):
            parcel = self._open
            if parcel is None or parcel.cut is None:
                raise WireError(Refusal.MALFORMED, "a chunk of nothing")
            if (envelope.message.array, envelope.message.offset) != parcel.cut[:2]:
                raise WireError(Refusal.MALFORMED, "a chunk of another place")
        else:
            if self._open is not None:
                raise WireError(Refusal.MALFORMED, "a message inside another")
            parcel = self._opened(envelope)
        self._next = parcel
        announced = envelope.payload.length if envelope.payload else 0
        if announced != parcel.expected_bytes:
            raise WireError(Refusal.LENGTH, f"{announced} for {parcel.expected_bytes} bytes")
        return parcel.memory()

    def _opened(self, envelope: Envelope) -> _Open:
        check_specs(envelope.arrays)
        if envelope.area is None:
            return _Open(envelope.message, envelope.arrays)
        lent = self._take(envelope.area, envelope.arrays)
        return _Open(envelope.message, (), lent)

    def filled(self) -> Parcel | None:
        """What `slot` asked for is there; returns the parcel when it is whole."""
        parcel, self._next = self._next, None
        assert parcel is not None, "filled() follows slot()"
        parcel.advance()
        self._open = parcel if parcel.cut is not None else None
        return None if self._open else Parcel(parcel.message, tuple(parcel.buffers))


def check_specs(specs: Sequence[ArraySpec]) -> None:
    """Raises WireError for arrays that there can't be."""
    for spec in specs:
        if spec.dtype not in DTYPES or any(n < 0 for n in spec.shape):
            raise WireError(Refusal.MALFORMED, f"an array {spec.dtype}{list(spec.shape)}")


class _Open:
    """A parcel under way.

    Args:
        specs: of the arrays that are to come.
        lent: those that are there already.
    """

    def __init__(
        self, message: Any, specs: tuple[ArraySpec, ...], lent: Sequence[np.ndarray] = ()
    ) -> None:
        self.message = message
        try:
            made = [empty_aligned(spec.shape, DTYPES[spec.dtype]) for spec in specs]
        except (MemoryError, ValueError) as error:
            raise WireError(Refusal.MALFORMED, f"arrays of that size: {error}") from error
        self.buffers = [*lent, *made]
        self._views = [raw(buffer) for buffer in made]
        self._cuts = _cuts(specs)
        self.cut = next(self._cuts, None)

    @property
    def expected_bytes(self) -> int:
        return self.cut[2] - self.cut[1] if self.cut else 0

    def memory(self) -> memoryview | None:
        if self.cut is None:
            return None
        index, start, stop = self.cut
        return self._views[index][start:stop]

    def advance(self) -> None:
        self.cut = next(self._cuts, None)
