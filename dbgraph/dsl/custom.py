"""`dbg.op`: the user's own JAX function as a layer.

The only place of the compile tower where JAX is asked, and only when such a layer is called: for
the shape, the dtype and the FLOPs of the function's value.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from math import prod
from typing import Any

from dbgraph.dsl import checks
from dbgraph.dsl.builder import Scope
from dbgraph.dsl.layers import Layer
from dbgraph.dsl.symbol import Symbol
from dbgraph.ir.types import DTYPE_BYTES, TensorType
from dbgraph.ops.custom import FUNCTIONS, WHOLE, fingerprint
from dbgraph.ops.pointwise import TRANSCENDENTAL_FLOPS

Function = Callable[..., Any]
Axes = tuple[tuple[str, ...], ...]
_BATCH = "b"


def op(
    fn: Function,
    *,
    axes: str | None = None,
    name: str | None = None,
    flops: int | None = None,
    cut: Mapping[str, int] | None = None,
) -> CustomLayer:
    """A layer of the user's own function of JAX arrays; also a decorator.

    The function takes arrays with the batch as their first axis (parameters have none) and
    returns one such array. It must be pure, treat every example alike and apart, and work for
    any size of the axes that may be cut.

    Args:
        fn: the function. Defined at the top level of a module it is found again by plans that
            run in other processes; a lambda or an inner function runs in this process alone.
        axes: which axes may be cut, as in einsum: "b t d, d -> b t" names the axes of each input
            and of the value, the batch first. An axis of the value whose letter an input has may
            be cut, and that input is cut along with it; `_` is an axis that is always whole. By
            default only the batch may be cut.
        name: of the layer; the function's by default.
        flops: floating point operations of one call on the whole batch; by default what XLA
            counts.
        cut: axis name → pieces.

    Raises:
        NetworkError: when the layer is called on symbols that the function does not take.
    """
    return CustomLayer(fn, axes=axes, name=name, flops=flops, cut=cut)


class CustomLayer(Layer):
    """What `dbg.op` makes."""

    arity = None

    def __init__(
        self,
        fn: Function,
        *,
        axes: str | None,
        name: str | None,
        flops: int | None,
        cut: Mapping[str, int] | None,
    ) -> None:
        if not callable(fn) or isinstance(fn, Layer):
            raise checks.fail(f"dbg.op takes a function of JAX arrays, not {fn!r}")
        super().__init__(name=name, cut=checks.cut(cut))
        self.fn = self.__wrapped__ = fn
        self.function_name = getattr(fn, "__qualname__", type(fn).__qualname__)
        self.axes = None if axes is None else parse_axes(axes)
        self.flops = None if flops is None else checks.index(flops, "flops", least=0)

    @property
    def kind(self) -> str:
        called = str(getattr(self.fn, "__name__", ""))
        return called if checks.NAME.fullmatch(called) else "custom"

    def build(self, scope: Scope, *inputs: Symbol) -> Symbol:
        if not any(symbol.batched for symbol in inputs):
            raise checks.fail(f"{self.kind}: at least one input must have a batch axis")
        out = self._value_type(scope, inputs)
        axes = _default_axes(inputs, out.rank) if self.axes is None else self.axes
        self._check_axes(axes, inputs, out)
        module = str(getattr(self.fn, "__module__", "__main__"))
        key = (module, self.function_name, fingerprint(self.fn))
        FUNCTIONS[key] = self.fn
        value = scope.add(
            "custom",
            *inputs,
            module=module,
            name=self.function_name,
            fingerprint=key[2],
            file=_file_of(self.fn),
            shape=out.shape,
            dtype=out.dtype,
            axes=axes,
            flops=_count_flops(self.fn, inputs, out) if self.flops is None else self.flops,
        )
        if value.type != out:
            raise checks.fail(
                f"{self.kind}: by its axes the value has the type {value.type}, "
                f"but the function gives {out}"
            )
        return value

    def _value_type(self, scope: Scope, inputs: Sequence[Symbol]) -> TensorType:
        """What the function gives, which must follow the batch."""
        batch = scope.builder.batch
        out = _trace(self.kind, self.fn, [s.type for s in inputs])
        if out.shape[:1] != (batch,):
            raise checks.fail(
                f"{self.kind}: the function must keep the batch ({batch}) as its value's first "
                f"axis; its value is {out}"
            )
        more = [s.type.with_shape((batch + 1, *s.shape)) if s.batched else s.type for s in inputs]
        if _trace(self.kind, self.fn, more) != out.with_shape((batch + 1, *out.shape[1:])):
            raise checks.fail(
                f"{self.kind}: the function must work for any number of examples; with "
                f"{batch + 1} its value is {_trace(self.kind, self.fn, more)}"
            )
        return out

    def _check_axes(self, axes: Axes, inputs: Sequence[Symbol], out: TensorType) -> None:
        ranks = (*(s.type.rank for s in inputs), out.rank)
        if len(axes) != len(ranks):
            raise checks.fail(
                f"{self.kind}: axes names {len(axes) - 1} inputs, {len(inputs)} were given"
            )
        for letters, rank in zip(axes, ranks, strict=True):
            if len(letters) != rank:
                raise checks.fail(
                    f"{self.kind}: axes {' '.join(letters)!r} must name {rank} axes, "
                    "the batch included"
                )
        batch = axes[-1][0]
        for letters, symbol in zip(axes, inputs, strict=False):
            if symbol.batched != (batch in letters[:1]) or batch in letters[1:]:
                raise checks.fail(
                    f"{self.kind}: the batch axis, {batch!r}, must be the first of each batched "
                    f"input and of no other; {symbol.name} has {' '.join(letters)!r}"
                )


def parse_axes(text: object) -> Axes:
    """`"b t d, d -> b t"` → (("b", "t", "d"), ("d",), ("b", "t")); "btd,d->bt" is the same."""
    example = 'such as "b t d, d -> b t"'
    if not isinstance(text, str) or text.count("->") != 1:
        raise checks.fail(f"axes must name the inputs' axes and the value's, not {text!r}", example)
    left, _, right = text.partition("->")
    found = []
    for part in (*left.split(","), right):
        words = tuple(part.split())
        letters = tuple(words[0]) if len(words) == 1 else words
        named = [letter for letter in letters if letter != WHOLE]
        if not all(letter.isidentifier() for letter in letters) or len(set(named)) < len(named):
            raise checks.fail(f"{part.strip()!r} in axes must be distinct letters", example)
        found.append(letters)
    if found[-1][:1] in ((), (WHOLE,)):
        raise checks.fail("the first axis of the value must be the batch, with a letter", example)
    return tuple(found)


def _default_axes(inputs: Sequence[Symbol], rank: int) -> Axes:
    """Cut along the batch only."""

    def letters(rank: int, batched: bool) -> tuple[str, ...]:
        return (_BATCH if batched else WHOLE, *[WHOLE] * (rank - 1)) if rank else ()

    return (*(letters(s.type.rank, s.batched) for s in inputs), letters(rank, True))


def _file_of(fn: Function) -> str:
    """Where to look for the function when its module does not import."""
    try:
        return os.path.abspath(inspect.getsourcefile(fn) or "")
    except TypeError:
        return ""


def _wide(types: Sequence[TensorType]) -> AbstractContextManager[object]:
    """JAX with 64 bits where the function is given any."""
    import jax

    wide = any(DTYPE_BYTES[t.dtype] == 8 for t in types)
    return jax.enable_x64(True) if wide else nullcontext()


def _plain(fn: Function) -> Function:
    """JAX takes the process down with callables of C, such as NumPy's ufuncs."""
    return lambda *inputs: fn(*inputs)


