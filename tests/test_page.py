"""A plan as one HTML file: its data, its size, and that it is self-contained."""

from __future__ import annotations

import json
import re
import tempfile
import webbrowser
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from cli_tools import Cli
from hypothesis import given, settings
from hypothesis import strategies as st
from page_tools import data_of

import dbgraph as dbg
from dbgraph import layers as L
from dbgraph.cluster import Cluster
from dbgraph.compile import forecast, make_plan
from dbgraph.ops import LEAVES
from dbgraph.plan.plan import Plan
from dbgraph.plan.text import open_plan, parse_plan, print_plan, save_plan
from dbgraph.show.digest import Digest
from dbgraph.show.page.cut import COLOURS, Piece, Sheet, colours
from dbgraph.show.page.plan import drawn, plan_page
from dbgraph.show.page.shell import Problem, View, page
from dbgraph.userfile import call, load_function

EXAMPLES = Path(__file__).parent.parent / "examples"
FROZEN = Path(__file__).parent / "golden" / "show" / "small.plan"


def network(name: str = "image", batch: int = 8) -> dbg.Network:
    with dbg.Network(name, batch=batch) as net:
        image = dbg.input("image", (8, 8, 1))
        label = dbg.input("label", (), dtype="int32")
        h = L.LocallyConnected2D(4, (3, 3), name="filters", cut={"rows": 2, "cols": 2})(image)
        h = L.Pool2D("max", (2, 2), (1, 1), name="pool", cut={"rows": 2, "cols": 2})(h)
        h = L.Conv2D(4, (3, 3), name="maps", cut={"maps": 2})(h)
        scores = L.Dense(6, name="scores", cut={"units": 4})(h)
        dbg.loss(L.SoftmaxCrossEntropy(name="error")(scores, label))
    return net


@lru_cache
def plan(microbatches: int = 1) -> Plan:
    return make_plan(network(), 4, microbatches=microbatches, strategy="tiles")


@lru_cache
def data(microbatches: int = 1) -> Any:
    return data_of(plan_page(plan(microbatches)))


# The data


@pytest.mark.parametrize("microbatches", [1, 2])
def test_every_tile_is_the_digests(microbatches: int) -> None:
    one = plan(microbatches)
    found = data(microbatches)["plan"]
    tiles, nodes = found["tiles"], found["nodes"]
    computed = [i for i, node in enumerate(tiles["node"]) if nodes["op"][node] not in LEAVES]
    shown = sorted(
        (nodes["name"][tiles["node"][i]], tiles["machine"][i], found["boxes"][tiles["box"][i]])
        for i in computed
    )
    digest = Digest(one, forecast(one))
    expected = sorted(
        (
            re.sub(r"@\d+$", "", name),
            tile.node.partition,
            [x for b in tile.region.bounds for x in b],
        )
        for name, some in digest.tiles.items()
        for tile in some
    )
    assert shown == expected


def test_tiles_of_a_whole_layer_add_up_to_the_network() -> None:
    found = data()["plan"]
    tiles, nodes, layers = found["tiles"], found["nodes"], found["layers"]
    held: dict[str, int] = {}
    for node, parameters in zip(tiles["node"], tiles["parameters"], strict=True):
        layer = layers["name"][nodes["layer"][node]]
        held[layer] = held.get(layer, 0) + parameters
    rows = dict(zip(layers["name"], layers["parameters"], strict=True))
    assert held["filters"] == rows["filters"] == 6 * 6 * 4 * (3 * 3 + 1)
    assert held["scores"] == rows["scores"]


@pytest.mark.parametrize("microbatches", [1, 2])
def test_every_transfer_is_the_plans(microbatches: int) -> None:
    one, found = plan(microbatches), data(microbatches)["plan"]
    t = found["transfers"]
    assert one.transfers
    for i, transfer in enumerate(one.transfers):
        assert found["values"][t["value"][i]] == transfer.value
        assert (t["source"][i], t["to"][i]) == (transfer.source, transfer.to)
        assert t["bytes"][i] == transfer.type.size_bytes
        assert t["times"][i] == transfer.times(microbatches)
    total = sum(a * b for a, b in zip(t["bytes"], t["times"], strict=True))
    assert total == found["head"]["traffic_bytes"] == sum(found["links"]["bytes"])


