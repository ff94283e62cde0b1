"""The simulator's rules once more, as plainly as possible: exact fractions, no queue of events,
every machine, task and transfer looked at in every step. And random programs to run on both."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from fractions import Fraction
from math import inf
from random import Random

from dbgraph.cluster import Cluster, Link, MachineSpec, Racks
from dbgraph.ir.types import TensorType
from dbgraph.plan.program import Instruction, Recv, Run, Send, Transfer, Update
from dbgraph.simulate.work import Work


@dataclass
class Flight:
    """A transfer under way: when its first byte is at its next queue, when its last one passed."""

    transfer: Transfer
    queues: list[tuple[object, Fraction, Fraction]]  # (queue, seconds in it, delay behind it)
    head: Fraction
    tail: Fraction = Fraction(0)


@dataclass
class Machine:
    position: int = 0
    left: Fraction | None = None  # of the task under way, in seconds on free cores
    began: Fraction = Fraction(0)
    spent: dict[str, Fraction] = field(default_factory=lambda: defaultdict(Fraction))
    end: Fraction | None = None


class SlowSimulator:
    """Runs when it is made; see its attributes afterwards."""

    def __init__(self, work: Work) -> None:
        self.work, self.cluster = work, work.cluster
        self.now = Fraction(0)
        self.machines = [Machine() for _ in work.instructions]
        self.flights: dict[tuple[int, int], Flight] = {}
        self.free: dict[object, Fraction] = defaultdict(Fraction)
        self.arrival: dict[tuple[int, int], Fraction] = {}
        self.wait: dict[int, Fraction] = defaultdict(Fraction)
        while self._proceed() or self._pass_time():
            pass

    @property
    def blocked(self) -> set[tuple[int, int]]:
        """(machine, position)."""
        return {(p, m.position) for p, m in enumerate(self.machines) if m.end is None}

    def _proceed(self) -> bool:
        """Does one thing that can be done now."""
        for p, machine in enumerate(self.machines):
            if machine.end is None and self._step(p, machine):
                return True
        due = [key for key, flight in self.flights.items() if flight.head == self.now]
        if due:
            self._enter(due[0])
        return bool(due)

    def _step(self, p: int, machine: Machine) -> bool:
        if machine.left is not None:
            if machine.left > 0:
                return False
            self._finish(p, machine)
            return True
        if machine.position == len(self.work.instructions[p]):
            machine.end = self.now
            return True
        instruction = self.work.instructions[p][machine.position]
        if isinstance(instruction, Recv):
            there = self.arrival.get((instruction.transfer, instruction.microbatch))
            if there is None or there > self.now:
                return False
            self.wait[instruction.transfer] += self.now - machine.began
        machine.left, machine.began = self._seconds(p, instruction), self.now
        return True

    def _finish(self, p: int, machine: Machine) -> None:
        instruction = self.work.instructions[p][machine.position]
        kinds: dict[type, str] = {Send: "send", Recv: "receive"}
        machine.spent[kinds.get(type(instruction), "compute")] += self.now - machine.began
        machine.left, machine.began = None, self.now
        machine.position += 1
        if isinstance(instruction, Send):
            transfer = self.work.transfers[instruction.transfer]
            key = instruction.transfer, instruction.microbatch
            self.flights[key] = Flight(transfer, self._queues(transfer), self.now)

    def _seconds(self, p: int, instruction: Instruction) -> Fraction:
        if isinstance(instruction, Run):
            return Fraction(self.work.segment_s[p][instruction.segment])
        if isinstance(instruction, Update):
            return Fraction(self.work.update_s[p])
        transfer = self.work.transfers[instruction.transfer]
        return Fraction(self.cluster.between(transfer.source, transfer.to).message_s)

    def _queues(self, t: Transfer) -> list[tuple[object, Fraction, Fraction]]:
        link, size = self.cluster.between(t.source, t.to), t.type.size_bytes
        line = size / Fraction(link.bytes_s) if link.bytes_s < inf else Fraction(0)
        latency = Fraction(link.latency_s)
        a, b = self.cluster.host(t.source), self.cluster.host(t.to)
        if a == b:
            return [(("out", a, t.source), line, latency), (("in", b, t.to), line, Fraction(0))]
        racks = self.cluster.racks
        if racks is None or a // racks.hosts == b // racks.hosts:
            return [(("out", a), line, latency), (("in", b), line, Fraction(0))]
        uplink = size / Fraction(racks.bytes_s)
        return [
            (("out", a), line, Fraction(0)),
            (("rack out", a // racks.hosts), uplink, Fraction(0)),
            (("rack in", b // racks.hosts), uplink, latency),
            (("in", b), line, Fraction(0)),
        ]

    def _enter(self, key: tuple[int, int]) -> None:
        flight = self.flights[key]
        queue, takes, delay = flight.queues.pop(0)
        begin = max(self.now, self.free[queue])
        self.free[queue] = begin + takes
        flight.tail = max(begin + takes, flight.tail) + delay
        flight.head = begin + delay
        if not flight.queues:
            del self.flights[key]
            self.arrival[key] = flight.tail

    def _pass_time(self) -> bool:
        """To the next moment at which something happens."""
        rates = [self._rate(p) for p in range(len(self.machines))]
        moments = [flight.head for flight in self.flights.values()]
        moments += [there for there in self.arrival.values() if there > self.now]
        for machine, rate in zip(self.machines, rates, strict=True):
            if machine.left:
                moments.append(self.now + machine.left / rate)
        if not moments:
            return False
        then = min(moments)
        for machine, rate in zip(self.machines, rates, strict=True):
            if machine.left:
                machine.left -= (then - self.now) * rate
        self.now = then
        return True

    def _rate(self, p: int) -> Fraction:
        """Of a machine's task, as others on its host are under way."""
        if not self.cluster.host_cores:
            return Fraction(1)
        cluster, host = self.cluster, self.cluster.host(p)
        cores = cluster.host_cores[host]
        here = [q for q in range(len(self.machines)) if cluster.host(q) == host]
        busy = [q for q in here if self.machines[q].left]
        crowd = max(min(len(busy), cores) - 1, 0)
        slowness = 1 + Fraction(cluster.crowding) * crowd
        if cluster.pinned:
            turns = {q: turn % cores for turn, q in enumerate(here)}
            wanted, there = [turns[q] for q in busy].count(turns[p]), 1
        else:
            wanted, there = sum(map(self._cores, busy)), cores
        return (Fraction(there, wanted) if wanted > there else Fraction(1)) / slowness

    def _cores(self, p: int) -> int:
        instruction = self.work.instructions[p][self.machines[p].position]
        message = isinstance(instruction, Send | Recv)
        return 1 if message else self.cluster.machines[p].cores


