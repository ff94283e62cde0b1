"""A cluster in virtual time for the pure coordinators: shards, replicas, links with delays,
replicas that die, stop and wake. Everything random comes from one seed."""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np

from dbgraph.coordinate.evaluation import Evaluation
from dbgraph.coordinate.messages import Compute, Computed, Deny, Flush, Flushed, Grant
from dbgraph.coordinate.sandblaster import Finished, Sandblaster
from dbgraph.optim.space import execute
from dbgraph.optim.vectors import PARAMETERS, Report, Steps
from dbgraph.ps.messages import Commit, Discard, Execute, Update

Portion = Callable[[np.ndarray, int, int], tuple[float, np.ndarray]]
"""(parameters, start, stop) → (mean loss, mean gradient) over these examples."""
PushName = tuple[int, int, int]


class Shard:
    """A part of all vectors, with staged pushes."""

    def __init__(self, part: np.ndarray) -> None:
        self.vectors = {PARAMETERS: part.copy()}
        self.staged: dict[PushName, np.ndarray] = {}
        self.settled: set[PushName] = set()
        self.committed: list[PushName] = []
        self.closed: set[tuple[int, int]] = set()
        self.number = 0

    def execute(self, message: Execute) -> tuple[float, ...]:
        assert message.number == self.number + 1, "a gap"
        self.number = message.number
        scalars: list[float] = []
        for order in message.orders:
            match order:
                case Commit(pushes, out):
                    for push in pushes:
                        assert push not in self.settled, "counts once"
                        self.vectors[out] += self.staged.pop(push)
                        self.settled.add(push)
                        self.committed.append(push)
                case Discard(pushes, epochs):
                    assert not set(pushes) & set(self.committed)
                    self.settled.update(pushes)
                    self.staged = {
                        push: gradient
                        for push, gradient in self.staged.items()
                        if push not in pushes and push[:2] not in epochs
                    }
                case Update(x, factor):
                    self.vectors[PARAMETERS] -= factor * self.vectors[x]
                case _:
                    scalars += execute((order,), self.vectors)
        return tuple(scalars)

    def stage(self, push: PushName, gradient: np.ndarray) -> bool:
        if push[:2] in self.closed:
            return False
        if push not in self.settled:
            self.staged[push] = gradient
        return True

    def close(self, replica: int, epoch: int) -> None:
        self.closed.add((replica, epoch))


@dataclass
class Worker:
    """A replica's process: one message after another."""

    number: int
    epoch: int
    portion_s: float
    inbox: deque[Any] = field(default_factory=deque)
    running: bool = True
    busy: bool = False
    evaluation: int = 0
    parameters: np.ndarray | None = None
    gradients: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)
    sequence: int = 0
    accumulator: np.ndarray | None = None
    held: list[tuple[int, int]] = field(default_factory=list)


@dataclass(frozen=True)
class Trouble:
    """At a time a replica is killed ("kill") or stopped ("stop"); a stopped one goes on, and a
    killed one comes back with a new epoch, after so long."""

    at: float
    replica: int
    kind: str
    back_s: float


