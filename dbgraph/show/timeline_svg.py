"""A timeline as a drawing that stands still: tracks, blocks, arrows, the critical path."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from html import escape
from math import floor, log10

from dbgraph.show.tracks import Arrow, Block, Timeline
from dbgraph.units import bytes_, seconds

_TEXT, _FAINT, _LINE, _CRITICAL = "#222222", "#666666", "#E3E3E3", "#D55E00"
# Okabe and Ito's palette: told apart by the colour-blind too.
_COLORS = {
    "compute": "#0072B2",
    "update": "#56B4E9",
    "send": "#E69F00",
    "receive": "#009E73",
    "wait": "#C9CDD2",
    "server": "#CC79A7",
    "orders": "#F0E442",
}
_WORDS = {
    "compute": "computes",
    "update": "updates parameters",
    "send": "sends",
    "receive": "receives",
    "wait": "waits",
    "server": "parameter server",
    "orders": "the driver's orders",
}
_WIDTH, _LEFT, _RIGHT, _TOP, _LETTER = 1200.0, 100.0, 20.0, 84.0, 0.56
_ARROWS_UP_TO = 160
_THIN = ("wait", "orders")
_FINE = 1.0
"""Pixels: blocks that are narrower are drawn together, as what takes most of the time."""


def timeline_svg(timeline: Timeline) -> str:
    """SVG text."""
    return "\n".join(_Drawing(timeline).lines()) + "\n"


class _Drawing:
    def __init__(self, timeline: Timeline) -> None:
        self.timeline = timeline
        self.total_s = max((block.stop_s for block in timeline.blocks), default=0.0) or 1.0
        self.scale = (_WIDTH - _LEFT - _RIGHT) / self.total_s
        count = max(1, len(timeline.tracks))
        self.row = min(46.0, max(5.0, 860.0 / count))
        self.tall = self.row * (0.78 if self.row >= 10 else 1.0)
        self.foot = _TOP + count * self.row
        self.height = self.foot + 54
        self.font = min(12.0, max(6.0, self.row * 0.6))

    def lines(self) -> Iterator[str]:
        w, h, title = _WIDTH, self.height, self.timeline.title
        yield (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{w:.0f}" height="{h:.0f}" '
            f'viewBox="0 0 {w:.0f} {h:.0f}" font-family="Helvetica, Arial, sans-serif" '
            f'font-size="11" fill="{_TEXT}">'
        )
        yield f"<title>{escape(title)}</title>"
        yield f'<rect width="{w:.0f}" height="{h:.0f}" fill="white"/>'
        yield _text(20, 28, title, size=16, more=' font-weight="bold"')
        yield _text(20, 48, f"{seconds(self.total_s)} {self.timeline.note}".strip(), fill=_FAINT)
        yield from self._axis()
        yield from self._names()
        for block in self._merged():
            yield self._block(block)
        shown = self.timeline.arrows
        for arrow in shown if len(shown) <= _ARROWS_UP_TO else self._critical_arrows():
            yield self._arrow(arrow)
        yield from self._legend()
        yield "</svg>"

    def _merged(self) -> Iterator[Block]:
        """The blocks in the order of tracks and times, fine ones together."""
        fine_s = _FINE / self.scale
        some: list[Block] = []
        for block in sorted(self.timeline.blocks, key=lambda b: (b.track, b.start_s)):
            fine = block.stop_s - block.start_s < fine_s
            fits = (
                some and block.track == some[0].track and block.start_s < some[0].start_s + fine_s
            )
            if some and not (fine and fits):
                yield _together(some)
                some = []
            if fine:
                some.append(block)
            else:
                yield block
        if some:
            yield _together(some)

    def _x(self, time_s: float) -> float:
        return _LEFT + time_s * self.scale

    def _y(self, track: int) -> float:
        return _TOP + track * self.row

    def _axis(self) -> Iterator[str]:
        rough = self.total_s / 8
        power = 10.0 ** floor(log10(rough))
        step = next(n * power for n in (1, 2, 5, 10) if n * power >= rough * (1 - 1e-9))
        for n in range(int(self.total_s / step * (1 + 1e-9)) + 1):
            x = self._x(n * step)
            yield _line(x, _TOP - 6, x, self.foot, _LINE)
            yield _text(x + 3, _TOP - 8, seconds(n * step) if n else "0", fill=_FAINT)

    def _names(self) -> Iterator[str]:
        every = -(-self.font // self.row)  # as many as there is room for
        for i, track in enumerate(self.timeline.tracks):
            if i % every == 0:
                y = self._y(i) + self.tall / 2 + self.font * 0.36
                yield _text(_LEFT - 10, y, track.name, size=self.font, more=' text-anchor="end"')

    def _block(self, block: Block) -> str:
        x, y, tall = self._x(block.start_s), self._y(block.track), self.tall
        wide = max(_FINE, (block.stop_s - block.start_s) * self.scale)
        wide -= 0.6 if wide > 3 else 0.0  # so that neighbours are told apart
        if block.kind in _THIN:
            y, tall = y + 0.42 * tall, 0.16 * tall
        tip = f"{block.name}: {_WORDS[block.kind]}, {seconds(block.stop_s - block.start_s)}"
        tip += f", {bytes_(block.bytes)}" if block.bytes else ""
        text = _rect(x, y, wide, tall, _COLORS[block.kind], escape(tip) if self.row >= 10 else "")
        if block.critical:
            high = min(4.0, self.tall * 0.2)
            text += _rect(x, self._y(block.track) + self.tall - high, wide, high, _CRITICAL)
        return text + self._label(block, x, wide)

    def _label(self, block: Block, x: float, wide: float) -> str:
        room = int((wide - 8) / (10 * _LETTER))
        if self.row < 16 or block.kind in _THIN or room < min(6, len(block.name)):
            return ""
        name = block.name if len(block.name) <= room else block.name[: room - 1] + "…"
        fill = "white" if block.kind == "compute" else _TEXT
        return _text(x + 4, self._y(block.track) + self.tall / 2 + 3.6, name, size=10, fill=fill)

    def _critical_arrows(self) -> tuple[Arrow, ...]:
        return tuple(arrow for arrow in self.timeline.arrows if arrow.critical)

    def _arrow(self, arrow: Arrow) -> str:
        source, to = self.timeline.blocks[arrow.source], self.timeline.blocks[arrow.to]
        x1, x2 = self._x(source.stop_s), self._x(to.start_s)
        y1, y2 = (self._y(block.track) + self.tall / 2 for block in (source, to))
        bend = min(40.0, max(8.0, abs(x2 - x1) / 2))
        on_path = source.critical and to.critical
        color, wide = (_CRITICAL, 1.8) if on_path else (_FAINT, 0.7)
        return (
            f'<path d="M{x1:.1f} {y1:.1f}C{x1 + bend:.1f} {y1:.1f} {x2 - bend:.1f} {y2:.1f} '
            f'{x2 - 4:.1f} {y2:.1f}" fill="none" stroke="{color}" stroke-width="{wide}"/>'
            f'<path d="M{x2:.1f} {y2:.1f}l-5 -3v6z" fill="{color}"/>'
        )

    def _legend(self) -> Iterator[str]:
        there = {block.kind for block in self.timeline.blocks}
        entries = [(_COLORS[kind], _WORDS[kind]) for kind in _COLORS if kind in there]
        if any(block.critical for block in self.timeline.blocks):
            entries.append((_CRITICAL, "critical path"))
        x, y = 20.0, self.foot + 30
        for color, label in entries:
            yield _rect(x, y - 9, 14, 10, color)
            yield _text(x + 20, y, label, fill=_FAINT)
            x += 20 + 11 * _LETTER * len(label) + 22


def _together(blocks: list[Block]) -> Block:
    """One block for several of a track: the one that takes most of the time, for all of it."""
    most = max(blocks, key=lambda block: block.stop_s - block.start_s)
    return replace(
        most,
        start_s=blocks[0].start_s,
        stop_s=blocks[-1].stop_s,
        critical=any(block.critical for block in blocks),
    )


def _rect(x: float, y: float, wide: float, tall: float, color: str, tip: str = "") -> str:
    place = f'<rect x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{tall:.1f}" fill="{color}"'
    return f"{place}><title>{tip}</title></rect>" if tip else f"{place}/>"


def _line(x1: float, y1: float, x2: float, y2: float, color: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{color}"/>'


def _text(
    x: float, y: float, text: str, *, size: float = 11, fill: str = _TEXT, more: str = ""
) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size:.3g}" fill="{fill}"{more}'
    return f"<text {place}>{escape(text)}</text>"
