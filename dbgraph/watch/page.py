"""The page of a run: the dashboard while it goes on, the report after it. One self-contained HTML
file in the look of `dbgraph.show.page`, whose sheet and helpers it has."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from dbgraph.show.page.shell import head
from dbgraph.watch.fold import RunView
from dbgraph.watch.job import as_json

_SHELL = "dbgraph.show.page"


def report(runs: Sequence[tuple[str, RunView]]) -> str:
    """The text of a file that shows runs as they ended, beside each other.

    Args:
        runs: each with what it is called; at least one.
    """
    names = ", ".join(dict.fromkeys(str(view.about.get("network", name)) for name, view in runs))
    shown = [{"name": name, **as_json(view)} for name, view in runs]
    return _page(f"{names}: training", {"live": False, "runs": shown}, connect="'none'")


def dashboard() -> str:
    """The text of a page that asks its server for "events": each is a run as it is by now."""
    return _page("training", {"live": True, "runs": []}, connect="'self'")


def _page(title: str, data: dict[str, Any], connect: str) -> str:
    # "<" is escaped, so that no name in it ends the script.
    text = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    scripts = [_text(_SHELL, "format.js"), *(_text(__package__, n) for n in ("chart.js", "run.js"))]
    return Template(_text(__package__, "run.html")).substitute(
        head=head(title, _text(__package__, "run.css"), connect),
        title=escape(title),
        data=text,
        scripts="\n".join(f"<script>\n{script}</script>" for script in scripts),
    )


def _text(package: str, name: str) -> str:
    return files(package).joinpath(name).read_text(encoding="utf-8")
