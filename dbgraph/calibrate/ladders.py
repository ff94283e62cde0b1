"""The hand-made plans that are timed: what each does one time, four times, sixteen times."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dbgraph.calibrate.samples import Sample
from dbgraph.calibrate.sketch import Sketch
from dbgraph.calibrate.stopwatch import Ladder
from dbgraph.ir.types import NO_ATTRS, Attrs, TensorType
from dbgraph.plan.plan import Plan

MESSAGE_BYTES = (4 << 10, 128 << 10, 1 << 20, 4 << 20)
"""A message of one frame and little data, of one frame, of one full frame, of several frames."""
RUNS = (1, 4, 16, 64, 256)
HOPS = (2, 10)
UPDATES = 8
_SWEPT_BYTES = 2 << 20
_SAME = Attrs(scale=1.0, shift=0.0)
_PRODUCT = (TensorType((128, 512)), TensorType((512, 512)))
_LONG = 40  # so many products, some 10 ms, last longer than messages of so many bytes:
_BESIDES_BYTES = 4 << 20


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
    """A loop over more than caches hold. Beyond 32 MB glibc would give every result fresh memory,
    whose pages the system has to clear first."""
    sample = Sample("relu", NO_ATTRS, (floats(28 << 20),))
    return op_ladder(partitions, sample, at)


def dispatch_ladder(partitions: int, at: int) -> Ladder:
    """A segment with nothing to do."""
    return op_ladder(partitions, Sample("affine", _SAME, (floats(64),)), at)


def hop_ladder(partitions: int, pair: tuple[int, int], size_bytes: int) -> Ladder:
    """A value goes to and fro, and each time a segment waits for it."""

    def plan(count: int) -> Plan:
        sketch = Sketch(partitions)
        at, to = pair
        value = sketch.parameter(at, floats(size_bytes))
        for _ in range(count):
            value = sketch.node(at, "affine", (value,), _SAME)
            sketch.run(at, (value,))
            value = sketch.move(at, to, value)
            sketch.arrive(to, value)
            at, to = to, at
        sketch.end_with(sketch.total(at, value))
        return sketch.plan()

    return Ladder.of(plan, HOPS)


def load_ladder(partitions: int, pair: tuple[int, int], size_bytes: int, computing: int) -> Ladder:
    """Messages from one machine to another while one of them computes: what they take of its
    processor."""
    source, to = pair

    def plan(count: int) -> Plan:
        sketch = Sketch(partitions)
        given = [sketch.parameter(source, floats(size_bytes), k) for k in range(count)]
        moved = [sketch.move(source, to, value) for value in given]
        x, w = (sketch.parameter(computing, t, k) for k, t in enumerate(_PRODUCT))
        product = sketch.node(computing, "contract", (x, w), Attrs(contracted=1))
        sketch.run(computing, (product,), _LONG)
        total = sketch.total(computing, product)
        for value in moved:
            sketch.arrive(to, value)
        sketch.end_with(total)
        return sketch.plan()

    return Ladder.of(plan, (1, 1 + max(1, min(32, _BESIDES_BYTES // size_bytes))))


def nothing_plan(partitions: int) -> Plan:
    """A step in which one machine has next to nothing to do, and the others nothing."""
    sketch = Sketch(partitions)
    sketch.end_with(sketch.total(0, sketch.parameter(0, floats(64))))
    return sketch.plan()


def base_plan(partitions: int, plans: Iterable[Plan], trained: Mapping[int, TensorType]) -> Plan:
    """A job's first plan: the parameters of all the others, and for each of some machines one
    that is trained. A step of it is `UPDATES` UPDATEs."""
    sketch = Sketch(partitions)
    for plan in plans:
        sketch.take_parameters(plan.graph)
    for at, type_ in trained.items():
        parameter, gradient = (sketch.parameter(at, type_, k) for k in (0, 1))
        sketch.update(at, parameter, gradient)
        sketch.repeat(at, UPDATES)
    sketch.end_with(sketch.total(0, sketch.parameter(0, floats(64))))
    return sketch.plan("training")
