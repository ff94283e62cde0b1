"""What a backend is: five methods. One conformance suite (`tests/test_backends.py`) runs over
every one of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Protocol

from dbgraph.errors import UsageError
from dbgraph.job import Job, Step, StepResult
from dbgraph.state import State


class Backend(Protocol):
    """Runs the plans of one job."""

    def start(self, job: Job) -> None:
        """Makes the machines ready: processes started, programs compiled as far as they can be.

        Raises UsageError where the backend can't run the job, ClusterLostError where a machine
        can't be reached.
        """

    def load(self, state: State | None) -> None:
        """Sets parameters and optimiser slots; None: the initial ones, by the plan's seed."""

    def step(self, step: Step) -> StepResult:
        """Runs one step of one plan and returns what was asked for.

        Raises ClusterLostError naming the partition that is gone, RunError where one failed.
        """

    def collect(self) -> State:
        """Parameters and slots of all partitions, as they are after the last step."""

    def stop(self) -> None:
        """Ends all machines; leaves no process and no port. May be called at any time, twice."""


Maker = Callable[..., Backend]


def backends() -> Mapping[str, Callable[[], Maker]]:
    """By name what loads an installed backend: the entry-point group `dbgraph.backends`."""
    return {point.name: point.load for point in entry_points(group="dbgraph.backends")}


def make_backend(name: str, **options: object) -> Backend:
    """A backend by name. Raises UsageError for an unknown one."""
    found = backends()
    if name not in found:
        raise UsageError(f"no backend {name!r}", hint=f"installed are: {', '.join(sorted(found))}")
    return found[name]()(**options)
