"""local: all partitions in one process, one after the other, deterministic. Values pass from one
to the next without a copy, so that 32 machines can be tried on a laptop."""

from __future__ import annotations

from dbgraph.errors import RunError
from dbgraph.job import Job, Step, StepResult
from dbgraph.machine import Finished, Machine, Outgoing, Waiting, leaf_feeds, merge_results
from dbgraph.results import check_feeds
from dbgraph.state import State


class LocalBackend:
    """Runs every machine until it waits, in turn, until all have finished."""

    def __init__(self) -> None:
        self._job = Job({})
        self._machines: tuple[Machine, ...] = ()

    def start(self, job: Job) -> None:
        partitions = max(plan.partitions for plan in job.plans.values())
        self._job = job
        self._machines = tuple(Machine(job, p) for p in range(partitions))

    def load(self, state: State | None) -> None:
        for machine in self._machines:
            machine.load(state)

    def step(self, step: Step) -> StepResult:
        plan = self._job.plans[step.plan]
        if step.feeds is not None:
            check_feeds(plan, step.feeds)
        for p, machine in enumerate(self._machines):
            machine.begin(step, None if step.feeds is None else leaf_feeds(plan, p, step.feeds))
        self._run(step.plan)
        return merge_results(plan, (machine.result() for machine in self._machines))

    def collect(self) -> State:
        return State.merge(machine.collect() for machine in self._machines)

    def stop(self) -> None:
        self._machines = ()

    def _run(self, name: str) -> None:
        """One round gives every machine its turn; a round in which nothing moved is a deadlock."""
        transfers = self._job.plans[name].transfers
        unfinished = dict(enumerate(self._machines))
        while unfinished:
            moved = False
            for p, machine in list(unfinished.items()):
                event = machine.advance()
                while isinstance(event, Outgoing):
                    to = self._machines[transfers[event.transfer].to]
                    to.deliver(event.transfer, event.microbatch, event.value)
                    moved = True
                    event = machine.advance()
                if isinstance(event, Finished):
                    del unfinished[p]
                    moved = True
            if not moved:
                raise RunError(self._deadlock(unfinished))

    def _deadlock(self, unfinished: dict[int, Machine]) -> str:
        waits = []
        for p, machine in unfinished.items():
            event = machine.advance()
            if isinstance(event, Waiting):
                waits.append(f"partition {p} waits for {machine.describe(event)}")
        return "deadlock: " + "; ".join(waits)
