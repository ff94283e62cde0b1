"""A run on a terminal."""

from __future__ import annotations

import math
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replica_tools import arrays, network
from rich.console import Console

import dbgraph as dbg
from dbgraph.train.progress import Bar
from dbgraph.watch.fold import RunView, fold
from dbgraph.watch.plot import Range, plot
from dbgraph.watch.screen import headline, screen

Golden = Callable[[str, str], None]
BEGUN_S = 1_000_000.0


def record(kind: str, step: int, **fields: Any) -> dict[str, Any]:
    """One of each second."""
    return {
        "kind": kind,
        "step": step,
        "time_s": BEGUN_S + step / 10,
        "elapsed_s": step / 10,
    } | fields


def start(**fields: Any) -> dict[str, Any]:
    more = {"network": "digits", "partitions": 2, "strategy": "tiles", "backend": "zmq"}
    return record("start", 0, rule="sgd", steps=600, examples_per_step=64, **{**more, **fields})


def curves(steep: bool = False) -> list[dict[str, Any]]:
    found = []
    for step in range(10, 301, 10):
        loss = 0.2 + 2.2 * math.exp(-step / (20 if steep else 90))
        loss = loss - 0.19 if steep else loss
        found.append(
            record("train", step, loss=loss, accuracy=1 - loss / 3, examples_per_s=12_345.6)
        )
        if step % 50 == 0:
            found.append(record("eval", step, loss=loss + 0.1, accuracy=1 - (loss + 0.1) / 3))
    return found


def replica(number: int, **fields: Any) -> dict[str, Any]:
    usual = {"doing": "training", "examples": 9600, "examples_per_s": 3086.4, "heard_s": 0.2}
    return {"replica": number, "staleness": number, **usual, **fields}


def shard(number: int) -> dict[str, Any]:
    rates = {"pushed_bytes_per_s": 41_777_152, "fetched_bytes_per_s": 1500, "updates_per_s": 193.2}
    return {"shard": number, "updates": 4000, "heard_s": 0.5, **rates}


def standing(**fields: Any) -> dict[str, Any]:
    return record("standing", 300, **{"replicas": [], "shards": [], "machines": [], **fields})


def downpour() -> RunView:
    replicas = [replica(0), replica(1, staleness=None), replica(2, doing="gone", heard_s=63.0)]
    told = standing(
        replicas=replicas, shards=[shard(0), shard(1)], staleness=[[0, 60], [2, 35], [11, 5]]
    )
    alarm = record("alarm", 200, rule="replica 2 is lost", replica=2)
    begun = start(algorithm="downpour, 3 replicas, 2 shards")
    return fold([begun, *curves(), alarm, told])


def plan(machines: int = 4) -> RunView:
    waits = "hidden3→hidden4, microbatch 0, from partition 1 (last heard 14.0 s ago)"
    told = [
        {"name": f"partition {p}", "doing": f"RUN s{p}.0 (hidden{p})", "heard_s": 0.1 * p}
        for p in range(machines)
    ]
    told[0] |= {"waiting": waits}
    told[1] |= {"heard_s": 14.0, "alive": False}
    return fold([start(), *curves(steep=True), standing(machines=told)])


def drawn(view: RunView, width: int, later_s: float = 1.0, height: int | None = None) -> str:
    file = StringIO()
    console = Console(file=file, width=width, force_terminal=False, color_system=None)
    console.print(screen(view, view.time_s + later_s, width, height))
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


VIEWS = {"replicas": downpour, "plan": plan}


@pytest.mark.parametrize("width", [60, 100])
@pytest.mark.parametrize("name", VIEWS)
def test_screens(golden: Golden, name: str, width: int) -> None:
    golden(f"screen_{name}_{width}.txt", drawn(VIEWS[name](), width))


@pytest.mark.parametrize("width", [40, 60, 80, 120])
@pytest.mark.parametrize("view", [downpour(), plan(), plan(144), RunView()])
def test_no_line_is_longer_than_the_screen(view: RunView, width: int) -> None:
    lines = drawn(view, width).splitlines()
    assert max(map(len, lines)) <= width
    assert len(lines) < 40


