"""Pictures of the digits network on four machines: its cut and its step, as SVG and as PNG."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from cli_tools import Cli

import dbgraph as dbg
from dbgraph.cluster import Cluster
from dbgraph.compile import forecast, make_plan
from dbgraph.errors import UsageError
from dbgraph.plan.plan import Plan
from dbgraph.plan.text import open_plan, save_plan
from dbgraph.show.digest import Digest
from dbgraph.show.forecasted import forecast_timeline
from dbgraph.show.png import png
from dbgraph.show.svg import plan_svg
from dbgraph.show.timeline_svg import timeline_svg
from dbgraph.show.tracks import Block, Timeline, Track
from dbgraph.simulate import simulate
from dbgraph.userfile import call, load_function

Golden = Callable[[str, str], None]
SVG = "{http://www.w3.org/2000/svg}"
_DIGITS = Path(__file__).parents[1] / "examples" / "digits.py"
_FROZEN = Path(__file__).parent / "golden" / "show" / "digits4.plan"


@pytest.fixture(scope="module")
def digits(request: pytest.FixtureRequest) -> Plan:
    """A plan that is kept in a file: the pictures are to change with what draws them alone."""
    if request.config.getoption("--update-golden"):
        network = call(load_function(f"{_DIGITS}:network"))
        assert isinstance(network, dbg.Network)
        save_plan(make_plan(network, 4, strategy="tiles"), _FROZEN)
    return open_plan(_FROZEN)


def step(plan: Plan) -> Timeline:
    cluster = Cluster.equal(plan.partitions)
    cost = simulate(plan.graph, plan.transfers, plan.programs, cluster, timeline=True)
    return forecast_timeline(plan, cost)


def test_the_cut(golden: Golden, digits: Plan) -> None:
    golden("show/digits4.svg", plan_svg(Digest(digits, forecast(digits))))


def test_the_step(golden: Golden, digits: Plan) -> None:
    golden("show/digits4_step.svg", timeline_svg(step(digits)))


def test_what_is_drawn_of_a_step(digits: Plan) -> None:
    timeline = step(digits)
    root = ElementTree.fromstring(timeline_svg(timeline))
    rects = root.findall(f"{SVG}rect")
    width, height = (float(root.attrib[side]) for side in ("width", "height"))
    for rect in rects[1:]:
        assert float(rect.attrib["x"]) + float(rect.attrib["width"]) <= width
        assert float(rect.attrib["y"]) + float(rect.attrib["height"]) <= height
    named = [rect for rect in rects if rect.find(f"{SVG}title") is not None]
    assert len(named) == len(timeline.blocks)
    critical = [rect for rect in rects if rect.attrib["fill"] == "#D55E00"]
    assert len(critical) == sum(block.critical for block in timeline.blocks) + 1  # the legend's
    arrows = [path for path in root.findall(f"{SVG}path") if path.attrib["fill"] == "none"]
    assert len(arrows) == len(timeline.arrows)


def test_fine_blocks_are_drawn_together() -> None:
    """Ten thousand in 1,080 pixels: a drawing of bounded size, that shows what takes most time."""
    ends_s = [(i + (0.7 if i % 2 else 0)) * 1e-6 for i in range(10_001)]
    kinds = ("compute", "send")  # 1.7 µs, then 0.3 µs
    blocks = tuple(Block(0, kinds[i % 2], a, b, "b") for i, (a, b) in enumerate(pairwise(ends_s)))
    root = ElementTree.fromstring(timeline_svg(Timeline("fine", (Track("one"),), blocks)))
    fills = [rect.attrib["fill"] for rect in root.findall(f"{SVG}rect")]
    assert 900 < len(fills) < 1200
    assert fills.count("#0072B2") > 0.9 * len(fills)


def test_an_empty_timeline_is_a_drawing_too() -> None:
    ElementTree.fromstring(timeline_svg(Timeline("nothing <&>", (), ())))


def test_png(digits: Plan) -> None:
    pytest.importorskip("resvg_py", reason="no resvg-py: pip install 'dbgraph[png]'")
    svg = plan_svg(Digest(digits, forecast(digits)))
    found = png(svg)
    root = ElementTree.fromstring(svg)
    sides = int.from_bytes(found[16:20], "big"), int.from_bytes(found[20:24], "big")
    assert found[:8] == b"\x89PNG\r\n\x1a\n"
    assert sides == (2 * int(root.attrib["width"]), 2 * int(root.attrib["height"]))


def test_png_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(UsageError, match="needs the package resvg-py"):
        png("<svg/>")


# Commands


def test_show_png(cli: Cli, digits: Plan, tmp_path: Path) -> None:
    pytest.importorskip("resvg_py", reason="no resvg-py: pip install 'dbgraph[png]'")
    target = tmp_path / "digits.png"
    outcome = cli("show", _FROZEN, "--png", target)
    assert outcome.code == 0, outcome.err
    assert target.read_bytes().startswith(b"\x89PNG")
    assert cli("show", _FROZEN, "--png", target, "--svg").code == 2


def test_simulate_svg(cli: Cli, digits: Plan, tmp_path: Path) -> None:
    target = tmp_path / "step.svg"
    outcome = cli("simulate", _FROZEN, "--svg", target)
    assert outcome.code == 0, outcome.err
    assert "critical path:" not in outcome.out  # that is for --timeline
    assert target.read_text() == timeline_svg(step(digits))
    assert cli("simulate", _FROZEN, "--svg", "/nowhere/step.svg").code == 2


def test_show_of_a_file_that_is_no_trace(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "run.pftrace"
    path.write_bytes(b"nothing of the kind")
    assert cli("show", path).code == 2
    assert cli("show", path, "--html", tmp_path / "run.html").code == 2
