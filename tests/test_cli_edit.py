"""`dbgraph compile --from PLAN`, for edited cuts, and `--cluster FILE`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cli_tools import Cli, compiled, net_file, recut

from dbgraph.plan.text import open_plan

LOCAL = "local/local2d local/add local/relu: batch 8, rows 0|2|4, cols 4, maps 4 -> 0 1"


@pytest.fixture
def by_hand(cli: Cli, tmp_path: Path) -> Path:
    """A training plan of known cuts, whatever the strategies would do."""
    path = compiled(cli, tmp_path, "-n", 2, "--strategy", "stages")
    return recut(path, LOCAL, "pool/pool2d: batch 8, rows 0|1|2, cols 2, maps 4 -> 0 1")


def test_an_edited_plan_is_made_anew(cli: Cli, by_hand: Path) -> None:
    """In place; the network's file is not needed."""
    (by_hand.parent / "net.py").unlink()
    assert cli("show", by_hand).code == 3
    outcome = cli("compile", "--from", by_hand, "-o", by_hand)
    assert outcome.code == 0, outcome.err
    assert "2 partitions, batch 8, strategy edited" in outcome.out
    (local,) = (line for line in outcome.out.split("\n") if line.startswith("local "))
    assert "rows 2" in local
    assert f"wrote {by_hand}" in outcome.err
    assert cli("verify", by_hand).code == 0
    again = by_hand.with_name("again.plan")
    assert cli("compile", "--from", by_hand, "-o", again, "-q") == (0, "", "")
    assert again.read_text() == by_hand.read_text()


def test_a_tile_moved_by_hand_in_the_text(cli: Cli, by_hand: Path) -> None:
    old, new = "rows 0|1|2, cols 2, maps 4 -> 0 1", "rows 2, cols 2, maps 4 -> 1"
    by_hand.write_text(by_hand.read_text().replace(old, new))
    outcome = cli("compile", "--from", by_hand, "-o", by_hand, "--json")
    assert outcome.code == 0, outcome.err
    (pool,) = (row for row in outcome.json["layers"] if row["name"] == "pool")
    assert (pool["cut"], pool["partitions"]) == ({}, [1])


@pytest.mark.slow
def test_an_edited_plan_computes_what_the_uncut_network_does(cli: Cli, by_hand: Path) -> None:
    for options in ([], ["--mode", "inference"], ["--microbatches", 2]):
        path = by_hand.with_name("new.plan")
        assert cli("compile", "--from", by_hand, "-o", path, "-q", *options).code == 0
        outcome = cli("verify", path, "--numerics")
        assert outcome.code == 0, outcome.err


def test_what_is_not_given_is_the_plans_own(cli: Cli, tmp_path: Path) -> None:
    options = ("--strategy", "stages", "--microbatches", 2, "--mode", "evaluation")
    path = compiled(cli, tmp_path, "-n", 2, *options)
    new = tmp_path / "new.plan"
    assert cli("compile", "--from", path, "-o", new, "-q").code == 0
    assert new.read_text() == path.read_text()
    more = ("--microbatches", 4, "--mode", "inference")
    assert cli("compile", "--from", path, "-o", new, "-q", *more).code == 0
    plan = open_plan(new)
    assert (plan.strategy, plan.microbatches, plan.mode) == ("stages", 4, "inference")


def test_cuts_of_a_plan_for_a_network_of_ones_own(cli: Cli, by_hand: Path) -> None:
    """Where FILE.py is given too, the network is its."""
    spec = net_file(by_hand.parent)
    outcome = cli("compile", spec, "--from", by_hand, "--mode", "evaluation")
    assert "small: evaluation on 2 partitions" in outcome.out
    outcome = cli("compile", f"{spec}:other", "--from", by_hand)
    assert outcome.code == 3
    assert "the network computes no node of that name" in outcome.err


@pytest.mark.parametrize(
    ("old", "new", "texts"),
    [
        ("rows 0|2|4", "rows 0|2|3", ["local/local2d: its axes are 8 × 4 × 4 × 4 long", "8 × 3"]),
        ("maps 4 -> 0 1", "maps 4 -> 0 2", ["stands on partition 2, but there are 2"]),
        ("local/relu: batch", "local/rely: batch", ["local/rely", "did you mean 'local/relu'?"]),
        ("cols 4, maps 4 -> 0 1", "cols 4 -> 0 1", ["axis 2 of 3", "not 'cols'"]),
    ],
)
def test_cuts_that_do_not_fit_are_reported_at_their_line(
    cli: Cli, by_hand: Path, old: str, new: str, texts: list[str]
) -> None:
    text = by_hand.read_text()
    assert old in text
    by_hand.write_text(text.replace(old, new, 1))
    outcome = cli("compile", "--from", by_hand)
    assert outcome.code == 3
    line = 1 + next(i for i, line in enumerate(by_hand.read_text().split("\n")) if new in line)
    assert f"{by_hand}: line {line}: cuts: " in outcome.err
    for one in texts:
        assert one in outcome.err


