"""How long `dbgraph compile` takes as a whole command, how much memory, and how that grows.

    python benchmarks/compile_time.py [--quick] [--strategy NAME] [--json FILE]

DistBelief's speech network and its image network of 1.7 billion parameters, and a random layered
network whose graph has 100,000 nodes: from the start of the process to its end, with Python's own
start, the table and the plan's file. A search (`--strategy auto`) takes its budget besides; the
limits below are for the plain strategies.

Peak memory is the process's resident set; CPU seconds are its user and system time, of which a
busy machine disturbs the exponents less. "×" is the median of the rounds' ratios to a bare `python
-c "import numpy"` timed in the same rounds. What takes over LONG_S is measured once.

The exponent is the slope of log CPU seconds against log tiles, by least squares, over the image
network on growing numbers of machines: 1 is linear. Python's own start is taken off first.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path

from _measure import print_table, write_json

HERE = Path(__file__).resolve().parent
IMAGE = "../examples/image.py:network_1700m"
LONG_S = 10.0
BASE = [sys.executable, "-c", "import numpy"]
# Starts a command, waits for it, and prints what it took.
_WATCH = """
import json, resource, subprocess, sys, time
begin = time.perf_counter()
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
wall_s = time.perf_counter() - begin
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([wall_s, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / 1e6]))
sys.exit(code)
"""


@dataclass(frozen=True)
class Case:
    """One command, and what it may take."""

    name: str
    spec: str
    partitions: int
    limit_s: float
    limit_mb: float = 2000.0


CASES = (
    Case("speech", "../examples/speech.py:network", 32, 5.0, 500.0),
    Case("image 1.7 B", IMAGE, 32, 5.0, 500.0),
    Case("image 1.7 B", IMAGE, 144, 15.0),
    Case("image 1.7 B", IMAGE, 1024, 60.0),
    Case("layered, 10⁵ nodes", "_layered.py:network", 32, 60.0),
)
QUICK = (
    Case("speech", "../examples/speech.py:network", 4, 5.0, 500.0),
    Case("image 80 M", "../examples/image.py:network_80m", 8, 5.0, 500.0),
    Case("layered, 2,000 nodes", "_layered.py:small", 4, 60.0),
)
SWEEP = (16, 32, 64, 144, 288, 1024)
QUICK_SWEEP = (4, 8, 16)


@dataclass(frozen=True)
class Took:
    """One run of a command."""

    wall_s: float
    cpu_s: float
    peak_mb: float


def took(command: Sequence[str]) -> Took:
    """Runs a command. Raises CalledProcessError, with what it said."""
    watch = [sys.executable, "-c", _WATCH, *command]
    found = subprocess.run(watch, check=True, capture_output=True, text=True, cwd=HERE).stdout
    return Took(*json.loads(found))


def compile_command(spec: str, partitions: int, strategy: str, plan: Path) -> list[str]:
    command = [sys.executable, "-m", "dbgraph.cli", "compile", spec, "--strategy", strategy]
    return [*command, "--partitions", str(partitions), "-o", str(plan)]


def measure(case: Case, strategy: str, plan: Path, rounds: int) -> dict[str, object]:
    """A case's figures; the first run, which also writes Python's caches, is not counted."""
    command = compile_command(case.spec, case.partitions, strategy, plan)
    first = took(command)
    long = first.wall_s > LONG_S
    pairs = [(took(BASE), took(command)) for _ in range(1 if long else rounds)]
    runs = [run for _, run in pairs]
    median_s = statistics.median(run.wall_s for run in runs)
    peak_mb = max(run.peak_mb for run in runs)
    return {
        "name": case.name,
        "partitions": case.partitions,
        "seconds": [run.wall_s for run in runs],
        "median_s": median_s,
        "cpu_s": min(run.cpu_s for run in runs),
        "ratio": statistics.median(run.wall_s / base.wall_s for base, run in pairs),
        "peak_mb": peak_mb,
        "tiles": tiles_in(plan),
        "limit_s": case.limit_s,
        "limit_mb": case.limit_mb,
        "within_limits": median_s <= case.limit_s and peak_mb <= case.limit_mb,
    }


def tiles_in(plan: Path) -> int:
    """Nodes of a plan's graph that are a tile of one of the network's."""
    with plan.open(encoding="utf-8") as file:
        return sum(line.startswith("%") and " cut=" in line for line in file)


def growth(spec: str, sweep: Sequence[int], strategy: str, plan: Path) -> dict[str, object]:
    """How CPU seconds grow with tiles, over numbers of machines."""
    base_s = took([sys.executable, "-c", "import dbgraph.compile"]).cpu_s
    points = []
    for partitions in sweep:
        run = took(compile_command(spec, partitions, strategy, plan))
        points.append((partitions, tiles_in(plan), run.cpu_s - base_s))
    exponent = slope([log(tiles) for _, tiles, _ in points], [log(s) for *_, s in points])
    return {"points": points, "exponent": exponent}


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Of the line of least squares."""
    return statistics.linear_regression(x, y).slope


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--quick", action="store_true", help="one round, small networks")
    parser.add_argument("--strategy", default="tiles", help="tiles, stages or auto")
    options = parser.parse_args()
    cases, rounds = (QUICK, 1) if options.quick else (CASES, 5)
    spec, sweep = (QUICK[1].spec, QUICK_SWEEP) if options.quick else (IMAGE, SWEEP)
    with tempfile.TemporaryDirectory() as folder:
        plan = Path(folder) / "network.plan"
        figures = [measure(case, options.strategy, plan, rounds) for case in cases]
        grown = growth(spec, sweep, options.strategy, plan)
    show(figures, grown, options.strategy)
    if options.json:
        found = {"strategy": options.strategy, "results": figures, "growth": grown}
        write_json(options.json, {"benchmark": "compile_time", **found})


def show(figures: Sequence[dict[str, object]], grown: dict[str, object], strategy: str) -> None:
    print_table(
        f"dbgraph compile --strategy {strategy}",
        ("network", "machines", "tiles", "median s", "limit", "CPU s", "× bare start", "peak MB"),
        [
            (
                f"{f['name']}",
                f"{f['partitions']:,}",
                f"{f['tiles']:,}",
                f"{f['median_s']:.2f}",
                f"{f['limit_s']:.0f}",
                f"{f['cpu_s']:.2f}",
                f"{f['ratio']:.1f}",
                f"{f['peak_mb']:.0f}",
            )
            for f in figures
        ],
    )
    points = grown["points"]
    assert isinstance(points, list)
    print_table(
        f"CPU seconds grow with tiles to the power of {grown['exponent']:.2f}",
        ("machines", "tiles", "CPU s without start", "µs per tile"),
        [(f"{n:,}", f"{tiles:,}", f"{s:.2f}", f"{s / tiles * 1e6:.0f}") for n, tiles, s in points],
    )


if __name__ == "__main__":
    main()
