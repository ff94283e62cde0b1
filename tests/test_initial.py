"""Initial values: the same whatever the region, of the law that was asked for."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbgraph import initial
from dbgraph.dsl.initialisers import KINDS
from dbgraph.errors import NetworkError
from dbgraph.initial import LAWS, initial_values
from dbgraph.ir.region import Region

NUMBERS = {"value": 0.5, "low": -2.0, "high": 1.0, "mean": 3.0, "std": 2.0, "fan_in": 6.0}


def init_of(kind: str) -> tuple[Any, ...]:
    return (kind, *(NUMBERS.get(what, 10.0) for what in KINDS[kind]))


def whole(
    init: tuple[Any, ...],
    shape: tuple[int, ...],
    name: str = "w",
    seed: int = 0,
    of: str = "float64",
) -> np.ndarray:
    return initial_values(name, init, seed, shape, Region.whole(shape), of)


def test_every_kind_that_can_be_said_has_a_law() -> None:
    assert set(LAWS) == set(KINDS)


@st.composite
def regions(draw: Any) -> tuple[tuple[int, ...], Region]:
    shape = draw(st.lists(st.integers(1, 9), max_size=4).map(tuple))
    bounds = []
    for n in shape:
        a = draw(st.integers(0, n - 1))
        bounds.append((a, draw(st.integers(a + 1, n))))
    return shape, Region(tuple(bounds))


@settings(deadline=None, max_examples=150)
@given(
    regions(),
    st.sampled_from(sorted(KINDS)),
    st.sampled_from(["float64", "float32", "float16", "bfloat16"]),
    st.integers(0, 2**40),
    st.sampled_from([1, 7, 1 << 15]),
)
def test_a_region_is_the_slice_of_the_whole(
    case: tuple[tuple[int, ...], Region], kind: str, dtype: str, seed: int, chunk: int
) -> None:
    shape, region = case
    init = init_of(kind)
    expected = whole(init, shape, "layer/weights", seed, dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(initial, "_CHUNK", chunk)
        part = initial_values("layer/weights", init, seed, shape, region, dtype)
    assert part.dtype == expected.dtype
    assert part.shape == region.shape
    np.testing.assert_array_equal(part, expected[region.slices()])


def test_the_laws_have_their_moments() -> None:
    shape = (400, 500)
    cases = {
        ("uniform", -2.0, 1.0): (-0.5, 3 / sqrt(12)),
        ("normal", 3.0, 2.0): (3.0, 2.0),
        ("glorot_uniform", 400.0, 500.0): (0.0, sqrt(2 / 900)),
        ("glorot_normal", 400.0, 500.0): (0.0, sqrt(2 / 900)),
        ("he_uniform", 400.0): (0.0, sqrt(2 / 400)),
        ("he_normal", 400.0): (0.0, sqrt(2 / 400)),
        ("lecun_uniform", 400.0): (0.0, sqrt(1 / 400)),
        ("lecun_normal", 400.0): (0.0, sqrt(1 / 400)),
    }
    for init, (mean, std) in cases.items():
        x = whole(init, shape)
        assert abs(x.mean() - mean) < 0.01 * std, init
        assert abs(x.std() - std) < 0.01 * std, init
    x = whole(("uniform", -2.0, 1.0), shape)
    assert -2 < x.min() < -1.999
    assert 0.999 < x.max() < 1


def test_normal_values_are_normal_and_do_not_repeat() -> None:
    x = np.sort(whole(("normal", 0.0, 1.0), (100_000,)))
    for bound, share in ((-2, 0.02275), (-1, 0.15866), (0, 0.5), (1, 0.84134), (3, 0.99865)):
        assert abs(np.searchsorted(x, bound) / x.size - share) < 0.004
    assert np.unique(x).size > 99_990
    y = whole(("normal", 0.0, 1.0), (100_000,))
    assert abs(np.corrcoef(y[:-1], y[1:])[0, 1]) < 0.01


def test_constants() -> None:
    assert (whole(("zeros",), (3, 2)) == 0).all()
    assert (whole(("ones",), (3, 2)) == 1).all()
    assert whole(("constant", 0.25), ()) == 0.25


def test_name_and_seed_choose_the_values_and_the_dtype_only_rounds_them() -> None:
    init, shape = ("normal", 0.0, 1.0), (50, 20)
    base = whole(init, shape)
    np.testing.assert_array_equal(base, whole(init, shape))
    for other in (whole(init, shape, name="v"), whole(init, shape, seed=1)):
        assert abs(np.corrcoef(base.ravel(), other.ravel())[0, 1]) < 0.15
        assert not (base == other).any()
    np.testing.assert_array_equal(base.astype(np.float32), whole(init, shape, of="float32"))


def test_indices_beyond_32_bits_have_values_of_their_own() -> None:
    shape = (3, 2**32)
    rows = [
        initial_values(
            "w", ("normal", 0.0, 1.0), 0, shape, Region.of((i, i + 1), (0, 100)), "float64"
        )
        for i in range(3)
    ]
    assert not (rows[0] == rows[1]).any()
    across = initial_values(
        "w", ("normal", 0.0, 1.0), 0, (2**33,), Region.of((2**32 - 50, 2**32 + 50)), "float64"
    )
    np.testing.assert_array_equal(across[50:], rows[1][0, :50])


def test_what_is_asked_wrongly_is_refused() -> None:
    with pytest.raises(NetworkError, match="no initialiser 'he'"):
        whole(("he", 1.0), (3,))
    with pytest.raises(NetworkError, match="wrong numbers"):
        whole(("uniform", 1.0), (3,))
    with pytest.raises(NetworkError, match="does not lie in parameter 'w'"):
        initial_values("w", ("zeros",), 0, (3,), Region.of((2, 4)), "float32")