def random_cluster(random: Random, count: int) -> Cluster:
    """Hosts shared or not, with too few cores or not, racks or not."""
    sizes = []
    while sum(sizes) < count:
        sizes.append(random.randint(1, 3))
    hosts = tuple(host for host, size in enumerate(sizes) for _ in range(size))[:count]
    shared = random.random() < 0.7
    cores = tuple(random.randint(1, 4) for _ in sizes) if random.random() < 0.7 else ()
    return Cluster(
        machines=tuple(MachineSpec(cores=random.randint(1, 3)) for _ in range(count)),
        link=_random_link(random),
        hosts=hosts if shared else (),
        host_cores=cores if shared else (),
        pinned=random.random() < 0.3,
        crowding=random.choice([0.0, random.uniform(0.1, 1)]),
        local=_random_link(random),
        racks=random.choice([None, Racks(random.randint(1, 2), random.uniform(20, 200))]),
    )


def _random_link(random: Random) -> Link:
    """Every value takes some time to come, and some on its line or from its sender, else two
    machines might do something at once; what comes first then is not in the rules."""
    bytes_s, latency_s = random.uniform(50, 500), random.uniform(0.01, 1)
    message_s = random.uniform(0.01, 0.5)
    ways = (bytes_s, latency_s), (bytes_s, 0.0), (inf, latency_s)
    bytes_s, latency_s = random.choice(ways)
    return Link(
        bytes_s, latency_s, message_s if bytes_s == inf else random.choice([0.0, message_s])
    )


def random_work(random: Random, cluster: Cluster, knots: bool = False) -> Work:
    """Programs that send what others receive, in an order without deadlocks; with knots the
    instructions of each machine are mixed up, so that there may be some.

    Each program begins with a RUN of its own length, so that nothing happens at once by chance.
    """
    count, microbatches = len(cluster.machines), random.randint(1, 3)
    programs: list[list[Instruction]] = [[Run(0, 0)] for _ in range(count)]
    transfers: list[Transfer] = []
    under_way: list[tuple[int, int]] = []
    for _ in range(random.randint(0, 40)):
        p = random.randrange(count)
        action = random.choice(["run", "send", "receive", "receive"])
        if action == "run":
            programs[p].append(Run(random.randrange(4), random.randrange(microbatches)))
        elif action == "send" and count > 1:
            to = random.choice([other for other in range(count) if other != p])
            index = len(transfers)
            type_ = TensorType((random.randint(1, 300),), "uint8")
            transfers.append(Transfer(index, "", "", p, to, type_))
            for m in range(microbatches):
                programs[p].append(Send(index, m))
                under_way.append((index, m))
        elif under_way:
            index, m = under_way.pop(random.randrange(len(under_way)))
            programs[transfers[index].to].append(Recv(index, m))
    for index, m in under_way:
        programs[transfers[index].to].append(Recv(index, m))
    for program in programs:
        program.append(Update())
        if knots:
            program[1:] = random.sample(program[1:], len(program) - 1)
    return Work(
        cluster=cluster,
        transfers=tuple(transfers),
        instructions=programs,
        own=[range(len(program)) for program in programs],
        segment_s=[[random.uniform(0.1, 3) for _ in range(4)] for _ in range(count)],
        update_s=[random.uniform(0.1, 1) for _ in range(count)],
    )
