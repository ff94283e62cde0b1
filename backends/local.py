"""local: all partitions in one process, one after the other, deterministic. Values pass from one
to the next without a copy, so that 32 machines can be tried on a laptop."""

from __future__ import annotations

from msgspec.structs import replace

from dbgraph.backends.instructions import instruction_words
from dbgraph.backends.local_notes import LocalNotes
from dbgraph.backends.progress import Progress
from dbgraph.backends.states import DRIVER, MachineState, of_progress
from dbgraph.errors import RunError
from dbgraph.job import Job, Step, StepResult
from dbgraph.machine import Finished, Machine, Outgoing, Waiting, leaf_feeds, merge_results
from dbgraph.plan.plan import Plan
from dbgraph.results import check_feeds
from dbgraph.state import State
from dbgraph.wire.messages import Place


class LocalBackend:
    """Runs every machine until it waits, in turn, until all have finished."""

    sign_s = 0.0

    def __init__(self) -> None:
        self._progress = Progress()
        self._step = Step("")
        self._job = Job({})
        self._machines: tuple[Machine, ...] = ()
        self._each: tuple[Progress, ...] = ()
        self._turn = 0
        self._notes: LocalNotes | None = None

    def start(self, job: Job) -> None:
        partitions = max(plan.partitions for plan in job.plans.values())
        self._job = job
        self._machines = tuple(Machine(job, p) for p in range(partitions))
        self._each = tuple(Progress() for _ in self._machines)
        if job.collector is not None:
            self._notes = LocalNotes(job.collector, self._machines)

    def load(self, state: State | None) -> None:
        for machine in self._machines:
            machine.load(state)

    def step(self, step: Step) -> StepResult:
        plan = self._job.plans[step.plan]
        if step.feeds is not None:
            check_feeds(plan, step.feeds)
        if self._notes is not None:
            self._notes.begins(step)
        for p, machine in enumerate(self._machines):
            machine.begin(step, None if step.feeds is None else leaf_feeds(plan, p, step.feeds))
        self._step = step
        self._progress.moved(f"step {step.number} of {step.plan}")
        self._run(step.plan)
        self._progress.moved(f"what comes after step {step.number} of {step.plan}")
        found = merge_results(plan, (machine.result() for machine in self._machines))
        if self._notes is not None:
            self._notes.ended(step)
        return found

    def collect(self) -> State:
        return State.merge(machine.collect() for machine in self._machines)

    def stop(self) -> None:
        self._machines = ()
        notes, self._notes = self._notes, None
        if notes is not None:
            notes.take_rest()

    def machines(self) -> list[MachineState]:
        """See `states.Telling`. One of them is at work at a time, and the others stand still."""
        plan = self._job.plans.get(self._step.plan)
        driver = of_progress(DRIVER, self._progress)
        return [driver, *(self._state_of(plan, m) for m in self._machines if plan is not None)]

    def _state_of(self, plan: Plan, machine: Machine) -> MachineState:
        p, position, number = machine.partition, machine.position, self._step.number
        words, progress = instruction_words(plan, p, position), self._each[p]
        waiting: Waiting | None = progress.waiting
        state = MachineState(
            f"partition {p}",
            words or "idle",
            since_s=progress.since_s,
            place=Place(number, position),
        )
        if waiting is not None:
            return replace(
                state,
                waiting=machine.describe(waiting),
                awaits=(f"partition {plan.transfers[waiting.transfer].source}",),
                place=Place(number, position, waiting.transfer, waiting.microbatch),
            )
        if words and p != self._turn:
            return replace(state, waiting="its turn", awaits=(f"partition {self._turn}",))
        return state

    def _run(self, name: str) -> None:
        """One round gives every machine its turn; a round in which nothing moved is a deadlock."""
        transfers = self._job.plans[name].transfers
        unfinished = dict(enumerate(self._machines))
        while unfinished:
            moved = False
            for p, machine in list(unfinished.items()):
                self._turn = p
                self._each[p].moved()
                event = machine.advance()
                while isinstance(event, Outgoing):
                    to = transfers[event.transfer].to
                    self._machines[to].deliver(event.transfer, event.microbatch, event.value)
                    if self._notes is not None:
                        self._notes.delivered(p, to, event)
                    self._each[to].moved()
                    moved = True
                    event = machine.advance()
                self._each[p].moved("idle", event if isinstance(event, Waiting) else None)
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
