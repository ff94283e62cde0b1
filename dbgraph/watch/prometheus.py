"""A run as Prometheus scrapes it.

Names and units follow https://prometheus.io/docs/practices/naming/: base units, `_total` on what
only grows, `_ratio` from 0 to 1, moments instead of ages. There are no rates: `rate()` makes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from dbgraph.watch.fold import RunView
from dbgraph.watch.records import Machine, Replica, Shard

CONTENT_TYPE = CONTENT_TYPE_LATEST
"""Of what `exposition` gives."""
STATES = ("running", "done", "interrupted", "failed")
STALENESS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Upper ends of the buckets, in updates."""
_INFO = ("network", "fingerprint", "backend", "strategy", "algorithm", "rule", "dbgraph")


def exposition(view: RunView) -> bytes:
    """The text that is served as `/metrics`."""
    registry = CollectorRegistry()
    registry.register(_Run(view))
    return generate_latest(registry)


class _Run(Collector):
    def __init__(self, view: RunView) -> None:
        self._view = view

    def collect(self) -> Iterable[Metric]:
        view = self._view
        yield from _about(view)
        yield from _training(view)
        yield from _replicas(view)
        yield from _shards(view)
        yield from _machines(view)


def _about(view: RunView) -> Iterator[Metric]:
    told = {name: str(view.about[name]) for name in _INFO if view.about.get(name) is not None}
    info = InfoMetricFamily("dbgraph_run", "The network, and how it is trained.")
    info.add_metric([], told)
    yield info
    states = GaugeMetricFamily("dbgraph_run_state", "1 for the run's state.", labels=["state"])
    for state in STATES:
        states.add_metric([state], view.state == state)
    yield states
    yield _gauge("dbgraph_run_start_time_seconds", "When it began, Unix time.", view.begun_s)
    last = "When something was last heard of it, Unix time."
    yield _gauge("dbgraph_run_last_record_timestamp_seconds", last, view.time_s)
    sessions = "How often it was begun or resumed."
    yield _counter("dbgraph_run_sessions", sessions, view.sessions)
    yield _counter("dbgraph_run_alarms", "Signs that training goes wrong.", view.alarm_count)


def _training(view: RunView) -> Iterator[Metric]:
    latest = view.latest
    yield _counter("dbgraph_train_steps", "Steps done.", view.step)
    yield _gauge("dbgraph_train_planned_steps", "Steps at which training ends.", view.steps)
    examples = view.step * view.examples_per_step
    yield _counter("dbgraph_train_examples", "Examples trained on.", examples)
    yield _counter("dbgraph_train_seconds", "Time spent training.", view.elapsed_s)
    yield _gauge("dbgraph_train_loss", "Of the latest logged step.", latest.get("loss"))
    yield _gauge(
        "dbgraph_train_accuracy_ratio",
        "Of a recent training batch, from 0 to 1.",
        latest.get("accuracy"),
    )
    yield _gauge("dbgraph_held_out_loss", "On held-out data.", latest.get("held_out_loss"))
    yield _gauge(
        "dbgraph_held_out_accuracy_ratio",
        "On held-out data, from 0 to 1.",
        latest.get("held_out_accuracy"),
    )
    best = view.best.loss if view.best is not None else None
    yield _gauge("dbgraph_held_out_best_loss", "The smallest on held-out data so far.", best)
    yield _staleness(view.staleness)


def _staleness(pairs: Sequence[tuple[int, int]]) -> Metric:
    family = HistogramMetricFamily(
        "dbgraph_push_staleness_updates", "Updates by others between a push and its fetch."
    )
    counts = [0] * (len(STALENESS) + 1)
    for staleness, count in pairs:
        counts[sum(staleness > end for end in STALENESS)] += count
    ends = [*map(str, map(float, STALENESS)), "+Inf"]
    buckets = list(zip(ends, accumulate(counts), strict=True))
    family.add_metric([], buckets, sum(staleness * count for staleness, count in pairs))
    return family


def _replicas(view: RunView) -> Iterator[Metric]:
    def of(name: str, text: str, value: Callable[[Replica], float | None]) -> Metric:
        return _each(name, text, "replica", ((str(r.replica), value(r)) for r in view.replicas))

    yield of("dbgraph_replica_examples_total", "Examples done.", lambda r: r.examples)
    stale = "Updates by others between the last push and its fetch."
    yield of("dbgraph_replica_staleness_updates", stale, lambda r: r.staleness)
    heard = "When it was last heard, Unix time."
    yield of(
        "dbgraph_replica_last_heard_timestamp_seconds", heard, lambda r: view.standing_s - r.heard_s
    )


def _shards(view: RunView) -> Iterator[Metric]:
    def of(name: str, text: str, value: Callable[[Shard], float]) -> Metric:
        return _each(name, text, "shard", ((str(s.shard), value(s)) for s in view.shards))

    yield of("dbgraph_shard_updates_total", "Updates applied.", lambda s: s.updates)
    pushed, fetched = "Gradients that were pushed to it.", "Parameters that were fetched from it."
    yield of("dbgraph_shard_received_bytes_total", pushed, lambda s: s.pushed_bytes)
    yield of("dbgraph_shard_sent_bytes_total", fetched, lambda s: s.fetched_bytes)
    saved = "What compression kept off the wire."
    yield of("dbgraph_shard_saved_bytes_total", saved, lambda s: s.saved_bytes)
    heard = "When it last had something new to tell, Unix time."
    yield of(
        "dbgraph_shard_last_heard_timestamp_seconds", heard, lambda s: view.standing_s - s.heard_s
    )


def _machines(view: RunView) -> Iterator[Metric]:
    def of(name: str, text: str, value: Callable[[Machine], float]) -> Metric:
        return _each(name, text, "machine", ((m.name, value(m)) for m in view.machines))

    lives = "1 while its process can run; 0 where that is stopped or dead."
    yield of("dbgraph_machine_alive", lives, lambda m: m.alive)
    waits = "1 while it waits for a value from another machine."
    yield of("dbgraph_machine_waiting", waits, lambda m: bool(m.waiting))
    heard = "When it was last heard, Unix time."
    yield of(
        "dbgraph_machine_last_heard_timestamp_seconds", heard, lambda m: view.standing_s - m.heard_s
    )


# Families


def _gauge(name: str, text: str, value: float | None) -> Metric:
    """Without a sample where the value is not known."""
    return GaugeMetricFamily(name, text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=value)


def _each(name: str, text: str, label: str, values: Iterable[tuple[str, float | None]]) -> Metric:
    """A counter where the name ends with `_total`, else a gauge."""
    make = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
    family = make(name, text, labels=[label])
    for of, value in values:
        if value is not None:
            family.add_metric([of], value)
    return family
