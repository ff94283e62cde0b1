"""Codecs: what comes back is near what went in, and takes fewer bytes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dbgraph.errors import RunError
from dbgraph.ir.region import Region
from dbgraph.ir.types import TensorType
from dbgraph.optim.sparse import Rows
from dbgraph.ps.compress import BLOCK, CODECS, Compression, decode
from dbgraph.ps.layout import Owned
from dbgraph.ps.messages import Part
from dbgraph.ps.packing import check_disjoint, pack, part_of, unpack
from dbgraph.wire.parcel import DTYPES

finite = hnp.arrays(
    st.sampled_from([np.float32, np.float64]),
    hnp.array_shapes(max_dims=3, max_side=20),
    elements=st.floats(-1e4, 1e4, width=32).map(lambda x: 0.0 if abs(x) < 1e-3 else x),
)


def through(codec: str, values: np.ndarray) -> np.ndarray:
    return decode(codec, Compression.parse(codec).encode(values), values.shape, values.dtype)


@settings(deadline=None, max_examples=40)
@given(finite)
def test_what_comes_back_is_near(values: np.ndarray) -> None:
    np.testing.assert_array_equal(through("none", values), values)
    np.testing.assert_allclose(through("bfloat16", values), values, rtol=2**-8)
    np.testing.assert_allclose(through("float16", values), values, rtol=2**-11)
    everything = Compression("topk", 1.0).encode(values)
    np.testing.assert_array_equal(decode("topk", everything, values.shape, values.dtype), values)
    rounded = through("int8", values).reshape(-1)
    flat = values.reshape(-1)
    for start in range(0, len(flat), BLOCK):
        block = slice(start, start + BLOCK)
        bound = np.abs(flat[block]).max() / 254 * 1.001
        assert np.abs(rounded[block] - flat[block]).max() <= bound


@settings(deadline=None, max_examples=40)
@given(finite, st.floats(0.01, 1.0))
def test_topk_sends_the_largest(values: np.ndarray, fraction: float) -> None:
    compression = Compression("topk", fraction)
    indices, kept = compression.encode(values)
    assert len(indices) == min(values.size, int(np.ceil(fraction * values.size)))
    assert len(set(indices.tolist())) == len(indices)
    back = decode("topk", (indices, kept), values.shape, values.dtype).reshape(-1)
    np.testing.assert_array_equal(back[indices], values.reshape(-1)[indices])
    left = np.delete(values.reshape(-1), indices)
    assert np.all(np.delete(back, indices) == 0)
    assert left.size == 0 or np.abs(left).max() <= np.abs(kept).min()


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_not_finite_shows(codec: str, broken: float, dtype: type) -> None:
    values = np.linspace(-2, 2, 600).astype(dtype)
    values[300] = broken
    back = through(codec, values)
    assert not np.isfinite(back[300])
    assert np.isfinite(back[:250]).all(), "it stays in its block"


def test_float16_has_no_infinity_of_its_own() -> None:
    values = np.array([1e6, -1e6, 7.0], np.float32)
    np.testing.assert_array_equal(through("float16", values), [65504, -65504, 7])


def test_bytes() -> None:
    values = np.random.default_rng(0).normal(size=(64, 100)).astype(np.float32)
    expected = {"none": 25600, "bfloat16": 12800, "float16": 12800, "int8": 6400 + 100}
    for codec, size in expected.items():
        assert sum(a.nbytes for a in Compression.parse(codec).encode(values)) == size
    assert sum(a.nbytes for a in Compression("topk", 0.01).encode(values)) == 64 * 8


@pytest.mark.parametrize("codec", ["bfloat16", "float16", "int8", "topk"])
def test_the_sum_of_what_was_sent_keeps_up_with_error_feedback(codec: str) -> None:
    rng = np.random.default_rng(3)
    compression = Compression(codec, 0.05)
    rest, sent, true = np.zeros(1000), np.zeros(1000), np.zeros(1000)
    for _ in range(100):
        gradient = rng.normal(size=1000)
        true += gradient
        rest += gradient
        seen = decode(codec, compression.encode(rest), rest.shape, rest.dtype)
        sent += seen
        rest -= seen
    np.testing.assert_allclose(sent + rest, true, atol=1e-10)
    assert np.abs(rest).max() < 25, "what is held back stays bounded"


TYPES = {"w": TensorType((6, 4)), "e": TensorType((10, 2), "bfloat16")}


@pytest.mark.parametrize("codec", CODECS)
def test_parts_are_packed_and_unpacked(codec: str) -> None:
    bfloat16 = DTYPES["bfloat16"]
    rows = Rows(np.array([2, 7]), np.array([[1, 2], [3, 4]], bfloat16))
    dense = np.arange(8, dtype=np.float32).reshape(2, 4)
    region, table = Region.of((1, 3), (0, 4)), Region.of((0, 10), (0, 2))
    parts = part_of(Owned("w", region), dense), part_of(Owned("e", table), rows)
    assert parts[1].rows
    arrays = pack([dense, rows], Compression(codec, 1.0))
    (one, values), (_, sparse) = unpack(parts, codec, arrays, TYPES)
    assert one == Owned("w", region)
    assert isinstance(values, np.ndarray)
    np.testing.assert_allclose(values, dense, atol=7 / 254)
    assert isinstance(sparse, Rows)
    np.testing.assert_array_equal(sparse.indices, rows.indices)
    np.testing.assert_array_equal(sparse.values, rows.values)


def test_arrays_that_do_not_fit_are_refused() -> None:
    whole = part_of(Owned("w", Region.of((0, 6), (0, 4))))
    good = np.zeros((6, 4), np.float32)
    cases = [
        ((whole,), "int9", (good,), "no compression 'int9'"),
        ((whole,), "none", (good, good), "2 arrays for 1 parts"),
        ((whole,), "none", (good.T,), r"float32\[4, 6\] came, not float32\[6, 4\]"),
        ((whole,), "none", (good.astype(np.float64),), "float64"),
        ((whole,), "int8", (np.zeros(9, np.int8), np.ones(1, np.float32)), "reshape"),
        ((whole,), "topk", (np.array([99], np.uint32), np.ones(1, np.float32)), "out of bounds"),
        ((Part("v", ((0, 1),)),), "none", (np.zeros(1),), "no parameter 'v'"),
    ]
    for parts, codec, arrays, message in cases:
        with pytest.raises(RunError, match=message):
            unpack(parts, codec, arrays, TYPES)
    with pytest.raises(RunError, match="overlap"):
        check_disjoint((whole, Part("w", ((5, 6), (3, 4)))))
    with pytest.raises(RunError, match="overlap"):
        check_disjoint((whole, Part("w", ((5, 6),))))
    check_disjoint((whole, Part("v", ((5, 6),))))
