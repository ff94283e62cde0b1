"""The algebra of regions, against sets of points and by brute force."""

from __future__ import annotations

from itertools import combinations, pairwise, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbgraph.ir.region import (
    Region,
    covers,
    disjoint,
    even_splits,
    grid,
    grid_parts,
    overlapping_pairs,
    touching,
    window_range,
)

SPAN = 6


@st.composite
def boxes(draw: st.DrawFn, rank: int, *, empty: bool = False) -> Region:
    bounds = []
    for _ in range(rank):
        a = draw(st.integers(0, SPAN - 1))
        bounds.append((a, draw(st.integers(a if empty else a + 1, SPAN))))
    return Region(tuple(bounds))


RANKS = st.integers(0, 3)
PAIRS = RANKS.flatmap(lambda r: st.tuples(boxes(r, empty=True), boxes(r, empty=True)))
LISTS = RANKS.flatmap(lambda r: st.lists(boxes(r), max_size=6))


def points(region: Region) -> set[tuple[int, ...]]:
    return set(product(*(range(a, b) for a, b in region.bounds)))


def union(regions: list[Region]) -> set[tuple[int, ...]]:
    return set().union(*map(points, regions))


def assert_apart(regions: list[Region]) -> None:
    assert all(not a.overlaps(b) for a, b in combinations(regions, 2))
    assert not any(region.empty for region in regions)


@settings(deadline=None)
@given(pair=PAIRS)
def test_algebra_of_two(pair: tuple[Region, Region]) -> None:
    a, b = pair
    common = points(a) & points(b)
    assert points(a.intersect(b)) == common
    assert a.size == len(points(a))
    assert a.empty == (not points(a))
    assert a.overlaps(b) == bool(common)
    assert a.contains(b) == (points(b) <= points(a))
    if not a.empty and not b.empty:
        hull = a.hull(b)
        assert hull.contains(a)
        assert hull.contains(b)
        assert hull == Region(
            tuple(
                (
                    min(p[k] for p in points(a) | points(b)),
                    max(p[k] for p in points(a) | points(b)) + 1,
                )
                for k in range(a.rank)
            )
        )


@settings(deadline=None)
@given(data=st.data())
def test_parts_of_a_grid(data: st.DataObject) -> None:
    bounds = st.sets(st.integers(1, SPAN - 1)).map(lambda s: (0, *sorted(s), SPAN))
    splits = data.draw(st.lists(bounds, max_size=3))
    region = data.draw(boxes(len(splits)))
    expected = [
        (index, box.intersect(region))
        for index, box in enumerate(grid(splits))
        if box.overlaps(region)
    ]
    assert grid_parts(splits, region) == expected


@settings(deadline=None)
@given(regions=LISTS)
def test_pairs_and_groups_that_overlap(regions: list[Region]) -> None:
    distinct = list(dict.fromkeys(regions))
    expected = {frozenset(p) for p in combinations(distinct, 2) if p[0].overlaps(p[1])}
    found = [frozenset(pair) for pair in overlapping_pairs(distinct)]
    assert len(found) == len(set(found))
    assert set(found) == expected
    groups = touching(distinct)
    assert sorted(box for group in groups for box in group) == sorted(distinct)
    place = {box: k for k, group in enumerate(groups) for box in group}
    assert all(len({place[box] for box in pair}) == 1 for pair in expected)
    for group in groups:  # each is connected
        reached, pending = set(group[:1]), group[:1]
        while pending:
            box = pending.pop()
            near = {other for other in group if other.overlaps(box)} - reached
            reached |= near
            pending += near
        assert reached == set(group)


@settings(deadline=None)
@given(pair=PAIRS)
def test_subtract(pair: tuple[Region, Region]) -> None:
    a, b = pair
    rest = a.subtract(b)
    assert union(rest) == points(a) - points(b)
    assert_apart(rest)
    assert len(rest) <= max(1, 2 * a.rank)


@settings(deadline=None)
@given(regions=LISTS)
def test_disjoint_has_the_same_union(regions: list[Region]) -> None:
    found = disjoint(regions)
    assert union(found) == union(regions)
    assert_apart(found)
    assert sorted(disjoint(found)) == sorted(found)


