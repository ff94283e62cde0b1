"""Numbers as people read them."""

from __future__ import annotations

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
