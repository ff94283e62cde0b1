"""Where a run begins: at step 0, or at a checkpoint."""

from __future__ import annotations

import os
from dataclasses import dataclass

from dbgraph import checkpoint
from dbgraph.errors import CheckpointError, UsageError
from dbgraph.manifest import Meta
from dbgraph.optim.rules import Rule
from dbgraph.plan.plan import Plan
from dbgraph.sampler import Batches
from dbgraph.state import State
from dbgraph.train.algorithm import default_rule
from dbgraph.train.options import Options


@dataclass(frozen=True)
class Begin:
    """The start of a run.

    Attributes:
        path: the checkpoint's folder; None: from the initial parameters.
        state: of the checkpoint.
        meta: of the checkpoint.
    """

    path: str | None = None
    state: State | None = None
    meta: Meta = Meta()  # noqa: RUF009  # frozen

    @property
    def step(self) -> int:
        return self.state.step if self.state is not None else 0

    def rule(self, options: Options) -> Rule:
        """What is asked for, else the checkpoint's, else the default."""
        return options.rule or Rule.parse(self.meta.rule or default_rule(options.many))

    def seed(self, options: Options, plan: Plan) -> int:
        """Of the order of the examples. Raises UsageError where it is not the checkpoint's."""
        before = self.meta.sampler.seed if self.meta.sampler else None
        if before is not None and options.seed not in (None, before):
            raise UsageError(
                f"seed {options.seed} is given, the run that is resumed has {before}",
                hint="leave the seed out",
            )
        given = options.seed if before is None else before
        return plan.seed if given is None else given

    def notes(self, rule: Rule, batches: Batches) -> list[str]:
        """In what the run goes on differently from how it would have without stopping."""
        if self.path is None:
            return []
        found = [f"resuming at step {self.step} from {self.path}"]
        if self.meta.rule and str(rule) != self.meta.rule:
            found.append(f"the optimizer was {self.meta.rule}, and goes on as {rule}")
        sampler = self.meta.sampler
        if sampler and sampler.length != batches.length:
            found.append(
                f"the training data had {sampler.length} examples, and has {batches.length} now: "
                "they come in another order than without stopping"
            )
        return found


def begin(options: Options, plan: Plan) -> Begin:
    """Finds the checkpoint to resume from, if one is asked for.

    Raises CheckpointError where there is none, or it does not fit; UsageError where a new run
    would write over another one's checkpoints.
    """
    folder = os.fspath(options.checkpoint) if options.checkpoint is not None else None
    if not options.resume:
        held = checkpoint.latest(folder) if folder else None
        if held:
            raise UsageError(
                f"{folder!r} holds checkpoints of another run: {os.path.basename(held)}",
                hint="go on with it (--resume), or name another folder",
            )
        return Begin()
    path = folder if options.resume is True else os.fspath(options.resume)
    assert path is not None  # options have been checked
    if os.path.isdir(path) and not checkpoint.latest(path) and not _is_one(path):
        raise CheckpointError(
            f"there is no checkpoint in {path!r}", hint="leave --resume out to begin anew"
        )
    state, meta = checkpoint.load(path, plan.parameter_types, plan.fingerprint)
    return Begin(path if _is_one(path) else checkpoint.latest(path), state, meta)


def _is_one(path: str) -> bool:
    return os.path.isfile(os.path.join(path, "manifest.json"))
