"""Drawings as PNG, by resvg."""

from __future__ import annotations

from dbgraph.errors import UsageError

_SCALE = 2  # pixels per unit of the drawing
_FONT = "DejaVu Sans"  # where the system has none of those that the drawing names
_LETTER = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9">{}</svg>'


def png(svg: str) -> bytes:
    """A drawing, two pixels per unit.

    Raises UsageError where resvg is not installed, or finds no font to write with.
    """
    try:
        from resvg_py import svg_to_bytes
    except ImportError as error:
        hint = "pip install 'dbgraph[png]', or --svg"
        raise UsageError("PNG needs the package resvg-py", hint=hint) from error

    def drawn(text: str) -> bytes:
        return bytes(svg_to_bytes(svg_string=text, zoom=_SCALE, sans_serif_family=_FONT))

    family = 'font-family="Helvetica, Arial, sans-serif"'
    if drawn(_LETTER.format(f'<text y="9" {family}>X</text>')) == drawn(_LETTER.format("")):
        hint = "apt-get install fonts-dejavu-core, or --svg"
        raise UsageError("PNG needs a font: Helvetica, Arial or DejaVu Sans", hint=hint)
    return drawn(svg)
