"""How a parameter begins: `("glorot_uniform", fan_in, fan_out)` and its like.

The values are made by `dbgraph.initial`; here stands only what the user may say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dbgraph.dsl import checks
from dbgraph.ir.types import Attribute

KINDS: Mapping[str, tuple[str, ...]] = {
    "zeros": (),
    "ones": (),
    "constant": ("value",),
    "uniform": ("low", "high"),
    "normal": ("mean", "std"),
    "glorot_uniform": ("fan_in", "fan_out"),
    "glorot_normal": ("fan_in", "fan_out"),
    "he_uniform": ("fan_in",),
    "he_normal": ("fan_in",),
    "lecun_uniform": ("fan_in",),
    "lecun_normal": ("fan_in",),
}
"""Each initialiser and its numbers.

Source: Glorot and Bengio 2010, equation 16; He et al. 2015, equation 10; LeCun et al. 1998,
section 4.6. `dbgraph.initial` states the formulas.
"""

Init = str | float | tuple[str | float, ...]
"""A kind, a constant, or a kind with its numbers: "he_normal", 0.1, ("uniform", -0.05, 0.05)."""


def resolve(init: object, fans: tuple[int, int] | None) -> tuple[Attribute, ...]:
    """An initialiser with all of its numbers.

    Args:
        init: what the user said.
        fans: (fan in, fan out) of the layer, which fill in what the user left out; None for a
            parameter of no layer.
    """
    if not isinstance(init, str | Sequence):
        return ("constant", checks.number(init, "a constant initialiser"))
    given = (init,) if isinstance(init, str) else tuple(init)
    kind = given[0] if given else ""
    if not isinstance(kind, str) or kind not in KINDS:
        raise checks.fail(f"there is no initialiser {kind!r}", checks.suggest(kind, KINDS))
    wanted = KINDS[kind]
    numbers = tuple(checks.number(n, f"a number of initialiser {kind!r}") for n in given[1:])
    if not numbers and fans is not None and wanted and wanted[0] == "fan_in":
        numbers = tuple(float(n) for n in fans[: len(wanted)])
    if len(numbers) != len(wanted):
        form = ", ".join((repr(kind), *wanted))
        raise checks.fail(
            f"initialiser {kind!r} takes {len(wanted)} numbers, not {len(numbers)}", f"({form})"
        )
    _check_numbers(kind, wanted, numbers)
    return (kind, *numbers)


def _check_numbers(kind: str, wanted: tuple[str, ...], numbers: tuple[float, ...]) -> None:
    for what, value in zip(wanted, numbers, strict=True):
        if (what.startswith("fan") and value <= 0) or (what == "std" and value < 0):
            raise checks.fail(f"{what} of initialiser {kind!r} is {value:g}: too small")
    if kind == "uniform" and numbers[0] > numbers[1]:
        raise checks.fail(f"initialiser 'uniform' has low {numbers[0]:g} above high {numbers[1]:g}")
