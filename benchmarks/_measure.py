"""Timing, tables and JSON for the benchmarks.

Callables that are compared are timed in rounds, one after the other in each, so that what else
the machine does falls on all of them. Ratios are medians over the rounds' ratios.
"""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


def seconds(fn: Callable[[], object]) -> float:
    """The time of one call; fn returns when its work is done."""
    start = time.perf_counter()
    fn()
    return time.perf_counter() - start


def median_seconds(fn: Callable[[], object], repeats: int) -> float:
    """The median time of `repeats` calls, after one that is not counted."""
    fn()
    return statistics.median(seconds(fn) for _ in range(repeats))


def rounds_seconds(
    fns: Mapping[str, Callable[[], object]], rounds: int, budget_s: float = float("inf")
) -> dict[str, list[float]]:
    """The times of each callable, one per round, after one round that is not counted.

    No round begins once budget_s has passed; at least one is counted.
    """
    deadline = time.perf_counter() + budget_s
    for fn in fns.values():
        fn()
    times: dict[str, list[float]] = {name: [] for name in fns}
    for done in range(rounds):
        if done and time.perf_counter() > deadline:
            break
        for name, fn in fns.items():
            times[name].append(seconds(fn))
    return times


def median_ratio(times: Sequence[float], base: Sequence[float]) -> float:
    """The median of the rounds' ratios times / base."""
    return statistics.median(t / b for t, b in zip(times, base, strict=True))


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "load_1min": os.getloadavg()[0],
        "platform": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in ("jax", "jaxlib", "numpy", "torch")},
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def write_json(path: str | Path, data: Mapping[str, Any]) -> None:
    """Writes the results, with the machine they were measured on."""
    text = json.dumps({**data, "machine": machine()}, indent=2)
    Path(path).write_text(text + "\n")


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on stdout: the first column is text, the others figures."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title)
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i < 1 else "right")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
