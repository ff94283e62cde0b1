"""Who holds a run up. Pure: what each machine does or waits for, in; findings, out.

A machine that waits is never to blame as long as somebody that it waits for can be asked instead.
So one follows the waits to where they end:

| they end at a machine that …             | finding    | stalled |
|------------------------------------------|------------|---------|
| is not there, is stopped or dead         | gone       | yes     |
| was not heard for several signs of life  | silent     | yes     |
| is met again: all of them wait in a ring | ring       | yes     |
| does the same thing for very long        | stuck      | yes     |
| computes                                 | busy       | no      |

Machines report at different times. Waits that are younger than `patience_s` may be over already,
and make no ring.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import networkx as nx

from dbgraph.backends.states import MachineState
from dbgraph.units import seconds

BUSY = "busy"
_SIGNS = 4
"""So many signs of life that did not come are silence."""
_SHOWN = 4
_LEAST_SILENCE_S = 2.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Attributes:
    patience_s: waits that last longer are looked at.
    stuck_s: one thing that takes longer, while others wait for it, is a stall.
    silence_s: a machine that was not heard for so long is silent.
    """

    patience_s: float = 5.0
    stuck_s: float = 120.0
    silence_s: float = _LEAST_SILENCE_S

    @staticmethod
    def of(sign_s: float, stuck_s: float) -> Limits:
        """For machines that give a sign of life every `sign_s`."""
        silence_s = max(_SIGNS * sign_s, _LEAST_SILENCE_S)
        return Limits(max(5.0, silence_s), stuck_s, silence_s)


@dataclass(frozen=True, slots=True)
class Finding:
    """What holds a run up.

    Attributes:
        kind: "gone", "silent", "ring", "stuck" or "busy".
        machines: who; of a ring, each waits for the next one, and the last for the first.
        waiting: who waits for them, directly or not; the ring's own apart.
        text: for people.
        behind: what those who wait wait for, for people; the first few of them.
    """

    kind: str
    machines: tuple[str, ...]
    waiting: tuple[str, ...]
    text: str
    behind: tuple[str, ...]

    @property
    def is_stall(self) -> bool:
        return self.kind != BUSY


def diagnose(machines: Sequence[MachineState], limits: Limits) -> tuple[Finding, ...]:
    """What holds the run up, the worst first; nothing where no wait is long and all are there."""
    by_name = {machine.name: machine for machine in machines}
    graph = _waits(machines, by_name, limits)
    found = [*_unfit(by_name, graph, limits), *_rings(by_name, graph)]
    blamed = {name for finding in found for name in finding.machines}
    found += _busy(by_name, graph, blamed, limits)
    return tuple(found)


def _waits(
    machines: Iterable[MachineState], by_name: Mapping[str, MachineState], limits: Limits
) -> nx.DiGraph:
    """From each machine that waits for long to those that it waits for; at once where that is
    somebody who can't answer, or waits for such a one."""
    every = nx.DiGraph()
    every.add_nodes_from(by_name)
    for machine in machines:
        if machine.waiting and _fits(machine, limits):
            every.add_edges_from((machine.name, name) for name in machine.awaits)
    unfit = {name for name in by_name if not _fits(by_name[name], limits)}
    hopeless = unfit.union(*(nx.ancestors(every, name) for name in unfit))
    short = [
        (name, of)
        for name, of in every.edges
        if by_name[name].since_s < limits.patience_s and of not in hopeless
    ]
    every.remove_edges_from(short)
    every.remove_nodes_from([n for n in nx.isolates(every) if n not in by_name])
    return every


def _fits(machine: MachineState, limits: Limits) -> bool:
    """Whether it lives, and what it last said of itself still holds."""
    return machine.alive and machine.heard_s < limits.silence_s


def _unfit(
    by_name: Mapping[str, MachineState], graph: nx.DiGraph, limits: Limits
) -> Iterable[Finding]:
    """Those that can't answer, whether somebody waits for them or not."""
    for name in graph:
        machine = by_name.get(name)
        if machine is None:
            text = f"{name} is not there any more"
            yield _finding("gone", (name,), by_name, graph, text)
        elif not machine.alive:
            text = f"{name} can't go on ({machine.process}), heard {span(machine.heard_s)} ago"
            yield _finding("gone", (name,), by_name, graph, text)
        elif machine.heard_s >= limits.silence_s:
            at = f" ({machine.process})" if machine.process else ""
            text = f"{name} has not been heard for {span(machine.heard_s)}{at}"
            yield _finding("silent", (name,), by_name, graph, text)


def _rings(by_name: Mapping[str, MachineState], graph: nx.DiGraph) -> Iterable[Finding]:
    """One ring of each knot of machines that all wait for each other, a shortest one."""
    for knot in nx.strongly_connected_components(graph):
        inner = graph.subgraph(knot)
        if not inner.number_of_edges():
            continue
        back = (nx.shortest_path(inner, to, name) for name, to in inner.edges)
        ring = _from_the_least(min(back, key=len))
        waits = "; ".join(waiting_words(by_name[name]) for name in ring)
        yield _finding("ring", ring, by_name, graph, f"a ring of waits: {waits}")


def _from_the_least(ring: Sequence[str]) -> tuple[str, ...]:
    """The same ring, whoever was found first."""
    at = ring.index(min(ring))
    return (*ring[at:], *ring[:at])


def _busy(
    by_name: Mapping[str, MachineState], graph: nx.DiGraph, blamed: set[str], limits: Limits
) -> Iterable[Finding]:
    """Those at whom waits end, and who are there."""
    for name in graph:
        if name in blamed or graph.out_degree(name) or not graph.in_degree(name):
            continue
        machine = by_name[name]
        stuck = machine.since_s >= limits.stuck_s
        yield _finding("stuck" if stuck else BUSY, (name,), by_name, graph, doing_words(machine))


def _finding(
    kind: str,
    machines: tuple[str, ...],
    by_name: Mapping[str, MachineState],
    graph: nx.DiGraph,
    text: str,
) -> Finding:
    """With those who wait for it, the nearest first."""
    behind: dict[str, None] = {}
    for name in machines:
        nearest = nx.single_source_shortest_path_length(graph.reverse(copy=False), name)
        behind.update(dict.fromkeys(n for n in nearest if n not in machines))
    waits = [waiting_words(by_name[name]) for name in behind]
    more = [f"and {len(waits) - _SHOWN} more wait behind them"] if len(waits) > _SHOWN else []
    return Finding(kind, machines, tuple(behind), text, (*waits[:_SHOWN], *more))


def waiting_words(machine: MachineState) -> str:
    """`partition 2 waits for hidden3→hidden4, microbatch 0, from partition 1, for 12 s`"""
    return f"{machine.name} waits for {machine.waiting}, for {span(machine.since_s)}"


def doing_words(machine: MachineState) -> str:
    """`partition 1 has been at RUN s3.0 (hidden3) for 12 s`, or what it waits for."""
    if machine.waiting:
        return waiting_words(machine)
    return f"{machine.name} has been at {machine.doing or 'nothing'} for {span(machine.since_s)}"


def span(value_s: float) -> str:
    """`12.3 s`: no finer than machines tell of themselves."""
    return f"{value_s:.1f} s" if value_s < 120 else seconds(value_s)
