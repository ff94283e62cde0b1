"""Candidates for a plan, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dbgraph.show.columns import columns
from dbgraph.simulate import Forecast
from dbgraph.units import bytes_, seconds


@dataclass(frozen=True)
class Candidate:
    """What one strategy came to.

    Attributes:
        forecast: None where it can't be applied; `error` then says why.
        messages: between machines, in one step.
    """

    strategy: str
    microbatches: int = 1
    messages: int = 0
    forecast: Forecast | None = None
    error: str = ""

    @property
    def step_s(self) -> float:
        return self.forecast.step_s if self.forecast else float("inf")


def best_of(candidates: Sequence[Candidate]) -> Candidate:
    """The first with the shortest step."""
    return min(candidates, key=lambda candidate: candidate.step_s)


def compare_table(candidates: Sequence[Candidate]) -> str:
    """One line for each; * marks the best."""
    head = ["strategy", "forecast", "busiest machine", "between", "messages", "most memory"]
    rows = [_row(one, one is best_of(candidates)) for one in candidates]
    errors = [f"{one.strategy}: no cut: {one.error}" for one in candidates if one.error]
    table = columns(head, rows, left=frozenset({"strategy", "busiest machine"}))
    return "\n".join([table, *(["", *errors] if errors else [])])


def _row(one: Candidate, best: bool) -> list[str]:
    name = f"{'*' if best else ' '} {one.strategy}"
    cost = one.forecast
    if cost is None:
        return [name, "-", "", "", "", ""]
    if one.microbatches > 1:
        name += f", {one.microbatches} microbatches"
    peak_bytes = max(machine.peak_bytes for machine in cost.machines)
    return [
        name,
        seconds(cost.step_s),
        _busiest(cost),
        bytes_(sum(cost.link_bytes.values())),
        f"{one.messages:,}",
        bytes_(peak_bytes),
    ]


def _busiest(cost: Forecast) -> str:
    """`0: 45% computes, 30% messages, 25% waits`."""
    p = cost.busiest
    machine, step_s = cost.machines[p], cost.step_s or 1.0
    messages_s = machine.send_s + machine.receive_s
    return (
        f"{p}: {machine.compute_s / step_s:.0%} computes, {messages_s / step_s:.0%} sends and "
        f"receives, {machine.idle_s / step_s:.0%} waits"
    )


def compare_json(candidates: Sequence[Candidate]) -> list[dict[str, Any]]:
    """For each: strategy, best, error (null, or why it can't be applied), microbatches, step_s,
    busiest (a partition; what its step goes to: compute_s, send_s, receive_s, idle_s),
    traffic_bytes, messages, peak_bytes. All but the first three are null where it can't be
    applied."""
    best = best_of(candidates)
    return [_entry(one, one is best) for one in candidates]


def _entry(one: Candidate, best: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"strategy": one.strategy, "best": best, "error": one.error or None}
    cost = one.forecast
    if cost is None:
        keys = ("microbatches", "step_s", "busiest", "traffic_bytes", "messages", "peak_bytes")
        return {**found, **dict.fromkeys(keys)}
    machine = cost.machines[cost.busiest]
    return {
        **found,
        "microbatches": one.microbatches,
        "step_s": cost.step_s,
        "busiest": {
            "partition": cost.busiest,
            "compute_s": machine.compute_s,
            "send_s": machine.send_s,
            "receive_s": machine.receive_s,
            "idle_s": machine.idle_s,
        },
        "traffic_bytes": sum(cost.link_bytes.values()),
        "messages": one.messages,
        "peak_bytes": max(machine.peak_bytes for machine in cost.machines),
    }
