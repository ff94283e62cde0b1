"""What a training run is told, all of it, checked as far as it can be without the network."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from dbgraph.errors import UsageError
from dbgraph.optim.rules import Rule
from dbgraph.plan.plan import Plan
from dbgraph.suggest import did_you_mean
from dbgraph.target import check_file, check_folder
from dbgraph.train.algorithm import Algorithm, Many, many

DEFAULT_STEPS = 500


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of `dbg.Trainer`, by the same names.

    Attributes:
        partitions: number of machines; 1, or what `plan` has.
        backend: "local", "zmq" or another that is installed.
        backend_options: passed to the backend, such as {"port": 7000} for zmq.
        algorithm: dbg.Downpour(…), dbg.Sandblaster(…) or dbg.Sync(…), or their names: trains
            with replicas and a parameter server. By default SGD over one plan without.
        replicas: copies of the plan that train; 1. Needs an algorithm, as shards do.
        shards: of the parameter server; 1.
        optimizer: a Rule, or its text, such as "adam:learning_rate=0.001@cosine:steps=1000". By
            default the checkpoint's on resuming, else momentum with a learning rate of 0.05;
            with Downpour Adagrad with 0.02.
        microbatches: equal parts of the batch whose gradients are added up; 1, or what `plan` has.
        strategy: how to cut: "auto" (the search, the default), "tiles" or "stages".
        plan: use this training plan, or the one in this file, instead of compiling one.
        seed: of the order of the examples and of the initial parameters; the network's own by
            default. Dropout always takes the network's.
        steps: train until so many steps are done, those before resuming included; 500.
        epochs: the same, in rounds over the training data.
        evaluate_every: evaluate on the held-out data after so many steps; 0: only at the end. By
            default every epoch, but at most every 100 steps.
        patience: stop after so many evaluations without a smaller held-out loss.
        checkpoint: folder for checkpoints.
        checkpoint_every: save after so many steps; 0: only at the end. By default with every
            evaluation. The best one by held-out loss is kept besides.
        keep: how many of the newest checkpoints stay.
        resume: True: go on from the newest checkpoint in `checkpoint`. A path: from that one.
        log: file for a log of JSON lines; beside the one in the folder for checkpoints.
        dashboard: port of a page on loopback that shows the run as it goes on; 0: one that is
            free. Its URL goes to stderr.
        tensorboard: folder for event files of the log's records, which TensorBoard shows.
        trace: file for what every process does and when, in Perfetto's format (`dbgraph.trace`).
        log_every: a record of the training loss after so many steps.
        accuracy: "class=label": compare this integer output with that input. By default the
            only pair that can be compared.

    Raises UsageError for values out of range, and options that contradict each other.
    """

    partitions: int | None = None
    backend: str = "local"
    backend_options: Mapping[str, object] = field(default_factory=dict)
    algorithm: Algorithm | str | None = None
    replicas: int | None = None
    shards: int | None = None
    optimizer: Rule | str | None = None
    microbatches: int | None = None
    strategy: str | None = None
    plan: Plan | str | os.PathLike[str] | None = None
    seed: int | None = None
    steps: int | None = None
    epochs: int | None = None
    evaluate_every: int | None = None
    patience: int | None = None
    checkpoint: str | os.PathLike[str] | None = None
    checkpoint_every: int | None = None
    keep: int = 3
    resume: bool | str | os.PathLike[str] = False
    log: str | os.PathLike[str] | None = None
    dashboard: int | None = None
    tensorboard: str | os.PathLike[str] | None = None
    trace: str | os.PathLike[str] | None = None
    log_every: int = 10
    accuracy: str | None = None
    many: Many | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        for name, least in _COUNTS.items():
            _check_count(name, getattr(self, name), least)
        if self.steps is not None and self.epochs is not None:
            raise UsageError("steps and epochs are both given", hint="give one of them")
        if self.checkpoint is None:
            saves = {"resume": self.resume is True, "checkpoint_every": bool(self.checkpoint_every)}
            for name in (name for name, given in saves.items() if given):
                hint = "name one: checkpoint=DIR"
                raise UsageError(f"{name} needs a folder for checkpoints", hint=hint)
        _check_targets(self)
        object.__setattr__(self, "many", many(self.algorithm, self.replicas, self.shards))
        if isinstance(self.optimizer, str):
            object.__setattr__(self, "optimizer", Rule.parse(self.optimizer))

    @staticmethod
    def of(given: Mapping[str, Any]) -> Options:
        """Options by name. Raises UsageError for an unknown one."""
        known = [f.name for f in fields(Options) if f.init]
        for name in given:
            if name not in known:
                hint = did_you_mean(name, known) or f"there are: {', '.join(known)}"
                raise UsageError(f"training has no option {name!r}", hint=hint)
        return Options(**given)

    @property
    def rule(self) -> Rule | None:
        """The rule that is asked for."""
        assert not isinstance(self.optimizer, str)  # parsed above
        return self.optimizer


def _check_targets(options: Options) -> None:
    """Whether what is to be written can be."""
    if options.trace is not None:
        check_file(options.trace)
    if options.log is not None:
        check_file(options.log, in_new_folder=True)
    for folder in (options.checkpoint, options.tensorboard):
        if folder is not None:
            check_folder(folder)


_COUNTS: Mapping[str, int] = {
    "partitions": 1,
    "replicas": 1,
    "shards": 1,
    "microbatches": 1,
    "seed": 0,
    "steps": 0,
    "epochs": 0,
    "evaluate_every": 0,
    "patience": 1,
    "checkpoint_every": 0,
    "keep": 1,
    "log_every": 1,
    "dashboard": 0,
}
"""Options that are whole numbers, with the least that each may be."""


def _check_count(name: str, value: object, least: int) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise UsageError(f"{name} must be a whole number, not {value!r}")
    if value < least:
        raise UsageError(f"{name} must be at least {least}, not {value}")
