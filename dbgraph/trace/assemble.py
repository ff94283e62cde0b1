"""Notes of all processes → one trace, on the driver's clock, in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from dbgraph.plan.plan import Plan
from dbgraph.trace.clock import Alignment
from dbgraph.trace.collect import Collector
from dbgraph.trace.events import KINDS, ORDER, RECEIVE, RUN, SEND, UPDATE, Row
from dbgraph.trace.model import Clock, Event, Process, Trace, Words, in_order
from dbgraph.trace.words import PlanWords, mark_of, partition_of

_LOW = (1 << 32) - 1
_INSTRUCTIONS = frozenset({RUN, UPDATE, SEND, RECEIVE})
Runs = Mapping[int, int]
"""A run's number → the step's."""


def assemble(
    collector: Collector, plans: Mapping[str, Plan], backend: str, ended: str = ""
) -> Trace:
    """Args:
    plans: by their names in the job.
    ended: why the run ended before its time.
    """
    rows = {name: collector.rows(name) for name in collector.processes}
    aligned = {
        name: _on_drivers_clock(found, collector.alignment(name)) for name, found in rows.items()
    }
    whole = _whole(aligned, collector.lost)
    begin = min((row.start for found in whole.values() for row in found), default=0)
    words = {name: PlanWords(plan) for name, plan in plans.items()}
    steps = _steps(whole)
    processes = []
    for name, found in whole.items():
        writing = _Writing(name, collector.names(name), words, steps, begin)
        clock = _clock(rows[name], collector.alignment(name))
        processes.append(Process(name, clock, in_order(map(writing.event, found))))
    return Trace(
        backend=backend,
        plans={name: mark_of(plan) for name, plan in plans.items()},
        processes=tuple(sorted(processes, key=lambda process: _order(process.name))),
        lost=sum(collector.lost.values()),
        ended=ended,
    )


class _Writing:
    """One process's rows as events."""

    def __init__(
        self,
        process: str,
        names: Sequence[str],
        words: Mapping[str, PlanWords],
        steps: Runs,
        begin: int,
    ) -> None:
        self._process, self._names, self._words = process, names, words
        self._steps, self._begin = steps, begin
        self._partition = partition_of(process)

    def event(self, row: Row) -> Event:
        name, instruction = self._names[row.name], row.kind in _INSTRUCTIONS
        found = self._about(row, name) if instruction else Words(name)
        in_plan = instruction or row.kind == ORDER
        return Event(
            kind=KINDS[row.kind],
            name=found.name,
            start_ns=row.start - self._begin,
            stop_ns=row.stop - self._begin,
            arrived_ns=row.arrived - self._begin if row.arrived else None,
            plan=name if in_plan else "",
            run=row.run,
            step=self._step(row),
            number=row.number,
            microbatch=row.microbatch,
            peer=found.peer or self._names[row.peer],
            size_bytes=found.size_bytes or row.size_bytes,
            layers=found.layers,
            ops=found.ops,
            source=found.source,
        )

    def _about(self, row: Row, plan: str) -> Words:
        words = self._words[plan]
        if row.kind == UPDATE:
            return Words("update")
        if row.kind == RUN:
            assert self._partition is not None, "programs are run by partitions"
            return words.segment(self._partition, row.number)
        return words.transfer(self._process, row.number, row.kind == SEND)

    def _step(self, row: Row) -> int:
        if row.kind == ORDER:
            return row.number
        return self._steps.get(row.run, row.run & _LOW) if row.run else -1


def _steps(rows: Mapping[str, Sequence[Row]]) -> Runs:
    """As the driver's orders say."""
    return {row.run: row.number for found in rows.values() for row in found if row.kind == ORDER}


def _on_drivers_clock(rows: Iterable[Row], alignment: Alignment) -> list[Row]:
    if not any(anchor.ahead for anchor in alignment.anchors):
        return list(rows)
    ahead = alignment.ahead
    return [
        row._replace(
            start=row.start - ahead(row.start),
            stop=row.stop - ahead(row.stop),
            arrived=row.arrived and row.arrived - ahead(row.arrived),
        )
        for row in rows
    ]


def _clock(rows: Sequence[Row], alignment: Alignment) -> Clock:
    if not alignment.known:
        return Clock(uncertainty_ns=-1)
    begin = min((row.start for row in rows), default=0)
    end = max((row.stop for row in rows), default=0)
    ahead, error = alignment.estimated
    shared = not any(anchor.ahead for anchor in alignment.anchors)
    uncertainty = alignment.uncertainty(begin, end)
    return Clock(ahead, error, uncertainty, alignment.drift, alignment.samples, shared)


def _whole(rows: Mapping[str, list[Row]], lost: Mapping[str, int]) -> dict[str, list[Row]]:
    """Without what was before the first that all have, and without runs that began before it:
    every run in a trace is whole."""
    cut = [min(r.stop for r in found) for name, found in rows.items() if lost.get(name) and found]
    if not cut:
        return dict(rows)
    horizon = max(cut)
    kept = {name: [r for r in found if r.start >= horizon] for name, found in rows.items()}
    first = {
        name: min((r.run for r in found if r.kind in _INSTRUCTIONS), default=0)
        for name, found in kept.items()
    }
    group = {name: name.rpartition("partition")[0] for name in kept}
    begun = {g: max(first[name] for name in kept if group[name] == g) for g in group.values()}
    return {
        name: [r for r in found if not 0 < r.run <= begun[group[name]]]
        for name, found in kept.items()
    }


def _order(name: str) -> tuple[int, list[int], str]:
    """The driver first; partitions and shards by number."""
    kinds = ("driver", "coordinator", "partition", "replica", "shard", "evaluator")
    numbers = [int(word.strip(",")) for word in name.split() if word.strip(",").isdigit()]
    kind = name.split()[0]
    return kinds.index(kind) if kind in kinds else len(kinds), numbers, name
