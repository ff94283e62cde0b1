"""Numbers as people read them."""

from __future__ import annotations

import re
from decimal import Decimal
from math import inf

_DECIMAL = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_BINARY = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


def count(value: float) -> str:
    """`41777152` → `41.8 M`."""
    for unit, letter in _DECIMAL:
        if abs(value) >= unit:
            return f"{value / unit:.3g} {letter}"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def bytes_(value: float) -> str:
    """`1536` → `1.5 KiB`."""
    for unit, letter in _BINARY:
        if abs(value) >= unit:
            scaled = value / unit
            return f"{scaled:.3g} {letter}" if scaled < 1000 else f"{scaled:.0f} {letter}"
    return f"{value:.0f} B"


def seconds(value: float) -> str:
    """`0.0032` → `3.2 ms`."""
    if value >= 120:
        return f"{int(value // 60)} min {int(value % 60)} s"
    for unit, letter in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if value >= unit:
            return f"{value / unit:.3g} {letter}"
    return f"{value * 1e9:.3g} ns" if value else "0 s"


_PREFIXES = {
    prefix: Decimal(scale)
    for prefix, scale in (
        *(("n", "1e-9"), ("u", "1e-6"), ("µ", "1e-6"), ("m", "1e-3"), ("", "1")),
        *(("k", "1e3"), ("M", "1e6"), ("G", "1e9"), ("T", "1e12")),
        *((letters[:-1], str(unit)) for unit, letters in _BINARY),
    )
}
_SPELLINGS = {
    "s": {"s": Decimal(1)},
    "B": {"B": Decimal(1)},
    "B/s": {"B/s": Decimal(1), "bit/s": Decimal("0.125")},
    "FLOP/s": {"FLOP/s": Decimal(1), "FLOPS": Decimal(1)},
}
_EXAMPLES = {"s": "100 us", "B": "8 GiB", "B/s": "1 GB/s", "FLOP/s": "50 GFLOP/s"}
_QUANTITY = re.compile(r"([+-]?[0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*(\S*)")


def read_quantity(text: str, unit: str) -> float:
    """A number with its unit: `"1.5 GB/s"` → `1.5e9`, `"10 Gbit/s"` → `1.25e9` (both in B/s).

    Args:
        unit: "s", "B", "B/s" or "FLOP/s". Before it may stand n, u, m, k, M, G, T, Ki, Mi, Gi, Ti.

    Raises ValueError.
    """
    known = {
        prefix + name: scale * factor
        for name, factor in _SPELLINGS[unit].items()
        for prefix, scale in _PREFIXES.items()
    }
    found = _QUANTITY.fullmatch(text.strip())
    if found is None or found[2] not in known:
        raise ValueError(f"expected a number and its unit, such as {_EXAMPLES[unit]!r}")
    try:
        value = float(Decimal(found[1]) * known[found[2]])  # decimal: 100 us is 1e-4 to the bit
    except ArithmeticError:
        value = inf
    if value == inf:
        raise ValueError("the number is too large")
    return value


def write_quantity(value: float, unit: str) -> str:
    """The inverse of `read_quantity`, to the last bit. Whole KiB, MiB, GiB, TiB are written so.

    Args:
        value: finite, not negative.
    """
    exact = Decimal(repr(value))
    fits = [
        prefix
        for prefix, scale in _PREFIXES.items()
        if prefix != "µ"
        and exact >= scale
        and (not prefix.endswith("i") or (unit == "B" and not value % float(scale)))
    ]
    prefix = max(fits, key=_PREFIXES.__getitem__, default="")
    number = exact / _PREFIXES[prefix]
    plain = f"{number.normalize():f}"
    return f"{plain if len(plain) < 20 else number} {prefix}{unit}"
