"""Aligned columns of text."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from dbgraph.errors import DbgraphError


def columns(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    foot: Sequence[str] = (),
    left: frozenset[str] = frozenset(),
) -> str:
    """A table: heads, a rule, rows, and sums under another rule.

    Args:
        left: the heads of columns that are aligned left; the others are aligned right.
    """
    lines = [head, *rows, *([foot] if foot else [])]
    if any(len(line) != len(head) for line in lines):
        raise DbgraphError(f"a table of {len(head)} columns has a line of another length")
    widths = [max(_width(line[i]) for line in lines) for i in range(len(head))]

    def text(line: Sequence[str]) -> str:
        cells = [
            _padded(cell, width, name in left)
            for cell, width, name in zip(line, widths, head, strict=True)
        ]
        return "  ".join(cells).rstrip()

    rule = "─" * (sum(widths) + 2 * (len(widths) - 1))
    body = [text(head), rule, *(text(row) for row in rows)]
    if foot:
        body += [rule, text(foot)]
    return "\n".join(body)


def _padded(cell: str, width: int, left: bool) -> str:
    blank = " " * (width - _width(cell))
    return cell + blank if left else blank + cell


def _width(cell: str) -> int:
    """Columns of a terminal that a text takes."""
    if cell.isascii():
        return len(cell)
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in cell)