@pytest.mark.parametrize(("width", "height"), [(60, 20), (80, 24), (60, 40)])
def test_a_low_screen_has_fewer_plots(width: int, height: int) -> None:
    text = drawn(downpour(), width, height=height)
    assert len(text.splitlines()) < height
    assert "alarm: replica 2 is lost" in text
    assert "staleness of pushes" in text
    assert ("accuracy  training" in text) is (height > 20)


@pytest.mark.parametrize("width", range(30, 90, 5))
def test_a_narrow_screen_breaks_between_figures(width: int) -> None:
    assert "12,346 examples/s" in drawn(downpour(), width)
    assert "2 s left" in drawn(downpour(), width)


def test_before_anything_is_known() -> None:
    assert "compiling" in drawn(fold([start()]), 60)
    assert "0/600" in drawn(fold([start()]), 60)
    assert headline(RunView()) == "a run that has not begun"


def test_headlines() -> None:
    assert headline(plan()) == "digits on 2 partitions (tiles, zmq)"
    assert headline(downpour()).endswith("(tiles, zmq), downpour, 3 replicas, 2 shards")


def test_time_passes_while_nothing_is_told_and_stands_still_after_the_end() -> None:
    view = plan(2)
    assert "19.0 s" in drawn(view, 60, later_s=5.0)
    ended = fold([record("end", 300, reason="error", error="partition 1 is lost")], view)
    text = drawn(ended, 60, later_s=500.0)
    assert "14.0 s" in text
    assert "failed: partition 1 is lost" in text
    assert "left" not in text


def test_a_run_that_was_interrupted_says_so_once() -> None:
    told = record("end", 300, reason="interrupted", error="Interrupted")
    text = drawn(fold([told], downpour()), 80)
    assert "interrupted   loss" in text
    assert "Interrupted" not in text


def test_of_many_machines_those_are_shown_that_are_silent() -> None:
    text = drawn(plan(144), 80)
    assert "partition 1 " in text
    assert "partition 143" in text
    assert "partition 0 " not in text
    assert "… and 136 more that were heard since" in text


def test_staleness_in_a_line() -> None:
    text = drawn(downpour(), 100)
    assert "staleness of pushes: median 0, 90 % at most 2, largest 11" in text


# --- curves ---


points = st.lists(
    st.tuples(st.integers(0, 100), st.floats(-1e6, 1e6, width=32)), min_size=1, max_size=30
).map(sorted)


@settings(deadline=None, max_examples=100)
@given(st.lists(points, min_size=1, max_size=3), st.integers(1, 40), st.integers(1, 8))
def test_every_point_has_its_dot(
    curves: list[list[tuple[int, float]]], columns: int, rows: int
) -> None:
    cells, ys = plot(curves, columns, rows)
    assert [len(line) for line in cells] == [columns] * rows
    xs = Range.of([x for points in curves for x, _ in points])
    for x, y in curves[-1]:
        column = round(xs.share(x) * (2 * columns - 1)) // 2
        row = round((1 - ys.share(y)) * (4 * rows - 1)) // 4
        assert cells[row][column].curve == len(curves) - 1
        assert cells[row][column].text != " "
    for line in cells:
        for cell in line:
            assert (cell.text == " ") == (cell.curve is None)


def test_a_line_has_no_gaps() -> None:
    cells, ys = plot([[(0, 0.0), (1, 3.0)]], 2, 2)
    assert ["".join(cell.text for cell in line) for line in cells] == [" ⡜", "⡜ "]
    assert (ys.low, ys.high) == (0.0, 3.0)


def test_a_flat_curve_lies_in_the_middle() -> None:
    cells, ys = plot([[(0, 5.0), (9, 5.0)]], 4, 3)
    assert [all(cell.curve == 0 for cell in line) for line in cells] == [False, True, False]
    assert ys.low < 5 < ys.high


# --- the run's own terminal ---


def test_a_run_shows_the_screen(capsys: pytest.CaptureFixture[str]) -> None:
    dbg.Trainer(
        network(), dbg.Data(arrays(160), arrays(16, seed=1)), algorithm="downpour", replicas=2,
        shards=2, steps=60, log_every=5, progress=Bar(),
    ).train()  # fmt: skip
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("training toy on 1 partition, downpour")
    assert "60/60" in err
    assert "training  held out" in err
    assert "updates/s" in err
