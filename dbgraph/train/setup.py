"""From options to all that a run needs: plans, rule, data, order. Everything is checked here,
before any machine starts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf

from dbgraph import compile as compiler
from dbgraph.coordinate.options import Sandblaster
from dbgraph.data import Batches, Data, check
from dbgraph.dsl.network import Network
from dbgraph.errors import PlanError, UsageError
from dbgraph.job import Job
from dbgraph.metrics import pairing
from dbgraph.optim.rules import Rule
from dbgraph.passes.partition.given import Given
from dbgraph.plan.plan import Plan
from dbgraph.plan.text import open_plan
from dbgraph.plan.verify import verify_plan
from dbgraph.train.algorithm import ITERATIONS, Many, check_fit, is_sandblaster, steps_per_epoch
from dbgraph.train.handover import handed_over
from dbgraph.train.options import DEFAULT_STEPS, Options
from dbgraph.train.resume import Begin, begin

TRAIN, EVALUATE = "train", "evaluate"
"""The names of the plans in the job."""
# Plans that the search for the fastest one may simulate.
_SEARCH_STEPS = 64
NO_EVALUATION = (
    "the given plan is not what this dbgraph makes of the network: no held-out evaluation"
)
_OFTEN = 100


@dataclass(frozen=True)
class Setup:
    """What a run is made of.

    Attributes:
        plans: TRAIN, and EVALUATE where there is one with the same placement.
        pair: (output, input) that give the accuracy, or None.
        steps: the number of steps at which training ends.
        evaluate_every, checkpoint_every: in steps; 0: only at the end.
        notes: what the user should be told.
        many: the algorithm, replicas and shards, where there are any.
    """

    options: Options
    plans: Mapping[str, Plan]
    rule: Rule
    data: Data
    batches: Batches
    pair: tuple[str, str] | None
    begin: Begin
    steps: int
    evaluate_every: int
    checkpoint_every: int
    notes: tuple[str, ...] = ()
    many: Many | None = None

    @property
    def plan(self) -> Plan:
        """The training plan."""
        return self.plans[TRAIN]

    @property
    def evaluates(self) -> bool:
        """Whether there is held-out data and a plan for it."""
        return EVALUATE in self.plans and self.data.test is not None

    @property
    def method(self) -> str:
        """The optimiser's rule, or Sandblaster's method."""
        if self.many is not None and isinstance(self.many.algorithm, Sandblaster):
            return self.many.algorithm.method
        return str(self.rule)

    @property
    def examples_per_step(self) -> int:
        """Of one step; an evaluation under Sandblaster, which may take several, counts as one."""
        if is_sandblaster(self.many):
            return self.batches.length
        return self.plan.batch * (self.many.batches_per_step if self.many is not None else 1)

    def job(self) -> Job:
        sources = {TRAIN: self.data.train}
        if self.evaluates and self.data.test is not None:
            sources[EVALUATE] = self.data.test
        return Job(self.plans, None if is_sandblaster(self.many) else self.rule, sources)


def prepare(network: Network, data: Data, options: Options) -> Setup:
    """Compiles and checks.

    Raises NetworkError, NoCutError, PlanError, DataError, CheckpointError, UsageError.
    """
    plans, notes = _plans(network, options)
    plan = plans[TRAIN]
    check(data.train, plan.input_types)
    if data.test is not None:
        check(data.test, plan.input_types, padded=True)
    start = begin(options, plan)
    rule = start.rule(options)
    if not is_sandblaster(options.many):
        start = handed_over(start, rule)
    batches = Batches(len(data.train), plan.batch, start.seed(options, plan))
    if options.seed is not None:
        plans = {name: replace(p, seed=options.seed) for name, p in plans.items()}
    if options.many is not None:
        check_fit(options.many, plan, options.rule)
    evaluate_every = _evaluate_every(options, batches)
    every = options.checkpoint_every
    setup = Setup(
        options=options,
        plans=plans,
        rule=rule,
        data=data,
        batches=batches,
        pair=pairing(plan.outputs, plan.input_types, options.accuracy or ""),
        begin=start,
        steps=_steps(options, batches),
        evaluate_every=evaluate_every,
        checkpoint_every=evaluate_every if every is None else every,
        notes=(*notes, *start.notes(rule, batches)),
        many=options.many,
    )
    if options.patience is not None and not setup.evaluates:
        raise UsageError(
            "patience needs held-out data" if data.test is None else NO_EVALUATION,
            hint="give data as dbg.Data(train, test)" if data.test is None else "",
        )
    return setup


def _steps(options: Options, batches: Batches) -> int:
    if options.epochs is not None:
        return options.epochs * steps_per_epoch(options.many, batches)
    return DEFAULT_STEPS if options.steps is None else options.steps


def _evaluate_every(options: Options, batches: Batches) -> int:
    """By default a number that does not depend on how long the run is: resuming keeps it."""
    if options.evaluate_every is not None:
        return options.evaluate_every
    if is_sandblaster(options.many):
        return ITERATIONS
    per_epoch = steps_per_epoch(options.many, batches)
    return per_epoch * -(-_OFTEN // per_epoch)


def title(setup: Setup) -> str:
    """A run in one line."""
    plan, held_out = setup.plan, setup.data.test
    machines = "1 partition" if plan.partitions == 1 else f"{plan.partitions} partitions"
    if setup.many is not None:
        machines = f"{machines}, {setup.many}"
    held = f", {len(held_out):,} held out" if held_out is not None else ""
    return (
        f"training {plan.name} on {machines} ({plan.strategy}, {setup.options.backend}): "
        f"{setup.batches.length:,} examples{held}, batch {plan.batch}, {setup.method}"
    )


# Plans


def _plans(network: Network, options: Options) -> tuple[dict[str, Plan], list[str]]:
    modes = ("training", "evaluation")
    if options.plan is None:
        made = compiler.make_plans(
            network,
            compiler.Options(
                options.partitions or 1,
                options.microbatches or 1,
                options.strategy,
                modes,
                # By steps alone: the same call makes the same plan, on any machine.
                budget_s=inf,
                budget_steps=_SEARCH_STEPS,
            ),
        )
        return {TRAIN: made["training"], EVALUATE: made["evaluation"]}, []
    plan = options.plan if isinstance(options.plan, Plan) else open_plan(options.plan)
    _check_given(plan, network, options)
    given = Given.by(plan, plan.microbatches)
    made = compiler.make_plans(
        network,
        compiler.Options(plan.partitions, plan.microbatches, plan.strategy, modes[1:], given=given),
    )
    if _placed_alike(plan, made["evaluation"]):
        return {TRAIN: plan, EVALUATE: made["evaluation"]}, []
    return {TRAIN: plan}, [NO_EVALUATION]


def _check_given(plan: Plan, network: Network, options: Options) -> None:
    """Raises PlanError for a plan that is not for training this network, UsageError where
    options contradict it."""
    where = "" if isinstance(options.plan, Plan) else f"{os.fspath(options.plan or '')}: "
    verify_plan(plan)
    if plan.fingerprint != network.fingerprint:
        raise PlanError(
            f"{where}the plan is for another network: {plan.name!r}, fingerprint "
            f"{plan.fingerprint}; this is {network.name!r}, {network.fingerprint}",
            hint="compile the network again",
        )
    if plan.mode != "training":
        raise PlanError(f"{where}the plan is for {plan.mode}", hint="compile one for training")
    for name in ("partitions", "microbatches", "strategy"):
        given, has = getattr(options, name), getattr(plan, name)
        if given is not None and given != has:
            raise UsageError(f"{name} {given} is given, the plan has {has}", hint="leave it out")


def _placed_alike(plan: Plan, other: Plan) -> bool:
    """Whether each partition holds the same regions of the parameters under the same names."""
    return all(
        set(other.leaves("parameter", p)) <= set(plan.leaves("parameter", p))
        for p in range(plan.partitions)
    )
