"""Symbols: the values of a network while it is declared."""

from __future__ import annotations

from math import prod
from types import EllipsisType
from typing import TYPE_CHECKING, ClassVar, NoReturn

from dbgraph.dsl import checks
from dbgraph.ir.types import Attribute, TensorType

if TYPE_CHECKING:
    from dbgraph.dsl.builder import Builder

Index = int | slice | EllipsisType


class Symbol:
    """A value of the network that is being declared.

    Arithmetic with numbers and other symbols (`+ - * / ** abs`, broadcast as NumPy does, on the
    axes of one example), slicing of one example's axes, `sum`, `mean`, `max` and `astype` give
    new symbols.

    Attributes:
        name: of the value in the graph.
        type: its type, the batch axis included.
        batched: whether axis 0 of the type is the batch; parameters have none.
    """

    __slots__ = ("batched", "builder", "name", "type")
    __array_ufunc__: ClassVar[None] = None  # a NumPy number on the left leaves the work to us

    def __init__(self, builder: Builder, name: str, type_: TensorType, batched: bool) -> None:
        self.builder, self.name, self.type, self.batched = builder, name, type_, batched

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one example."""
        return self.type.shape[1:] if self.batched else self.type.shape

    @property
    def dtype(self) -> str:
        return self.type.dtype

    def __repr__(self) -> str:
        return f"<Symbol {self.name}: {self.dtype}{list(self.shape)}>"

    # Arithmetic

    def __add__(self, other: object) -> Symbol:
        if isinstance(other, Symbol):
            return self._with(other, "add")
        return self._affine(1.0, checks.number(other, "an operand of +"))

    def __sub__(self, other: object) -> Symbol:
        if isinstance(other, Symbol):
            return self._with(other, "subtract")
        return self._affine(1.0, -checks.number(other, "an operand of -"))

    def __mul__(self, other: object) -> Symbol:
        if isinstance(other, Symbol):
            return self._with(other, "multiply")
        return self._affine(checks.number(other, "an operand of *"), 0.0)

    def __truediv__(self, other: object) -> Symbol:
        if isinstance(other, Symbol):
            return self._with(other, "divide")
        divisor = checks.number(other, "a divisor")
        if divisor == 0:
            raise checks.fail(f"{self.name} must not be divided by zero")
        return self._affine(1.0 / divisor, 0.0)

    def __pow__(self, other: object) -> Symbol:
        if isinstance(other, Symbol):
            raise checks.fail("an exponent must be a number, not a symbol")
        exponent = checks.number(other, "an exponent")
        if exponent == 2:
            return self._unary("square")
        return self._unary("power", exponent=exponent)

    def __radd__(self, other: object) -> Symbol:
        return self + other

    def __rmul__(self, other: object) -> Symbol:
        return self * other

    def __rsub__(self, other: object) -> Symbol:
        return self._affine(-1.0, checks.number(other, "an operand of -"))

    def __rtruediv__(self, other: object) -> Symbol:
        dividend = checks.number(other, "a dividend")
        inverse = self._unary("power", exponent=-1.0)
        return inverse if dividend == 1 else inverse * dividend

    def __neg__(self) -> Symbol:
        return self._affine(-1.0, 0.0)

    def __abs__(self) -> Symbol:
        return self._unary("abs")

    def __matmul__(self, other: object) -> Symbol:
        """Values (…, n) times a parameter (n, …): the sum over the last axis and the first."""
        if not isinstance(other, Symbol) or other.batched or not self.shape or not other.shape:
            raise checks.fail(
                "@ takes a value with an axis and a parameter with one",
                "sum a product of two values: (a * b).sum(-1)",
            )
        self.need_float("arithmetic")
        return self.builder.emit("contract", self, other, contracted=1)

    def maximum(self, other: Symbol) -> Symbol:
        """The larger of two values, element by element."""
        return self._with(other, "maximum")

    def minimum(self, other: Symbol) -> Symbol:
        """The smaller of two values, element by element."""
        return self._with(other, "minimum")

    def astype(self, dtype: str) -> Symbol:
        """The same values in another dtype."""
        wanted = checks.dtype(dtype, "the dtype")
        return self if wanted == self.dtype else self.builder.emit("cast", self, dtype=wanted)

    # Reductions over the axes of one example

    def sum(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Symbol:
        """The sum over axes of one example; over all of them by default."""
        return self._reduce("sum", axis, keepdims)

    def max(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Symbol:
        """The maximum over axes of one example; over all of them by default."""
        return self._reduce("max", axis, keepdims)

    def mean(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Symbol:
        """The mean over axes of one example; over all of them by default."""
        count = prod(self.shape[a] for a in self._axes(axis))
        total = self._reduce("sum", axis, keepdims)
        return total if count == 1 else total / count

    def _reduce(self, op: str, axis: int | tuple[int, ...] | None, keepdims: bool) -> Symbol:
        axes = tuple(a + self.batched for a in self._axes(axis))
        if not axes:
            return self
        self.need_float(f"a {op}")
        return self.builder.emit(op, self, axes=axes, keepdims=bool(keepdims))

    def _axes(self, axis: int | tuple[int, ...] | None) -> tuple[int, ...]:
        rank = len(self.shape)
        if axis is None:
            return tuple(range(rank))
        given = axis if isinstance(axis, tuple) else (axis,)
        axes = {checks.index(a, "an axis", -rank) for a in given}
        if any(a >= rank for a in axes):
            raise checks.fail(f"{self.name} has the axes 0 to {rank - 1} per example, not {axis}")
        return tuple(sorted({a % rank for a in axes}))

    # Shapes

    def reshaped(self, shape: tuple[int, ...]) -> Symbol:
        """The same elements in another shape (of one example)."""
        if shape == self.shape:
            return self
        whole = (*self.type.shape[: int(self.batched)], *shape)
        return self.builder.emit("reshape", self, shape=whole, offset=(), keep=())

    @property
    def T(self) -> Symbol:  # as NumPy and JAX call it
        """A parameter with its axes reversed, to tie a decoder's weights to an encoder's."""
        if self.batched:
            raise checks.fail(f"{self.name} has a batch axis; only a parameter has a .T")
        return self.builder.emit("transpose", self, perm=tuple(reversed(range(self.type.rank))))

    def __getitem__(self, key: Index | tuple[Index, ...]) -> Symbol:
        """Slices one example's axes: integers (which drop the axis), `a:b`, and `...`."""
        shape = self.shape
        bounds, kept = [], []
        for axis, one in enumerate(self._expanded(key)):
            start, stop, keep = self._range(one, axis, shape[axis])
            bounds.append((start, stop))
            if keep:
                kept.append(stop - start)
        if self.batched:
            bounds.insert(0, (0, self.type.shape[0]))
        starts, stops = tuple(a for a, _ in bounds), tuple(b for _, b in bounds)
        whole = stops == self.type.shape and not any(starts)
        part = self if whole else self.builder.emit("slice", self, start=starts, stop=stops)
        return part.reshaped(tuple(kept))

    def _expanded(self, key: Index | tuple[Index, ...]) -> list[Index]:
        """One index per axis."""
        keys = list(key) if isinstance(key, tuple) else [key]
        rank = len(self.shape)
        dots = [i for i, one in enumerate(keys) if one is Ellipsis]
        missing = rank - (len(keys) - len(dots))
        if missing < 0 or len(dots) > 1:
            raise checks.fail(
                f"{self.name} has {rank} axes per example, and {len(keys)} indices were given",
                "the batch axis can't be sliced: count the axes of one example",
            )
        at = dots[0] if dots else len(keys)
        return [*keys[:at], *[slice(None)] * missing, *keys[at + 1 :]]

    def _range(self, one: Index, axis: int, length: int) -> tuple[int, int, bool]:
        """(start, stop, whether the axis stays)."""
        if isinstance(one, slice):
            if one.step not in (None, 1):
                raise checks.fail(f"a slice of {self.name} must have step 1, not {one.step}")
            for bound in (one.start, one.stop):
                if bound is not None:
                    checks.index(bound, "a bound of a slice", least=-(2**62))
            start, stop, _ = one.indices(length)
            if start >= stop:
                raise checks.fail(
                    f"axis {axis} of {self.name} has {length} elements; the slice is empty"
                )
            return start, stop, True
        if one is None or isinstance(one, bool | Symbol):
            raise checks.fail(
                f"{self.name} takes integers, slices and ... as indices, not {one!r}",
                "L.Reshape adds axes",
            )
        at = checks.index(one, "an index", least=-(2**62))
        if not -length <= at < length:
            raise checks.fail(f"axis {axis} of {self.name} has {length} elements, none at {at}")
        return at % length, at % length + 1, False

    # What Python would otherwise do with a symbol by itself

    def __iter__(self) -> NoReturn:
        raise checks.fail(f"{self.name} is a symbol and can't be iterated over")

    def __bool__(self) -> NoReturn:
        raise checks.fail(f"{self.name} is a symbol: it has no value while it is declared")

    def need_float(self, what: str) -> None:
        """Raises NetworkError where the symbol is no float."""
        if not self.type.is_float:
            raise checks.fail(
                f"{what} needs floats; {self.name} is {self.dtype}",
                'embed integers (L.Embedding), or cast them: .astype("float32")',
            )

    def _affine(self, scale: float, shift: float) -> Symbol:
        return self._unary("affine", scale=scale, shift=shift)

    def _unary(self, op: str, **attrs: Attribute) -> Symbol:
        self.need_float("arithmetic")
        return self.builder.emit(op, self, **attrs)

    def _with(self, other: Symbol, op: str) -> Symbol:
        """Broadcasts as NumPy does on the axes of one example, with the batch axis apart."""
        if not isinstance(other, Symbol):
            raise checks.fail(f"{op} takes two symbols, not {other!r}")
        self.need_float("arithmetic")
        other.need_float("arithmetic")
        rank = max(len(self.shape), len(other.shape))
        return self.builder.emit(op, self._aligned(rank), other._aligned(rank))

    def _aligned(self, rank: int) -> Symbol:
        missing = rank - len(self.shape)
        return self.reshaped((1,) * missing + self.shape) if self.batched and missing else self
