"""What is to be seen of a run, folded from its records. Pure: no files, no clock.

    view = fold(records)                    the whole run
    view = fold(later_records, view)        the same view as of all records at once

Everything that shows a run (dashboard, report, `dbgraph top`, the terminal's screen, Prometheus)
shows a `RunView`, so that they can't tell different stories.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from dbgraph.watch import records as r
from dbgraph.watch.curve import Curve

CURVES = (
    "loss",
    "accuracy",
    "held_out_loss",
    "held_out_accuracy",
    "examples_per_s",
    "pushed_bytes_per_s",
    "fetched_bytes_per_s",
)
"""What is drawn over steps and time."""
ALARMS = 100
"""So many of the latest alarms are kept."""
_REASONS = {"interrupted": "interrupted", "error": "failed"}
_BOOKKEEPING = {"kind", "time_s", "elapsed_s", "step", "pid", "host"}


class Best(msgspec.Struct, frozen=True):
    """The evaluation with the smallest loss."""

    step: int
    loss: float
    accuracy: float | None = None


class RunView(msgspec.Struct, frozen=True):
    """A run.

    Attributes:
        state: "unknown" before the first record, "running", "done", "interrupted" or "failed".
        reason, error: how and why it ended.
        about: what the last start told of network and options.
        pid, host: the process that runs it, as of the last start.
        sessions: how often it was started or resumed.
        step, steps: done, and to be done in all.
        examples_per_step: 0 where it is not known.
        begun_s, time_s: of the first and of the last record, seconds since 1970.
        before_s: training time of the sessions before this one.
        elapsed_s: training time, all sessions together.
        latest: the last value of each of `CURVES`.
        curves: by name, of `CURVES`.
        standing_s: when replicas, shards and machines stood as they are here, seconds since 1970;
            their `heard_s` count back from then.
        staleness: (updates between fetch and push, number of such pushes), in this session.
        alarms: the latest ones; alarm_count: of all.
        checkpoint: folder of the newest one.
    """

    state: str = "unknown"
    reason: str = ""
    error: str = ""
    about: Mapping[str, Any] = {}
    pid: int = 0
    host: str = ""
    sessions: int = 0
    step: int = 0
    steps: int = 0
    examples_per_step: int = 0
    begun_s: float = 0.0
    time_s: float = 0.0
    before_s: float = 0.0
    elapsed_s: float = 0.0
    latest: Mapping[str, float] = {}
    curves: Mapping[str, Curve] = {}
    best: Best | None = None
    standing_s: float = 0.0
    replicas: tuple[r.Replica, ...] = ()
    shards: tuple[r.Shard, ...] = ()
    machines: tuple[r.Machine, ...] = ()
    staleness: r.Pairs = ()
    alarms: tuple[r.Alarm, ...] = ()
    alarm_count: int = 0
    checkpoint: str = ""

    @property
    def left_s(self) -> float | None:
        """Until all steps are done, at the latest pace; None where it is not known."""
        per_s = self.latest.get("examples_per_s", 0.0)
        if self.state != "running" or not per_s or not self.examples_per_step:
            return None
        return max(self.steps - self.step, 0) * self.examples_per_step / per_s


def fold(records: Iterable[Mapping[str, object]], view: RunView = RunView()) -> RunView:  # noqa: B008
    """A view with more records. Those of unknown kinds change nothing."""
    for record in records:
        known = r.typed(record)
        if known is not None:
            view = _taken(_moved(view, known), known, record)
    return view


def _moved(view: RunView, record: r.Any) -> RunView:
    """Time passes and steps are done. A start sets the run back to its step."""
    begins = isinstance(record, r.Start)
    before_s = view.elapsed_s if begins else view.before_s
    return replace(
        view,
        begun_s=view.begun_s or record.time_s,
        time_s=record.time_s,
        before_s=before_s,
        elapsed_s=max(before_s + record.elapsed_s, view.elapsed_s),
        step=record.step if begins else max(view.step, record.step),
    )


def _taken(view: RunView, record: r.Any, raw: Mapping[str, object]) -> RunView:
    match record:
        case r.Start():
            return _begun(view, record, raw)
        case r.Train():
            names = ("loss", "accuracy", "examples_per_s")
            return _drawn(view, record.step, {name: getattr(record, name) for name in names})
        case r.Eval():
            return _judged(view, record)
        case r.Checkpoint():
            return replace(view, checkpoint=record.path)
        case r.Standing():
            return _stood(view, record)
        case r.Alarm():
            alarms = (*view.alarms, record)[-ALARMS:]
            return replace(view, alarms=alarms, alarm_count=view.alarm_count + 1)
        case r.End():
            state = _REASONS.get(record.reason, "done")
            return replace(view, state=state, reason=record.reason, error=record.error)


def _begun(view: RunView, start: r.Start, raw: Mapping[str, object]) -> RunView:
    """A new session: what was done after its step does not count any more."""
    pid, host = raw.get("pid"), raw.get("host")
    return replace(
        view,
        state="running",
        reason="",
        error="",
        about={name: value for name, value in raw.items() if name not in _BOOKKEEPING},
        pid=pid if isinstance(pid, int) else 0,
        host=host if isinstance(host, str) else "",
        sessions=view.sessions + 1,
        steps=start.steps,
        examples_per_step=start.examples_per_step,
        curves={name: curve.until(start.step) for name, curve in view.curves.items()},
        best=view.best if view.best is not None and view.best.step <= start.step else None,
        replicas=(),
        shards=(),
        machines=(),
        staleness=(),
    )


def _drawn(view: RunView, step: int, values: Mapping[str, float | None]) -> RunView:
    """A point more on some curves."""
    known = {name: value for name, value in values.items() if value is not None}
    if not known:
        return view
    curves = dict(view.curves)
    for name, value in known.items():
        curves[name] = curves.get(name, Curve()).add(step, view.elapsed_s, value)
    return replace(view, latest={**view.latest, **known}, curves=curves)


def _judged(view: RunView, record: r.Eval) -> RunView:
    held_out = {"held_out_loss": record.loss, "held_out_accuracy": record.accuracy}
    view = _drawn(view, record.step, held_out)
    if record.loss is None or (view.best is not None and record.loss >= view.best.loss):
        return view
    return replace(view, best=Best(record.step, record.loss, record.accuracy))


def _stood(view: RunView, record: r.Standing) -> RunView:
    view = replace(
        view,
        standing_s=record.time_s,
        replicas=record.replicas,
        shards=record.shards,
        machines=record.machines,
        staleness=record.staleness,
    )
    if not record.shards:
        return view
    traffic: dict[str, float | None] = {
        name: sum(getattr(shard, name) for shard in record.shards)
        for name in ("pushed_bytes_per_s", "fetched_bytes_per_s")
    }
    return _drawn(view, record.step, traffic)