def test_machine_figures_are_the_forecasts() -> None:
    one, found = plan(), data()["plan"]["machines"]
    digest = Digest(one, forecast(one))
    for key in ("tiles", "parameters", "memory_bytes", "flop", "in_bytes", "out_bytes"):
        assert found[key] == [getattr(row, key) for row in digest.partitions]
    for key in ("busy_s", "compute_s", "send_s", "receive_s", "idle_s"):
        expected = [getattr(machine, key) for machine in digest.forecast.machines]
        assert found[key] == pytest.approx(expected, rel=1e-5)
    assert found["limit_bytes"] == [m.memory_bytes for m in digest.cluster.machines]


@pytest.mark.parametrize("microbatches", [1, 2])
def test_programs_read_back(microbatches: int) -> None:
    one, found = plan(microbatches), data(microbatches)["plan"]
    kinds = ("RUN s", "SEND t", "RECV t")
    for program, codes in zip(one.programs, found["programs"], strict=True):
        words = []
        for code in codes:
            rest, microbatch = divmod(code, microbatches)
            index, kind = divmod(rest, 4)
            words.append("UPDATE" if kind == 3 else f"{kinds[kind]}{index}.{microbatch}")
        assert words == [str(instruction) for instruction in program.instructions]


def test_bytes_of_edges_add_up_to_the_traffic() -> None:
    edges = data()["cut"]["edges"]
    assert sum(edges["bytes"]) + sum(edges["back"]) == data()["plan"]["head"]["traffic_bytes"]


def test_the_picture_is_of_regions_and_halos() -> None:
    """A 2 × 2 pool reads one row and one column of the filters' output beyond its own."""
    found = data()
    cut, layers = found["cut"], found["plan"]["layers"]["name"]
    sheet = [layers[i] for i in cut["sheets"]["layer"]].index("filters")
    tiles = found["plan"]["tiles"]
    pieces = {
        tiles["machine"][cut["pieces"]["tile"][i]]: tuple(
            cut["pieces"][key][i] for key in ("u0", "u1", "v0", "v1")
        )
        for i, s in enumerate(cut["pieces"]["sheet"])
        if s == sheet
    }
    assert pieces == {0: (0, 3, 0, 3), 1: (0, 3, 3, 6), 2: (3, 6, 0, 3), 3: (3, 6, 3, 6)}
    halos = {
        tuple(cut["halos"][key][i] for key in ("u0", "u1", "v0", "v1"))
        for i, s in enumerate(cut["halos"]["sheet"])
        if s == sheet and cut["halos"]["machine"][i] == 0
    }
    assert halos == {(0, 3, 3, 4), (3, 4, 0, 3), (3, 4, 3, 4)}


def test_maps_stand_behind_each_other_and_columns_side_by_side() -> None:
    found = data()
    layers = found["plan"]["layers"]["name"]
    sheets = found["cut"]["sheets"]
    at = {layers[layer]: i for i, layer in enumerate(sheets["layer"])}
    assert sheets["count"][at["maps"]] == 2
    assert sheets["count"][at["scores"]] == 1
    assert (sheets["units"][at["scores"]], sheets["flat"][at["scores"]]) == (6, 0)
    assert sheets["x"][at["filters"]] < sheets["x"][at["pool"]] < sheets["x"][at["scores"]]


def test_golden_data_of_a_kept_plan(golden: Callable[[str, str], None]) -> None:
    """What the picture and the tables are made of; not what the simulator says of it."""
    found = data_of(plan_page(open_plan(FROZEN)))
    kept = {key: found["plan"][key] for key in ("layers", "nodes", "tiles", "boxes", "transfers")}
    text = json.dumps({**kept, "cut": found["cut"]}, indent=1)
    golden("show/page.json", re.sub(r"\s+(?=[-\d\]])", " ", text))


# Colours


def grid(rows: int, cols: int) -> Sheet:
    pieces = tuple(
        Piece(r * cols + c, r * cols + c, 0, (r, r + 1), (c, c + 1))
        for r in range(rows)
        for c in range(cols)
    )
    return Sheet(0, 0, rows, cols, True, pieces)


