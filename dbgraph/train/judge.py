"""Which evaluation is the best, and when there is no more hope of a better one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from dbgraph.train.history import Evaluation


class Judge:
    """Compares evaluations by their loss.

    Args:
        patience: so many evaluations without a better one are enough; None: never.
        before: the `metrics` of a run that is resumed.
    """

    def __init__(self, patience: int | None, before: Mapping[str, float | None]) -> None:
        self._patience = patience
        self._stale = int(before.get("evaluations_since_best") or 0)
        self.best = _best_of(before)

    def is_best(self, evaluation: Evaluation) -> bool:
        """Takes note of an evaluation."""
        better = self.best is None or evaluation.loss < self.best.loss
        if better:
            self.best = evaluation
        self._stale = 0 if better else self._stale + 1
        return better

    @property
    def is_enough(self) -> bool:
        return self._patience is not None and self._stale >= self._patience

    def metrics(self) -> dict[str, float]:
        """What a checkpoint keeps of it."""
        if self.best is None:
            return {}
        found = {
            "evaluations_since_best": float(self._stale),
            "best_step": float(self.best.step),
            "best_loss": self.best.loss,
            "best_examples": float(self.best.examples),
        }
        if self.best.accuracy is not None:
            found["best_accuracy"] = self.best.accuracy
        return found


def run_metrics(
    judge: Judge, losses: Sequence[float], evaluations: Sequence[Evaluation]
) -> dict[str, float]:
    """What a checkpoint says of the run so far."""
    metrics = judge.metrics()
    if losses:
        metrics["loss"] = losses[-1]
    if evaluations:
        metrics["held_out_loss"] = evaluations[-1].loss
        if evaluations[-1].accuracy is not None:
            metrics["held_out_accuracy"] = evaluations[-1].accuracy
    return metrics


def _best_of(before: Mapping[str, float | None]) -> Evaluation | None:
    step, loss = before.get("best_step"), before.get("best_loss")
    if step is None or loss is None or not math.isfinite(loss):
        return None
    examples = int(before.get("best_examples") or 0)
    return Evaluation(int(step), loss, {}, before.get("best_accuracy"), examples)
