"""The timeline as a view of a page: columns of whole numbers, small once they are deflated."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dbgraph.show.page.shell import View, page
from dbgraph.show.tracks import KINDS, Block, Timeline

_UNIT_S = 1e-9
_SCRIPTS = ("timeline_model.js", "timeline_strips.js", "timeline_draw.js", "timeline.js")


def timeline_view(timeline: Timeline) -> View:
    """The tab "Timeline": see timeline.js."""
    return View("timeline", timeline_data(timeline), _SCRIPTS)


def timeline_page(timeline: Timeline) -> str:
    """A timeline alone as a file."""
    machines = 1 + max(
        (-1 if t.machine is None else t.machine for t in timeline.tracks), default=-1
    )
    subtitle = f"{len(timeline.tracks)} tracks, {len(timeline.blocks):,} blocks"
    view = timeline_view(timeline)
    return page(timeline.title, [view], subtitle=subtitle, machines=machines)


def timeline_data(timeline: Timeline) -> dict[str, Any]:
    """What timeline_model.js reads.

    Blocks stand track by track in the order of time: `count` of each track, then for each block
    the `gap` to the end of the one before it on its track (below 0 where they overlap) and its
    `length`, both in units of `unit_s`; `kind` is an index of `kinds`, `name` and `about` of
    `words`; `instruction` counts from 1 in its machine's program, 0 is none. `critical` lists
    blocks. Arrows are pairs of blocks, `critical_arrows` lists arrows.
    """
    order = sorted(
        range(len(timeline.blocks)),
        key=lambda i: (timeline.blocks[i].track, timeline.blocks[i].start_s),
    )
    blocks = [timeline.blocks[i] for i in order]
    place = {index: at for at, index in enumerate(order)}
    words = _Words()
    gaps, lengths = _times(blocks)
    return {
        "title": timeline.title,
        "note": timeline.note,
        "unit_s": _UNIT_S,
        "kinds": list(KINDS),
        "tracks": {
            "name": [track.name for track in timeline.tracks],
            "group": [track.group for track in timeline.tracks],
            "machine": [track.machine for track in timeline.tracks],
            "count": _counts(blocks, len(timeline.tracks)),
        },
        "blocks": {
            "gap": gaps,
            "length": lengths,
            "kind": [KINDS.index(block.kind) for block in blocks],
            "name": [words.index(block.name) for block in blocks],
            "about": [words.index(block.about) for block in blocks],
            "bytes": [block.bytes for block in blocks],
            "instruction": [
                0 if block.instruction is None else block.instruction + 1 for block in blocks
            ],
            "critical": [i for i, block in enumerate(blocks) if block.critical],
        },
        "arrows": {
            "source": [place[arrow.source] for arrow in timeline.arrows],
            "to": [place[arrow.to] for arrow in timeline.arrows],
            "critical": [i for i, arrow in enumerate(timeline.arrows) if arrow.critical],
        },
        "words": list(words.known),
    }


class _Words:
    """Each text once."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}

    def index(self, text: str) -> int:
        return self.known.setdefault(text, len(self.known))


def _times(blocks: Iterable[Block]) -> tuple[list[int], list[int]]:
    """Gaps and lengths. Ends are rounded, not lengths, so that what touches still touches."""
    gaps: list[int] = []
    lengths: list[int] = []
    track, last = -1, 0
    for block in blocks:
        if block.track != track:
            track, last = block.track, 0
        start, stop = round(block.start_s / _UNIT_S), round(block.stop_s / _UNIT_S)
        gaps.append(start - last)
        lengths.append(stop - start)
        last = stop
    return gaps, lengths


def _counts(blocks: Iterable[Block], tracks: int) -> list[int]:
    found = [0] * tracks
    for block in blocks:
        found[block.track] += 1
    return found
