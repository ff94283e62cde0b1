"""Ranges, and the ledger: no batch is lost, none is used twice."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbgraph.errors import CheckpointError, DataError
from dbgraph.ps.ledger import Ledger, LedgerState, numbers, share, used_of
from dbgraph.ps.messages import Applied
from dbgraph.ps.ranges import Ranges
from dbgraph.sampler import Batches

pairs = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=8)


def as_set(ranges: list[tuple[int, int]]) -> set[int]:
    return {n for start, stop in ranges for n in range(start, stop)}


@settings(deadline=None, max_examples=150)
@given(pairs, pairs, pairs)
def test_ranges_are_a_set(
    added: list[tuple[int, int]], removed: list[tuple[int, int]], other: list[tuple[int, int]]
) -> None:
    ranges = Ranges(added)
    for start, stop in removed:
        ranges.remove(start, stop)
    expected = as_set(added) - as_set(removed)
    assert list(ranges) == sorted(expected)
    assert len(ranges) == len(expected)
    assert all((n in ranges) == (n in expected) for n in range(42))
    assert set(ranges.intersect(other)) == expected & as_set(other)
    assert set(ranges.subtract(other)) == expected - as_set(other)
    assert list(ranges) == sorted(expected), "a set operation leaves it as it is"
    gaps = zip(ranges.pairs, ranges.pairs[1:], strict=False)
    assert all(a < b for a, b in ranges.pairs)
    assert all(stop < start for (_, stop), (start, _) in gaps), "ranges that touch are one"
    assert Ranges(ranges.pairs) == ranges


BATCHES = Batches(length=23, batch=3, seed=5)  # 7 a epoch


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_no_batch_is_lost_and_none_is_used_twice(data: st.DataObject) -> None:
    """Replicas take, push and die at random, and the run stops and goes on."""
    total = 30
    ledger = Ledger(BATCHES, total)
    held: dict[tuple[int, int], list[int]] = {}
    used: list[int] = []
    epochs = {0: 1, 1: 1, 2: 1}
    for _ in range(data.draw(st.integers(0, 60))):
        replica = data.draw(st.integers(0, 2))
        member = replica, epochs[replica]
        mine = held.setdefault(member, [])
        event = data.draw(st.sampled_from(["take", "push", "push", "die", "resume"]))
        if event == "take":
            mine += numbers(ledger.take(member, data.draw(st.integers(1, 5))))
        elif event == "push" and mine:
            count = data.draw(st.integers(1, len(mine)))
            done, held[member] = mine[:count], mine[count:]
            used += done
            ledger.applied(member, tuple((n, n + 1) for n in done))
        elif event == "die":
            # Some pushes were applied that nobody has told of.
            count = data.draw(st.integers(0, len(mine)))
            used += mine[:count]
            applied = tuple((n, n + 1) for n in mine[:count])
            row = Applied(*member[:1], 0, member[1], 1, applied)
            assert sorted(numbers(ledger.close(member, [row]))) == sorted(mine[count:])
            held.pop(member)
            epochs[replica] += 1
        elif event == "resume":
            ledger = Ledger.resume(ledger.state(ledger.used), BATCHES, total)
            held.clear()
        assert len(used) == len(set(used)), "used twice"
        assert set(numbers(ledger.used)) == set(used)
        out = [n for batches in held.values() for n in batches]
        assert len(out) == len(set(out)) == ledger.out
        assert ledger.free + ledger.out + len(used) == total
        assert ledger.is_complete == (len(used) == total)
    last = list(numbers(ledger.take((9, 1), total)))
    assert sorted(used + last + [n for b in held.values() for n in b]) == list(range(total))


def test_an_epoch_of_batches_is_each_example_once() -> None:
    ledger = Ledger(BATCHES, 14)
    seen: list[int] = []
    for replica in (0, 1, 0, 1, 2):
        for number in numbers(ledger.take((replica, 1), 3)):
            if BATCHES.epoch(number) == 1:
                seen += BATCHES.examples(number).tolist()
    assert len(seen) == len(set(seen)) == 21
    assert ledger.free == 0


def test_batches_of_a_push_that_only_some_shards_have_are_used_and_told() -> None:
    ledger = Ledger(BATCHES, 9)
    ledger.take((0, 1), 4)
    rows = [
        Applied(0, 0, 1, 2, ((0, 2),)),  # a shard that has two pushes
        Applied(0, 0, 1, 1, ((0, 1),)),  # one that has the first only
    ]
    assert ledger.close((0, 1), rows) == ((2, 4),)
    assert ledger.used == ((0, 2),)
    assert ledger.partial.pairs == ((1, 2),)
    used, partial = used_of([*rows, Applied(1, 0, 1, 1, ((7, 8),))])
    assert (used.pairs, partial.pairs) == (((0, 2), (7, 8)), ((1, 2),))


@pytest.mark.parametrize(("name", "value"), [("length", 24), ("batch", 2), ("seed", 6)])
def test_a_ledger_of_other_data_is_refused(name: str, value: int) -> None:
    fields = {"length": 23, "batch": 3, "seed": 5, name: value}
    with pytest.raises(CheckpointError, match=f"{name} {value} of its training data"):
        Ledger.resume(LedgerState(**fields), BATCHES, 9)


def test_shares_fit_the_data() -> None:
    assert share(BATCHES, 2, 16) == 3
    assert share(BATCHES, 7, 16) == 1
    assert share(BATCHES, 1, 2) == 2
    with pytest.raises(DataError, match="23 examples make 7 batches of 3, too few for 8 replicas"):
        share(BATCHES, 8, 1)
