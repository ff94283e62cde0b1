"""The vector space: commands in NumPy, whole and in parts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from objectives import (
    Vector,
)

from dbgraph.optim.space import execute
from dbgraph.optim.vectors import (
    PARAMETERS,
    Add,
    Axpy,
    Batch,
    Copy,
    Dot,
    MaxAbs,
    Multiply,
    Norm,
    Scale,
    Zero,
    combine,
)

NAMES = st.sampled_from(("parameters", "a", "b"))
NUMBERS = st.floats(-3, 3, allow_subnormal=False)
COMMANDS = st.one_of(
    st.builds(Zero, NAMES),
    st.builds(Copy, NAMES, NAMES),
    st.builds(Scale, NUMBERS, NAMES),
    st.builds(Axpy, NUMBERS, NAMES, NAMES),
    st.builds(Add, NAMES, NAMES, NAMES),
    st.builds(Multiply, NAMES, NAMES, NAMES),
    st.builds(Dot, NAMES, NAMES),
    st.builds(Norm, NAMES),
    st.builds(MaxAbs, NAMES),
)


def literally(batch: Batch, v: dict[str, Vector]) -> list[float]:
    """The commands by their definitions."""
    scalars: list[float] = []
    for command in batch:
        match command:
            case Zero(out):
                v[out] = 0 * v[PARAMETERS]
            case Copy(x, out):
                v[out] = v[x].copy()
            case Scale(factor, x):
                v[x] = factor * v[x]
            case Axpy(factor, x, y):
                v[y] = factor * v[x] + v[y]
            case Add(x, y, out):
                v[out] = v[x] + v[y]
            case Multiply(x, y, out):
                v[out] = v[x] * v[y]
            case Dot(x, y):
                scalars.append(float((v[x] * v[y]).sum()))
            case Norm(x):
                scalars.append(float(np.linalg.norm(v[x])))
            case MaxAbs(x):
                scalars.append(float(np.abs(v[x]).max()))
    return scalars


@settings(max_examples=100, deadline=None)
@given(st.lists(COMMANDS, max_size=8), st.integers(1, 4), st.integers(4, 9), st.integers(0, 99))
def test_commands_do_what_they_say_on_any_number_of_shards(
    commands: list[Any], shards: int, n: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    whole = {name: rng.normal(size=n) for name in ("parameters", "a", "b")}
    parts = [
        {name: np.array_split(vector, shards)[i].copy() for name, vector in whole.items()}
        for i in range(shards)
    ]
    batch = tuple(commands)
    expected = literally(batch, whole)
    answers = [execute(batch, part) for part in parts]
    np.testing.assert_allclose(combine(batch, answers), expected, rtol=1e-9, atol=1e-9)
    for name, vector in whole.items():
        joined = np.concatenate([part[name] for part in parts])
        np.testing.assert_allclose(joined, vector, rtol=1e-12, atol=1e-12)


def test_a_vector_is_made_where_it_is_first_written() -> None:
    vectors: dict[str, Vector] = {PARAMETERS: np.ones(3, np.float32)}
    execute((Copy(PARAMETERS, "a"), Zero("b"), Add("a", "a", "c")), vectors)
    assert {name: (v.dtype, v.tolist()) for name, v in vectors.items() if name != PARAMETERS} == {
        "a": (np.float32, [1, 1, 1]),
        "b": (np.float32, [0, 0, 0]),
        "c": (np.float32, [2, 2, 2]),
    }


def test_scalar_products_of_float32_are_summed_in_float64() -> None:
    x = np.random.default_rng(0).normal(size=300_000).astype(np.float32)
    (dot,) = execute((Dot(PARAMETERS, PARAMETERS),), {PARAMETERS: x})
    assert dot == pytest.approx(float(np.sum(x.astype(np.float64) ** 2)), rel=1e-13)


def test_what_is_no_number_shows_in_every_scalar() -> None:
    batch = (Dot("x", "x"), Norm("x"), MaxAbs("x"))
    shards: list[dict[str, Vector]] = [
        {"x": np.array(part)} for part in ([1.0], [math.nan, 2.0], [3.0])
    ]
    assert all(map(math.isnan, combine(batch, [execute(batch, shard) for shard in shards])))
