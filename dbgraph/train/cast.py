"""Who plays in a run with replicas: what makes each actor, where it will live."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import isfinite

import numpy as np

from dbgraph.actor import Actor, Address
from dbgraph.actors.evaluator import Evaluator
from dbgraph.actors.gradients import BatchReplica
from dbgraph.actors.messages import Appraise, Appraised
from dbgraph.actors.partition import TRAIN as PLAN
from dbgraph.actors.partition import Partition
from dbgraph.actors.replica import DownpourReplica
from dbgraph.actors.shard import ShardActor
from dbgraph.backends.local import LocalBackend
from dbgraph.backends.theatre import Cast
from dbgraph.coordinate.options import Sandblaster
from dbgraph.job import Job, StepResult
from dbgraph.machine import Machine
from dbgraph.optim.rules import Rule
from dbgraph.ps.blocks import Blocks
from dbgraph.ps.client import Client
from dbgraph.ps.initial import initial_state
from dbgraph.ps.layout import Layout
from dbgraph.ps.options import Downpour
from dbgraph.ps.routes import Routes
from dbgraph.ps.shard import Shard
from dbgraph.state import State
from dbgraph.train.algorithm import Algorithm
from dbgraph.train.blame import blame_evaluation, blame_replica
from dbgraph.train.evaluate import evaluate
from dbgraph.train.options import Options
from dbgraph.train.resume import Begin
from dbgraph.train.setup import EVALUATE, Setup


@dataclass(frozen=True)
class Casting:
    """Makes actors; it travels to where they will live.

    Args:
        setup: without its state.
    """

    setup: Setup
    layout: Layout
    algorithm: Algorithm

    def __call__(self, address: Address) -> Actor:
        match address.kind:
            case "shard":
                return self._shard(address.number)
            case "evaluator":
                return Evaluator(self.layout, self._score)
            case _:
                return self._replica(address)

    def _shard(self, number: int) -> Actor:
        plan, options, owned = self.setup.plan, self.algorithm, self.layout.shards[number]
        trained = {
            r.name for p in range(plan.partitions) for r in plan.results(p) if r.kind == "gradient"
        }
        blocks = Blocks(dict(self.layout.types), owned, trained, self._rule())
        bound = options.max_staleness if isinstance(options, Downpour) else None
        scaled = isinstance(options, Downpour) and options.scale_by_staleness
        shard = Shard(blocks, bound, scaled)
        return ShardActor(shard, initial_state(plan, owned))

    def _rule(self) -> Rule | None:
        return None if isinstance(self.algorithm, Sandblaster) else self.setup.rule

    def _replica(self, address: Address) -> Actor:
        setup, plan = self.setup, self.setup.plan
        job = Job({PLAN: plan}, None, {PLAN: setup.data.train})
        # A sibling that asks for the parameters of a step may be a step behind.
        partition = Partition(Machine(job, address.partition), address, min(plan.partitions, 2))
        routes = Routes.of(self.layout, plan, address.partition)
        options = self.algorithm
        company = address, plan.partitions, plan.fingerprint
        member = *company, partition, setup.batches, partial(blame_replica, setup)
        if not isinstance(options, Downpour):
            return BatchReplica(*member, routes)
        rate = options.rate(setup.rule)

        def make_client(replica: int, number: int, epoch: int) -> Client:
            return Client(replica, number, epoch, routes, options, rate)

        return DownpourReplica(*member, make_client)

    def _score(self, state: State, asked: Appraise) -> Appraised:
        setup = self.setup
        assert setup.data.test is not None
        backend = LocalBackend()
        backend.start(Job({EVALUATE: setup.plans[EVALUATE]}, None, {EVALUATE: setup.data.test}))
        backend.load(state)

        def check(result: StepResult, examples: np.ndarray) -> None:
            if not all(map(isfinite, result.losses.values())):
                raise blame_evaluation(setup, state, examples, asked.step, result)

        found = evaluate(backend, setup, setup.data.test, asked.step, check=check)
        terms: Mapping[str, float] = found.terms
        return Appraised(
            asked.number, found.step, found.loss, dict(terms), found.accuracy, found.examples
        )


def make_cast(setup: Setup, layout: Layout) -> Cast:
    chosen = setup.many
    assert chosen is not None
    lean = replace(setup, begin=Begin(), options=Options())
    return Cast(
        shards=chosen.shards,
        replicas=tuple(range(chosen.replicas)),
        partitions=setup.plan.partitions,
        evaluators=int(setup.evaluates),
        make=Casting(lean, layout, chosen.algorithm),
    )
