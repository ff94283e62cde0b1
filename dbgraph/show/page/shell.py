"""One self-contained HTML file of several views: no network, no framework, nothing to build.

Python says what is shown, and each view's own script how:

    page("digits", [View("machines", {"busy_s": [0.1, 0.2]}, ("machines.js",))])

The page holds the data as one JSON object, deflated and in base64 (so no name can end a script):
`{"page": {title, subtitle, machines, problems}, VIEW_ID: VIEW_DATA, …}`. A view whose scripts
register nothing is a section that the others share.

In the browser there is one global, `dbg`; `format.js` (text), `stage.js` (a canvas that pans and
zooms) and `page.js` (this shell) come before the scripts of the views. A script registers

    dbg.views.push({
      id, title,                    // one tab each, in this order
      mount(root, data, bus) {},    // once, when it is first shown; root is an empty <section>
      keys: [["Enter", "opens"]],   // for the help; may be left out
    });
    dbg.finders.push((text, data) => [{text, hint, select: {kind, id}}]);   // what a search finds

`data` is the whole object: a view's own part is `data[id]`. The bus joins the views:

    bus.on(event, fn)        // fn is called at once with the last value, where there is one
    bus.emit(event, value)

    "select"   {kind: "machine" | "layer" | "tile" | "transfer" | …, id}, or null: one thing, in
               all views; who knows it, emits its "details"
    "hover"    the same, for what the pointer or the keyboard is on
    "filter"   {machine: number | null, crossing: bool}: show only these
    "search"   text: the words in the search field, to highlight; "" for none
    "theme"    "dark" | "light": draw anew; `dbg.colour("--name")` gives the colours of page.css
    "details"  {title, rows: [[name, text], …], actions: [[label, fn], …]} or null: the side panel
    "show"     id of a view: its tab is opened

Helpers: `dbg.bytes/count/seconds/percent(number)` write numbers as dbgraph does everywhere;
`dbg.el(tag, {attributes, on…: fn}, ...children)` makes an element (text is never parsed as HTML);
`dbg.stage(root, options)` is a canvas, see stage.js.
"""

from __future__ import annotations

import json
import zlib
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

_CORE = ("format.js", "stage.js", "page.js")


@dataclass(frozen=True, slots=True)
class View:
    """One tab, or data that tabs share.

    Attributes:
        id: of the view, and of its part of the data.
        data: of literals that `json.dumps` takes; long lists as columns.
        scripts: files of this package, in order. One that several views name is there once.
    """

    id: str
    data: Mapping[str, Any]
    scripts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong with what is shown: it stands above all views.

    Attributes:
        text: the rule and the values that broke it.
        kind, id: what "select" carries to show where; "" and -1 where no place is known.
        hint: what to do about it.
    """

    text: str
    kind: str = ""
    id: int = -1
    hint: str = ""


def page(
    title: str,
    views: Sequence[View],
    *,
    subtitle: str = "",
    machines: int = 0,
    problems: Sequence[Problem] = (),
) -> str:
    """The text of the file.

    Args:
        subtitle: one line below the title.
        machines: how many the filter offers; 0: there is no filter.
    """
    about = {
        "title": title,
        "subtitle": subtitle,
        "machines": machines,
        "problems": [asdict(problem) for problem in problems],
    }
    scripts = dict.fromkeys([*_CORE, *(name for view in views for name in view.scripts)])
    return Template(_text("page.html")).substitute(
        head=head(title),
        title=escape(title),
        data=_packed({"page": about, **{view.id: view.data for view in views}}),
        scripts="\n".join(f"<script>\n{_text(name)}</script>" for name in scripts),
    )


def head(title: str, style: str = "", connect: str = "'none'") -> str:
    """What all pages begin with.

    Args:
        style: a sheet beside that of all pages.
        connect: with what the page may speak, as its policy says it.
    """
    return Template(_text("head.html")).substitute(
        title=escape(title), style=_text("page.css") + style, connect=connect
    )


def _packed(data: Mapping[str, Any]) -> str:
    """Deflated JSON in base64: what `DecompressionStream("deflate")` reads."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return b64encode(zlib.compress(text.encode(), 9)).decode()


def _text(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
