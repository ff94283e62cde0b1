"""How long `dbgraph compile` takes as a whole command, and how much memory.

    python benchmarks/compile_time.py [--quick] [--json FILE]

DistBelief's speech network and its image network of 1.7 billion parameters, for 32 partitions:
from the start of the process to its end, with Python's own start, the table and the plan's file.
Peak memory is the process's resident set. "×" is the median of the rounds' ratios to a bare
`python -c "import numpy"` timed in the same rounds. The limits are 5 s and 500 MB.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from _measure import median_ratio, print_table, seconds, write_json

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
LIMIT_S, LIMIT_MB = 5.0, 500.0
BASE = "python, numpy"
NETWORKS = {"speech": "speech.py:network", "image 1.7 B": "image.py:network_1700m"}
QUICK = {"speech": "speech.py:network", "image 80 M": "image.py:network_80m"}
# Starts a command, waits for it, and prints the most memory that it had.
_WATCH = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


def compile_command(spec: str, partitions: int, output: Path) -> list[str]:
    network = str(EXAMPLES / spec)
    command = [sys.executable, "-m", "dbgraph.cli", "compile", network]
    return [*command, "--partitions", str(partitions), "-o", str(output)]


def run(command: Sequence[str]) -> None:
    """Raises CalledProcessError, with what the command said."""
    subprocess.run(command, check=True, capture_output=True)


def peak_mb(command: Sequence[str]) -> float:
    watch = [sys.executable, "-c", _WATCH, *command]
    found = subprocess.run(watch, check=True, capture_output=True, text=True).stdout
    return int(found) * 1024 / 1e6


def measure(commands: dict[str, list[str]], rounds: int) -> dict[str, list[float]]:
    """Wall seconds of each command, one per round, after one round that is not counted."""
    for command in commands.values():
        run(command)
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            times[name].append(seconds(lambda command=command: run(command)))  # type: ignore[misc]
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--quick", action="store_true", help="one round, 8 partitions")
    parser.add_argument("--partitions", type=int, metavar="N", help="instead of 32")
    options = parser.parse_args()
    partitions = options.partitions or (8 if options.quick else 32)
    with tempfile.TemporaryDirectory() as folder:
        plan = Path(folder) / "network.plan"
        commands = {BASE: [sys.executable, "-c", "import numpy"]}
        for name, spec in (QUICK if options.quick else NETWORKS).items():
            commands[name] = compile_command(spec, partitions, plan)
        times = measure(commands, rounds=1 if options.quick else 5)
        memory = {name: peak_mb(command) for name, command in commands.items()}
    figures = {
        name: {
            "seconds": found,
            "median_s": statistics.median(found),
            "ratio": median_ratio(found, times[BASE]),
            "peak_mb": memory[name],
            "within_limits": max(statistics.median(found) / LIMIT_S, memory[name] / LIMIT_MB) <= 1,
        }
        for name, found in times.items()
    }
    print_table(
        f"dbgraph compile --partitions {partitions}; limits {LIMIT_S:.0f} s, {LIMIT_MB:.0f} MB",
        ("command", "median s", "least s", "× bare start", "peak MB"),
        [
            (
                name,
                f"{f['median_s']:.2f}",
                f"{min(times[name]):.2f}",
                f"{f['ratio']:.1f}",
                f"{f['peak_mb']:.0f}",
            )
            for name, f in figures.items()
        ],
    )
    if options.json:
        result = {"partitions": partitions, "limit_s": LIMIT_S, "limit_mb": LIMIT_MB}
        write_json(options.json, {"benchmark": "compile_time", **result, "results": figures})


if __name__ == "__main__":
    main()
