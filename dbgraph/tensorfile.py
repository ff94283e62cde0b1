"""Files of named tensors in the safetensors format, written and read in one stream.

https://github.com/huggingface/safetensors: eight bytes with the header's length, a JSON header
(name → dtype, shape, place), then the raw values, little-endian. The library reads these files;
we write and read them ourselves, because a checksum is then taken on the way, a full disk is an
ordinary OSError, and no tensor is copied: not while writing, and once, into its final place,
while reading.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from math import prod
from typing import BinaryIO

import msgspec
import numpy as np
import xxhash

from dbgraph.ir.types import DTYPE_BYTES

_CODES: Mapping[str, str] = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint64": "U64",
    "uint32": "U32",
    "uint16": "U16",
    "uint8": "U8",
    "bool": "BOOL",
}
_NAMES: Mapping[str, str] = {code: name for name, code in _CODES.items()}
_CHUNK_BYTES = 4 << 20
_ALIGNMENT = 64  # of the first value; JAX on CPU takes arrays so aligned without a copy


class _Entry(msgspec.Struct):
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


def write_tensors(path: str, tensors: Mapping[str, np.ndarray]) -> str:
    """Writes a file, makes it durable, and returns its checksum (xxh3, 128 bits, hex).

    Raises OSError; ValueError for a dtype that the format does not have.
    """
    # Wide ones first, so that each begins at a multiple of its item's size.
    ordered = dict(sorted(tensors.items(), key=lambda item: -item[1].dtype.itemsize))
    digest = xxhash.xxh3_128()
    with open(path, "wb") as file:
        _put(file, memoryview(_header(ordered)), digest)
        for array in ordered.values():
            _put(file, _raw(array), digest)
        file.flush()
        os.fsync(file.fileno())
    return str(digest.hexdigest())


def _header(tensors: Mapping[str, np.ndarray]) -> bytes:
    entries: dict[str, _Entry] = {}
    place = 0
    for name, array in tensors.items():
        if str(array.dtype) not in _CODES:
            raise ValueError(f"{name!r} is {array.dtype}, which has no place in a checkpoint")
        entries[name] = _Entry(_CODES[str(array.dtype)], array.shape, (place, place + array.nbytes))
        place += array.nbytes
    text = msgspec.json.encode(entries)
    text += b" " * (-(len(text) + 8) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _raw(array: np.ndarray) -> memoryview:
    """The bytes of an array; a copy only where it is not contiguous."""
    if sys.byteorder == "big":
        array = array.byteswap()
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _put(file: BinaryIO, values: memoryview, digest: xxhash.xxh3_128) -> None:
    for start in range(0, len(values), _CHUNK_BYTES):
        chunk = values[start : start + _CHUNK_BYTES]
        digest.update(chunk)
        file.write(chunk)


def read_tensors(path: str, checksum: str) -> dict[str, np.ndarray]:
    """The tensors of a file, as views of one buffer.

    Raises OSError; ValueError where the checksum differs (before anything is parsed) or the
    header is wrong.
    """
    buffer = _read_all(path, checksum)
    length = int.from_bytes(buffer[:8].tobytes(), "little")
    if len(buffer) < 8 + length:
        raise ValueError("its header is incomplete")
    try:
        entries = msgspec.json.decode(buffer[8 : 8 + length].tobytes(), type=dict[str, _Entry])
    except msgspec.DecodeError as error:
        raise ValueError(f"its header is wrong: {error}") from error
    return {name: _view(name, entry, buffer[8 + length :]) for name, entry in entries.items()}


def _read_all(path: str, checksum: str) -> np.ndarray:
    size = os.path.getsize(path)
    room = np.empty(size + _ALIGNMENT, np.uint8)
    skip = -room.ctypes.data % _ALIGNMENT
    buffer = room[skip : skip + size]
    digest = xxhash.xxh3_128()
    with open(path, "rb", buffering=0) as file:
        for start in range(0, size, _CHUNK_BYTES):
            chunk = buffer[start : start + _CHUNK_BYTES]
            if file.readinto(chunk.data) != len(chunk):
                raise ValueError("it ended while it was being read")
            digest.update(chunk.data)
    if digest.hexdigest() != checksum:
        raise ValueError("its checksum differs from the manifest's")
    return buffer


def _view(name: str, entry: _Entry, values: np.ndarray) -> np.ndarray:
    dtype = _NAMES.get(entry.dtype, "")
    start, stop = entry.data_offsets
    fits = 0 <= start <= stop <= len(values)
    if not dtype or not fits or stop - start != prod(entry.shape) * DTYPE_BYTES[dtype]:
        raise ValueError(f"its header is wrong at {name!r}")
    return values[start:stop].view(_dtype(dtype)).reshape(entry.shape)


def _dtype(name: str) -> np.dtype:
    if name == "bfloat16":
        import ml_dtypes  # NumPy has no such type of its own

        bfloat16: np.dtype = np.dtype(ml_dtypes.bfloat16)
        return bfloat16
    return np.dtype(name)
