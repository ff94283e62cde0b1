"""A user's TOML file, read key by key. What is wrong is a UsageError that names the file, the line,
the table, the key and its value."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isinf, isnan, nan
from typing import Any

from dbgraph.errors import UsageError
from dbgraph.source import Source
from dbgraph.suggest import did_you_mean
from dbgraph.units import read_quantity

_HEADER = re.compile(r"\s*\[\[?\s*([^\]]*?)\s*\]")
_KEY = re.compile(r"""\s*["']?([\w-]+)["']?\s*[=.]""")


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        path: of the file; `lines` is its text.
        name: as in its header; "" for the keys before the first header.
        index: of those with this name, counted from 0; None where there can be one only.
        under: the key that holds it, for a table inside a table.
    """

    path: str
    lines: Sequence[str]
    values: Mapping[str, Any]
    name: str = ""
    index: int | None = None
    under: str = ""

    def check_keys(self, known: Iterable[str]) -> None:
        """Raises UsageError for a key that is none of these."""
        known = tuple(known)
        for key in self.values:
            if key not in known:
                hint = did_you_mean(key, known) or f"known: {', '.join(known)}"
                raise UsageError(f"{self._label}unknown key {key!r}", at=self._at(key), hint=hint)

    def table(self, key: str) -> Table:
        """The table of that name; an empty one where there is none."""
        found = self.values.get(key, {})
        if not isinstance(found, dict):
            raise self.error(key, f"expected a table, [{key}]")
        return Table(self.path, self.lines, found, key)

    def tables(self, key: str) -> list[Table]:
        """The tables of that name in their order."""
        found = self._list(key, f"expected tables, [[{key}]]")
        return [Table(self.path, self.lines, t, key, i) for i, t in enumerate(found)]

    def inner(self, key: str) -> list[Table]:
        """The tables that a key of this table holds: one, or a list of them."""
        value = self.values.get(key, [])
        found = [value] if isinstance(value, dict) else self._list(key, "expected {…} or [{…}]")
        return [Table(self.path, self.lines, t, self.name, self.index, key) for t in found]

    def text(self, key: str, default: str | None = None) -> str:
        """A word or more; without a default it must be there."""
        value = self._get(key, default)
        if not isinstance(value, str) or not value.isprintable():
            raise self.error(key, "expected text on one line")
        return value

    def whole(self, key: str, most: int, default: int | None = None) -> int:
        """A whole number from 1 on."""
        value = self._get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
            raise self.error(key, f"expected a whole number from 1 to {most:,}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self._get(key, default)
        if not isinstance(value, bool):
            raise self.error(key, "expected true or false")
        return value

    def number(self, key: str, default: float) -> float:
        """A finite number from 0 on, of no unit."""
        value = self._get(key, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < inf:
            raise self.error(key, "expected a finite number from 0 on")
        return float(value)

    def amount(self, key: str, unit: str, default: float | None = None) -> float:
        """A finite number from 0 on, or one with its unit (see `read_quantity`)."""
        value = self._number(key, unit, default)
        if value < 0 or isinf(value):
            raise self.error(key, "expected a finite number from 0 on")
        return value

    def rate(self, key: str, unit: str, default: float | None = None) -> float:
        """A number above 0, or one with its unit; `inf` is one."""
        value = self._number(key, unit, default)
        if value <= 0:
            raise self.error(key, "expected a number above 0")
        return value

    def error(self, key: str, problem: str, hint: str = "") -> UsageError:
        """What is wrong with the value of a key."""
        return UsageError(
            f"{self._label}{key} = {self.values.get(key)!r}: {problem}", at=self._at(key), hint=hint
        )

    def _number(self, key: str, unit: str, default: float | None) -> float:
        value = self._get(key, default)
        if isinstance(value, str):
            try:
                return read_quantity(value, unit)
            except ValueError as error:
                raise self.error(key, str(error)) from None
        try:
            number = nan if isinstance(value, bool) else float(value)
        except (TypeError, OverflowError):
            number = nan
        if isnan(number):
            raise self.error(key, f"expected a number, or one with its unit ({unit})")
        return number

    def _get(self, key: str, default: Any) -> Any:
        value = self.values.get(key, default)
        if value is None:
            raise UsageError(f"{self._label}{key} is missing", at=self._at(self.under))
        return value

    def _list(self, key: str, problem: str) -> list[dict[str, Any]]:
        found = self.values.get(key, [])
        if not isinstance(found, list) or not all(isinstance(t, dict) for t in found):
            raise self.error(key, problem)
        return found

    @property
    def _label(self) -> str:
        """`[[machines]] 2, kinds: `."""
        if self.index is not None:
            label = f"[[{self.name}]] {self.index + 1}"
        else:
            label = f"[{self.name}]" if self.name else ""
        parts = [part for part in (label, self.under) if part]
        return ", ".join(parts) + ": " if parts else ""

    def _at(self, key: str) -> Source:
        """The line of a key, else of the table's header, else of the file's beginning."""
        seen, best = -1, 1
        here = not self.name
        for number, line in enumerate(self.lines, 1):
            if header := _HEADER.match(line):
                seen += header[1] == self.name
                here = header[1] == self.name and seen == (self.index or 0)
                best = number if here else best
            elif here and (found := _KEY.match(line)) and found[1] in (key, self.under):
                return Source(self.path, number)
        return Source(self.path, best)


def parse_toml(text: str, path: str) -> Table:
    """A whole file. Raises UsageError where it is no TOML."""
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is no TOML: {error}") from None
    return Table(path, text.splitlines(), values)
