"""`dbgraph diff`: what moves from one plan to another, and what it costs."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import pytest
from browser import OpenPage
from cli_tools import Cli, compiled, net_file, recut

import dbgraph as dbg
from dbgraph.cluster import Cluster
from dbgraph.compile import forecast, make_plan
from dbgraph.plan.text import open_plan
from dbgraph.show.diff import Diff, diff
from dbgraph.show.differences import diff_json, diff_tables, diff_text
from dbgraph.show.digest import Digest
from dbgraph.userfile import call, load_function

DIGITS = Path(__file__).parents[1] / "examples" / "digits.py"


@lru_cache
def digits(strategy: str) -> Digest:
    network = call(load_function(f"{DIGITS}:network"))
    assert isinstance(network, dbg.Network)
    plan = make_plan(network, 4, strategy=strategy)
    return Digest(plan, forecast(plan))


BEFORE = "pool/pool2d: batch 8, rows 0|1|2, cols 2, maps 4 -> 0 1"
AFTER = "pool/pool2d: batch 8, rows 0|1|2, cols 2, maps 4 -> 0 0"
LOCAL = "local/local2d local/add local/relu: batch 8, rows 0|2|4, cols 4, maps 4 -> 0 1"


def edited(cli: Cli, folder: Path, name: str, *lines: str) -> Path:
    """A plan with these cuts."""
    path = recut(compiled(cli, folder, "-n", 2, "--strategy", "stages"), LOCAL, *lines)
    target = folder / name
    outcome = cli("compile", "--from", path, "-o", target, "-q")
    assert outcome.code == 0, outcome.err
    return target


@pytest.fixture
def moved(cli: Cli, tmp_path: Path) -> tuple[Path, Path]:
    """Two plans; in the second, the pool's lower tile stands on partition 0."""
    return edited(cli, tmp_path, "a.plan", BEFORE), edited(cli, tmp_path, "b.plan", AFTER)


def of(before: Path, after: Path) -> Diff:
    digests = (Digest(plan, forecast(plan)) for plan in (open_plan(before), open_plan(after)))
    return diff(*digests)


def test_a_tile_moved_by_hand_is_all_that_moves(moved: tuple[Path, Path]) -> None:
    found = of(*moved)
    (move,) = found.moves
    assert (move.layer, move.region, move.source, move.to) == ("pool", "rows 1:2", 1, 0)
    (layer,) = found.layers
    assert layer.layer == "pool"
    assert layer.cut_before == layer.cut_after == "rows 2"
    assert (layer.partitions_before, layer.partitions_after) == ((0, 1), (0,))
    assert found.settings == ()
    assert not found.same


def test_what_crosses_instead(moved: tuple[Path, Path]) -> None:
    """The lower half of the filters' output now crosses to partition 0, and its gradient back:
    8 examples × 2 rows × 4 columns × 4 maps of floats, but for what crossed before."""
    before, after = (open_plan(path) for path in moved)
    found = of(*moved)
    for one in found.traffic:
        changed = {"added": 0, "removed": one.before_bytes}.get(one.change, one.before_bytes)
        assert one.before_bytes == changed != one.after_bytes
    total = sum(one.after_bytes - one.before_bytes for one in found.traffic)
    traffic = {f.name: f for f in found.figures}["traffic_bytes"]
    assert total == traffic.after - traffic.before
    for plan, side in ((before, "before_bytes"), (after, "after_bytes")):
        local = [t for t in plan.transfers if t.value.startswith("local") and "'" not in t.value]
        sent = sum(t.type.size_bytes for t in local if (t.source, t.to) == (1, 0))
        there = [o for o in found.traffic if o.layer == "local" and not o.backward]
        assert sent == sum(getattr(o, side) for o in there if (o.source, o.to) == (1, 0))


def test_a_plan_does_not_differ_from_itself() -> None:
    found = diff(digits("tiles"), digits("tiles"))
    assert found.same
    assert (found.settings, found.layers, found.moves, found.traffic) == ((), (), (), ())
    assert "both plans do the same" in diff_text(found)
    assert all(figure.before == figure.after for figure in found.figures)


def test_digits_by_tiles_and_by_stages() -> None:
    before, after = digits("tiles"), digits("stages")
    found = diff(before, after)
    assert [(s.name, s.before, s.after) for s in found.settings] == [
        ("strategy", "tiles", "stages")
    ]
    figures = {one.name: one for one in found.figures}
    assert figures["step_s"].before == before.forecast.step_s
    assert figures["step_s"].after == after.forecast.step_s
    assert figures["traffic_bytes"].after == after.traffic_bytes
    assert figures["messages"].before == len(before.plan.transfers)
    layers = {one.layer: one for one in found.layers}
    assert layers["dense1"].cut_after == "whole"
    assert layers["dense1"].cut_before != "whole"
    assert [m.partition for m in found.machines] == [0, 1, 2, 3]


def test_there_and_back() -> None:
    """What is added one way is removed the other way."""
    there, back = (
        diff(digits(a), digits(b)) for a, b in (("tiles", "stages"), ("stages", "tiles"))
    )
    assert {(t.layer, t.backward, t.source, t.to) for t in there.traffic} == {
        (t.layer, t.backward, t.source, t.to) for t in back.traffic
    }
    for change, opposite in (("added", "removed"), ("changed", "changed")):
        forth = [t for t in there.traffic if t.change == change]
        assert len(forth) == len([t for t in back.traffic if t.change == opposite])
    assert {(m.layer, m.source, m.to) for m in there.moves} == {
        (m.layer, m.to, m.source) for m in back.moves
    }


def test_more_machines(cli: Cli, tmp_path: Path) -> None:
    two = open_plan(compiled(cli, tmp_path, "-n", 2, "--strategy", "tiles"))
    one = open_plan(compiled(cli, tmp_path, "-n", 1, name="one.plan"))
    found = diff(*(Digest(plan, forecast(plan, Cluster.equal(2))) for plan in (one, two)))
    assert found.machines[-1].before is None
    assert any(row[1].startswith("none → ") for row in diff_tables(found)[-1].rows)
    assert diff_json(found)["machines"][-1]["before"] is None


# The command


def test_command(cli: Cli, moved: tuple[Path, Path]) -> None:
    outcome = cli("diff", *moved)
    assert outcome.code == 0
    assert "pool   rows 1:2  1 → 0" in outcome.out
    assert "forecast, a step" in outcome.out
    found = cli("diff", *moved, "--json").json
    assert [move["layer"] for move in found["moves"]] == ["pool"]
    assert found["figures"]["step_s"]["before"] > 0.0
    assert cli("diff", moved[0], moved[0]).out.endswith(
        "both plans do the same on the same machines\n"
    )


def test_command_that_is_wrong(cli: Cli, moved: tuple[Path, Path]) -> None:
    assert cli("diff", moved[0], moved[0].with_name("none.plan")).code == 2
    assert cli("diff", moved[0], net_file(moved[0].parent)).code == 2
    assert cli("diff", *moved, "--html", "/nowhere/x.html").code == 2


@pytest.mark.slow
def test_page(cli: Cli, moved: tuple[Path, Path], open_page: OpenPage) -> None:
    target = moved[0].with_name("diff.html")
    assert cli("diff", *moved, "--html", target).code == 0
    page = open_page(target)
    page.wait_for_selector(".diff table")
    heads = page.locator(".diff h2").all_inner_texts()
    assert heads[0] == "What it costs"
    assert "Tiles that stand on another machine" in heads
    rows = page.locator(".diff tr:visible")
    everything = rows.count()
    page.fill("#search", "rows 1:2")
    assert 0 < rows.count() < everything
