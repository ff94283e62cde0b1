"""Measured seconds of segments: what a forecast takes instead of the ops' rates where it knows a
segment. A segment is known by its structure: ops, types and how they hang together, not names."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from dbgraph.errors import UsageError
from dbgraph.ir.graph import Graph
from dbgraph.ir.types import Attrs
from dbgraph.ops import dynamic_names
from dbgraph.plan.program import Segment

_VERSION = 1


@dataclass(frozen=True)
class Profile:
    """
    Attributes:
        seconds: of one execution, its dispatch included, by signature.
    """

    seconds: Mapping[str, float]

    def segment_s(self, graph: Graph, segment: Segment) -> float | None:
        """Seconds of one execution; None for a segment that was not measured."""
        return self.seconds.get(signature(graph, segment)) if self.seconds else None

    def text(self) -> str:
        """The file's content."""
        found = {"dbgraph profile": _VERSION, "segments": dict(sorted(self.seconds.items()))}
        return json.dumps(found, indent=2) + "\n"


def signature(graph: Graph, segment: Segment) -> str:
    """The same for segments of one structure, which share a compilation."""
    place = {name: k for k, name in enumerate(segment.inputs)}
    types = [str(graph[name].type) for name in segment.inputs]
    steps = []
    for name in segment.nodes:
        node = graph[name]
        operands = [place[n] for n in node.inputs]
        steps.append((node.op, _static(node.attrs, dynamic_names(node)), operands))
        place[name] = len(place)
    outputs = [place[name] for name in segment.outputs]
    return hashlib.sha256(repr((types, steps, outputs)).encode()).hexdigest()[:16]


@lru_cache(maxsize=2**14)  # the tiles of a layer have few attributes
def _static(attrs: Attrs, dynamic: tuple[str, ...]) -> str:
    return repr(sorted((k, v) for k, v in attrs.items() if k not in dynamic))


def read_profile(path: str | Path) -> Profile:
    """Raises UsageError with what is wrong with the file."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UsageError(f"can't read the profile {path}: {reason}") from None
    except (json.JSONDecodeError, RecursionError) as error:
        raise UsageError(f"{path} is no profile: {error}", hint=_HINT) from None
    version = found.get("dbgraph profile") if isinstance(found, dict) else None
    if version != _VERSION:
        rule = "is no profile" if version is None else f"is a profile of version {version}"
        raise UsageError(f"{path} {rule}; this dbgraph reads version {_VERSION}", hint=_HINT)
    segments = found.get("segments")
    good = isinstance(segments, dict) and all(map(_is_time, segments.values()))
    if not good:
        raise UsageError(f"{path}: `segments` must give seconds for each signature", hint=_HINT)
    return Profile({name: float(value) for name, value in segments.items()})


_HINT = "make one with: dbgraph profile PLAN -o FILE"


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e9
