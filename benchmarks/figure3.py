"""DistBelief's Figure 3, by simulation: training speed-up against machines per model.

    python benchmarks/figure3.py [--quick] [--ten-gigabit] [--json FILE] [--plot FILE.svg]

Speech (42 M parameters) and image networks (80 M, 330 M, 1.7 B) on 1 to 144 machines of the
cluster file beside it (`figure3.toml`: what is in it, and where from). "×" is the simulated step
on one machine over that on N. Three cuts: "layers" is the paper's own kind, every layer N ways;
"tiles" the strategy of that name; "auto" what the search finds, which may leave machines idle.
The paper reports 2.2 on 8 machines for speech and more than 12 on 81 for 1.7 B.
"""

import argparse
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from _measure import print_table, write_json

import dbgraph as dbg
from dbgraph.cluster import Cluster
from dbgraph.clusterfile import read_cluster
from dbgraph.compile import Options, compiled, forecast
from dbgraph.passes.partition.given import Given
from dbgraph.passes.partition.grids import every_way
from dbgraph.passes.partition.team import Team
from dbgraph.passes.partition.tiles import Tiles
from dbgraph.pipeline import front_passes, run
from dbgraph.userfile import call, load_function

HERE = Path(__file__).resolve().parent
NETWORKS = {
    "speech 42 M": "speech.py:network",
    "image 80 M": "image.py:network_80m",
    "image 330 M": "image.py:network_330m",
    "image 1.7 B": "image.py:network_1700m",
}
MACHINES = (1, 2, 4, 8, 16, 32, 64, 81, 128, 144)
QUICK = (1, 2, 8)
PAPER = {("speech 42 M", 8): 2.2, ("image 1.7 B", 81): 12.0}
CUTS = ("layers", "tiles", "auto")
TEN_GIGABIT_BYTES_S = 1.25e9


def steps(network: dbg.Network, cluster: Cluster, budget_s: float) -> dict[str, float]:
    """The simulated seconds of a training step with each kind of cut."""
    count = len(cluster.machines)
    plain = Options(count, 1, cluster=cluster, may_idle=True)
    graph = run(front_passes(network, 1), network.graph)
    found = {}
    for name, tiles in (("layers", Tiles(cluster, offer=every_way)), ("tiles", Tiles(cluster))):
        given = Given(tiles.greedy(graph, Team.of(cluster)), network.batch)
        plan = compiled(network, replace(plain, given=given)).plans["training"]
        found[name] = forecast(plan, cluster).step_s
    options = replace(plain, microbatches=None, budget_s=budget_s)
    outcome = compiled(network, options).outcome
    assert outcome is not None
    return {**found, "auto": outcome.best.forecast.step_s}


def speed_ups(
    network: dbg.Network, cluster: Cluster, machines: tuple[int, ...], budget_s: float
) -> dict[int, dict[str, float]]:
    """By number of machines and cut; what the search found for fewer may be kept for more."""
    found: dict[int, dict[str, float]] = {}
    base: dict[str, float] = {}
    best = 0.0
    for count in machines:
        step_s = steps(network, cluster.first(count), budget_s)
        base = base or step_s
        ratios = {cut: base["auto"] / step_s[cut] for cut in CUTS}
        best = ratios["auto"] = max(best, ratios["auto"])
        found[count] = ratios
        sys.stderr.write(f"{network.name} on {count}: {ratios['auto']:.2f}\n")
    return found


def draw(figures: Mapping[str, Mapping[int, Mapping[str, float]]], path: Path) -> None:
    """Speed-up against machines: the search's, the paper's kind of cut, the paper's own figures."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5.5), layout="constrained")
    axes = figure.subplots()
    for (name, found), colour in zip(figures.items(), COLOURS, strict=False):
        for cut, style, label in LINES:
            ratios = [ups[cut] for ups in found.values()]
            axes.plot(list(found), ratios, style, color=colour, label=f"{name}, {label}", ms=4)
        said = {n: ratio for (whose, n), ratio in PAPER.items() if whose == name and n in found}
        if said:
            label = f"{name}, the paper's figure"
            axes.plot(list(said), list(said.values()), "*", color=colour, label=label, **STAR)
    axes.set(title="a step on one machine over that on N, simulated on a cluster of 2012")
    axes.set(xlabel="machines per model instance", ylabel="training speed-up")
    axes.axhline(1.0, color="grey", linewidth=0.8)
    axes.set_ylim(bottom=0.0)
    axes.legend(fontsize="small")
    figure.savefig(path)


LINES = (("auto", "o-", "the search"), ("layers", "s:", "every layer N ways"))
"""Cut, line style and words of each line of a network."""

STAR: dict[str, Any] = {"markersize": 14, "markeredgecolor": "white"}

COLOURS = ("#000000", "#0072b2", "#d55e00", "#009e73")
"""Of Okabe and Ito, one a network: people who are colour-blind can tell them apart."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw them; needs matplotlib")
    parser.add_argument("--quick", action="store_true", help="speech and image 80 M, 1 to 8")
    parser.add_argument("--ten-gigabit", action="store_true", help="a faster network")
    parser.add_argument("--budget", type=float, default=20.0, help="seconds of each search")
    options = parser.parse_args()
    cluster = read_cluster(HERE / "figure3.toml")
    if options.ten_gigabit:
        cluster = replace(cluster, link=replace(cluster.link, bytes_s=TEN_GIGABIT_BYTES_S))
    machines = QUICK if options.quick else MACHINES
    networks = dict(list(NETWORKS.items())[: 2 if options.quick else None])
    figures = {
        name: speed_ups(
            call(load_function(str(HERE.parent / "examples" / spec))),
            cluster,
            machines,
            options.budget,
        )
        for name, spec in networks.items()
    }
    for name, found in figures.items():
        print_table(
            f"{name}: simulated training speed-up",
            ("machines", *CUTS, "paper"),
            [
                (str(n), *(f"{ups[cut]:.2f}" for cut in CUTS), _of_paper(name, n))
                for n, ups in found.items()
            ],
        )
    if options.json:
        write_json(options.json, {"benchmark": "figure3", "results": figures})
    if options.plot:
        draw(figures, options.plot)


def _of_paper(name: str, machines: int) -> str:
    figure = PAPER.get((name, machines))
    return "" if figure is None else f"{figure}"


if __name__ == "__main__":
    main()