def test_edited_cuts_overrule_pins_with_a_warning(cli: Cli, tmp_path: Path) -> None:
    net = tmp_path / "pinned.py"
    net.write_text(
        "import dbgraph as dbg\nfrom dbgraph import layers as L\n"
        "def network():\n"
        "    with dbg.Network('pinned', batch=8) as net:\n"
        "        h = L.Dense(4, cut={'units': 2}, name='first')(dbg.input('x', (3,)))\n"
        "        dbg.output('y', L.Dense(4, name='last')(h))\n"
        "    return net\n"
    )
    path = tmp_path / "a.plan"
    options = ("-n", 2, "--mode", "inference", "--strategy", "tiles", "-o", path)
    assert "warning" not in cli("compile", net, *options).err
    outcome = cli("compile", "--from", path)
    assert "warning" not in outcome.err
    first = "first/contract first/add: batch 8, units 4 -> 0"
    changed = recut(path, first, "last/contract: batch 8/2, units 4 -> 0 1")
    outcome = cli("compile", "--from", changed, "-o", path)
    assert outcome.code == 0
    assert f"warning: first is pinned at {net}:5 (cut= or dbg.partition)" in outcome.err
    assert open_plan(path).cuts["first/add"].cut.partitions == (0,)


def test_more_machines_for_edited_cuts(cli: Cli, by_hand: Path) -> None:
    path = recut(by_hand, "scores/contract scores/add: batch 8, units 0|3|10 -> 2 1")
    assert cli("compile", "--from", path).code == 3
    outcome = cli("compile", "--from", path, "-n", 3)
    assert outcome.code == 0, outcome.err
    assert "small: training on 3 partitions" in outcome.out


def test_a_machine_that_an_edit_leaves_without_work(cli: Cli, by_hand: Path) -> None:
    outcome = cli("compile", "--from", by_hand, "-n", 4, "-o", by_hand)
    assert outcome.code == 0
    assert "warning: no tile stands on partition 2-3" in outcome.err
    assert cli("verify", by_hand).code == 0


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("\ngraph {\n%", "\ngraph {\n?"),  # the first node of the graph
        ("\nprogram 1 {\n", "\nprogram 7 {\n"),
        ("\nUPDATE\n}\nend\n", "\nUPD"),  # truncated
    ],
)
def test_what_is_made_anew_may_be_damaged(cli: Cli, by_hand: Path, old: str, new: str) -> None:
    """The network and the cuts are enough."""
    whole, made = by_hand.with_name("whole.plan"), by_hand.with_name("made.plan")
    assert cli("compile", "--from", by_hand, "-o", whole, "-q").code == 0
    text = by_hand.read_text()
    assert text.count(old) == 1
    by_hand.write_text(text.replace(old, new))
    outcome = cli("compile", "--from", by_hand, "-o", made)
    assert outcome.code == 0, outcome.err
    said = f"warning: {by_hand}: its graph and programs can't be read; only its network and cuts"
    assert said in outcome.err
    assert made.read_text() == whole.read_text()
    assert cli("compile", "--from", by_hand, "-o", made, "-q") == (0, "", "")


@pytest.mark.parametrize("old", ["\nbatch ", "\nnetwork {", "\ncuts {", "cols 4, maps 4 -> 0 1"])
def test_what_a_plan_is_made_of_may_not(cli: Cli, by_hand: Path, old: str) -> None:
    by_hand.write_text(by_hand.read_text().replace(old, old[:-1] + "?", 1))
    outcome = cli("compile", "--from", by_hand)
    assert outcome.code == 3
    assert f"{by_hand}: line " in outcome.err


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ([], "compile what?"),
        (["net.py"], "for how many machines?"),
        (["--from", "no.plan"], "there is no file 'no.plan'"),
        (["--from", "a.plan", "--strategy", "tiles"], "--from takes the cuts of a plan"),
        (["net.py", "-n", 2, "--compare", "tiles,stage"], "did you mean 'stages'?"),
        (["net.py", "-n", 2, "--compare", ","], "--compare needs strategies"),
        (["net.py", "-n", 2, "--compare", "tiles", "--strategy", "tiles"], "give one of them"),
        (["examples/digits.py", "--cluster", "no.toml"], "no.toml"),
    ],
)
def test_options_that_do_not_go_together(cli: Cli, options: list[Any], text: str) -> None:
    outcome = cli("compile", *options)
    assert outcome.code == 2
    assert text in outcome.err


# --cluster


CLUSTER = """
[[machines]]
name = "fast"
count = 1
flop_s = "200 GFLOP/s"

[[machines]]
name = "slow"
count = 3
flop_s = "50 GFLOP/s"

[link]
bytes_s = "10 GB/s"
"""


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    path = tmp_path / "cluster.toml"
    path.write_text(CLUSTER)
    return path


def test_all_machines_of_a_cluster_file(cli: Cli, tmp_path: Path, cluster: Path) -> None:
    outcome = cli("compile", net_file(tmp_path), "--cluster", cluster, "--strategy", "tiles")
    assert outcome.code == 0, outcome.err
    assert "small: training on 4 partitions" in outcome.out
    assert f"on the machines of {cluster}: 1 × fast (200 GFLOP/s" in outcome.out
    assert "3 × slow (50 GFLOP/s" in outcome.out
    assert "links 10 GB/s" in outcome.out


def test_some_machines_of_a_cluster_file(cli: Cli, tmp_path: Path, cluster: Path) -> None:
    options = ("--cluster", cluster, "--strategy", "tiles")
    outcome = cli("compile", net_file(tmp_path), "-n", 2, *options)
    assert "1 × slow" in outcome.out
    outcome = cli("compile", net_file(tmp_path), "-n", 5, *options)
    assert outcome.code == 2
    assert f"{cluster} has 4 machines; 5 are asked for" in outcome.err


def test_the_forecast_is_for_the_cluster(cli: Cli, by_hand: Path, cluster: Path) -> None:
    steps = [
        cli("compile", "--from", by_hand, "--json", *options).json["forecast"]["step_s"]
        for options in ([], ["--cluster", cluster])
    ]
    assert steps[0] > steps[1]
