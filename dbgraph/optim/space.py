"""The vector space of `vectors` in NumPy: of one process, or of one shard's part."""

from __future__ import annotations

import math
from collections.abc import Callable, MutableMapping
from typing import Any

import numpy as np
import numpy.typing as npt

from dbgraph.optim.vectors import (
    PARAMETERS,
    Add,
    AnyCommand,
    Axpy,
    Batch,
    Copy,
    Dot,
    Evaluate,
    MaxAbs,
    Multiply,
    Norm,
    Report,
    Scalars,
    Scale,
    Steps,
    T,
    Zero,
)

Vector = npt.NDArray[np.floating[Any]]
Objective = Callable[[Vector], tuple[float, Vector]]
"""parameters[n] → (loss, gradient[n])."""

_CHUNK = 1 << 16


def execute(batch: Batch, vectors: MutableMapping[str, Vector]) -> Scalars:
    """Executes a batch on the vectors, in place; returns its scalars.

    Args:
        vectors: by name, all of one shape [n] and type; PARAMETERS is there.
    """
    answers = (_execute(command, vectors) for command in batch)
    return tuple(answer for answer in answers if answer is not None)


def _execute(command: AnyCommand, v: MutableMapping[str, Vector]) -> float | None:
    match command:
        case Zero(out):
            _place(v, out).fill(0)
        case Copy(x, out):
            np.copyto(_place(v, out), v[x])
        case Scale(factor, x):
            v[x] *= factor
        case Axpy(factor, x, y):
            v[y] += factor * v[x]
        case Add(x, y, out):
            np.add(v[x], v[y], out=_place(v, out))
        case Multiply(x, y, out):
            np.multiply(v[x], v[y], out=_place(v, out))
        case Dot(x, y):
            return _dot(v[x], v[y])
        case Norm(x):
            return math.sqrt(_dot(v[x], v[x]))
        case MaxAbs(x):
            return float(np.max(np.abs(v[x]), initial=0.0))
    return None


def _place(v: MutableMapping[str, Vector], name: str) -> Vector:
    if name not in v:
        v[name] = np.empty_like(v[PARAMETERS])
    return v[name]


def _dot(x: Vector, y: Vector) -> float:
    # In pieces that stay in the cache: a float64 copy of a whole float32 vector would not.
    pieces = range(0, len(x), _CHUNK)
    return sum(float(_wide(x[i : i + _CHUNK]) @ _wide(y[i : i + _CHUNK])) for i in pieces)


def _wide(x: Vector) -> Vector:
    return x.astype(np.float64, copy=False)


class LocalSpace:
    """All vectors in one process.

    Args:
        parameters: [n], the start; copied.
    """

    def __init__(self, parameters: Vector, objective: Objective) -> None:
        self.vectors: dict[str, Vector] = {PARAMETERS: np.array(parameters)}
        self._objective = objective

    @property
    def parameters(self) -> Vector:
        return self.vectors[PARAMETERS]

    def execute(self, batch: Batch) -> Scalars:
        return execute(batch, self.vectors)

    def evaluate(self, out: str) -> float:
        loss, gradient = self._objective(self.parameters)
        np.copyto(_place(self.vectors, out), gradient)
        return float(loss)


def _unread(report: Report) -> None:
    """Nobody watches."""


def run(steps: Steps[T], space: LocalSpace, report: Callable[[Report], None] = _unread) -> T:
    """Runs an algorithm to its end; returns its result. `report` is called for each `Report`."""
    try:
        request = next(steps)
        while True:
            request = steps.send(_answer(request, space, report))
    except StopIteration as end:
        result: T = end.value
        return result


def _answer(
    request: Batch | Evaluate | Report, space: LocalSpace, report: Callable[[Report], None]
) -> Scalars:
    match request:
        case Evaluate(out):
            return (space.evaluate(out),)
        case Report():
            report(request)
            return ()
        case _:
            return space.execute(request)
