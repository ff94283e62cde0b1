"""Traffic with a parameter server: what partitions fetch before a step, and push after it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace

from dbgraph.cluster import Cluster, MachineSpec
from dbgraph.errors import UsageError
from dbgraph.ir.types import TensorType
from dbgraph.plan.program import Instruction, Recv, Send, Transfer
from dbgraph.simulate.work import Work


@dataclass(frozen=True, slots=True)
class ServerTraffic:
    """One replica's traffic with a parameter server (Dean et al. 2012, section 4.1).

    Before the first instruction of its program a partition asks every shard for its share of the
    parameters, and waits until all are there. After the last one it pushes a share of its
    gradients to every shard, and waits for nothing; the step ends when the last push has come.
    The shards stand on hosts of their own, behind the cluster's, on lines like all others; each
    answers the partitions in their order. What a shard computes takes no time here.

    Attributes:
        shards: number of them; a partition's bytes are spread evenly over all.
        fetch_bytes, push_bytes: of each partition.
        fetch_every, push_every: steps from one fetch or push to the next (n_fetch, n_push). The
            simulated step carries that share of the bytes: it stands for the mean of the steps.
    """

    shards: int
    fetch_bytes: tuple[int, ...]
    push_bytes: tuple[int, ...]
    fetch_every: int = 1
    push_every: int = 1

    def __post_init__(self) -> None:
        """Raises UsageError."""
        if min(self.shards, self.fetch_every, self.push_every) < 1:
            raise UsageError(
                f"{self.shards} shards, a fetch every {self.fetch_every} and a push every "
                f"{self.push_every} steps: each must be at least 1"
            )


def with_servers(work: Work, traffic: ServerTraffic) -> Work:
    """The same work with the shards as further machines, whose programs only send and receive."""
    count = len(work.instructions)
    if len(traffic.fetch_bytes) != count or len(traffic.push_bytes) != count:
        raise UsageError(
            f"server traffic of {len(traffic.fetch_bytes)} and {len(traffic.push_bytes)} "
            f"partitions does not fit {count} programs"
        )
    post = _Post(list(work.transfers))
    for p, size in enumerate(traffic.fetch_bytes):
        for shard, share in _shares(size // traffic.fetch_every, traffic.shards):
            post.fetch(p, count + shard, share)
    for p, size in enumerate(traffic.push_bytes):
        for shard, share in _shares(size // traffic.push_every, traffic.shards):
            post.push(p, count + shard, share)
    none: tuple[Instruction, ...] = ()
    programs = [*work.instructions, *(none for _ in range(traffic.shards))]
    before = [post.before(machine) for machine in range(len(programs))]
    return replace(
        work,
        cluster=_with_hosts(work.cluster, traffic.shards),
        transfers=tuple(post.transfers),
        instructions=[
            [*first, *program, *post.after(machine)]
            for machine, (first, program) in enumerate(zip(before, programs, strict=True))
        ],
        own=[
            range(len(first), len(first) + len(program))
            for first, program in zip(before, programs, strict=True)
        ],
    )


class _Post:
    """Adds transfers, and instructions before and after each machine's own."""

    def __init__(self, transfers: list[Transfer]) -> None:
        self.transfers = transfers
        self._asks: dict[int, list[Instruction]] = defaultdict(list)
        self._answers: dict[int, list[Instruction]] = defaultdict(list)
        self._pushes: dict[int, list[Instruction]] = defaultdict(list)

    def fetch(self, partition: int, shard: int, size_bytes: int) -> None:
        """A question without content, and its answer."""
        ask = self._transfer(partition, shard, 0)
        answer = self._transfer(shard, partition, size_bytes)
        self._asks[partition].append(Send(ask))
        self._answers[shard] += [Recv(ask), Send(answer)]
        self._answers[partition].append(Recv(answer))

    def push(self, partition: int, shard: int, size_bytes: int) -> None:
        push = self._transfer(partition, shard, size_bytes)
        self._pushes[partition].append(Send(push))
        self._pushes[shard].append(Recv(push))

    def before(self, machine: int) -> list[Instruction]:
        return self._asks[machine] + self._answers[machine]

    def after(self, machine: int) -> list[Instruction]:
        return self._pushes[machine]

    def _transfer(self, source: int, to: int, size_bytes: int) -> int:
        index = len(self.transfers)
        type_ = TensorType((size_bytes,), "uint8")
        self.transfers.append(Transfer(index, "", "", source, to, type_))
        return index


def _shares(size_bytes: int, shards: int) -> Iterator[tuple[int, int]]:
    """(shard, bytes) of those shards that get any."""
    for shard in range(shards):
        share = size_bytes * (shard + 1) // shards - size_bytes * shard // shards
        if share:
            yield shard, share


def _with_hosts(cluster: Cluster, count: int) -> Cluster:
    """A cluster with further machines, each on a host of its own."""
    hosts = 1 + max((cluster.host(p) for p in range(len(cluster.machines))), default=-1)
    more = tuple(range(hosts, hosts + count)) if cluster.hosts else ()
    cores = (1,) * count if cluster.host_cores else ()
    return replace(
        cluster,
        machines=cluster.machines + (MachineSpec(),) * count,
        hosts=cluster.hosts + more,
        host_cores=cluster.host_cores + cores,
    )
