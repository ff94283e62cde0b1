"""How data reaches the workers: opened by themselves, or cut and fed by the driver."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dbgraph.backends.zeromq_job import save_arrays
from dbgraph.datasource import ArraySource, Source, read
from dbgraph.errors import UsageError
from dbgraph.ir.region import Region
from dbgraph.job import Job, Step
from dbgraph.plan.plan import Plan
from dbgraph.results import check_feeds, leaf_feeds
from dbgraph.wire.messages import Run


class Feeder:
    """The data of one job.

    Arrays in memory become files in a private folder (mode 0700) that workers on this host map;
    for workers elsewhere the driver reads them and sends each partition what it needs. Other
    sources travel, and each worker opens them.

    Attributes:
        travelling: by plan, the sources that the workers open.
        folder: the private folder, where there is one.
    """

    def __init__(self, job: Job, here: bool) -> None:
        self._job = job
        self._fed: dict[str, Source] = {}
        self.folder: tempfile.TemporaryDirectory[str] | None = None
        self.travelling: dict[str, Source] = {}
        try:
            self._sort(job, here)
        except BaseException:
            self.close()
            raise

    def _sort(self, job: Job, here: bool) -> None:
        for name, source in job.sources.items():
            if here:
                self.travelling[name] = self._mapped(source)
            elif isinstance(source, ArraySource):
                self._fed[name] = source
            else:
                self.travelling[name] = source

    def _mapped(self, source: Source) -> Source:
        if not isinstance(source, ArraySource):
            return source
        if self.folder is None:
            self.folder = tempfile.TemporaryDirectory(prefix="dbgraph-")
        return save_arrays(source, Path(self.folder.name), str(len(self.travelling)))

    def prepare(self, step: Step) -> tuple[Plan, Mapping[str, np.ndarray] | None]:
        """The step's plan, and whole-batch arrays where the driver feeds.

        Raises UsageError for an unknown plan, DataError for arrays that do not fit.
        """
        plan = self._job.plans.get(step.plan)
        if plan is None:
            raise UsageError(
                f"the job has no plan {step.plan!r}", hint=f"it has {', '.join(self._job.plans)}"
            )
        feeds, source = step.feeds, self._fed.get(step.plan)
        if feeds is None and source is not None and step.examples is not None:
            feeds = _batch(plan, source, step.examples)
        if feeds is not None:
            check_feeds(plan, feeds)
        return plan, feeds

    def close(self) -> None:
        """Removes the folder."""
        if self.folder is not None:
            self.folder.cleanup()


def _batch(plan: Plan, source: Source, examples: np.ndarray) -> dict[str, np.ndarray]:
    """The examples' inputs, whole."""
    fields = source.inputs()
    needed = {leaf.of for p in range(plan.partitions) for leaf in plan.leaves("input", p)}
    return {
        name: read(source, name, examples, Region.whole(fields[name][0]))
        for name in needed
        if name in fields
    }


def order(
    step: Step, ordinal: int, plan: Plan, partition: int, feeds: Mapping[str, np.ndarray] | None
) -> tuple[Run, list[np.ndarray]]:
    """What one partition is told, and the arrays that go with it."""
    want = tuple(sorted(step.want))
    if feeds is None:
        examples = [] if step.examples is None else [np.asarray(step.examples, np.int64)]
        return Run(ordinal, step.plan, step.number, want), examples
    mine = leaf_feeds(plan, partition, feeds)
    run = Run(ordinal, step.plan, step.number, want, tuple(mine))
    return run, [np.ascontiguousarray(array) for array in mine.values()]
