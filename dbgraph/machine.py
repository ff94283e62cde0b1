"""One partition at run time: its model, its compiled plans, and the interpreter of its program.

It sends and receives nothing itself: a backend asks it what is next.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import jax
import numpy as np

from dbgraph.data import Source, read
from dbgraph.errors import DbgraphError, PlanError, RunError
from dbgraph.ir.graph import Result
from dbgraph.ir.region import Region
from dbgraph.ir.types import DTYPE_BYTES
from dbgraph.job import Job, Step
from dbgraph.loaded import LoadedPlan
from dbgraph.model import Model
from dbgraph.plan.plan import Leaf, Plan
from dbgraph.plan.program import Run, Update
from dbgraph.results import Part, PartitionResult, leaf_feeds, merge_results
from dbgraph.state import State
from dbgraph.trace.program import ProgramLog
from dbgraph.worker import Finished, Key, Outgoing, Waiting

__all__ = [
    "Finished",
    "Machine",
    "Outgoing",
    "PartitionResult",
    "Waiting",
    "leaf_feeds",
    "merge_results",
]

Event = Outgoing | Waiting | Finished
_COMPUTES = (Run, Update)


class Machine:
    """Runs one partition of a job's plans.

    Attributes:
        log: notes when it does what; None: nobody asks.

    Raises PlanError where the plans do not place the parameters alike.
    """

    def __init__(self, job: Job, partition: int) -> None:
        self.partition = partition
        self.log: ProgramLog | None = None
        self._sources: Mapping[str, Source] = job.sources
        self._wide = any(_is_wide(plan) for plan in job.plans.values())
        with self._context():
            self._loaded = {name: LoadedPlan(plan, partition) for name, plan in job.plans.items()}
            first = min(self._loaded.values(), key=lambda one: one.plan.mode != "training")
            self._check_placement(first)
            self._model = Model(first, job.rule)
        self._current = first
        self._step = Step("")
        self._done = 0

    def load(self, state: State | None) -> None:
        """Parameters and slots from a state; None: the initial ones."""
        with self._context():
            self._model.load(state)
        self._done = state.step if state is not None else 0

    def set_parameters(self, values: Mapping[str, np.ndarray]) -> None:
        """By leaf, from somebody who keeps them and does not change them any more."""
        with self._context():
            self._model.set(values)

    def gradients(self) -> dict[str, np.ndarray]:
        """By leaf those of the step, after Finished, where the job has no rule."""
        loaded = self._current
        found = {leaf: np.asarray(loaded.gradient(leaf)) for leaf in loaded.gradients}
        if self.log is not None:
            self.log.look()
        return found

    def receiver(self, transfer: int) -> int:
        """The partition that a transfer of the current plan goes to."""
        return self._current.plan.transfers[transfer].to

    def sender(self, transfer: int) -> int:
        """The partition that it comes from."""
        return self._current.plan.transfers[transfer].source

    def begin(self, step: Step, feeds: Mapping[str, np.ndarray] | None = None) -> None:
        """Starts a step.

        Args:
            feeds: by input leaf the region of the whole batch, see `leaf_feeds`; None: the
                machine reads `step.examples` from its own source.
        """
        self._current = self._loaded[step.plan]
        self._step = step
        if feeds is None:
            feeds = self.read(step)
        plan = self._current.plan
        leaves: dict[Key, Any] = {}
        for name, array in feeds.items():
            size = len(array) // plan.microbatches
            for m in range(plan.microbatches):
                leaves[name, m] = array[m * size : (m + 1) * size] if size else array
        for m in range(plan.microbatches):
            for name in self._current.parameters:
                leaves[name, m] = self._model.arrays[name]
            for name in self._current.clocks:
                leaves[name, m] = np.asarray((step.number, m * plan.microbatch_size), np.int32)
        if self.log is not None:
            self.log.begin(self._current.worker)
        self._current.worker.begin(leaves)

    def advance(self) -> Event:
        """Executes instructions until something outside is needed."""
        worker, log = self._current.worker, self.log
        if log is not None:
            log.resumes(worker.position)
        with self._context():
            while isinstance(action := worker.next(), _COMPUTES):
                first = worker.position
                if log is not None and log.open:
                    log.look()
                self._execute(action)
                if log is not None:
                    log.launched(first, self._made(first))
        if log is not None:
            log.waits = isinstance(action, Waiting)
            if log.waits and log.open:
                log.settle()
        return action

    def deliver(self, transfer: int, microbatch: int, value: Any) -> None:
        """A received value of the current step. Raises RunError for one that is not expected."""
        self._current.worker.deliver(transfer, microbatch, value)

    def result(self) -> PartitionResult:
        """What the step yields here, of the kinds that it wants; after Finished."""
        want = self._step.want
        losses: dict[str, float] = {}
        parts: dict[str, list[Part]] = {"output": [], "gradient": []}
        for result in self._current.results:
            if result.kind in ("loss", "term"):
                if "loss" in want:
                    losses[result.name] = self._summed(result.value)
            elif result.kind in want:
                parts[result.kind] += self._parts(result)
        if self.log is not None:
            self.log.look()
        return PartitionResult(losses, parts["output"], parts["gradient"])

    def collect(self) -> State:
        """Copies of parameters and slots."""
        return self._model.collect(self._done)

    @property
    def position(self) -> int:
        """Index of the current instruction."""
        return self._current.worker.position

    def describe(self, waiting: Waiting) -> str:
        """`hidden3→hidden4, microbatch 0, from partition 1`."""
        return self._current.worker.describe(waiting)

    # Inside

    def _context(self) -> AbstractContextManager[Any]:
        """64-bit types only where a plan has them; never as a global setting."""
        return jax.enable_x64(True) if self._wide else nullcontext()

    def _execute(self, action: Any) -> None:
        loaded, model = self._current, self._model
        try:
            if isinstance(action, Run):
                fused = (
                    loaded is model.loaded
                    and model.updates_with_last_segment
                    and loaded.worker.position == len(loaded.worker.program.instructions) - 2
                )
                if fused:
                    loaded.worker.store(model.run_and_update(action.segment))
                    loaded.worker.store(())  # the UPDATE is done with it
                    self._done += 1
                else:
                    outputs = loaded.run(action.segment, action.microbatch)
                    loaded.worker.store(outputs, action.microbatch)
            else:
                model.update()
                loaded.worker.store(())
                self._done += 1
        except DbgraphError:
            raise
        except Exception as error:
            raise RunError(f"partition {self.partition}: {action}: {error}") from error

    def _made(self, first: int) -> Any:
        """An array that is there when all from `first` on has ended; None where it makes none, or
        sends it at once."""
        loaded, worker = self._current, self._current.worker
        if first in loaded.sent_at_once:
            return None
        last = worker.program.instructions[worker.position - 1]
        if isinstance(last, Update):
            return next(iter(self._model.arrays.values()), None)
        assert isinstance(last, Run)
        outputs = worker.program.segments[last.segment].outputs
        found = (worker.values.get((name, last.microbatch)) for name in outputs)
        return next((made for made in found if made is not None), None)

    def read(self, step: Step) -> dict[str, np.ndarray]:
        """What `begin` feeds a step that is not fed: its examples, from the machine's source.

        Raises RunError where there is none, DataError where it does not give what it should.
        """
        plan, source = self._loaded[step.plan].plan, self._sources.get(step.plan)
        if source is None or step.examples is None:
            raise RunError(f"plan {step.plan!r} has no data source: its steps must be fed")
        return {
            leaf.node: _read_leaf(plan, source, leaf, step.examples)
            for leaf in plan.leaves("input", self.partition)
        }

    def _summed(self, value: str) -> float:
        plan, values = self._current.plan, self._current.worker.values
        return float(sum(float(values[value, m]) for m in range(plan.microbatches)))

    def _parts(self, result: Result) -> list[Part]:
        """A gradient is summed over the microbatches; an output is one part of each."""
        plan, values = self._current.plan, self._current.worker.values
        if result.kind == "gradient":
            value = values[result.value, plan.microbatches - 1]
            return [(result.name, result.region, np.asarray(value))]
        return [
            (result.name, _in_batch(plan, result, m), np.asarray(values[result.value, m]))
            for m in range(plan.microbatches)
        ]

    def _check_placement(self, first: LoadedPlan) -> None:
        for loaded in self._loaded.values():
            for node, leaf in loaded.parameters.items():
                if first.parameters.get(node) != leaf:
                    raise PlanError(
                        f"the plans of a job must place parameters alike; partition "
                        f"{self.partition} holds {leaf.of}[{leaf.region}] in one only"
                    )


def _is_wide(plan: Plan) -> bool:
    return any(DTYPE_BYTES[node.type.dtype] == 8 for node in plan.graph)


def _read_leaf(plan: Plan, source: Source, leaf: Leaf, examples: np.ndarray) -> np.ndarray:
    """A leaf's region of the examples, its microbatches one after another."""
    (low, high), *rest = leaf.region.bounds
    size = plan.microbatch_size
    wanted = examples.reshape(plan.microbatches, size)[:, low:high].reshape(-1)
    return read(source, leaf.of, wanted, Region(tuple(rest)))


def _in_batch(plan: Plan, output: Result, microbatch: int) -> Region:
    """The region of a microbatch's output, in the whole batch."""
    if plan.microbatches == 1 or plan.outputs[output.name].shape[:1] != (plan.batch,):
        return output.region
    low, high = output.region.bounds[0]
    offset = microbatch * plan.microbatch_size
    return output.region.replace(0, (low + offset, high + offset))
