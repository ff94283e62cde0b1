"""The portions of a batch: who computes which, in whose accumulator each one is, which ones count.

| phase     | given   | granted | released | freed   | counted |
|-----------|---------|---------|----------|---------|---------|
| waiting   | running |         |          |         |         |
| running   | running | held    |          | waiting |         |
| held      | held    | held    | running  | waiting | counted |
| counted   |         |         |          |         |         |

What a portion adds to the gradient lies in an accumulator on a replica, and then, staged, on the
shards; it counts only when that push is committed. Until then it may be given to another replica
too, and be held twice: `count` names the pushes that must then never be committed. So each
portion is in the committed sum exactly once.
"""

from __future__ import annotations

from collections import defaultdict
from enum import Enum
from itertools import pairwise

from dbgraph.errors import UsageError

PushName = tuple[int, int, int]
"""(replica, epoch, sequence)."""


class Phase(Enum):
    """What is known of a portion."""

    WAITING = "nobody has it"
    RUNNING = "one replica or more compute it"
    HELD = "in one accumulator or more, or staged"
    COUNTED = "committed"


class Event(Enum):
    """What may happen to a portion."""

    GIVEN = "a replica is told to compute it, perhaps one more"
    GRANTED = "a replica may add it to its accumulator"
    RELEASED = "no accumulator has it any more, a replica still computes it"
    FREED = "neither an accumulator nor a replica has it any more"
    COUNTED = "a push with it is committed"


TRANSITIONS = {
    (Phase.WAITING, Event.GIVEN): Phase.RUNNING,
    (Phase.RUNNING, Event.GIVEN): Phase.RUNNING,
    (Phase.RUNNING, Event.GRANTED): Phase.HELD,
    (Phase.RUNNING, Event.FREED): Phase.WAITING,
    (Phase.HELD, Event.GIVEN): Phase.HELD,
    (Phase.HELD, Event.GRANTED): Phase.HELD,
    (Phase.HELD, Event.RELEASED): Phase.RUNNING,
    (Phase.HELD, Event.FREED): Phase.WAITING,
    (Phase.HELD, Event.COUNTED): Phase.COUNTED,
}


def cut(examples: int, size: int) -> tuple[tuple[int, int], ...]:
    """Ranges of at most `size` examples that together are [0, examples)."""
    if examples < 1 or size < 1:
        raise UsageError(f"a batch of {examples} examples in portions of {size}: at least 1 each")
    return tuple(pairwise([*range(0, examples, size), examples]))


class Portions:
    """The portions of one evaluation, numbered from 0; neighbours' data lie side by side."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.phases = [Phase.WAITING] * count
        self.waiting = set(range(count))
        self.counted = 0
        self._computing: defaultdict[int, set[int]] = defaultdict(set)
        self._holding: defaultdict[int, set[PushName]] = defaultdict(set)

    def give(self, portion: int, replica: int) -> None:
        self._happen(portion, Event.GIVEN)
        self._computing[portion].add(replica)
        self.waiting.discard(portion)

    def grant(self, portion: int, push: PushName) -> None:
        self._happen(portion, Event.GRANTED)
        self._holding[portion].add(push)

    def end(self, portion: int, replica: int) -> None:
        """The replica computes it no more."""
        self._computing[portion].discard(replica)
        self._settle(portion)

    def release(self, portion: int, push: PushName) -> None:
        """The push is void."""
        self._holding[portion].discard(push)
        self._settle(portion)

    def count_in(self, portion: int, push: PushName) -> set[PushName]:
        """The push is committed; returns the others that have the portion too: void them."""
        self._happen(portion, Event.COUNTED)
        self.counted += 1
        return self._holding.pop(portion) - {push}

    def next_for(self, last: int | None, home: int | None) -> int:
        """Of those that wait, the one after a replica's last; else its home; else the middle of
        the longest run, which leaves neighbours to whoever comes from its left."""
        for wanted in (None if last is None else last + 1, home):
            if wanted in self.waiting:
                return wanted
        start, stop = max(self._runs(), key=lambda run: (run[1] - run[0], -run[0]))
        return (start + stop) // 2

    def _runs(self) -> list[tuple[int, int]]:
        waiting = sorted(self.waiting)
        breaks = [i for i in range(1, len(waiting)) if waiting[i] != waiting[i - 1] + 1]
        edges = pairwise([0, *breaks, len(waiting)])
        return [(waiting[a], waiting[b - 1] + 1) for a, b in edges]

    def _settle(self, portion: int) -> None:
        if self.phases[portion] is Phase.COUNTED or self._holding[portion]:
            return
        if not self._computing[portion]:
            self._happen(portion, Event.FREED)
            self.waiting.add(portion)
        elif self.phases[portion] is Phase.HELD:
            self._happen(portion, Event.RELEASED)

    def _happen(self, portion: int, event: Event) -> None:
        self.phases[portion] = TRANSITIONS[self.phases[portion], event]
