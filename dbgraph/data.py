"""Data for training and for holding out, and whether it fits a network."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

import numpy as np

from dbgraph.datasource import (
    ArraySource,
    Field,
    FunctionSource,
    NpySource,
    Source,
    SourceLike,
    as_source,
    kind,
    read,
)
from dbgraph.errors import DataError
from dbgraph.ir.types import TensorType
from dbgraph.sampler import Batches, sweep
from dbgraph.suggest import did_you_mean
from dbgraph.userfile import call, load_function

__all__ = [
    "ArraySource",
    "Batches",
    "Data",
    "Field",
    "FunctionSource",
    "NpySource",
    "Source",
    "SourceLike",
    "as_source",
    "check",
    "load_data",
    "read",
    "sweep",
]

_Part = TypeVar("_Part")


class Data:
    """What to train on, and what to hold out.

    >>> data = Data(train={"x": np.zeros((90, 2))}, test={"x": np.zeros((10, 2))})
    >>> len(data.train), len(data.test)
    (90, 10)

    Args:
        train, test: each a source, a dict of arrays whose axis 0 counts examples, or a function
            that returns one of these and is called on the machines that read.
    """

    def __init__(self, train: SourceLike, test: SourceLike | None = None) -> None:
        self.train: Source = as_source(train)
        self.test: Source | None = None if test is None else as_source(test)

    @staticmethod
    def of(value: object) -> Data:
        """Data of what people have: Data, a source, a dict of arrays, a function, a pair
        (train, test), or a dict {"train": …, "test": …} of these.

        Raises DataError for anything else.
        """
        if isinstance(value, Data):
            return value
        if isinstance(value, tuple) and len(value) == 2:
            return Data(*value)
        if isinstance(value, Mapping) and _is_pair(value):
            return Data(value["train"], value.get("test"))
        if isinstance(value, Mapping | Source) or callable(value):
            return Data(value)
        raise DataError(
            f"{kind(value)} is no data",
            hint="give dbg.Data(train, test), or a dict of arrays by input name",
        )


def _is_pair(value: Mapping[str, object]) -> bool:
    return (
        "train" in value
        and value.keys() <= {"train", "test"}
        and isinstance(value["train"], Mapping | Source)
    )


def check(
    source: Source,
    input_types: Mapping[str, TensorType],
    *,
    needed: Collection[str] | None = None,
    padded: bool = False,
) -> None:
    """Raises DataError where a source does not fit a network. Nothing is ever cast silently.

    Args:
        input_types: the network's inputs, with the batch as axis 0 (`Plan.input_types`).
        needed: the inputs that must be there; None: all. Inference needs no labels.
        padded: True where a batch may be incomplete (evaluation, inference).
    """
    has = source.inputs()
    for name in input_types if needed is None else needed:
        if name not in has:
            given = ", ".join(has) or "nothing"
            hint = did_you_mean(name, has.keys() - input_types.keys())
            raise DataError(f"the network reads input {name!r}, the data has {given}", hint=hint)
    for name, (shape, dtype) in has.items():
        if name not in input_types:
            raise DataError(
                f"the data has {name!r}, the network has no such input",
                hint=did_you_mean(name, input_types)
                or f"the network's inputs are: {', '.join(input_types)}",
            )
        _check_field(name, Field(tuple(shape), dtype), input_types[name])
    batch = max((t.shape[0] for t in input_types.values()), default=1)
    _check_length(len(source), batch, padded)


def _check_field(name: str, has: Field, wants: TensorType) -> None:
    shape = wants.shape[1:]
    if has.shape != shape:
        same_size = int(np.prod(has.shape)) == int(np.prod(shape))
        lengths = ", ".join(map(str, (-1, *shape)))
        raise DataError(
            f"input {name!r} takes {shape} per example, the data has {has.shape}",
            hint=f"reshape it: array.reshape({lengths})" if same_size else "",
        )
    if has.dtype != wants.dtype:
        raise DataError(
            f"input {name!r} takes {wants.dtype}, the data is {has.dtype}",
            hint=f'convert it: array.astype("{wants.dtype}")',
        )


def _check_length(length: int, batch: int, padded: bool) -> None:
    if length == 0:
        raise DataError("the data has no examples")
    if length < batch and not padded:
        raise DataError(
            f"the data has {length} examples, a batch takes {batch}",
            hint=f"declare the network with batch={length} or less, or give more data",
        )


def load_data(spec: str) -> Data:
    """Data for the command line.

    Args:
        spec: one of
            `FILE.npz`: arrays by input name, read into memory;
            a folder of `.npy` files by input name, mapped into memory;
            `FILE.py:function` (`FILE.py` alone names `data`): what `Data.of` takes.
            In a `.npz` and a folder, names that begin with `train_` and `test_` tell the two
            apart; or the folder has sub-folders `train` and `test`; else all is for training.

    Raises DataError where the data can't be read, UsageError for a spec of another form.
    """
    if os.path.isdir(spec):
        return _folder(spec)
    if spec.endswith(".npz"):
        return _npz(spec)
    if ".py" not in spec:
        raise DataError(
            f"there is no data at {spec!r}",
            hint="data is a FILE.npz, a folder of .npy files, or FILE.py:function",
        )
    function = load_function(spec, default="data", error=DataError)
    made = call(function, error=DataError)
    try:
        return Data.of(made)
    except DataError as problem:
        raise DataError(f"what {spec} returned: {problem.rule}", hint=problem.hint) from problem


def _npz(path: str) -> Data:
    try:
        # Opened here, since NumPy leaves a broken file open.
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path!r}") from error
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path!r} can't be read as a .npz file: {error}") from error
    return _divided(path, arrays, ArraySource)


def _folder(path: str) -> Data:
    train = os.path.join(path, "train")
    if os.path.isdir(train):
        test = os.path.join(path, "test")
        return Data(
            NpySource(_npy_files(train)),
            NpySource(_npy_files(test)) if os.path.isdir(test) else None,
        )
    return _divided(path, _npy_files(path), NpySource)


def _npy_files(folder: str) -> dict[str, str]:
    files = sorted(f for f in os.listdir(folder) if f.endswith(".npy"))
    if not files:
        raise DataError(f"{folder!r} has no .npy files", hint="one per input: image.npy, …")
    return {f.removesuffix(".npy"): os.path.join(folder, f) for f in files}


def _divided(
    path: str, parts: Mapping[str, _Part], make: Callable[[Mapping[str, _Part]], Source]
) -> Data:
    """By the prefixes train_ and test_; all of it for training where no name has one."""
    train = {n.removeprefix("train_"): p for n, p in parts.items() if n.startswith("train_")}
    test = {n.removeprefix("test_"): p for n, p in parts.items() if n.startswith("test_")}
    if not train and not test:
        return Data(make(parts))
    odd = [name for name in parts if not name.startswith(("train_", "test_"))]
    if odd or not train:
        names = ", ".join(parts)
        raise DataError(
            f"{path!r} has {names}: either all names begin with train_ or test_, or none does",
            hint="" if odd else "there is nothing to train on",
        )
    return Data(make(train), make(test) if test else None)