@given(st.integers(1, 12), st.integers(1, 12))
@settings(deadline=None, max_examples=40)
def test_neighbours_have_different_colours(rows: int, cols: int) -> None:
    found = colours([grid(rows, cols)], rows * cols)
    assert set(found) <= set(range(COLOURS))
    for r in range(rows):
        for c in range(cols):
            for dr, dc in ((0, 1), (1, 0), (1, 1), (1, -1)):
                if r + dr < rows and 0 <= c + dc < cols:
                    assert found[r * cols + c] != found[(r + dr) * cols + c + dc]


def test_few_machines_have_a_colour_each() -> None:
    assert colours([grid(1, 4)], 4) == [0, 1, 2, 3]


# The file


def test_it_loads_nothing() -> None:
    text = plan_page(plan())
    outside = re.findall(r"""(?:src|href)\s*=\s*["']?([^"'\s>]+)|url\(([^)]*)\)|@import""", text)
    assert outside == [("data:,", "")]
    assert not re.search(r"\b(?:fetch|XMLHttpRequest|WebSocket|EventSource|import)\s*\(", text)
    assert "default-src 'none'" in text


@given(st.text(max_size=40))
@settings(deadline=None, max_examples=60)
def test_no_name_ends_a_script(name: str) -> None:
    hostile = f"</script><script>alert(1)</script><!--{name}"
    text = page(hostile, [View("a", {"name": hostile})], subtitle=hostile)
    assert "<script>alert" not in text
    assert "<!--" not in text.removeprefix("<!doctype")
    found = data_of(text)
    assert found["a"]["name"] == found["page"]["title"] == found["page"]["subtitle"] == hostile


def test_a_script_that_two_views_name_is_there_once() -> None:
    views = [View("a", {}, ("machines.js",)), View("b", {}, ("machines.js",))]
    assert page("x", views).count('id: "machines"') == 1


def test_problems_stand_in_the_page() -> None:
    found = data_of(page("x", [], problems=[Problem("no", "layer", 3, "do")]))
    assert found["page"]["problems"] == [{"text": "no", "kind": "layer", "id": 3, "hint": "do"}]


def test_notebooks_get_a_frame_and_a_picture() -> None:
    frame = plan()._repr_html_()
    assert frame.startswith("<iframe ")
    assert "<script" not in frame
    assert 'sandbox="allow-scripts"' in frame
    assert plan()._repr_svg_().startswith("<svg ")
    assert plan().to_html() == plan_page(plan())


# Bad plans


def edited(old: str, new: str) -> Plan:
    text = print_plan(plan())
    assert old in text
    return parse_plan(text.replace(old, new, 1))


def problems(one: Plan) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = data_of(drawn(one)[0])["page"]["problems"]
    return found


def test_a_good_plan_has_no_problems() -> None:
    assert problems(plan()) == []


def test_a_missing_instruction_is_marked_where_it_is_missed() -> None:
    first = next(str(i) for i in plan().programs[1].instructions if str(i).startswith("RECV"))
    found = problems(edited(f"\n{first}\n", "\n"))
    assert [one["kind"] for one in found] == ["instruction"]
    before = len(plan().programs[0].instructions)
    assert before <= found[0]["id"] < before + len(plan().programs[1].instructions)


def test_each_broken_program_is_marked() -> None:
    text = print_plan(plan())
    for program in plan().programs[:2]:
        update = f"program {program.partition} {{"
        head, tail = text.split(update)
        text = head + update + tail.replace("\nUPDATE\n", "\n", 1)
    assert [(one["kind"], one["id"]) for one in problems(parse_plan(text))] == [
        ("machine", 0),
        ("machine", 1),
    ]


def test_a_wrong_type_is_marked_at_its_layer() -> None:
    line = next(x for x in print_plan(plan()).splitlines() if x.startswith("%scores/biases[0]"))
    found = problems(edited(line, line.replace(": float32[2]", ": float32[3]")))
    layers = data()["plan"]["layers"]["name"]
    assert found[0]["kind"] == "layer"
    assert layers[found[0]["id"]] == "scores"


