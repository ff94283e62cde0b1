"""What is timed of each kind of work: single ops, in a few shapes each.

The shapes are those of layers of ordinary size, from some tens of microseconds to some
milliseconds; two or three unknowns are fitted to the shapes of one kind (`fit`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dbgraph.ir.types import NO_ATTRS, Attrs, TensorType, Types
from dbgraph.ops import op
from dbgraph.ops.derivative import vjp_attrs

_PRODUCTS = (
    *((96, 640, 640), (192, 320, 640), (48, 896, 896), (24, 640, 1280), (512, 192, 96)),
    (112, 1024, 1536),
)
"""Matrices (m, k) and (k, n)."""
_LOCAL = (
    *((24, 26, 4, 8, 8), (48, 30, 3, 8, 10), (56, 24, 8, 8, 9), (12, 34, 3, 8, 9)),
    (400, 10, 2, 16, 3),
)
_CONVOLUTIONS = ((24, 20, 4, 16, 5), (48, 16, 16, 24, 3), (12, 24, 8, 16, 7))
"""Images (batch, width, width, channels), maps, and the width of a patch."""
_POOLS = (
    *((24, 26, 8, 3, 1), (400, 8, 16, 2, 2), (48, 24, 8, 5, 1), (48, 20, 1, 5, 1)),
    (40, 21, 8, 3, 3),
)
"""Images (batch, width, width, channels), the width of a window, and from one to the next."""
_FLAT = ((0, 0), (0, 0))


@dataclass(frozen=True, slots=True)
class Sample:
    """One op on values of some types.

    Attributes:
        swept: whether its inputs are swept out of a core's own caches before: weights are, in a
            step, while other values have just been computed.
    """

    op: str
    attrs: Attrs
    types: Types
    swept: bool = False

    def by(self, wrt: int) -> Sample:
        """Its vector-Jacobian product by one input."""
        rule = op(self.op)
        attrs = vjp_attrs(rule, self.attrs, self.types, wrt)
        given = tuple(self.types[k] for k in attrs.ints("vjp_given"))
        return Sample("vjp", attrs, (*given, rule.infer(self.attrs, self.types)), self.swept)

    def all(self) -> tuple[Sample, ...]:
        """Itself, and its derivatives by all inputs that have one."""
        wrt = (k for k, type_ in enumerate(self.types) if type_.is_float)
        return (self, *(self.by(k) for k in wrt))


def _floats(*shape: int) -> TensorType:
    return TensorType(shape)


def _integers(*shape: int) -> TensorType:
    return TensorType(shape, "int32")


def _products() -> Iterator[Sample]:
    for m, k, n in _PRODUCTS:
        yield Sample("contract", Attrs(contracted=1), (_floats(m, k), _floats(k, n)), True)


def _half_products() -> Iterator[Sample]:
    for m, k, n in ((96, 640, 640), (512, 192, 96)):
        types = TensorType((m, k), "bfloat16"), TensorType((k, n), "bfloat16")
        yield Sample("contract", Attrs(contracted=1), types, True)


def _filters() -> Iterator[Sample]:
    for b, s, c, m, p in _LOCAL:
        attrs = Attrs(strides=(1, 1), padding=_FLAT)
        n = s - p + 1
        yield Sample("local2d", attrs, (_floats(b, s, s, c), _floats(n, n, p, p, c, m)), True)
    for b, s, c, m, p in _CONVOLUTIONS:
        around = ((p // 2, p // 2), (p // 2, p // 2))
        attrs = Attrs(strides=(1, 1), padding=around)
        yield Sample("conv2d", attrs, (_floats(b, s, s, c), _floats(p, p, c, m)), True)


def _pools() -> Iterator[Sample]:
    for kind in ("l2", "average", "max"):
        for b, s, c, p, stride in _POOLS:
            attrs = Attrs(kind=kind, size=(p, p), strides=(stride, stride), padding=_FLAT)
            yield Sample("pool2d", attrs, (_floats(b, s, s, c),))


def _reductions() -> Iterator[Sample]:
    for shape, axis in (((96, 1500), 1), ((640, 640), 0), ((256, 200), 1)):
        attrs = Attrs(axes=(axis,), keepdims=False)
        for name in ("sum", "max", "logsumexp"):
            yield Sample(name, attrs, (_floats(*shape),))
    for shape in ((96, 1500), (256, 200)):
        yield Sample("argmax", Attrs(axis=1), (_floats(*shape),))


def _gathers() -> Iterator[Sample]:
    for b, n in ((96, 1500), (512, 300)):
        yield Sample("pick", Attrs(offset=0), (_floats(b, n), _integers(b)))
        yield Sample("embedding", Attrs(offset=0), (_integers(b), _floats(n, 64)))


def _loops() -> Iterator[Sample]:
    for shape in ((96, 640), (192, 1280), (24, 26, 26, 8), (1024, 1280)):
        yield Sample("sigmoid", NO_ATTRS, (_floats(*shape),))
        yield Sample("relu", NO_ATTRS, (_floats(*shape),))
        yield Sample("add", NO_ATTRS, (_floats(*shape), _floats(*shape)))
        yield Sample("exp", NO_ATTRS, (_floats(*shape),))


def _samples() -> tuple[Sample, ...]:
    """Each once."""
    found = [
        *(s for one in (*_products(), *_filters(), *_pools()) for s in one.all()),
        *_half_products(),
        *_reductions(),
        *(s for one in _gathers() for s in one.all()),
        *_loops(),
    ]
    return tuple(dict.fromkeys(found))


SAMPLES = _samples()
"""All that is timed."""
