"""The command line as such, and `dbgraph compile`."""

from __future__ import annotations

import os
import pty
import re
import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cli_tools import Cli, compiled, net_file

import dbgraph.commands.show
from dbgraph.cli import COMMANDS, main
from dbgraph.commands.compile import _PASSES
from dbgraph.compile import PASSES
from dbgraph.passes.partition import STRATEGIES
from dbgraph.plan.text import open_plan

DBGRAPH = (sys.executable, "-m", "dbgraph")


# The program


def test_help_names_every_command(cli: Cli) -> None:
    outcome = cli("--help")
    assert outcome.code == 0
    for name, text in COMMANDS.items():
        assert f"  {name} " in outcome.out
        assert text in outcome.out


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_has_examples(cli: Cli, name: str) -> None:
    outcome = cli(name, "--help")
    assert outcome.code == 0
    assert f"Usage: dbgraph {name}" in outcome.out
    assert f"dbgraph {name}" in outcome.out.split("Examples:")[1]


def test_help_is_fast_and_loads_nothing_heavy() -> None:
    code = (
        "import sys; from dbgraph.cli import run; run(['--help'])\n"
        "heavy = 'jax numpy networkx zmq rich msgspec optax safetensors cloudpickle'.split()\n"
        "sys.exit(str([m for m in heavy if m in sys.modules] or 0))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "0"
    times = []
    for _ in range(3):
        before = _cpu_s()
        subprocess.run([*DBGRAPH, "--help"], capture_output=True, check=True)
        times.append(_cpu_s() - before)
    assert min(times) < 0.15


def _cpu_s() -> float:
    """Of child processes: what other programs do at the time does not count."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_version(cli: Cli) -> None:
    assert cli("--version").out == f"dbgraph {dbgraph.__version__}\n"


def test_a_wrong_command_names_the_near_one(cli: Cli) -> None:
    outcome = cli("complie", "net.py")
    assert outcome.code == 2
    assert "there is no command 'complie'; did you mean 'compile'?" in outcome.err


def test_a_wrong_option_names_the_near_one(cli: Cli) -> None:
    outcome = cli("compile", "net.py", "--partition", 2)
    assert outcome.code == 2
    assert "--partitions" in outcome.err


def test_no_arguments_show_the_help(cli: Cli) -> None:
    outcome = cli()
    assert outcome.code == 2
    assert "Commands:" in outcome.out + outcome.err


def test_main_exits_with_the_code() -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["show", "/nowhere.plan"])
    assert exit_.value.code == 2


def test_what_is_not_foreseen_is_an_internal_error(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: str) -> None:
        raise KeyError("surprise")

    monkeypatch.setattr(dbgraph.commands.show, "load_plan", fail)
    outcome = cli("show", "some.plan")
    assert outcome.code == 1
    assert "internal error: KeyError: 'surprise'" in outcome.err
    assert "`dbgraph --debug show some.plan`" in outcome.err


@pytest.mark.parametrize("how", ["option", "variable"])
def test_debug_shows_the_traceback(
    how: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if how == "variable":
        monkeypatch.setenv("DBGRAPH_DEBUG", "1")
    args = ["show", "/nowhere.plan"]
    assert dbgraph.cli.run(["--debug", *args] if how == "option" else args) == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError(), 1, "out of memory"),
        (OSError(28, "No space left on device", "x.tmp"), 1, "x.tmp: the disk is full"),
    ],
)
def test_exceptions_and_codes(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, text: str
) -> None:
    def fail(path: str) -> None:
        raise error

    monkeypatch.setattr(dbgraph.commands.show, "load_plan", fail)
    outcome = cli("show", "some.plan")
    assert outcome.code == code
    assert text in outcome.err


def test_a_reader_that_goes_away_is_no_error(cli: Cli, tmp_path: Path) -> None:
    plan = compiled(cli, tmp_path, "-n", 4)
    process = subprocess.Popen(
        [*DBGRAPH, "show", str(plan), "--dot"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 141
    process.stderr.close()


def test_a_full_disk_behind_stdout(cli: Cli, tmp_path: Path) -> None:
    plan = compiled(cli, tmp_path, "-n", 2)
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*DBGRAPH, "show", str(plan)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert "the disk is full" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("no_color", ["", "1"])
def test_colours_on_a_terminal_unless_no_color(no_color: str) -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "NO_COLOR": no_color, "TERM": "xterm"}
    subprocess.run([*DBGRAPH, "show", "/nowhere.plan"], stderr=theirs, env=environment, check=False)
    os.close(theirs)
    text = os.read(ours, 10000).decode()
    os.close(ours)
    assert "there is no file" in text
    assert ("\x1b[" in text) == (not no_color)


# compile


def test_compile_prints_a_table(cli: Cli, tmp_path: Path) -> None:
    outcome = cli("compile", net_file(tmp_path), "--partitions", 4, "--strategy", "tiles")
    assert outcome.code == 0
    lines = outcome.out.split("\n")
    assert lines[0] == "small: training on 4 partitions, batch 8, strategy tiles"
    words = [line.split() for line in lines]
    assert [w[i] for w in words if w[:1] == ["total"] for i in (0, 2)] == ["total", "810"]
    (local,) = (line for line in lines if line.startswith("local "))
    assert re.fullmatch(r"local +4 × 4 × 4 +(rows|cols|maps) .+ +0-3 +640 +[0-9.]+ k.*", local)
    assert "* busiest machine: partition " in outcome.out
    assert "forecast: " in outcome.out
    assert "compiled small in" in outcome.err


def test_compile_chooses_by_the_forecast(cli: Cli, tmp_path: Path) -> None:
    steps = {}
    for strategy in (None, *STRATEGIES):
        options = ("--strategy", strategy) if strategy else ()
        found = cli("compile", net_file(tmp_path), "-n", 2, "--json", *options).json
        steps[strategy] = found["forecast"]["step_s"]
    assert steps[None] == min(steps.values())


def test_compile_writes_a_plan(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "a.plan"
    options = ("--microbatches", 4, "--mode", "evaluation", "--strategy", "stages")
    outcome = cli("compile", net_file(tmp_path), "-n", 2, "-o", path, *options)
    plan = open_plan(path)
    assert (plan.name, plan.partitions, plan.microbatches) == ("small", 2, 4)
    assert (plan.mode, plan.strategy) == ("evaluation", "stages")
    assert f"wrote {path}" in outcome.err
    assert os.listdir(tmp_path).count("a.plan") == len(list(tmp_path.glob("*a.plan*"))) == 1


def test_compile_overwrites_and_follows_links(cli: Cli, tmp_path: Path) -> None:
    path, link = tmp_path / "a.plan", tmp_path / "link.plan"
    path.write_text("old")
    link.symlink_to(path)
    assert cli("compile", net_file(tmp_path), "-n", 2, "-o", link, "-q").code == 0
    assert link.is_symlink()
    assert open_plan(path).partitions == 2


def test_compile_to_a_device_leaves_it_one(cli: Cli, tmp_path: Path) -> None:
    assert cli("compile", net_file(tmp_path), "-n", 2, "-o", "/dev/null", "-q").code == 0
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_quiet_says_nothing(cli: Cli, tmp_path: Path) -> None:
    outcome = cli("compile", net_file(tmp_path), "-n", 2, "-o", tmp_path / "a.plan", "-q")
    assert outcome == (0, "", "")


def test_what_the_users_file_prints_is_no_result(cli: Cli, tmp_path: Path) -> None:
    outcome = cli("compile", f"{net_file(tmp_path)}:talkative", "-n", 2, "--json")
    assert outcome.json["plan"]["name"] == "small"
    assert "hello from" in outcome.err


def test_passes_are_those_of_the_compiler() -> None:
    assert (*PASSES, "schedule") == _PASSES


def test_print_after(cli: Cli, tmp_path: Path) -> None:
    both = ("--print-after", "tile", "--print-after", "schedule")
    outcome = cli("compile", net_file(tmp_path), "-n", 2, *both, "-q")
    tiled, programs = outcome.out.split("# after schedule\n")
    assert tiled.startswith("# after tile\n%image@0 = input()")
    assert "send(" not in tiled
    assert "program 1 {" in programs
    assert "RECV t0.0" in programs


def test_print_after_every_pass_of_the_chosen_strategy(cli: Cli, tmp_path: Path) -> None:
    every = [x for name in _PASSES for x in ("--print-after", name)]
    found = cli("compile", net_file(tmp_path), "-n", 2, *every, "--json").json
    assert tuple(found["graphs"]) == _PASSES
    programs = found["graphs"]["schedule"]
    for instruction in ("RUN s0.0", "SEND t0.0", "UPDATE"):
        assert instruction in programs


def test_print_after_a_pass_that_the_mode_has_not(cli: Cli, tmp_path: Path) -> None:
    options = ("--mode", "inference", "--print-after", "gradient")
    outcome = cli("compile", net_file(tmp_path), "-n", 2, *options)
    assert outcome.code == 0
    assert "--print-after gradient: this pass is no part of --mode inference" in outcome.err


def test_compile_for_one_machine(cli: Cli, tmp_path: Path) -> None:
    found = cli("compile", net_file(tmp_path), "-n", 1, "--json").json
    assert found["forecast"]["traffic_bytes"] == 0
    assert found["links"] == []
    assert [row["cut"] for row in found["layers"]] == [{}] * 5


def test_too_large_for_its_machines(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "net.py"
    path.write_text(
        "import dbgraph as dbg\nfrom dbgraph import layers as L\n"
        "def network():\n"
        "    with dbg.Network('large', batch=8) as net:\n"
        "        dbg.output('y', L.Dense(60_000)(dbg.input('x', (50_000,))))\n"
        "    return net\n"
    )
    outcome = cli("compile", path, "-n", 1, "--mode", "inference", "--strategy", "stages")
    assert outcome.code == 0
    assert "warning: 1 of 1 partitions need more memory than they have" in outcome.err
    assert "partition 0 needs 11.2 GiB of 8 GiB" in outcome.err


def test_summary(cli: Cli, tmp_path: Path) -> None:
    outcome = cli("summary", net_file(tmp_path))
    assert "LocallyConnected2D" in outcome.out
    found = cli("summary", net_file(tmp_path), "--json").json
    assert found["parameters"] == 4 * 4 * 4 * (9 + 1) + 2 * 2 * 4 * 10 + 10
    assert [row["name"] for row in found["layers"]][2:4] == ["local", "pool"]


# Bad input


@pytest.mark.parametrize(
    ("function", "code", "texts"),
    [
        ("nothing", 3, ["nothing() returned None, not a dbg.Network", "end nothing with `return"]),
        ("number", 3, ["number() returned int, not a dbg.Network"]),
        ("broken", 3, ["net.py:41", "broken() raised ZeroDivisionError: division by zero"]),
        ("netwrok", 3, ["has no function 'netwrok'", "did you mean 'network'?"]),
        ("constant", 3, ["'constant' is of type int, not a function"]),
        ("misshapen", 3, ["net.py:48"]),
        ("uncuttable", 3, ["net.py:55", "no axis 'units' to cut"]),
        ("overcut", 3, ["net.py:62", "3 elements and can't be cut into 4 pieces"]),
        ("far", 4, ["net.py:70", "placed on partition 7", "--partitions 8 or more"]),
        ("network --partitions 9000", 4, ["9000 partitions are asked for"]),
        ("network --partitions 9000 --strategy stages", 4, ["need as many layers"]),
        ("network --microbatches 3", 4, ["a batch of 8 can't be cut into 3 equal microbatches"]),
        ("network --partitions 0", 2, ["--partitions", "0 is not in the range"]),
        ("network --partitions two", 2, ["'two' is not a valid integer"]),
        ("network --strategy best", 2, ["'best' is not one of 'tiles', 'stages'"]),
        ("network --mode learning", 2, ["'learning' is not one of"]),
        ("network --print-after tiel", 2, ["tiel"]),
        ("other --mode training", 3, ["a plan for training needs a loss", "--mode inference"]),
        ("network -o {}/no/a.plan", 2, ["there is no folder"]),
        ("network -o {}", 2, ["it is a folder"]),
        ("network -o /dev/full", 1, ["can't write '/dev/full': the disk is full"]),
    ],
)
def test_bad_input(cli: Cli, tmp_path: Path, function: str, code: int, texts: list[str]) -> None:
    spec, *options = function.format(tmp_path).split()
    if "--partitions" not in options:
        options += ["--partitions", "2"]
    outcome = cli("compile", f"{net_file(tmp_path)}:{spec}", *options)
    assert outcome.code == code, outcome.err
    for text in texts:
        assert text in outcome.err
    assert outcome.out == ""


@pytest.mark.parametrize(
    ("name", "content", "code", "texts"),
    [
        ("no.py", None, 2, ["there is no file", "did you mean 'net.py'?"]),
        ("net.txt", "", 2, ["is not of the form FILE.py:function"]),
        ("bad.py", "x = (\n", 3, ["bad.py:1", "the file does not import: SyntaxError"]),
        ("bad.py", "import nowhere_at_all\n", 3, ["bad.py:1", "No module named 'nowhere_at_all'"]),
        ("bad.py", "\nraise SystemExit(7)\n", 3, ["bad.py:2", "SystemExit: 7"]),
    ],
)
def test_bad_files(
    cli: Cli, tmp_path: Path, name: str, content: str | None, code: int, texts: list[str]
) -> None:
    net_file(tmp_path)
    if content is not None:
        (tmp_path / name).write_text(content)
    outcome = cli("compile", tmp_path / name, "-n", 2)
    assert outcome.code == code, outcome.err
    for text in texts:
        assert text in outcome.err


def test_a_failed_write_leaves_the_old_file(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.plan"
    path.write_text("old")

    def full(source: str, target: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    outcome = cli("compile", net_file(tmp_path), "-n", 2, "-o", path)
    assert outcome.code == 1
    assert "the disk is full" in outcome.err
    assert path.read_text() == "old"
    assert (
        sorted(os.listdir(tmp_path)) == ["a.plan", "net.py"] or (tmp_path / "__pycache__").exists()
    )