def test_a_deadlock_is_drawn_and_marked() -> None:
    text, found = drawn(_deadlocked())
    assert {problem.kind for problem in found} == {"instruction"}
    assert "waits for ever" in found[0].text
    assert data_of(text)["plan"]["head"]["deadlock"]


def _deadlocked() -> Plan:
    """Every machine waits before it sends."""
    lines = print_plan(plan()).splitlines()
    for at, line in enumerate(lines):
        if line.startswith("program "):
            end = lines.index("}", at)
            body = lines[at + 1 : end]
            sends = [x for x in body if x.startswith("SEND")]
            rest = [x for x in body if not x.startswith(("SEND", "UPDATE"))]
            lines[at + 1 : end] = [*rest, *sends, "UPDATE"]
    return parse_plan("\n".join(lines) + "\n")


@given(st.data())
@settings(deadline=None, max_examples=40)
def test_whatever_is_read_is_drawn(source: st.DataObject) -> None:
    """Lines of the programs and partitions of nodes, changed at random."""
    lines = print_plan(plan()).splitlines()
    start = lines.index("program 0 {")
    for _ in range(source.draw(st.integers(1, 3))):
        at = source.draw(st.integers(start + 1, len(lines) - 3))
        if lines[at].startswith(("SEND", "RECV", "RUN", "UPDATE")):
            other = source.draw(st.sampled_from(["UPDATE", "SEND t0.0", "RECV t1.0", "RUN s99.0"]))
            lines[at] = other
    text, _ = drawn(parse_plan("\n".join(lines) + "\n"))
    assert data_of(text)["plan"]["head"]["partitions"] == 4


# The command


@pytest.fixture
def plan_file(tmp_path: Path) -> Path:
    save_plan(plan(), tmp_path / "a.plan")
    return tmp_path / "a.plan"


def test_html_is_written_and_printed(cli: Cli, plan_file: Path) -> None:
    target = plan_file.with_suffix(".html")
    done = cli("show", plan_file, "--html", target)
    assert (done.code, done.out) == (0, "")
    printed = cli("show", plan_file, "--html", "-")
    assert printed.out == target.read_text(encoding="utf-8") == plan_page(plan())


def test_open_asks_the_browser(
    cli: Cli, plan_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: bool(asked.append(url)))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    done = cli("show", plan_file, "--open")
    assert done.code == 0
    assert "found no browser" in done.err  # it said False
    assert asked[0].startswith(tmp_path.as_uri())
    assert asked[0].endswith(".html")


def test_a_cluster_is_what_the_forecast_is_for(cli: Cli, plan_file: Path) -> None:
    done = cli("show", plan_file, "--html", "-", "--cluster", EXAMPLES / "cluster.toml")
    head = data_of(done.out)["plan"]["head"]
    assert "workstation" in head["cluster"]
    assert head["step_s"] != data()["plan"]["head"]["step_s"]


def test_a_broken_plan_is_shown_with_a_warning(cli: Cli, plan_file: Path) -> None:
    plan_file.write_text(print_plan(plan()).replace("\nUPDATE\n", "\n", 1), encoding="utf-8")
    done = cli("show", plan_file, "--html", "-")
    assert done.code == 0
    assert "ends with one UPDATE" in done.err
    assert data_of(done.out)["page"]["problems"]
    assert cli("show", plan_file).code == 3


def test_html_takes_no_other_form(cli: Cli, plan_file: Path) -> None:
    assert cli("show", plan_file, "--html", "-", "--svg").code == 2


def test_two_forms_at_once_are_refused(cli: Cli, plan_file: Path) -> None:
    both = cli("show", plan_file, "--svg", "--json")
    assert (both.code, both.out) == (2, "")
    assert "--svg and --json are different forms" in both.err


def test_a_folder_is_no_plan(cli: Cli, tmp_path: Path) -> None:
    assert "is a folder" in cli("show", tmp_path).err
    assert cli("diff", tmp_path, tmp_path).code == 2


@pytest.mark.slow
def test_the_largest_network_on_144_machines_fits_in_2_mb() -> None:
    declared = call(load_function(f"{EXAMPLES / 'image.py'}:network_1700m"))
    one = make_plan(declared, 144, strategy="tiles")
    text, found = drawn(one, Cluster.equal(144))
    assert not found
    assert len(text.encode()) < 2_000_000
