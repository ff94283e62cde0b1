"""The hand-made plans that are timed: what each does one time, two times, four times."""

from __future__ import annotations

from dbgraph.calibrate.samples import Sample
from dbgraph.calibrate.sketch import Sketch
from dbgraph.calibrate.stopwatch import Ladder
from dbgraph.ir.types import NO_ATTRS, Attrs, TensorType
from dbgraph.plan.plan import Plan

RUNS = tuple(2**k for k in range(11))
_SWEPT_BYTES = 2 << 20
_SAME = Attrs(scale=1.0, shift=0.0)


def floats(size_bytes: int) -> TensorType:
    return TensorType((size_bytes // 4,))


def op_ladder(partitions: int, sample: Sample, at: int) -> Ladder:
    """One op, as a segment of its own; after it a sweep, where the sample says so."""

    def plan(count: int) -> Plan:
        sketch = Sketch(partitions)
        inputs = [sketch.parameter(at, type_, k) for k, type_ in enumerate(sample.types)]
        node = sketch.node(at, sample.op, inputs, sample.attrs)
        sketch.run(at, (node,))
        if sample.swept:
            sweep(sketch, at)
        sketch.repeat(at, count)
        sketch.end_with(sketch.total(at, node))
        return sketch.plan()

    return Ladder.of(plan, RUNS)


def sweep(sketch: Sketch, at: int) -> None:
    """A loop over a few MB: what other layers do to a core's own caches before a step comes back
    to the same weights. They are then in the last cache at best, as in a step."""
    swept = sketch.node(at, "relu", (sketch.parameter(at, floats(_SWEPT_BYTES)),))
    sketch.keep((swept,))
    sketch.run(at, (swept,))


def sweep_ladder(partitions: int, at: int) -> Ladder:
    """Sweeps alone."""
    return op_ladder(partitions, Sample("relu", NO_ATTRS, (floats(_SWEPT_BYTES),)), at)


def memory_ladder(partitions: int, at: int) -> Ladder:
    """A loop over more than caches hold."""
    return op_ladder(partitions, Sample("relu", NO_ATTRS, (floats(96 << 20),)), at)


def dispatch_ladder(partitions: int, at: int) -> Ladder:
    """A segment with nothing to do."""
    return op_ladder(partitions, Sample("affine", _SAME, (floats(64),)), at)
