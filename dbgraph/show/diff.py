"""Two plans side by side: what moved, and what that costs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from dbgraph.ir.region import Region
from dbgraph.show.digest import Digest, LayerRow, layer_of
from dbgraph.simulate import MachineForecast

_SETTINGS = (
    *("name", "fingerprint", "mode", "partitions", "batch", "microbatches", "order", "strategy"),
    "seed",
)


@dataclass(frozen=True, slots=True)
class Setting:
    """What was asked for differently: an attribute of `Plan`."""

    name: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Figure:
    """What a step costs, by name; the unit is in it (_s, _bytes)."""

    name: str
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class LayerChange:
    """A layer that is cut otherwise, or stands elsewhere; "" and () where a plan has it not."""

    layer: str
    cut_before: str
    cut_after: str
    partitions_before: tuple[int, ...]
    partitions_after: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Move:
    """Tiles of one region of a layer that both plans have, on another partition each.

    Attributes:
        region: in words.
        tiles: how many nodes of the layer have a tile of this region that moved so.
    """

    layer: str
    region: str
    source: int
    to: int
    tiles: int


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a layer sends from one partition to another in a step; 0 where it sends nothing."""

    layer: str
    backward: bool
    source: int
    to: int
    before_bytes: int
    after_bytes: int

    @property
    def change(self) -> str:
        """ "added", "removed" or "changed"."""
        if not self.before_bytes:
            return "added"
        return "changed" if self.after_bytes else "removed"


@dataclass(frozen=True, slots=True)
class Machine:
    """A partition whose load, memory or traffic changes; None where a plan has it not."""

    partition: int
    before: MachineForecast | None
    after: MachineForecast | None


@dataclass(frozen=True)
class Diff:
    """All of it; traffic with the most bytes of difference first.

    Attributes:
        figures: all, changed or not.
        layers, moves, traffic, machines: only what differs.
    """

    settings: tuple[Setting, ...]
    figures: tuple[Figure, ...]
    layers: tuple[LayerChange, ...]
    moves: tuple[Move, ...]
    traffic: tuple[Traffic, ...]
    machines: tuple[Machine, ...]

    @property
    def same(self) -> bool:
        """Whether the plans do the same on the same machines."""
        return not (self.layers or self.moves or self.traffic or self.machines)


def diff(before: Digest, after: Digest) -> Diff:
    """Args:
    before, after: with forecasts for the same machines. Layers are matched by their names, tiles
        by their regions.
    """
    return Diff(
        settings=_settings(before, after),
        figures=_figures(before, after),
        layers=_layers(before, after),
        moves=_moves(before, after),
        traffic=_traffic(before, after),
        machines=_machines(before, after),
    )


def _settings(before: Digest, after: Digest) -> tuple[Setting, ...]:
    pairs = ((n, str(getattr(before.plan, n)), str(getattr(after.plan, n))) for n in _SETTINGS)
    return tuple(Setting(name, a, b) for name, a, b in pairs if a != b)


def _figures(before: Digest, after: Digest) -> tuple[Figure, ...]:
    a, b = _costs(before), _costs(after)
    return tuple(Figure(name, a[name], b[name]) for name in a)


def _costs(digest: Digest) -> Mapping[str, float]:
    forecast = digest.forecast
    return {
        "step_s": forecast.step_s,
        "busiest_s": forecast.machines[forecast.busiest].busy_s,
        "traffic_bytes": digest.traffic_bytes,
        "messages": sum(forecast.link_messages.values()),
        "most_memory_bytes": max(m.peak_bytes for m in forecast.machines),
        "memory_bytes": sum(m.peak_bytes for m in forecast.machines),
    }


def _layers(before: Digest, after: Digest) -> tuple[LayerChange, ...]:
    a, b = ({row.name: row for row in digest.layers} for digest in (before, after))
    changes = (_layer(name, a.get(name), b.get(name)) for name in dict.fromkeys((*a, *b)))
    return tuple(
        one
        for one in changes
        if (one.cut_before, one.partitions_before) != (one.cut_after, one.partitions_after)
    )


def _layer(name: str, before: LayerRow | None, after: LayerRow | None) -> LayerChange:
    cuts = ["; ".join(map(str, row.cuts)) if row else "" for row in (before, after)]
    places = [row.partitions if row else () for row in (before, after)]
    return LayerChange(name, cuts[0], cuts[1], places[0], places[1])


def _moves(before: Digest, after: Digest) -> tuple[Move, ...]:
    a, b = _places(before), _places(after)
    found: Counter[tuple[str, str, int, int]] = Counter()
    for key, (layer, words, source) in a.items():
        if key in b and b[key][2] != source:
            found[layer, words, source, b[key][2]] += 1
    return tuple(Move(*key, tiles) for key, tiles in found.items())


def _places(digest: Digest) -> Mapping[tuple[str, Region], tuple[str, str, int]]:
    """(node, region) → its layer, the region in words, and where its tile stands."""
    return {
        (name, tile.region): (layer_of(tile.node), digest.words(tile), tile.node.partition or 0)
        for name, tiles in digest.tiles.items()
        for tile in tiles
    }


def _traffic(before: Digest, after: Digest) -> tuple[Traffic, ...]:
    a, b = _sent(before), _sent(after)
    changes = [
        Traffic(*key, a.get(key, 0), b.get(key, 0))
        for key in dict.fromkeys((*a, *b))
        if a.get(key) != b.get(key)
    ]
    return tuple(sorted(changes, key=lambda one: -abs(one.after_bytes - one.before_bytes)))


def _sent(digest: Digest) -> Mapping[tuple[str, bool, int, int], int]:
    plan = digest.plan
    found: dict[tuple[str, bool, int, int], int] = defaultdict(int)
    for t in plan.transfers:
        key = layer_of(plan.graph[t.value]), t.value in digest.backward, t.source, t.to
        found[key] += t.type.size_bytes * t.times(plan.microbatches)
    return found


def _machines(before: Digest, after: Digest) -> tuple[Machine, ...]:
    a, b = before.forecast.machines, after.forecast.machines
    pairs = (
        Machine(p, a[p] if p < len(a) else None, b[p] if p < len(b) else None)
        for p in range(max(len(a), len(b)))
    )
    return tuple(one for one in pairs if _load(one.before) != _load(one.after))


def _load(machine: MachineForecast | None) -> tuple[float, ...]:
    if machine is None:
        return ()
    return machine.busy_s, machine.peak_bytes, machine.in_bytes, machine.out_bytes
