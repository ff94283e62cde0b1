"""A plan as a drawing: one row per partition, one column per rank, one box per layer and
partition. The places are known beforehand, so it takes linear time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from html import escape
from math import sqrt

from dbgraph.show.digest import Digest
from dbgraph.show.flow import Cell, Edge, Flow, flow
from dbgraph.show.layout import Box, Layout
from dbgraph.show.table import headline
from dbgraph.show.words import example_shape
from dbgraph.units import bytes_, count, seconds

# Okabe and Ito's palette: told apart by the colour-blind too.
_FORWARD, _BACKWARD, _BUSY, _BUSIEST = "#0072B2", "#D55E00", "#56B4E9", "#E69F00"
_LOCAL, _TEXT, _FAINT, _LINE = "#B5B5B5", "#222222", "#666666", "#E3E3E3"
_PALE, _FULL = (250, 252, 253), (153, 205, 196)  # the fill of a box, by its share of FLOPs
_LETTER = 0.56  # mean width of a letter, in font sizes
_ARROWS_UP_TO = 160
_BACK_SHIFT = 0.22
_NAMED_UP_TO = 16


def plan_svg(digest: Digest, partition: int | None = None) -> str:
    """SVG text; with a partition the edges that begin or end there alone."""
    return "\n".join(_Drawing(digest, partition).lines()) + "\n"


class _Drawing:
    def __init__(self, digest: Digest, partition: int | None) -> None:
        self.digest, self.partition = digest, partition
        self.flow: Flow = flow(digest)
        self.layout = Layout.of(self.flow, digest.plan.partitions)
        self.sizes, self.columns = self.layout.sizes, self.layout.columns
        self.boxes, self.rows = self.layout.boxes, self.layout.rows
        self.index = {layer: i for i, layers in enumerate(self.columns) for layer in layers}
        self.shapes = {row.name: row for row in digest.layers}
        last = self.rows[-1]
        self.width = max(
            self.sizes.left
            + len(self.columns) * (self.sizes.width + self.sizes.between)
            - self.sizes.between / 2,
            780.0,
        )
        self.height = last.y + last.height + 84

    # Drawing

    def lines(self) -> Iterator[str]:
        w, h = self.width, self.height
        yield (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{w:.0f}" height="{h:.0f}" '
            f'viewBox="0 0 {w:.0f} {h:.0f}" font-family="Helvetica, Arial, sans-serif" '
            f'font-size="{self.sizes.font}" fill="{_TEXT}">'
        )
        title = headline(self.digest)
        yield f"<title>{escape(title)}</title>"
        yield "<defs>"
        for name, color in (("forward", _FORWARD), ("backward", _BACKWARD)):
            yield (
                f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
                f'markerHeight="7" markerUnits="userSpaceOnUse" orient="auto">'
                f'<path d="M0 0.5L8 4L0 7.5z" fill="{color}"/></marker>'
            )
        yield "</defs>"
        yield f'<rect width="{w:.0f}" height="{h:.0f}" fill="white"/>'
        yield _text(20, 30, title, size=16, weight="bold")
        forecast = self.digest.forecast
        yield _text(
            20,
            50,
            f"forecast {seconds(forecast.step_s)} a step, "
            f"{bytes_(self.digest.traffic_bytes)} between machines",
            size=12,
            fill=_FAINT,
        )
        yield from self._bands()
        yield from self._heads()
        yield from self._edges()
        for place, box in self.boxes.items():
            yield from self._cell(self.flow.cells[place], box)
        yield from self._legend()
        yield "</svg>"

    def _bands(self) -> Iterator[str]:
        """Rows: the partition, and how busy it is beside the busiest one."""
        machines = self.digest.forecast.machines
        most = max(m.busy_s for m in machines) or 1.0
        busiest = self.digest.forecast.busiest
        yield _text(20, self.sizes.top - 10, "partition", fill=_FAINT)
        yield _text(76, self.sizes.top - 10, "busy, a step", fill=_FAINT)
        for p, row in enumerate(self.rows):
            yield _line(12, self.width - 12, row.y)
            middle = row.y + row.height / 2
            share, top = machines[p].busy_s / most, p == busiest and len(machines) > 1
            weight = "bold" if top or p == self.partition else "normal"
            yield _text(
                46, middle + 4, str(p), size=self.sizes.font + 2, weight=weight, anchor="end"
            )
            color, bar = (_BUSIEST if top else _BUSY), min(10.0, self.sizes.box / 2)
            yield (
                f'<rect x="76" y="{middle - bar / 2:.1f}" width="{56 * share:.1f}" '
                f'height="{bar:.1f}" fill="{color}"/>'
            )
            yield _text(78 + 56 * share, middle + 4, seconds(machines[p].busy_s), fill=_FAINT)

    def _heads(self) -> Iterator[str]:
        for i, layers in enumerate(self.columns):
            x = self.sizes.left + i * (self.sizes.width + self.sizes.between)
            for k, layer in enumerate(layers[:3]):
                y = self.sizes.top - 12 - (len(layers[:3]) - 1 - k) * 28
                row, shape = self.shapes.get(layer), self.digest.plan.input_types.get(layer)
                yield _text(x, y - 13, self._fit(layer, 12, 1.5), size=12, weight="bold", tip=layer)
                below = example_shape(shape.shape, self.digest.plan.batch) if shape else ""
                if row is not None:
                    cut = "; ".join(map(str, row.cuts)) or "whole"
                    below = f"{example_shape(row.shape, self.digest.plan.batch)} · {cut}"
                yield _text(x, y, self._fit(below, 10, 1.6), size=10, fill=_FAINT, tip=below)
            if len(layers) > 3:
                yield _text(x, 62, f"and {len(layers) - 3} more", size=10, fill=_FAINT)

    def _cell(self, cell: Cell, box: Box) -> Iterator[str]:
        leaf = not cell.flop and not cell.tiles
        most = max(c.flop for c in self.flow.cells.values()) or 1
        fill = "white" if leaf else _shade(cell.flop / most)
        dashes = ' stroke-dasharray="3 2"' if leaf else ""
        first, second = self._label(cell)
        tip = (
            f"{cell.layer} on partition {cell.partition}: {first}; {cell.tiles} tiles, "
            f"{cell.parameters:,} parameters, {count(cell.flop)}FLOP a step"
        )
        yield f"<g><title>{escape(tip)}</title>"
        yield (
            f'<rect x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" '
            f'height="{box.height:.1f}" rx="3" fill="{fill}" stroke="{_FAINT}"{dashes}/>'
        )
        many = len(self.columns[self.index[cell.layer]]) > 1
        texts = [cell.layer] if many else []
        texts += [first] if first else []
        if box.height >= 40 and second:
            texts = [*texts[:1], second] if len(texts) < 2 else texts
        lines = texts[: 2 if box.height >= 30 else 1]
        step = self.sizes.font + 3
        y = box.y + box.height / 2 - (len(lines) - 1) * step / 2 + self.sizes.font * 0.36
        for k, line in enumerate(lines):
            fitted = self._fit(line, self.sizes.font, 0.94)
            color = _TEXT if k == 0 else _FAINT
            yield _text(box.x + box.width / 2, y + k * step, fitted, anchor="middle", fill=color)
        yield "</g>"

    def _label(self, cell: Cell) -> tuple[str, str]:
        """What the cell is of the layer, and its parameters."""
        tiles = self.digest.main_tiles.get((cell.layer, cell.partition), ())
        first = f"{len(tiles)} tiles" if tiles else self._held(cell)
        if len(tiles) == 1:
            first = self._brief(lambda short: self.digest.words(tiles[0], short))
        second = f"{count(cell.parameters)} parameters" if cell.parameters else ""
        return first, second

    def _held(self, cell: Cell) -> str:
        """What a partition reads of an input."""
        plan = self.digest.plan
        leaves = [x for x in plan.leaves("input", cell.partition) if x.of == cell.layer]
        if len(leaves) != 1:
            return f"{len(leaves)} regions" if leaves else ""
        region, shape = leaves[0].region, plan.input_types[cell.layer].shape
        return self._brief(lambda short: self.digest.region_words(region, shape, short))

    def _brief(self, words: Callable[[bool], str]) -> str:
        """With the names of the axes where there is room for them; with many partitions never, so
        that a column looks alike."""
        text = words(len(self.rows) > _NAMED_UP_TO)
        return text if self._fit(text, self.sizes.font, 0.94) == text else words(True)

    def _edges(self) -> Iterator[str]:
        shown = [
            e
            for e in self.flow.edges
            if e.source in self.boxes
            and e.to in self.boxes
            and self.partition in (None, e.source[1], e.to[1])
        ]
        crossing = [e for e in shown if e.bytes]
        most = max((e.bytes for e in crossing), default=1)
        opacity = 0.85 if len(crossing) <= 100 else 0.5 if len(crossing) <= 400 else 0.28
        for edge in shown:
            if not edge.bytes:
                yield f'<path d="{self._path(edge)}" fill="none" stroke="{_LOCAL}"/>'
        for edge in sorted(crossing, key=lambda e: e.bytes):
            kind, color = ("backward", _BACKWARD) if edge.backward else ("forward", _FORWARD)
            width = 0.8 + 5.2 * sqrt(edge.bytes / most)
            arrow = f' marker-end="url(#{kind})"' if len(crossing) <= _ARROWS_UP_TO else ""
            (a, p), (b, q) = edge.source, edge.to
            tip = f"{a} on {p} → {b} on {q}: {bytes_(edge.bytes)} a step"
            yield (
                f'<path d="{self._path(edge)}" fill="none" stroke="{color}" '
                f'stroke-width="{width:.2f}" stroke-opacity="{opacity}"{arrow}>'
                f"<title>{escape(tip)}</title></path>"
            )

    def _path(self, edge: Edge) -> str:
        """From side to side where the columns differ; out and back where they are one."""
        a, b = self.boxes[edge.source], self.boxes[edge.to]
        shift = _BACK_SHIFT if edge.backward else -_BACK_SHIFT if edge.bytes else 0.0
        y1, y2 = (box.y + box.height * (0.5 + shift) for box in (a, b))
        step = self.index[edge.to[0]] - self.index[edge.source[0]]
        if step == 0:
            x1 = x2 = a.x if edge.backward else a.x + a.width
            share = abs(edge.to[1] - edge.source[1]) / len(self.rows)
            bend = self.sizes.between * (0.2 + 0.4 * share) * (-1 if edge.backward else 1)
        else:
            forth = 1 if step > 0 else -1
            x1, x2 = (a.x + a.width, b.x) if step > 0 else (a.x, b.x + b.width)
            bend = forth * self.sizes.between * (0.5 if abs(step) == 1 else 0.6)
        end = x2 + bend if step == 0 else x2 - bend
        return f"M{x1:.1f} {y1:.1f}C{x1 + bend:.1f} {y1:.1f} {end:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"

    def _legend(self) -> Iterator[str]:
        y = self.height - 40
        yield _line(12, self.width - 12, y - 26)
        entries = [(_FORWARD, "sent forward")]
        if any(edge.backward for edge in self.flow.edges):
            entries.append((_BACKWARD, "gradients sent back"))
        entries.append((_LOCAL, "stays on its machine"))
        x = 20.0
        for color, label in entries:
            width = 1 if color == _LOCAL else 4
            yield _line(x, x + 28, y, color, width)
            yield _text(x + 34, y + 4, label, size=11)
            x += 34 + 11 * _LETTER * len(label) + 26
        yield (
            f'<rect x="{x:.1f}" y="{y - 7:.1f}" width="28" height="14" rx="3" '
            f'fill="{_shade(1.0)}" stroke="{_FAINT}"/>'
        )
        yield _text(x + 34, y + 4, "the darker, the more FLOPs", size=11)
        x += 34 + 11 * _LETTER * 26 + 26
        most = max((e.bytes for e in self.flow.edges), default=0)
        if most:
            yield _text(x, y + 4, f"the thicker, the more bytes: up to {bytes_(most)}", size=11)

    def _fit(self, text: str, size: float, share: float) -> str:
        """Cut off where it would be wider than a share of a column."""
        room = int(self.sizes.width * share / (size * _LETTER))
        return text if len(text) <= room else text[: max(1, room - 1)] + "…"


def _line(x1: float, x2: float, y: float, color: str = _LINE, width: int = 1) -> str:
    thick = f' stroke-width="{width}"' if width != 1 else ""
    return f'<line x1="{x1:.1f}" x2="{x2:.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke="{color}"{thick}/>'


def _shade(share: float) -> str:
    weight = sqrt(share)
    rgb = (round(a + (b - a) * weight) for a, b in zip(_PALE, _FULL, strict=True))
    return "#" + "".join(f"{c:02X}" for c in rgb)


def _text(
    x: float,
    y: float,
    text: str,
    *,
    size: float | None = None,
    weight: str = "normal",
    anchor: str = "start",
    fill: str = _TEXT,
    tip: str = "",
) -> str:
    attributes = f'x="{x:.1f}" y="{y:.1f}"'
    if size is not None:
        attributes += f' font-size="{size}"'
    if weight != "normal":
        attributes += f' font-weight="{weight}"'
    if anchor != "start":
        attributes += f' text-anchor="{anchor}"'
    if fill != _TEXT:
        attributes += f' fill="{fill}"'
    inner = f"<title>{escape(tip)}</title>" if tip else ""
    return f"<text {attributes}>{inner}{escape(text)}</text>"
