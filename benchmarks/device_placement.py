"""The search core, held against what others measured: profiled networks cut for accelerators.

    python benchmarks/device_placement.py DIR [--quick] [--dp-only] [--json FILE]

DIR holds the profiled networks of Tarnawski et al., "Efficient Algorithms for Device Placement of
DNN Graph Operators" (NeurIPS 2020), and a README.md with the format, the objective and the best
values known; tests/data/dnn-partitioning holds two of the eight. Each network is cut twice:
contiguously, and in any way. The objective and the format are this file's; the core
knows neither. What is printed comes out of `check`, which knows nothing of the search.

Columns: the busiest device's load; the reference (rounded to three decimals by its authors); how
far above it the load is; the bound that the search proved (* where that proves the cut the best);
wall-clock and processor seconds for everything after reading the file, on one core.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from _measure import write_json

from dbgraph.errors import UsageError
from dbgraph.passes.search import (
    ADDED,
    WORK_ONLY,
    Budget,
    Found,
    Machine,
    Objective,
    Place,
    Problem,
    Value,
    search,
)

# Kind 0 is an accelerator; kind 1 a processor, for which moving costs nothing.
OBJECTIVE = Objective((ADDED, WORK_ONLY))
CONTIGUOUS, ANY = "contiguous", "any"
LIMITS_S = {CONTIGUOUS: 60.0, ANY: 120.0}
DP_LIMIT_S = 5.0
DP_GAP = 0.01
QUICK = ("bert24", "bert_l-3")
ROUNDED = 0.0005
COLUMNS = ("network", "cut", "value", "reference", "gap", "bound", "s", "cpu s", "met")


@dataclass(frozen=True)
class Profile:
    """A profiled network: its file, as it is."""

    name: str
    data: dict[str, Any]

    @property
    def devices(self) -> list[str]:
        accelerators, processors = self.data["maxFPGAs"], self.data["maxCPUs"]
        return ["accelerator"] * accelerators + ["processor"] * processors

    def problem(self, contiguous: bool) -> Problem:
        nodes = self.data["nodes"]
        number = {node["id"]: i for i, node in enumerate(nodes)}
        values: dict[int, tuple[set[int], float]] = {}
        for edge in self.data["edges"]:
            source, target = number[edge["sourceId"]], number[edge["destId"]]
            targets, cost = values.setdefault(source, (set(), edge["cost"]))
            if cost != edge["cost"]:
                raise UsageError(f"{self.name}: node {edge['sourceId']} has outputs of two costs")
            targets.add(target)
        classes: dict[int, list[int]] = {}
        for i, node in enumerate(nodes):
            if node.get("colorClass") is not None:
                classes.setdefault(node["colorClass"], []).append(i)
        accelerator, processor = Machine(0, self.data["maxSizePerFPGA"]), Machine(1)
        return Problem(
            work=(
                tuple(n["fpgaLatency"] if n["supportedOnFpga"] else inf for n in nodes),
                tuple(n["cpuLatency"] for n in nodes),
            ),
            values=tuple(Value(u, tuple(sorted(t)), c) for u, (t, c) in values.items()),
            machines=tuple(accelerator if d == "accelerator" else processor for d in self.devices),
            size_bytes=tuple(n["size"] for n in nodes),
            together=tuple(tuple(c) for c in classes.values()),
            contiguous=contiguous,
            phase=tuple(int(bool(n["isBackwardNode"])) for n in nodes),
        )


def check(profile: Profile, place: Place, contiguous: bool) -> float:
    """The busiest device's load, from the file alone. Raises ValueError where a rule is broken."""
    data = profile.data
    on = {node["id"]: d for node, d in zip(data["nodes"], place, strict=True)}
    loads = [0.0] * len(profile.devices)
    sizes = [0.0] * len(profile.devices)
    homes: dict[int, int] = {}
    for node in data["nodes"]:
        d = on[node["id"]]
        accelerated = profile.devices[d] == "accelerator"
        if accelerated and not node["supportedOnFpga"]:
            raise ValueError(f"node {node['id']} can't run on an accelerator")
        loads[d] += node["fpgaLatency"] if accelerated else node["cpuLatency"]
        sizes[d] += node["size"]
        if node.get("colorClass") is not None and homes.setdefault(node["colorClass"], d) != d:
            raise ValueError(f"colour class {node['colorClass']} is parted")
    moves = {
        (edge["sourceId"], device, edge["cost"])
        for edge in data["edges"]
        if on[edge["sourceId"]] != on[edge["destId"]]
        for device in (on[edge["sourceId"]], on[edge["destId"]])
    }
    for _, d, cost in moves:
        loads[d] += cost if profile.devices[d] == "accelerator" else 0.0
    for d, size in enumerate(sizes):
        if profile.devices[d] == "accelerator" and size > data["maxSizePerFPGA"]:
            raise ValueError(f"device {d} holds {size:.6g} bytes")
    for backward in (False, True) if contiguous else ():
        for d in range(len(loads)):
            nodes = {n["id"] for n in data["nodes"] if bool(n["isBackwardNode"]) == backward}
            if comes_back(data["edges"], nodes, {n for n in nodes if on[n] == d}):
                raise ValueError(f"device {d} is not contiguous")
    return max(loads)


