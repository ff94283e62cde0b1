"""A run that goes on, asked how its machines are, and the diagnosis."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

from dbgraph.backends.control import Request, ask
from dbgraph.backends.states import MachineState
from dbgraph.watch.diagnosis import Finding, Limits, diagnose, span

_STATE: Request = {"ask": "state"}


class Told(msgspec.Struct, frozen=True):
    """What a run says of itself; see `train.control.machine_answers`.

    Attributes:
        since_s: since the last step was done, or since the run began.
        sign_s: see `backends.states.Telling`.
    """

    title: str
    step: int
    steps: int
    since_s: float
    sign_s: float
    machines: tuple[MachineState, ...]


@dataclass(frozen=True)
class Checkup:
    """What the run said, and what holds it up."""

    told: Told
    limits: Limits
    findings: tuple[Finding, ...]

    @property
    def is_stalled(self) -> bool:
        return any(finding.is_stall for finding in self.findings)

    def headline(self) -> str:
        told = self.told
        since = "the last one ended" if told.step else "it began"
        return (
            f"{told.title}\nstep {told.step:,} of {told.steps:,}, {since} {span(told.since_s)} ago"
        )

    def lines(self) -> list[str]:
        """One of each machine."""
        silence_s = self.limits.silence_s
        return ["  " + _line(machine, silence_s) for machine in self.told.machines]

    def verdict(self) -> list[str]:
        """The diagnosis, the worst first."""
        if not self.told.machines:
            return ["its backend does not tell what its machines do"]
        if not self.findings:
            return ["the run goes on: nobody waits for long"]
        begin = "stalled" if self.is_stalled else "the run goes on"
        return [
            line
            for finding in self.findings
            for line in (f"{begin}: {finding.text}", *(f"  {wait}" for wait in finding.behind))
        ]

    def record(self) -> dict[str, Any]:
        """For programs."""
        return {
            "stalled": self.is_stalled,
            **msgspec.to_builtins(self.told),
            "findings": [asdict(finding) for finding in self.findings],
        }


def examine(job: str, stuck_s: float) -> Checkup:
    """Asks a run.

    Args:
        job: the folder of its checkpoints.
        stuck_s: see `Limits`.

    Raises UsageError where none goes on there, RunError where it does not answer.
    """
    told = msgspec.convert(ask(Path(job), _STATE), Told)
    limits = Limits.of(told.sign_s, stuck_s)
    return Checkup(told, limits, diagnose(told.machines, limits))


def _line(machine: MachineState, silence_s: float) -> str:
    doing = f"waits for {machine.waiting}" if machine.waiting else machine.doing
    if machine.heard_s < silence_s:
        parts = [f"{machine.name}: {doing} for {span(machine.since_s)}"]
    else:
        parts = [f"{machine.name}: no word; the last one: {doing}"]
    if machine.heard_s:
        parts.append(f"heard {span(machine.heard_s)} ago")
    if machine.process:
        parts.append(machine.process)
    return ", ".join(parts)