@settings(deadline=None)
@given(regions=LISTS, order=st.randoms())
def test_disjoint_does_not_depend_on_the_order(regions: list[Region], order: object) -> None:
    shuffled = list(regions)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    assert disjoint(shuffled) == disjoint(regions)


def test_disjoint_joins_and_swallows() -> None:
    whole = Region.whole((4, 4))
    assert disjoint(list(grid([(0, 1, 4), (0, 2, 4)]))) == [whole]
    assert disjoint([Region.of((1, 3), (0, 4)), whole, whole]) == [whole]
    assert disjoint([]) == []


def test_disjoint_ignores_empty_regions() -> None:
    assert disjoint([Region.of((2, 2), (0, 4)), Region.of((0, 1), (0, 4))]) == [
        Region.of((0, 1), (0, 4))
    ]


@settings(deadline=None)
@given(data=st.data(), regions=LISTS.filter(bool))
def test_covers(data: st.DataObject, regions: list[Region]) -> None:
    region = data.draw(boxes(regions[0].rank, empty=True))
    assert covers(region, regions) == (points(region) <= union(regions))


@settings(deadline=None)
@given(region=RANKS.flatmap(lambda r: boxes(r, empty=True)), data=st.data())
def test_text_and_coordinates(region: Region, data: st.DataObject) -> None:
    assert Region.parse(str(region)) == region
    offset = tuple(data.draw(st.integers(-5, 5)) for _ in range(region.rank))
    assert region.shift(offset).shift(tuple(-o for o in offset)) == region
    frame = Region.at(offset, (1,) * region.rank)
    assert region.within(frame).shift(offset) == region
    assert Region.at(region.start, region.shape) == region
    assert tuple(zip(region.start, region.stop, strict=True)) == region.bounds
    assert Region.parse(str(region.shift(offset))) == region.shift(offset)


@pytest.mark.parametrize("text", ["1", "0:1,", "a:b", "0:1:2", ":", "0:1;2:3", "0:1,2"])
def test_text_that_is_no_region(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # int's own message, or ours
        Region.parse(text)


@given(length=st.integers(0, 200), pieces=st.integers(1, 50))
def test_even_splits(length: int, pieces: int) -> None:
    bounds = even_splits(length, pieces)
    lengths = [b - a for a, b in pairwise(bounds)]
    assert (bounds[0], bounds[-1], len(lengths)) == (0, length, pieces)
    assert max(lengths) - min(lengths) <= 1
    assert min(lengths) >= 0


@settings(deadline=None)
@given(
    length=st.integers(1, 12),
    size=st.integers(1, 5),
    stride=st.integers(1, 6),
    low=st.integers(0, 4),
    out=st.tuples(st.integers(0, 6), st.integers(1, 4)),
)
def test_window_range(length: int, size: int, stride: int, low: int, out: tuple[int, int]) -> None:
    """What it reads is the hull of the windows inside the tensor; the rest is padding."""
    first, last = out[0], out[0] + out[1]
    windows = [range(i * stride - low, i * stride - low + size) for i in range(first, last)]
    touched = [p for window in windows for p in window if 0 <= p < length]
    alone = not all(any(0 <= p < length for p in window) for window in windows)
    if alone:
        return  # no op accepts a window that lies in the padding alone
    clip = window_range((first, last), size, stride, low, length)
    assert clip.range == (min(touched), max(touched) + 1) or stride > size
    assert clip.range[0] <= min(touched)
    assert clip.range[1] >= max(touched) + 1
    before, after = clip.padding
    assert before == max(0, -windows[0][0])
    assert after == max(0, windows[-1][-1] + 1 - length)
    # The same windows, over the part that is read and its own padding.
    local = before + (clip.range[1] - clip.range[0]) + after
    assert (local - size) // stride + 1 == out[1]
    assert local == (out[1] - 1) * stride + size
    if stride <= size:
        assert clip.range == (min(touched), max(touched) + 1)