def _abstract(types: Sequence[TensorType]) -> list[Any]:
    """The types as JAX has them."""
    import jax

    make: Any = jax.ShapeDtypeStruct
    return [make(t.shape, t.dtype) for t in types]


def _trace(kind: str, fn: Function, types: Sequence[TensorType]) -> TensorType:
    """The type of the function's value. Raises NetworkError, at the user's line."""
    import jax

    try:
        with _wide(types):
            out = jax.eval_shape(_plain(fn), *_abstract(types))
    except Exception as error:  # whatever the user's function raises
        given = ", ".join(map(str, types))
        first = str(error).strip().partition("\n")[0]
        raise checks.fail(
            f"{kind}: the function fails on {given}: {type(error).__name__}: {first}"
        ) from error
    if not isinstance(out, jax.ShapeDtypeStruct) or out.dtype.name not in DTYPE_BYTES:
        raise checks.fail(f"{kind}: the function must return one array, not {out}")
    return TensorType(tuple(out.shape), out.dtype.name)


def _count_flops(fn: Function, inputs: Sequence[Symbol], out: TensorType) -> int:
    """What XLA counts before it optimises; one per element where it counts nothing."""
    import jax

    types = [s.type for s in inputs]
    with _wide(types):
        lowered = jax.jit(_plain(fn)).lower(*_abstract(types))
        found = lowered.cost_analysis()
    costs = found if isinstance(found, Mapping) else {}
    flops = costs.get("flops", 0) + TRANSCENDENTAL_FLOPS * costs.get("transcendentals", 0)
    return int(flops) if flops > 0 else prod(out.shape)
