"""Evaluates the model on held-out data, beside the training.

| phase     | event                    | then                                       |
|-----------|--------------------------|--------------------------------------------|
| idle      | Appraise                 | fetching: a Fetch to every shard           |
| fetching  | the last Fetched         | Holding → coordinator; computing           |
| computing | done                     | Appraised → coordinator; the next, or idle |
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from dbgraph.actor import COORDINATOR, Address, Arrays, Envelope
from dbgraph.actors.messages import Appraise, Appraised, Holding
from dbgraph.errors import RunError
from dbgraph.ps.layout import Layout
from dbgraph.ps.messages import READER, Fetch, Fetched, Refused
from dbgraph.ps.packing import part_of, region_of
from dbgraph.state import Pieces, State

Score = Callable[[State, Appraise], Appraised]
"""Evaluates a whole model."""


class Evaluator:
    """The actor; it needs no admission, since it only reads."""

    deadline: float | None = None

    def __init__(self, layout: Layout, score: Score) -> None:
        self.is_over = False
        self._parts = [tuple(map(part_of, owned)) for owned in layout.shards]
        self._score = score
        self._asked: deque[Appraise] = deque()
        self._arrays: dict[int, Arrays] = {}
        self._is_fetching = False

    def start(self, now: float) -> Iterable[Envelope]:
        return []

    def receive(
        self, sender: Address, message: Any, arrays: Arrays, now: float
    ) -> Iterable[Envelope]:
        match message:
            case Appraise():
                self._asked.append(message)
                return self._fetch() if len(self._asked) == 1 else []
            case Fetched() if self._is_fetching and message.number == self._asked[0].number:
                return self._fetched(sender.number, arrays)
            case Refused(detail=detail):
                raise RunError(f"{sender} lets the evaluator fetch nothing: {detail}")
        return []

    def lost(self, peer: Address, now: float) -> Iterable[Envelope]:
        self.is_over |= peer == COORDINATOR
        return []

    def work(self) -> Iterable[Envelope] | None:
        if not self._asked or self._is_fetching:
            return None
        found = self._score(self._state(), self._asked.popleft())
        return [Envelope(COORDINATOR, found), *(self._fetch() if self._asked else [])]

    def tick(self, now: float) -> Iterable[Envelope]:
        return []

    def _fetch(self) -> list[Envelope]:
        self._is_fetching, self._arrays = True, {}
        number = self._asked[0].number
        return [
            Envelope(Address("shard", shard), Fetch(READER, 0, 0, number, 0, parts))
            for shard, parts in enumerate(self._parts)
        ]

    def _fetched(self, shard: int, arrays: Arrays) -> Iterable[Envelope]:
        self._arrays[shard] = arrays
        if len(self._arrays) < len(self._parts):
            return []
        self._is_fetching = False
        return [Envelope(COORDINATOR, Holding(self._asked[0].number))]

    def _state(self) -> State:
        tensors: dict[tuple[str, str], Pieces] = {}
        for shard, parts in enumerate(self._parts):
            for part, array in zip(parts, self._arrays[shard], strict=True):
                one = region_of(part)
                key = "", one.parameter
                tensors[key] = (*tensors.get(key, ()), (one.region, array))
        return State(0, tensors)
