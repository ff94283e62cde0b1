"""The discrete events: all machines execute their instructions on one virtual clock.

| event | at which                                                                        |
|-------|---------------------------------------------------------------------------------|
| GO    | a machine begins its next instruction: at the start, and when a value is there  |
| DONE  | a machine has computed a segment, or handled a message                          |
| HEAD  | the first byte of a transfer stands before its next queue                       |
| TICK  | the next task on a host's shared cores ends, unless they have changed meanwhile |

Events of the same moment happen in the order in which they were foreseen.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush
from itertools import groupby
from math import inf

from dbgraph.cluster import Cluster
from dbgraph.plan.program import Instruction, Recv, Run, Send
from dbgraph.simulate.cores import SharedCores
from dbgraph.simulate.lines import Lines
from dbgraph.simulate.trace import Trace
from dbgraph.simulate.work import Work

_GO, _DONE, _HEAD, _TICK = range(4)


class Engine:
    """One run; afterwards its attributes tell what happened.

    Attributes:
        position: of each machine the instruction at which it stands; its program's length at
            the end.
        end_s: of each machine, when it came there; inf for one that waits for ever.
        compute_s, send_s, receive_s: of each machine.
        sent: of each transfer the number of microbatches that were sent.
        wait_s: of each transfer how long its receiver waits for it, over all microbatches.
        waiting: key of a transfer → (the machine that waits for it, since when).
    """

    def __init__(self, work: Work, trace: Trace | None = None) -> None:
        count = len(work.instructions)
        self.work, self.trace = work, trace
        self.microbatches = _microbatches(work.instructions)
        self.lines = Lines(work.cluster, work.transfers, self.microbatches)
        self.position = [0] * count
        self.end_s = [inf] * count
        self.compute_s = [0.0] * count
        self.send_s = [0.0] * count
        self.receive_s = [0.0] * count
        self.sent = [0] * len(work.transfers)
        self.wait_s = [0.0] * len(work.transfers)
        self.waiting: dict[int, tuple[int, float]] = {}
        self._began_s = [0.0] * count
        self._message_s = [
            way.message_s + size_bytes * way.message_byte_s
            for way, size_bytes in zip(self.lines.routes, self.lines.size_bytes, strict=True)
        ]
        self._shared = _sharing(work.cluster)
        self._events: list[tuple[float, int, int, int]] = []
        self._foreseen = 0

    def run(self) -> None:
        """Until nothing more can happen."""
        handlers = (self._go, self._done, self._head, self._tick)
        begin_s = self.work.begin_s
        for machine in range(len(self.position)):
            if self.trace is not None and begin_s > 0.0:
                self.trace.ordered(machine, begin_s)
            self._foresee(begin_s, _GO, machine)
        events = self._events
        while events:
            now, _, kind, number = heappop(events)
            handlers[kind](number, now)

    def _foresee(self, at: float, kind: int, number: int) -> None:
        if at < inf:
            self._foreseen += 1
            heappush(self._events, (at, self._foreseen, kind, number))

    def _go(self, machine: int, now: float) -> None:
        """Begins the next instruction, and those after it as long as no time passes."""
        instructions = self.work.instructions[machine]
        position = self.position[machine]
        while position < len(instructions):
            instruction = instructions[position]
            if isinstance(instruction, Recv) and self._waits(instruction, machine, now):
                break
            seconds = self._seconds(instruction, machine)
            if seconds > 0.0:
                self._began_s[machine] = now
                self._occupy(machine, instruction, seconds, now)
                break
            if isinstance(instruction, Send):
                self._launch(instruction, now)
            position += 1
            self.position[machine] = position
        else:
            self.end_s[machine] = now

    def _seconds(self, instruction: Instruction, machine: int) -> float:
        """On free cores."""
        if isinstance(instruction, Send | Recv):
            return self._message_s[instruction.transfer]
        if isinstance(instruction, Run):
            seconds = self.work.segment_s[machine][instruction.segment]
            if instruction.microbatch and self.work.adding_s:
                seconds += self.work.adding_s[machine][instruction.segment]
            return seconds
        return self.work.update_s[machine]

    def _occupy(self, machine: int, instruction: Instruction, seconds: float, now: float) -> None:
        """A message keeps one core busy, a segment as many as its machine says."""
        shared = self._shared[machine]
        if shared is None:
            self._foresee(now + seconds, _DONE, machine)
            return
        host, share = shared
        cluster = self.work.cluster
        single = cluster.pinned or isinstance(instruction, Send | Recv)
        cores = 1 if single else cluster.machines[machine].cores
        host.add(machine, share, seconds, cores, now)
        self._foresee(host.next_end_s(), _TICK, machine)

    def _done(self, machine: int, now: float) -> None:
        began_s, position = self._began_s[machine], self.position[machine]
        instruction = self.work.instructions[machine][position]
        if isinstance(instruction, Send):
            self.send_s[machine] += now - began_s
            self._launch(instruction, now)
        elif isinstance(instruction, Recv):
            self.receive_s[machine] += now - began_s
        else:
            self.compute_s[machine] += now - began_s
        if self.trace is not None:
            self.trace.did(machine, position, instruction, began_s, now)
        self.position[machine] = position + 1
        self._go(machine, now)

    def _waits(self, instruction: Recv, machine: int, now: float) -> bool:
        """Whether a value is not there yet; if so the machine goes on when it is."""
        key = instruction.transfer * self.microbatches + instruction.microbatch
        arrival_s = self.lines.arrival_s[key]
        if arrival_s <= now:
            return False
        self.waiting[key] = machine, now
        if arrival_s < inf:
            self._foresee_arrival(key)
        return True

    def _launch(self, instruction: Send, now: float) -> None:
        self.sent[instruction.transfer] += 1
        self._head(instruction.transfer * self.microbatches + instruction.microbatch, now)

    def _head(self, key: int, now: float) -> None:
        """A transfer enters its next queue."""
        begin_s, then_s = self.lines.enter(key, now)
        if self.trace is not None:
            self.trace.entered(self.lines, key, now, begin_s)
        if self.lines.arrival_s[key] == inf:
            self._foresee(then_s, _HEAD, key)
        elif key in self.waiting:
            self._foresee_arrival(key)

    def _foresee_arrival(self, key: int) -> None:
        """The machine that waits for a transfer goes on when its last byte is there."""
        machine, since_s = self.waiting.pop(key)
        until_s = self.lines.arrival_s[key]
        self.wait_s[key // self.microbatches] += until_s - since_s
        if self.trace is not None:
            about = divmod(key, self.microbatches)
            self.trace.waited(machine, self.position[machine], since_s, until_s, about)
        self._foresee(until_s, _GO, machine)

    def _tick(self, machine: int, now: float) -> None:
        """A task ends, unless others have begun meanwhile and it takes longer.

        Args:
            machine: any one of the host.
        """
        shared = self._shared[machine]
        if shared is not None and shared[0].next_end_s() == now:
            ended = shared[0].end(now)
            self._foresee(shared[0].next_end_s(), _TICK, machine)
            self._done(ended, now)


def _microbatches(programs: Sequence[Sequence[Instruction]]) -> int:
    found = (i.microbatch for p in programs for i in p if isinstance(i, Send | Recv | Run))
    return 1 + max(found, default=0)


def _sharing(cluster: Cluster) -> list[tuple[SharedCores, int] | None]:
    """For each machine what its host's machines share, and which share of the cores is its own;
    None where nothing is in short supply."""
    if not cluster.host_cores:
        return [None] * len(cluster.machines)
    found: list[tuple[SharedCores, int] | None] = []
    for host, group in groupby(range(len(cluster.machines)), key=cluster.host):
        found += _on_host(cluster, cluster.host_cores[host], len(list(group)), len(found))
    return found


def _on_host(
    cluster: Cluster, cores: int, count: int, first: int
) -> list[tuple[SharedCores, int] | None]:
    """Args: count: how many machines stand there, from the `first` on."""
    wanted = sum(machine.cores for machine in cluster.machines[first : first + count])
    short = count > cores if cluster.pinned else wanted > cores
    if not short and (count == 1 or not cluster.crowding):
        return [None] * count
    shared = SharedCores((1,) * cores if cluster.pinned else (cores,), cluster.crowding)
    return [(shared, turn % cores if cluster.pinned else 0) for turn in range(count)]
