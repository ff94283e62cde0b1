"""Where in the user's own files something was declared."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

_PACKAGE = os.path.dirname(os.path.abspath(__file__))
# In an editable install `dbgraph.passes` and `dbgraph.backends` lie beside the package.
_OURS = tuple(
    folder + os.sep
    for folder in (
        _PACKAGE,
        os.path.join(os.path.dirname(_PACKAGE), "passes"),
        os.path.join(os.path.dirname(_PACKAGE), "backends"),
    )
)


@dataclass(frozen=True, slots=True)
class Source:
    """A line of a file: `net.py:12`."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"

    @staticmethod
    def parse(text: str) -> Source:
        """The inverse of `str`."""
        file, _, line = text.rpartition(":")
        return Source(file, int(line))


def caller() -> Source:
    """The innermost frame outside dbgraph: the line that the user wrote."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_OURS):
        frame = frame.f_back
    return Source(_short(frame.f_code.co_filename), frame.f_lineno)


def _short(path: str) -> str:
    """Relative to the working directory where that is shorter: what an editor can open."""
    try:
        relative = os.path.relpath(path)
    except ValueError:  # another drive
        return path
    return relative if not relative.startswith("..") else path
