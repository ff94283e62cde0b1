"""Where examples come from: sources that every machine opens itself.

A source holds arrays by input name whose axis 0 counts examples. It says what it has, and reads
one region of some examples: a machine reads only what its own tiles need.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike

from dbgraph.errors import DataError
from dbgraph.ir.region import Region
from dbgraph.userfile import call


class Field(NamedTuple):
    """What a source has for one input: the shape per example, and the dtype by NumPy's name."""

    shape: tuple[int, ...]
    dtype: str


@runtime_checkable
class Source(Protocol):
    """Examples that can be read in any order. Objects of the user's own may be sources too."""

    def __len__(self) -> int:
        """Number of examples."""

    def inputs(self) -> Mapping[str, tuple[tuple[int, ...], str]]:
        """By input name: shape per example, dtype."""

    def read(self, name: str, examples: np.ndarray, region: Region) -> np.ndarray:
        """Some examples of one input.

        Args:
            examples: int64[n], each in [0, len).
            region: of the per-example axes.

        Returns:
            An array of shape (n, *region.shape).
        """


class ArraySource:
    """Arrays in memory, by input name; axis 0 counts examples.

    Raises DataError for arrays of different lengths, or without axes.
    """

    def __init__(self, arrays: Mapping[str, ArrayLike]) -> None:
        self.arrays = {name: _array(name, value) for name, value in arrays.items()}
        self._length = _common_length(self.arrays)

    def __len__(self) -> int:
        return self._length

    def inputs(self) -> Mapping[str, Field]:
        return {name: Field(a.shape[1:], str(a.dtype)) for name, a in self.arrays.items()}

    def read(self, name: str, examples: np.ndarray, region: Region) -> np.ndarray:
        return _take(self.arrays[name], examples, region)


class NpySource:
    """`.npy` files by input name, mapped into memory: only what is read is loaded.

    The files are opened at first use, on the machine that reads; what travels is their paths.
    Raises DataError then for a file that is missing or not in NumPy's format.
    """

    def __init__(self, paths: Mapping[str, str | os.PathLike[str]]) -> None:
        self.paths = {name: os.path.abspath(path) for name, path in paths.items()}

    @cached_property
    def _arrays(self) -> Mapping[str, np.ndarray]:
        arrays = {name: _map(path) for name, path in self.paths.items()}
        _common_length(arrays)
        return arrays

    def __len__(self) -> int:
        return _common_length(self._arrays)

    def inputs(self) -> Mapping[str, Field]:
        return {name: Field(a.shape[1:], str(a.dtype)) for name, a in self._arrays.items()}

    def read(self, name: str, examples: np.ndarray, region: Region) -> np.ndarray:
        return _take(self._arrays[name], examples, region)

    def __reduce__(self) -> tuple[type[NpySource], tuple[Mapping[str, str]]]:
        return NpySource, (self.paths,)


class FunctionSource:
    """A user's function that returns a source, or a dict of arrays.

    It is called at first use, once on each machine that reads; what travels is the function and
    its arguments. It must yield the same examples everywhere.
    """

    def __init__(self, make: Callable[..., Any], args: tuple[Any, ...] = ()) -> None:
        self.make = make
        self.args = args

    @cached_property
    def _source(self) -> Source:
        made = call(self.make, *self.args, error=DataError)
        if not isinstance(made, Source | Mapping):
            name = getattr(self.make, "__name__", repr(self.make))
            raise DataError(
                f"{name}() returned {kind(made)}, not a source or a dict of arrays",
                hint='return something like {"image": images, "label": labels}',
            )
        return as_source(made)

    def __len__(self) -> int:
        return len(self._source)

    def inputs(self) -> Mapping[str, tuple[tuple[int, ...], str]]:
        return self._source.inputs()

    def read(self, name: str, examples: np.ndarray, region: Region) -> np.ndarray:
        return self._source.read(name, examples, region)

    def __reduce__(self) -> tuple[type[FunctionSource], tuple[Any, ...]]:
        return FunctionSource, (self.make, self.args)


SourceLike: TypeAlias = Source | Mapping[str, ArrayLike] | Callable[[], Any]
"""A source, a dict of arrays, or a function that returns one of these."""


def as_source(value: SourceLike) -> Source:
    """Raises DataError where the value is nothing that can be a source."""
    if isinstance(value, Mapping):
        return ArraySource(value)
    if isinstance(value, Source):
        return value
    if callable(value):
        return FunctionSource(value)
    raise DataError(
        f"{kind(value)} is no data source",
        hint='give a dict of arrays such as {"image": images, "label": labels}',
    )


def read(source: Source, name: str, examples: np.ndarray, region: Region) -> np.ndarray:
    """`source.read`, with what a source of the user's own may get wrong turned into DataError."""
    _, dtype = source.inputs()[name]
    array = np.asarray(call(source.read, name, examples, region, error=DataError))
    if array.shape != (len(examples), *region.shape) or str(array.dtype) != dtype:
        raise DataError(
            f"the source gave {array.dtype}{list(array.shape)} for input {name!r}, where "
            f"{dtype}{[len(examples), *region.shape]} was asked for"
        )
    return array


def _array(name: str, value: ArrayLike) -> np.ndarray:
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise DataError(f"{name!r} is no array: {error}") from error
    if array.ndim == 0:
        raise DataError(f"{name!r} is {kind(value)}, not an array whose axis 0 counts examples")
    return array


def _common_length(arrays: Mapping[str, np.ndarray]) -> int:
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{name} {n}" for name, n in lengths.items())
        raise DataError(f"the inputs have different numbers of examples: {found}")
    return next(iter(lengths.values()), 0)


def _take(array: np.ndarray, examples: np.ndarray, region: Region) -> np.ndarray:
    """Copies just the region of just these examples, C-ordered."""
    if region == Region.whole(array.shape[1:]):
        return np.take(array, examples, axis=0)
    index: tuple[Any, ...] = (examples, *region.slices())
    return np.ascontiguousarray(array[index])


def _map(path: str) -> np.ndarray:
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path!r}") from error
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path!r} can't be read as a .npy file: {error}") from error
    if array.ndim == 0:
        raise DataError(f"{path!r} holds no array whose axis 0 counts examples")
    return np.asarray(array)  # a plain array over the same mapped memory


def kind(value: object) -> str:
    """What a value is, for a message: `an int`."""
    name = type(value).__name__
    return "None" if value is None else f"an {name}" if name[0] in "aeiou" else f"a {name}"