def comes_back(edges: list[dict[str, Any]], nodes: set[int], mine: set[int]) -> bool:
    """Whether a path within `nodes` leaves `mine` and comes back."""
    after: dict[int, set[int]] = {}
    for edge in edges:
        if edge["sourceId"] in nodes and edge["destId"] in nodes:
            after.setdefault(edge["sourceId"], set()).add(edge["destId"])
    todo = [v for u in mine for v in after.get(u, ()) if v not in mine]
    outside = set(todo)
    while todo:
        for v in after.get(todo.pop(), ()):
            if v in mine:
                return True
            if v not in outside:
                outside.add(v)
                todo.append(v)
    return False


def references(folder: Path) -> dict[tuple[str, str], float]:
    """The best values known, from the table in the README."""
    found: dict[tuple[str, str], float] = {}
    for line in (folder / "README.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) >= 4 and (folder / f"{cells[0]}.json").exists():
            for variant, cell in ((CONTIGUOUS, cells[2]), (ANY, cells[3])):
                if number := re.match(r"[\d.]+", cell):
                    found[cells[0], variant] = float(number.group())
    return found


def profiles(folder: Path, quick: bool, only: str) -> Iterator[Profile]:
    for path in sorted(folder.glob("*.json")):
        wanted = not quick or any(part in path.stem for part in QUICK)
        if wanted and only in path.stem:
            yield Profile(path.stem, json.loads(path.read_text(encoding="utf-8")))


def measure(
    profile: Profile, variant: str, reference: float | None, options: argparse.Namespace
) -> dict[str, Any]:
    """Cuts one network and checks the cut."""
    limit = DP_LIMIT_S if options.dp_only else LIMITS_S[variant]
    seconds = inf if options.steps else (options.seconds or limit * 0.95)
    wall, processor = time.perf_counter(), time.process_time()
    found: Found = search(
        profile.problem(variant == CONTIGUOUS),
        OBJECTIVE,
        Budget(seconds, options.steps or inf),
        seed=options.seed,
        use_exact=not options.dp_only,
    )
    spent_s, processor_s = time.perf_counter() - wall, time.process_time() - processor
    value = check(profile, found.place, variant == CONTIGUOUS)
    if abs(value - found.value) > 1e-9 * value:
        raise ValueError(f"{profile.name}: the search says {found.value}, the check {value}")
    allowed = (1 + DP_GAP if options.dp_only else 1.0) * ((reference or inf) + ROUNDED)
    return {
        "network": profile.name,
        "cut": variant,
        "value": value,
        "reference": reference,
        "gap": None if reference is None else value / reference - 1,
        "bound": found.bound,
        "proved": found.proved,
        "seconds": spent_s,
        "processor_seconds": processor_s,
        "limit_seconds": limit,
        "met": value <= allowed and spent_s <= limit,
        "steps": found.steps,
        "stages": found.stages,
        "place": found.place,
    }


def row(result: dict[str, Any]) -> tuple[str, ...]:
    reference, gap = result["reference"], result["gap"]
    return (
        result["network"],
        result["cut"],
        f"{result['value']:.4f}",
        "–" if reference is None else f"{reference:.3f}",
        "–" if gap is None else f"{gap:+.3%}",
        f"{result['bound']:.4f}{'*' if result['proved'] else ' '}",
        f"{result['seconds']:.1f}",
        f"{result['processor_seconds']:.1f}",
        "yes" if result["met"] else "NO",
    )


def print_row(cells: tuple[str, ...]) -> None:
    """One line, as soon as it is known: a whole run takes minutes."""
    widths = (34, 10, 9, 9, 9, 10, 7, 7, 4)
    print(
        "  ".join(
            f"{c:<{w}}" if i < 2 else f"{c:>{w}}"
            for i, (c, w) in enumerate(zip(cells, widths, strict=True))
        ),
        flush=True,
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="profiled networks and README.md")
    parser.add_argument("--quick", action="store_true", help="only the networks solved in seconds")
    parser.add_argument("--dp-only", action="store_true", help="contiguous, without OR-Tools")
    parser.add_argument("--only", default="", metavar="TEXT", help="networks named like this")
    parser.add_argument("--cut", choices=(CONTIGUOUS, ANY), help="only this kind of cut")
    parser.add_argument("--seconds", type=float, help="a budget for each cut, for the default one")
    parser.add_argument("--steps", type=float, help="a budget in steps: the same result everywhere")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here too")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    if not (options.folder / "README.md").exists():
        print(f"{options.folder} holds no README.md with references", file=sys.stderr)
        return 2
    known = references(options.folder)
    variants = [CONTIGUOUS] if options.dp_only else [CONTIGUOUS, ANY]
    results = []
    print_row(COLUMNS)
    for profile in profiles(options.folder, options.quick, options.only):
        for variant in variants if options.cut is None else [options.cut]:
            reference = known.get((profile.name, variant))
            results.append(measure(profile, variant, reference, options))
            print_row(row(results[-1]))
    if options.json:
        write_json(options.json, {"results": results})
    return 0 if all(r["met"] for r in results) else 1


if __name__ == "__main__":
    sys.exit(main())
