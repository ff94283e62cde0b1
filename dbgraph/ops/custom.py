"""The user's own function of JAX arrays as an op (`dbg.op`).

The plan names the function (module, name, fingerprint) and never contains it.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from dbgraph.ir.region import Region
from dbgraph.ir.types import Attrs, TensorType, Types
from dbgraph.ops import check
from dbgraph.ops.fingerprint import fingerprint as fingerprint
from dbgraph.ops.schema import OpDef, require, work

WHOLE = "_"
"""The letter of an axis that is always read whole, and never cut."""

FUNCTIONS: dict[tuple[str, str, str], Callable[..., Any]] = {}
"""The functions that were declared in this process, by module, qualified name and fingerprint."""


def letters_of(attrs: Attrs) -> tuple[tuple[str, ...], ...]:
    """The attribute `axes`: one letter per axis, of each input and then of the output."""
    return tuple(tuple(letters) for letters in attrs.tuple("axes"))  # type: ignore[arg-type]


def _lengths(attrs: Attrs, types: Types) -> dict[str, int]:
    """The length of each letter's axis in the inputs. Raises OpError where two differ."""
    name = attrs.str("name")
    found: dict[str, int] = {}
    for letters, type_ in zip(letters_of(attrs)[:-1], types, strict=True):
        require(
            len(letters) == type_.rank,
            f"custom {name}: axes {''.join(letters)!r} must have one letter for each axis "
            f"of {type_}",
        )
        for letter, length in zip(letters, type_.shape, strict=True):
            known = found.setdefault(letter, length)
            require(
                letter == WHOLE or known == length,
                f"custom {name}: the axis {letter!r} has length {known} in one input and "
                f"{length} in another",
            )
    found.pop(WHOLE, None)
    return found


def _infer(attrs: Attrs, types: Types) -> TensorType:
    for key in ("module", "name", "fingerprint"):
        require(isinstance(attrs.get(key), str), f"custom: {key} must be a text")
    name = attrs.str("name")
    axes = attrs.get("axes")
    ok = isinstance(axes, tuple) and all(
        isinstance(a, str) or (isinstance(a, tuple) and all(isinstance(v, str) for v in a))
        for a in axes
    )
    require(ok, f"custom {name}: axes must be tuples of letters; they are {axes!r}")
    require(
        len(attrs.tuple("axes")) == len(types) + 1,
        f"custom {name}: axes must name those of {check.plural(len(types), 'input')} and of the "
        f"output; they are {axes!r}",
    )
    require(check.integer("custom", attrs, "flops") >= 0, f"custom {name}: flops must not be < 0")
    shape, dtype = check.shape("custom", attrs), check.dtype("custom", attrs)
    letters = letters_of(attrs)[-1]
    require(
        len(letters) == len(shape),
        f"custom {name}: the output's axes {''.join(letters)!r} do not fit its shape {shape}",
    )
    lengths = _lengths(attrs, types)
    return TensorType(tuple(lengths.get(k, n) for k, n in zip(letters, shape, strict=True)), dtype)


def _reads(attrs: Attrs, types: Types, region: Region) -> tuple[Region, ...]:
    *inputs, output = letters_of(attrs)
    bounds = dict(zip(output, region.bounds, strict=True))
    bounds.pop(WHOLE, None)
    return tuple(
        Region(tuple(bounds.get(k, (0, n)) for k, n in zip(letters, t.shape, strict=True)))
        for letters, t in zip(inputs, types, strict=True)
    )


def _cut_axes(attrs: Attrs, types: Types) -> tuple[int, ...]:
    *inputs, output = letters_of(attrs)
    known = {letter for letters in inputs for letter in letters} - {WHOLE}
    return tuple(k for k, letter in enumerate(output) if letter in known)


def _flops(attrs: Attrs, types: Types, out: TensorType) -> int:
    return round(attrs.int("flops") * out.size / prod(attrs.ints("shape")))


CUSTOM = OpDef(
    "custom",
    "custom(inputs…) module, name, fingerprint, file, shape, dtype, axes, flops → shape: the "
    "user's function. shape, flops: of the uncut output. axes: a letter per axis, of each input "
    "and then of the output; an output axis whose letter an input has may be cut, and that input "
    "is read along with it; other axes, and those called `_`, are read whole.",
    infer=_infer,
    reads=_reads,
    cut_axes=_cut_axes,
    flops=_flops,
    kinds=work("custom"),
)