class World:
    """Runs an algorithm over shards and replicas.

    Args:
        portion_s: how long a portion takes each replica.
        delay: draws the delay of a message, in seconds; `push_s` that of a staged push.
        silence_s: who is stopped or dead for so long is lost to the coordinator.
    """

    def __init__(
        self,
        algorithm: Steps[Any],
        evaluation: Evaluation,
        objective: Portion,
        start: np.ndarray,
        shards: int,
        portion_s: Iterable[float],
        delay: Callable[[], float] = lambda: 1e-4,
        push_s: Callable[[], float] = lambda: 1e-3,
        noise: Callable[[], float] = lambda: 1.0,
        troubles: Iterable[Trouble] = (),
        silence_s: float = 5.0,
    ) -> None:
        self.objective = objective
        self.shards = [Shard(part) for part in np.array_split(start, shards)]
        self.coordinator: Sandblaster[Any] = Sandblaster(algorithm, evaluation, shards)
        self.delay, self.push_s, self.noise, self.silence_s = delay, push_s, noise, silence_s
        self.now = 0.0
        self.result: Any = None
        self.iterates: list[np.ndarray] = []
        self.reports: list[Report] = []
        self.evaluations: list[tuple[float, float]] = []
        self.contents: dict[PushName, list[tuple[int, int]]] = {}
        self.computed: list[tuple[int, int, int]] = []
        self.lost: set[tuple[int, int]] = set()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._ties = count()
        self._deadline = math.inf
        self._links: dict[tuple[str, int, str, int], float] = {}
        self._epochs = count(1)
        self.workers: dict[int, Worker] = {}
        for number, seconds in enumerate(portion_s):
            self._join(number, seconds)
        for trouble in troubles:
            self._at(trouble.at, lambda trouble=trouble: self._strike(trouble))
        self._follow(self.coordinator.start())

    # --- time ---

    def _at(self, when: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._ties), what))

    def _send(self, link: tuple[str, int, str, int], what: Callable[[], None]) -> None:
        """In order, on each link."""
        when = max(self.now + self.delay(), self._links.get(link, 0.0))
        self._links[link] = when
        self._at(when, what)

    def run(self, limit: int = 10**6) -> Any:
        for _ in range(limit):
            if self.result is not None:
                return self.result
            self.now, _, what = heapq.heappop(self._events)
            what()
            deadline = self.coordinator.deadline()
            if deadline != self._deadline and deadline < math.inf:
                self._at(deadline, lambda: self._follow(self.coordinator.tick(self.now)))
            self._deadline = deadline
        raise AssertionError("it does not end")

    # --- the coordinator's instructions ---

    def _follow(self, instructions: Iterable[Any]) -> None:
        for instruction in instructions:
            match instruction:
                case Execute():
                    for number in range(len(self.shards)):
                        self._execute(number, instruction)
                case Report():
                    self.reports.append(instruction)
                    self.iterates.append(self.vector(PARAMETERS))
                    self._follow(self.coordinator.go_on())
                case Finished(result):
                    self.result = result
                case _:
                    self._tell(instruction)

    def _execute(self, number: int, message: Execute) -> None:
        def executed() -> None:
            scalars = self.shards[number].execute(message)
            answer = lambda: self._follow(  # noqa: E731
                self.coordinator.executed(number, message.number, scalars, self.now)
            )
            self._send(("shard", number, "coordinator", 0), answer)

        self._send(("coordinator", 0, "shard", number), executed)

    def _tell(self, message: Compute | Grant | Deny | Flush) -> None:
        name = (message.replica, message.epoch)
        assert name not in self.lost, "an instruction for the dead"
        worker = self.workers[message.replica]
        assert worker.epoch == message.epoch

        def arrive() -> None:
            worker.inbox.append(message)
            self._work(worker)

        self._send(("coordinator", 0, "replica", message.epoch), arrive)

    # --- replicas ---

    def _join(self, number: int, portion_s: float) -> None:
        worker = Worker(number, next(self._epochs), portion_s)
        self.workers[number] = worker
        self._follow(self.coordinator.joined(number, worker.epoch, self.now))

    def _work(self, worker: Worker) -> None:
        while worker.inbox and worker.running and not worker.busy:
            message = worker.inbox.popleft()
            match message:
                case Compute():
                    self._compute(worker, message)
                case Grant():
                    self._add(worker, message)
                case Deny():
                    del worker.gradients[message.evaluation, message.portion]
                case Flush():
                    self._flush(worker, message)

    def _compute(self, worker: Worker, message: Compute) -> None:
        if message.evaluation != worker.evaluation:
            worker.evaluation = message.evaluation
            worker.parameters = self.vector(PARAMETERS)
        worker.busy = True

        def done() -> None:
            if not worker.running:  # stopped meanwhile: when it wakes
                worker.inbox.appendleft(done)
                return
            assert worker.parameters is not None
            loss, gradient = self.objective(worker.parameters, message.start, message.stop)
            worker.gradients[message.evaluation, message.portion] = gradient
            worker.busy = False
            name = (worker.number, worker.epoch, message.evaluation, message.portion)
            self.computed.append((worker.number, message.evaluation, message.portion))
            self._say(worker, Computed(*name, float(loss)))
            self._work(worker)

        self._at(self.now + worker.portion_s * self.noise(), done)

    def _add(self, worker: Worker, message: Grant) -> None:
        gradient = message.weight * worker.gradients.pop((message.evaluation, message.portion))
        if message.sequence != worker.sequence:
            worker.sequence, worker.accumulator, worker.held = message.sequence, None, []
        old = worker.accumulator
        worker.accumulator = gradient if old is None else old + gradient
        worker.held.append((message.evaluation, message.portion))

    def _flush(self, worker: Worker, message: Flush) -> None:
        assert message.sequence == worker.sequence
        assert worker.accumulator is not None
        push = (worker.number, worker.epoch, message.sequence)
        self.contents[push] = worker.held
        parts = np.array_split(worker.accumulator, len(self.shards))
        missing = set(range(len(self.shards)))

        def staged(number: int) -> None:
            if self.shards[number].stage(push, parts[number]):
                missing.discard(number)
                if not missing:
                    self._say(worker, Flushed(*push))

        for number in range(len(self.shards)):
            self._at(self.now + self.push_s(), lambda number=number: staged(number))

    def _say(self, worker: Worker, said: Computed | Flushed) -> None:
        hear = self.coordinator.computed if isinstance(said, Computed) else self.coordinator.flushed

        def arrive() -> None:
            self._follow(hear(said, self.now))  # type: ignore[arg-type]

        self._send(("replica", worker.epoch, "coordinator", 0), arrive)

    # --- trouble ---

    def _strike(self, trouble: Trouble) -> None:
        worker = self.workers[trouble.replica]
        if not worker.running:
            return
        worker.running = False
        self._at(self.now + self.silence_s, lambda: self._miss(worker))
        back = self._return if trouble.kind == "kill" else self._wake
        self._at(self.now + trouble.back_s, lambda: back(worker))

    def _miss(self, worker: Worker) -> None:
        if not worker.running:
            self._lose(worker)

    def _lose(self, worker: Worker) -> None:
        if (worker.number, worker.epoch) not in self.lost:
            self._follow(self.coordinator.lost(worker.number, worker.epoch, self.now))
            self.lost.add((worker.number, worker.epoch))
            for number, shard in enumerate(self.shards):
                close = lambda shard=shard: shard.close(worker.number, worker.epoch)  # noqa: E731
                self._send(("coordinator", 0, "shard", number), close)

    def _wake(self, worker: Worker) -> None:
        worker.running = True
        if worker.inbox and callable(worker.inbox[0]):
            worker.inbox.popleft()()
        self._work(worker)
        if (worker.number, worker.epoch) in self.lost:
            self._join(worker.number, worker.portion_s)  # its old self stays, and is not heard

    def _return(self, worker: Worker) -> None:
        self._lose(worker)
        self._join(worker.number, worker.portion_s)

    # --- what came of it ---

    def vector(self, name: str) -> np.ndarray:
        return np.concatenate([shard.vectors[name] for shard in self.shards])

    def committed(self) -> list[list[int]]:
        """For each evaluation the portions that are in its sum, sorted."""
        found: dict[int, list[int]] = {}
        for push in self.shards[0].committed:
            for evaluation, portion in self.contents[push]:
                found.setdefault(evaluation, []).append(portion)
        return [sorted(portions) for _, portions in sorted(found.items())]


def wild(rng: random.Random, scale: float) -> Callable[[], float]:
    """Mostly short, sometimes very long: any order of events comes about."""
    return lambda: scale * rng.expovariate(1.0) * (100.0 if rng.random() < 0.05 else 1.0)
