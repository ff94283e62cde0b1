"""What the driver has of all processes' notes, and how their clocks go."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Mapping
from threading import Lock

from dbgraph.trace.clock import Alignment
from dbgraph.trace.events import WIDTH, Noted, Recorder, Row

DRIVER = "driver"
MOST_ROWS = 500_000
"""40 MB; then the oldest go."""


class Collector:
    """Takes notes from any thread.

    Args:
        most_rows: how many are kept, over all processes.
    """

    def __init__(self, most_rows: int = MOST_ROWS) -> None:
        self._most = most_rows
        self._lock = Lock()
        self._names: dict[str, list[str]] = defaultdict(list)
        self._chunks: deque[tuple[str, Noted]] = deque()
        self._held = 0
        self._lost: Counter[str] = Counter()
        self._alignments: dict[str, Alignment] = {}

    def add(self, process: str, noted: Noted) -> None:
        """What a process noted since the last time."""
        with self._lock:
            self._names[process].extend(noted.names)
            self._lost[process] += noted.lost
            self._chunks.append((process, noted))
            self._held += len(noted.rows) // WIDTH
            while self._held > self._most and len(self._chunks) > 1:
                who, gone = self._chunks.popleft()
                self._held -= len(gone.rows) // WIDTH
                self._lost[who] += len(gone.rows) // WIDTH

    def take_due(self, process: str, recorder: Recorder) -> None:
        """From a recorder in the driver's own process, if it is time."""
        if recorder.is_due:
            self.add(process, recorder.take())

    def align(self, process: str, alignment: Alignment) -> None:
        """How a process's clock goes."""
        with self._lock:
            self._alignments[process] = alignment

    # For `assemble`

    @property
    def lost(self) -> Mapping[str, int]:
        """By process the rows that were dropped, always the oldest."""
        return self._lost

    @property
    def processes(self) -> tuple[str, ...]:
        return tuple(self._names)

    def names(self, process: str) -> list[str]:
        return self._names[process]

    def rows(self, process: str) -> list[Row]:
        """In the order in which they were noted."""
        found = []
        for who, noted in self._chunks:
            if who == process:
                numbers = noted.rows
                found += [Row(*numbers[i : i + WIDTH]) for i in range(0, len(numbers), WIDTH)]
        return found

    def alignment(self, process: str) -> Alignment:
        """That of a process of which none is known is the driver's own clock."""
        return self._alignments.get(process, Alignment())
