"""How many replicas the parameter server and the coordinators can keep busy.

    python benchmarks/scaling.py [--quick] [--json FILE]

A replica's gradient takes a fixed wait instead of computing, as if it were computed on another
machine: so the cores of this one are free for coordinator, shards, clients and messages, which
are dbgraph's own (local backend, 2 shards). The parameters are few: what they weigh is measured
by parameter_server.py.

- Downpour SGD with 1 to 16 replicas: steps per second, against one replica's times their number;
  and with one replica ten times as slow, against what all others and a tenth would do.
- Sandblaster L-BFGS, 16 replicas, portions of one gradient: the time of an evaluation; with one
  replica ten times as slow, with and without duplicated portions. The aim with them is at most
  1.15 of the time without the slow one; were all work divided freely, it would be 16 / 15.1 = 1.06.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

from _measure import print_table, write_json
from _waiting import Casting, Listener, network

import dbgraph as dbg
from dbgraph.actors.audience import Company
from dbgraph.actors.downpour import DownpourDirector
from dbgraph.actors.ledgers import make_ledger
from dbgraph.actors.sandblaster import SandblasterDirector
from dbgraph.backends.theatre import Cast
from dbgraph.backends.theatre_local import LocalTheatre
from dbgraph.coordinate.options import Sandblaster
from dbgraph.optim.minimise import Stop
from dbgraph.plan.plan import Plan
from dbgraph.ps.layout import Layout
from dbgraph.ps.options import Downpour
from dbgraph.ps.routes import pushing
from dbgraph.sampler import Batches

AIM = 1.15
SHARDS, NUMBERS, SLOW = 2, 64, 10


@dataclass(frozen=True)
class Sizes:
    """
    Attributes:
        wait_s: of a Downpour step; steps: of each replica.
        portion_s: of a portion's gradient; portions: of each replica in an evaluation.
    """

    counts: tuple[int, ...]
    wait_s: float
    steps: int
    crew: int
    portion_s: float
    portions: int
    iterations: int


FULL = Sizes((1, 2, 4, 8, 16), 0.05, 50, 16, 0.02, 8, 25)
QUICK = Sizes((1, 4), 0.01, 20, 4, 0.005, 8, 3)


def company(plan: Plan, layout: Layout, replicas: int) -> Company:
    numbers = tuple(range(replicas))
    return Company(plan.fingerprint, layout, pushing(layout, plan), numbers, None, 0, False)


def downpour(plan: Plan, waits_s: tuple[float, ...], steps: int) -> float:
    """Steps per second, of all replicas together."""
    layout, options, batches = Layout.of(plan, SHARDS), Downpour(share=1), Batches(steps, 1)
    listener = Listener()
    team = company(plan, layout, len(waits_s))
    ledger = make_ledger(batches, steps, None)
    director = DownpourDirector(team, listener, options, ledger, 4)
    casting = Casting(plan, layout, options, batches, waits_s)
    LocalTheatre().run(Cast(SHARDS, team.replicas, 1, 0, casting), director)
    return listener.rate()


def sandblaster(plan: Plan, waits_s: tuple[float, ...], sizes: Sizes, duplicate: bool) -> float:
    """Seconds of an evaluation."""
    examples = sizes.portions * len(waits_s)
    layout, batches = Layout.of(plan, SHARDS), Batches(examples, 1)
    options = Sandblaster(duplicate=duplicate)
    listener = Listener()
    team = company(plan, layout, len(waits_s))
    stop = Stop(gtol=0.0, ftol=0.0, maxiter=sizes.iterations)
    director = SandblasterDirector(team, listener, options, examples, 1, stop)
    casting = Casting(plan, layout, options, batches, waits_s)
    LocalTheatre().run(Cast(SHARDS, team.replicas, 1, 0, casting), director)
    return examples / listener.rate()


def one_slow(count: int, wait_s: float) -> tuple[float, ...]:
    return (SLOW * wait_s, *[wait_s] * (count - 1))


def measure_downpour(plan: Plan, sizes: Sizes) -> list[dict[str, Any]]:
    found = []
    for count in sizes.counts:
        teams = {"alike": (sizes.wait_s,) * count, "one slow": one_slow(count, sizes.wait_s)}
        for name, waits_s in teams.items():
            if name == "one slow" and count == 1:
                continue
            rate = downpour(plan, waits_s, sizes.steps * count)
            ideal = sum(1 / wait_s for wait_s in waits_s)
            found.append({"replicas": count, "team": name, "steps_per_s": rate, "ideal": ideal})
    return found


def measure_sandblaster(plan: Plan, sizes: Sizes) -> dict[str, float]:
    alike = (sizes.portion_s,) * sizes.crew
    slow = one_slow(sizes.crew, sizes.portion_s)
    return {
        "alike": sandblaster(plan, alike, sizes, duplicate=True),
        "one slow, duplicated": sandblaster(plan, slow, sizes, duplicate=True),
        "one slow, not duplicated": sandblaster(plan, slow, sizes, duplicate=False),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few replicas, short waits")
    parser.add_argument("--json", metavar="FILE", help="write the figures here as well")
    args = parser.parse_args()
    sizes = QUICK if args.quick else FULL
    plan = dbg.make_plan(network(NUMBERS), partitions=1)
    steps = measure_downpour(plan, sizes)
    rows = [
        (
            f"{one['replicas']} {one['team']}",
            f"{one['steps_per_s']:.1f}",
            f"{one['ideal']:.1f}",
            f"{one['steps_per_s'] / one['ideal']:.2f}",
        )
        for one in steps
    ]
    title = f"Downpour SGD: gradients of {1e3 * sizes.wait_s:.0f} ms"
    print_table(title, ("replicas", "steps/s", "ideal", "of it"), rows)
    times = measure_sandblaster(plan, sizes)
    ideal_s = sizes.portions * sizes.portion_s
    title = f"Sandblaster: {sizes.crew} replicas, portions of {1e3 * sizes.portion_s:.0f} ms"
    rows = [
        (name, f"{1e3 * t:.0f}", f"{1e3 * ideal_s:.0f}", f"{t / times['alike']:.2f}")
        for name, t in times.items()
    ]
    print_table(title, ("replicas", "ms per evaluation", "ideal, alike", "×, aim 1.15"), rows)
    if args.json:
        result = {"downpour": steps, "sandblaster_s": times, "aim": AIM}
        write_json(args.json, {"benchmark": "scaling", **result})


if __name__ == "__main__":
    main()
