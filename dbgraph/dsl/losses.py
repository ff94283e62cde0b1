"""Losses: a scalar per example. `dbg.loss` takes their mean over the batch."""

from __future__ import annotations

from typing import Unpack

from dbgraph.dsl import checks
from dbgraph.dsl.builder import Scope
from dbgraph.dsl.layers import Common, Layer
from dbgraph.dsl.records import Penalty
from dbgraph.dsl.symbol import Symbol


class Penalised(Common, total=False):
    """What every loss takes, beside what all layers take.

    l1: adds l1 * sum |w| to the network's loss, w being all weights (no biases) that lead to
        the loss's inputs.
    l2: adds l2 * sum w² likewise. What a layer's own l1 and l2 add comes on top.
    """

    l1: float
    l2: float


class Loss(Layer):
    """Base of the losses, each of which takes (scores, target)."""

    arity = 2

    def __init__(self, **penalised: Unpack[Penalised]) -> None:
        common = {k: v for k, v in penalised.items() if k not in ("l1", "l2")}
        super().__init__(**common)  # type: ignore[arg-type]
        self.l1 = checks.at_least_zero(penalised.get("l1", 0.0), "l1")
        self.l2 = checks.at_least_zero(penalised.get("l2", 0.0), "l2")

    def build(self, scope: Scope, *inputs: Symbol) -> Symbol:
        scores, target = inputs
        scores.need_float(self.kind)
        if not scores.batched or not target.batched:
            raise checks.fail(f"{self.kind} takes values; a parameter has no batch axis")
        value = self.per_example(scope, scores, target)
        if self.l1 or self.l2:
            penalty = Penalty(self.l1, self.l2, scope.source)
            scope.builder.penalties.append((value.name, penalty))
        return value

    def per_example(self, scope: Scope, scores: Symbol, target: Symbol) -> Symbol:
        """The loss of each example, a scalar."""
        raise NotImplementedError

    def is_label(self, scores: Symbol, target: Symbol) -> bool:
        """Whether the target names a class; otherwise it is a float for each score.

        Raises:
            NetworkError: it is neither.
        """
        if not scores.shape:
            raise checks.fail(f"{self.kind} needs an axis of classes; {scores.name} is a scalar")
        if target.dtype.startswith(("int", "uint")):
            if target.shape == scores.shape[:-1]:
                return True
            raise checks.fail(
                f"{self.kind}: integer labels for scores of shape {scores.shape} have the shape "
                f"{scores.shape[:-1]}; {target.name} has {target.shape}"
            )
        if target.type == scores.type:
            return False
        raise checks.fail(
            f"{self.kind}: the target is either integer labels of shape {scores.shape[:-1]} or "
            f"{scores.dtype} of shape {scores.shape}; {target.name} is {target.dtype} of shape "
            f"{target.shape}"
        )


class SoftmaxCrossEntropy(Loss):
    """-log softmax(scores)[label]; of several positions per example the mean.

    Takes scores (…, classes) and labels (…) of integers, or probabilities (…, classes).

    Args:
        penalised: name, cut (also inside, along "classes"), l1, l2.
    """

    def per_example(self, scope: Scope, scores: Symbol, target: Symbol) -> Symbol:
        last = scores.type.rank - 1
        label = self.is_label(scores, target)
        total = scope.add(
            "logsumexp",
            scores,
            axes=(last,),
            keepdims=not label,
            inner={"classes": f"axis{last}"},
        )
        if label:
            value = total - scope.add("pick", scores, target, offset=0)
        else:
            value = _sum_classes(scope, (total - scores) * target)
        return value.mean()


class LogisticLoss(Loss):
    """One against all: the sum over the classes of log(1 + exp(s)) - s * t.

    Takes scores (…, classes) and either labels (…) of integers, whose class alone has t = 1, or
    t (…, classes) in [0, 1]. Of several positions per example the mean.

    Args:
        penalised: name, cut (also inside, along "classes"), l1, l2.
    """

    def per_example(self, scope: Scope, scores: Symbol, target: Symbol) -> Symbol:
        if self.is_label(scores, target):
            all_ = _sum_classes(scope, scope.add("softplus", scores))
            return (all_ - scope.add("pick", scores, target, offset=0)).mean()
        return _sum_classes(scope, scope.add("softplus", scores) - scores * target).mean()


class MeanSquaredError(Loss):
    """The mean of (value - target)² over all axes of an example.

    Args:
        penalised: name, cut, l1, l2.
    """

    def per_example(self, scope: Scope, scores: Symbol, target: Symbol) -> Symbol:
        if target.type != scores.type:
            raise checks.fail(
                f"MeanSquaredError takes two values of one shape and dtype; {scores.name} is "
                f"{scores.dtype} {scores.shape}, {target.name} is {target.dtype} {target.shape}",
                "L.Reshape gives another shape",
            )
        return ((scores - target) ** 2).mean()


def _sum_classes(scope: Scope, x: Symbol) -> Symbol:
    """Over the last axis, which `cut=` calls "classes" here."""
    last = x.type.rank - 1
    return scope.add("sum", x, axes=(last,), keepdims=False, inner={"classes": f"axis{last}"})
