"""What a simulation yields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Cause:
    """What a machine waits for.

    Attributes:
        peer: the machine that it waits for; from `len(Forecast.machines)` on: parameter-server
            shards.
        transfer: of all from this peer the one that it waits for longest.
        wait_s: for all from this peer together.
    """

    peer: int
    transfer: int
    wait_s: float


@dataclass(frozen=True, slots=True)
class MachineForecast:
    """One machine over one step: compute_s + send_s + receive_s + idle_s is the step.

    Attributes:
        busy_s: its load: compute, plus what its messages take of its processor (`message_s`) and
            of its line (bytes over bandwidth) in both directions, as if nothing overlapped.
            Latency is no load: a machine computes and sends on meanwhile.
        compute_s: segments and update, longer where machines share the cores of a host.
        send_s, receive_s: of its processor, for messages.
        idle_s: the rest of the step: it waits, or has ended.
        end_s: when its program ends; for one that deadlocks, when it stopped.
        out_s, in_s: how long its messages occupy its line, while it computes or not.
        peak_bytes: most bytes alive at once, see `dbgraph.memory`.
        causes: of its waiting, the longest first; not more than three.
    """

    busy_s: float
    flop: int
    out_bytes: int
    in_bytes: int
    peak_bytes: int
    parameter_bytes: int
    compute_s: float = 0.0
    send_s: float = 0.0
    receive_s: float = 0.0
    idle_s: float = 0.0
    end_s: float = 0.0
    out_s: float = 0.0
    in_s: float = 0.0
    causes: tuple[Cause, ...] = ()


@dataclass(frozen=True, slots=True)
class Blocked:
    """A machine that waits for ever: at which instruction, for which transfer, from whom.

    Attributes:
        position: of the instruction in its program.
        source: the partition that does not send it.
    """

    partition: int
    position: int
    transfer: int
    microbatch: int
    source: int


@dataclass(frozen=True, slots=True)
class Span:
    """What one machine does, from one moment to another.

    Attributes:
        machine: index; from `len(Forecast.machines)` on: parameter-server shards.
        kind: "compute", "send", "receive", "wait", or "orders" (the driver's, to begin; the
            answers at the end are counted there too). In a critical path also "link" (the bytes of
            a transfer, or of those before it in the queue, pass the line of the machine) and
            "latency" (the first byte travels to the machine).
        instruction: its index in the machine's program; None at the end of the program, and for
            the traffic with the parameter server.
        transfer, microbatch: what is sent, received, or waited for; None for other spans.
    """

    machine: int
    kind: str
    start_s: float
    stop_s: float
    instruction: int | None = None
    transfer: int | None = None
    microbatch: int | None = None

    @property
    def seconds(self) -> float:
        return self.stop_s - self.start_s


@dataclass(frozen=True)
class Forecast:
    """What a step will cost.

    Attributes:
        step_s: from the start to the end of the last machine, and the last push.
        link_bytes: (from, to) → bytes. From `len(machines)` on: parameter-server shards.
        link_messages: (from, to) → number of messages, those without content included.
        blocked: empty unless the programs deadlock.
        timeline: the spans of each machine, one after the other without gaps, from 0 to step_s;
            machine by machine. Empty unless it was asked for.
        critical_path: the chain of spans, one after the other from 0 to step_s, that the step
            can't be shorter than as things are. Empty unless the timeline was asked for, and
            for programs that deadlock.
    """

    step_s: float
    machines: tuple[MachineForecast, ...]
    link_bytes: Mapping[tuple[int, int], int] = field(default_factory=dict)
    blocked: tuple[Blocked, ...] = ()
    timeline: tuple[Span, ...] = ()
    critical_path: tuple[Span, ...] = ()
    link_messages: Mapping[tuple[int, int], int] = field(default_factory=dict)

    @property
    def busiest(self) -> int:
        """The partition with the largest load: compute, plus its messages."""
        return max(range(len(self.machines)), key=lambda p: self.machines[p].busy_s)

    @property
    def cycle(self) -> tuple[Blocked, ...]:
        """Machines of which each waits for the next, and the last for the first; empty where
        nobody deadlocks, and where the one that the others wait for has ended without sending."""
        by_partition = {one.partition: one for one in self.blocked}
        seen: dict[int, Blocked] = {}
        for start in by_partition:
            chain: dict[int, Blocked] = {}
            at = start
            while at in by_partition and at not in seen:
                seen[at] = chain[at] = by_partition[at]
                at = by_partition[at].source
            if at in chain:
                members = list(chain)
                return tuple(chain[p] for p in members[members.index(at) :])
        return ()
