"""The numbers of one partition between two fetches: its parameters, and what it has accrued."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from dbgraph.ir.region import Region
from dbgraph.ps.gradients import Gradient, add_to, added
from dbgraph.ps.messages import Pairs
from dbgraph.ps.ranges import Ranges
from dbgraph.ps.routes import Leaves, Routes
from dbgraph.ps.underway import Base, Sent

Gradients = Mapping[str, Gradient]
"""By the leaf's name."""


class LocalModel:
    """See (2) of `client`. Arrays that were given out, or taken, are never changed.

    Attributes:
        parameters: None before the first fetch.
        accrued: the sum of the gradients that are not pushed; what compression lost of earlier
            pushes is in it.
        batches: whose gradients have been accrued since the last push.
        bases: by shard what was fetched when the first of those was computed.
    """

    def __init__(self, routes: Routes, rate: float) -> None:
        self.parameters: Leaves | None = None
        self.accrued: dict[str, Gradient] = {}
        self.batches = Ranges()
        self.bases: dict[int, Base] = {}
        self._routes, self._rate = routes, rate
        self._steps = 0
        self._fetched: dict[int, Base] = {}
        self._descent: Gradients = {}

    def accrue(self, gradients: Gradients, batches: Pairs) -> None:
        """A step's gradients, computed with `parameters`."""
        if not self._steps:
            self.bases = self._fetched
        self._steps += 1
        for leaf, gradient in gradients.items():
            self.accrued[leaf] = added(self.accrued.get(leaf), gradient)
        self.batches.update(batches)
        self._descent = gradients

    def pushed(self, lost: dict[str, Gradient]) -> None:
        """What was accrued is sent, but for this."""
        self.accrued, self.batches, self._steps = lost, Ranges(), 0

    def descend(self) -> None:
        """A step of the local descent, where nothing was fetched since the last step."""
        assert self.parameters is not None
        if self._rate and self._descent:
            changed = {leaf: self.parameters[leaf].copy() for leaf in self._descent}
            for leaf, gradient in self._descent.items():
                self._subtract(changed, leaf, gradient, self._routes.leaves[leaf].region)
            self.parameters = {**self.parameters, **changed}
        self._descent = {}

    def land(self, values: Leaves, bases: dict[int, Base], pushes: Iterable[Sent]) -> None:
        """Takes what was fetched, less the local gradients that it does not contain.

        Args:
            values: become the parameters; changed in place where they can be.
            pushes: all that some shard's values may lack.
        """
        for sent in pushes:
            for shard in self._routes.pushed:
                if sent.sequence > bases[shard].sequence:
                    for way, gradient in self._routes.cut(shard, sent.gradients):
                        self._subtract(values, way.leaf.node, gradient, way.region)
        for leaf, gradient in self.accrued.items():
            self._subtract(values, leaf, gradient, self._routes.leaves[leaf].region)
        self.parameters, self._fetched, self._descent = values, bases, {}

    def _subtract(self, values: Leaves, leaf: str, gradient: Gradient, region: Region) -> None:
        if self._rate:
            place = self._routes.leaves[leaf].region
            values[leaf] = np.require(values[leaf], requirements="W")  # copies what is read-only
            add_to(values[leaf], place, gradient, region, -self._rate)
