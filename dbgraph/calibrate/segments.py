"""Times the segments of a plan, each by itself, on a worker of this host."""

from __future__ import annotations

from dbgraph.backends.base import make_backend
from dbgraph.calibrate.ladders import RUNS, sweep, sweep_ladder
from dbgraph.calibrate.sketch import Sketch
from dbgraph.calibrate.stopwatch import Ladder, Say, Stopwatch
from dbgraph.ir.graph import Graph
from dbgraph.plan.plan import Plan
from dbgraph.plan.program import Segment
from dbgraph.profile import Profile, signature

_ROUNDS = 7
_SWEEP = "sweep"


def profile_plan(plan: Plan, pin: bool, say: Say) -> Profile:
    """Seconds of each of its segments that differ in structure, on inputs made up, which a sweep
    has driven out of a core's own caches.

    Raises what the backend raises.
    """
    found: dict[str, Segment] = {}
    for program in plan.programs:
        for segment in program.segments:
            found.setdefault(signature(plan.graph, segment), segment)
    ladders = {name: _ladder(plan.graph, segment) for name, segment in found.items()}
    ladders[_SWEEP] = sweep_ladder(1, 0)
    backend = make_backend("zmq", pin=pin)
    try:
        took = Stopwatch(backend, ladders).each_s(tuple(ladders), _ROUNDS, say)
    finally:
        backend.stop()
    sweep_s = took.pop(_SWEEP)
    seconds = {name: each_s - sweep_s for name, each_s in took.items()}
    return Profile({name: each_s for name, each_s in seconds.items() if each_s > 0})


def _ladder(graph: Graph, segment: Segment) -> Ladder:
    def made(count: int) -> Plan:
        sketch = Sketch(1)
        names = dict(zip(segment.nodes, sketch.graft(0, graph, segment), strict=True))
        sketch.run(0, tuple(names.values()))
        sweep(sketch, 0)
        sketch.repeat(0, count)
        outputs = [names[name] for name in segment.outputs]
        sketch.keep(outputs)
        sketch.end_with(sketch.total(0, outputs[0]))
        return sketch.plan()

    return Ladder.of(made, RUNS)
