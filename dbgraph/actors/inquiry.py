"""Where a loss that is no number comes from.

No partition holds the whole model, and the shards' parameters are others by now. So who holds the
loss asks all partitions of its replica for the parameters that they computed that run with, and
does not go on; when it has them, the network is computed uncut.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from dbgraph.actor import Arrays
from dbgraph.actors.messages import Ordinal, Revealed
from dbgraph.errors import RunError
from dbgraph.job import Step

Blame = Callable[[Mapping[str, np.ndarray], Step, str], RunError]
"""(parameters of a step by leaf, the step, what went wrong) → that, and where in the network it
began."""


class Inquiry:
    """One question.

    Args:
        rule: what went wrong.
        partitions: that are to answer.
    """

    def __init__(
        self, ordinal: Ordinal, step: Step, rule: str, partitions: int, blame: Blame
    ) -> None:
        self._ordinal, self._step, self._rule = ordinal, step, rule
        self._missing, self._blame = partitions, blame
        self._parameters: dict[str, np.ndarray] = {}

    def told(self, message: Revealed, arrays: Arrays) -> None:
        """A partition has answered. Raises RunError when all have."""
        if message.ordinal != self._ordinal:
            return
        self._parameters.update(zip(message.leaves, arrays, strict=True))
        self._missing -= 1
        if not self._missing:
            raise self._blame(self._parameters, self._step, self._rule)
