"""The difference of two plans as a page: tables, and how busy the machines are in each."""

from __future__ import annotations

from dbgraph.show.diff import Diff
from dbgraph.show.differences import diff_data
from dbgraph.show.page.shell import View, page


def diff_page(found: Diff, before: str, after: str) -> str:
    """The text of the file.

    Args:
        before, after: what the plans are called.
    """
    view = View("diff", diff_data(found), ("diff.js",))
    return page(f"{before} → {after}", [view], subtitle="what moves, and what it costs")
