"""State: regions of tensors, put together from any tiling."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbgraph.errors import CheckpointError
from dbgraph.ir.region import Region, grid
from dbgraph.state import State


@st.composite
def shapes_and_regions(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[Region, ...], Region]:
    """A shape, a random tiling of it in random order, and a region of it."""
    shape = tuple(draw(st.lists(st.integers(1, 7), max_size=3)))
    splits = [
        (0, *sorted(draw(st.sets(st.integers(1, n - 1), max_size=3)) if n > 1 else ()), n)
        for n in shape
    ]
    tiling = draw(st.permutations(list(grid(splits))))
    bounds = []
    for n in shape:
        low = draw(st.integers(0, n - 1))
        bounds.append((low, draw(st.integers(low + 1, n))))
    return shape, tuple(tiling), Region(tuple(bounds))


def tensor(shape: tuple[int, ...]) -> np.ndarray:
    return np.arange(float(np.prod(shape, dtype=int))).reshape(shape)


@settings(deadline=None, max_examples=80)
@given(shapes_and_regions())
def test_a_region_of_any_tiling_is_the_slice_of_the_whole(
    case: tuple[tuple[int, ...], tuple[Region, ...], Region],
) -> None:
    shape, tiling, region = case
    whole = tensor(shape)
    state = State(0, {("", "w"): tuple((box, whole[box.slices()]) for box in tiling)})
    np.testing.assert_array_equal(state.region("w", region), whole[region.slices()])
    np.testing.assert_array_equal(state.whole("w"), whole)


@settings(deadline=None, max_examples=50)
@given(shapes_and_regions(), st.integers(1, 4))
def test_merging_the_partitions_shares_gives_the_whole(
    case: tuple[tuple[int, ...], tuple[Region, ...], Region], partitions: int
) -> None:
    shape, tiling, _ = case
    whole = tensor(shape)
    shares = [
        State(
            7,
            {("0.mu", "w"): tuple((box, whole[box.slices()]) for box in tiling[p::partitions])},
            {"0.count": np.array(7)},
        )
        for p in range(partitions)
    ]
    merged = State.merge(shares)
    assert merged.step == 7
    assert merged.scalars == {"0.count": np.array(7)}
    np.testing.assert_array_equal(merged.whole("w", "0.mu"), whole)


def test_the_exact_piece_is_not_copied() -> None:
    piece = tensor((2, 3))
    state = State(0, {("", "w"): ((Region.of((2, 4), (0, 3)), piece),)})
    assert state.region("w", Region.of((2, 4), (0, 3))) is piece


def test_what_is_not_held_is_an_error_that_names_it() -> None:
    state = State(0, {("", "w"): ((Region.of((0, 2)), np.zeros(2)),)})
    with pytest.raises(CheckpointError, match=r"'w': \[0:3\] is asked for.*holds \[0:2\]"):
        state.region("w", Region.of((0, 3)))
    with pytest.raises(CheckpointError, match="asked for"):
        state.region("w", Region.of((0, 2), (0, 1)))
    with pytest.raises(CheckpointError, match=r"holds no 'w', slot '0\.mu'"):
        state.region("w", Region.of((0, 2)), "0.mu")
    with pytest.raises(CheckpointError, match="holds no 'v'"):
        state.whole("v")


def test_boxes_that_touch_are_found() -> None:
    """Every pair of neighbours in a cut vector, one element each side of the boundary."""
    whole = tensor((10,))
    bounds = (0, 3, 5, 8, 10)
    pieces = tuple((Region.of(b), whole[slice(*b)]) for b in pairwise(bounds))
    state = State(0, {("", "w"): pieces})
    for bound in bounds[1:-1]:
        region = Region.of((bound - 1, bound + 1))
        np.testing.assert_array_equal(state.region("w", region), whole[bound - 1 : bound + 1])
