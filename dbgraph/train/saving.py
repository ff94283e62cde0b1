"""Checkpoints of a run: only good ones."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np

from dbgraph import checkpoint
from dbgraph.manifest import Meta, Sampler
from dbgraph.state import State
from dbgraph.train.setup import Setup


def broken(state: State) -> list[tuple[str, str]]:
    """The (slot, parameter) whose values are not all finite."""
    return [
        key
        for key, pieces in state.tensors.items()
        if not all(np.isfinite(array).all() for _, array in pieces if array.dtype.kind != "i")
    ]


class Saver:
    """Saves a run's states, if it has a folder.

    Attributes:
        good: folder of the newest checkpoint that the run can go back to; None: its beginning is
            the initial parameters.
        written: folder of the newest checkpoint that this run has written.
    """

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        folder = setup.options.checkpoint
        self._folder = os.fspath(folder) if folder is not None else None
        self.good = setup.begin.path
        self.good_step = setup.begin.step
        self.written: str | None = None
        self._saved_step = -1

    @property
    def enabled(self) -> bool:
        return self._folder is not None

    def has(self, step: int) -> bool:
        """Whether this run has saved the state after so many steps."""
        return self._saved_step == step

    def save(self, state: State, metrics: Mapping[str, float], *, best: bool) -> str:
        """Writes a checkpoint of a state that is known to be finite. Raises CheckpointError."""
        assert self._folder is not None
        keep = self._setup.options.keep
        path = checkpoint.save(self._folder, state, self._meta(metrics), keep=keep, best=best)
        self.good = self.written = path
        self.good_step = self._saved_step = state.step
        return path

    def good_state(self) -> State | None:
        """What to go back to; None: the initial parameters."""
        if self.written is not None:
            return checkpoint.load(self.written)[0]
        return self._setup.begin.state

    def _meta(self, metrics: Mapping[str, float]) -> Meta:
        setup, plan = self._setup, self._setup.plan
        batches = setup.batches
        return Meta(
            network=plan.name,
            fingerprint=plan.fingerprint,
            seed=plan.seed,
            rule=str(setup.rule),
            partitions=plan.partitions,
            sampler=Sampler(batches.length, batches.batch, batches.seed, 0),
            metrics=dict(metrics),
        )


def kept(saver: Saver) -> str:
    """What is left of a run that has failed, as a hint."""
    if saver.good is not None:
        return f"the last good checkpoint is {saver.good}"
    return "no checkpoint was written" + ("" if saver.enabled else " (--checkpoint DIR)")
