"""What can't be written is said before any work is done for it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cli_tools import Cli

import dbgraph as dbg
from dbgraph.errors import UsageError
from dbgraph.plan.text import save_plan
from dbgraph.target import check_file, check_folder
from dbgraph.train.options import Options

NOWHERE = "/proc/dbgraph"
"""Nobody can make anything there, not even root."""


def test_a_file_can_be_made_or_replaced_and_nothing_is_left(tmp_path: Path) -> None:
    there, pipe, link = tmp_path / "there", tmp_path / "pipe", tmp_path / "link"
    there.write_text("old")
    os.mkfifo(pipe)
    link.symlink_to(tmp_path / "not yet")
    before = sorted(tmp_path.iterdir())
    for path in (there, pipe, link, tmp_path / "new", "/dev/null"):
        check_file(path)
    assert sorted(tmp_path.iterdir()) == before
    assert there.read_text() == "old"


def test_what_is_wrong_with_a_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="it is a folder"):
        check_file(tmp_path)
    with pytest.raises(UsageError, match="there is no folder"):
        check_file(tmp_path / "none" / "file")
    with pytest.raises(UsageError, match="can't write '/proc/dbgraph'") as found:
        check_file(NOWHERE)
    assert "'/proc'" in found.value.hint
    with pytest.raises(UsageError, match="name too long"):
        check_file(tmp_path / ("x" * 300))


def test_folders_above_a_file_may_be_made_too(tmp_path: Path) -> None:
    check_file(tmp_path / "a" / "b" / "file", in_new_folder=True)
    check_file(tmp_path / "file", in_new_folder=True)
    assert not list(tmp_path.iterdir())
    (tmp_path / "a").write_text("")
    with pytest.raises(UsageError, match=r"/a' is a file"):
        check_file(tmp_path / "a" / "b" / "file", in_new_folder=True)


def test_folders(tmp_path: Path) -> None:
    check_folder(tmp_path)
    check_folder(tmp_path / "new" / "newer")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"/file' is a file"):
        check_folder(tmp_path / "file")
    with pytest.raises(UsageError, match="can't write '/proc/dbgraph'"):
        check_folder(NOWHERE)


@pytest.mark.parametrize("name", ["trace", "log", "checkpoint", "tensorboard"])
def test_a_training_run_says_it_before_anything_is_compiled(name: str) -> None:
    with pytest.raises(UsageError, match="can't write '/proc/dbgraph'"):
        Options(**{name: NOWHERE})  # type: ignore[arg-type]


_NETWORK = """
def network():
    raise SystemExit("this is work")
"""


@pytest.mark.parametrize(
    "command",
    [
        "compile {net} -n 2 -o",
        "train {net} --trace",
        "train {net} --log",
        "train {net} --checkpoint",
        "train {net} --tensorboard",
    ],
)
def test_commands_say_it_before_the_network_is_made(cli: Cli, tmp_path: Path, command: str) -> None:
    net = tmp_path / "net.py"
    net.write_text(_NETWORK)
    code, out, said = cli(*command.format(net=net).split(), NOWHERE)
    assert (code, out) == (2, "")
    assert said.startswith("dbgraph: error: can't write '/proc/dbgraph': ")


@pytest.mark.parametrize(
    "command",
    [
        "show PLAN --html",
        "show PLAN --png",
        "show PLAN --svg -o",
        "diff PLAN PLAN --html",
        "simulate PLAN --svg",
        "profile PLAN -o",
        "run PLAN --inputs x.npz -o",
        "run PLAN --inputs x.npz --trace",
        "calibrate -o",
        "report PLAN -o",
        "metrics --grafana -o",
        "key",
    ],
)
def test_commands_say_it_before_the_plan_is_read(cli: Cli, command: str) -> None:
    code, out, said = cli(*command.split(), NOWHERE)
    assert (code, out) == (2, "")
    assert said.startswith("dbgraph: error: can't write '/proc/dbgraph': ")


def test_a_page_may_go_to_stdout_where_nothing_can_be_written(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with dbg.Network("small", batch=4) as net:
        dbg.output("twice", dbg.input("x", (3,)) * 2.0)
    plan = dbg.make_plan(net, partitions=1, mode="inference")
    save_plan(plan, tmp_path / "small.plan")
    monkeypatch.chdir("/proc")
    code, out, _ = cli("show", str(tmp_path / "small.plan"), "--html", "-")
    assert code == 0
    assert out.startswith("<!doctype html>")
