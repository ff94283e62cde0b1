"""The README is true: its commands run, in its order, in an empty folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dbgraph.clusterfile import cluster_toml, parse_cluster

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\$ (.+)$", README, flags=re.MULTILINE)
_WRITTEN = re.compile(r"(?<![\w./-])(?!examples/)(?:runs/\w+|[\w-]+\.[a-z]+\b)")
"""What a command writes, or reads of those before it: files, and folders of runs."""
_ACCURACY = re.compile(r"^held-out accuracy ([\d.]+)%", re.MULTILINE)
_CALIBRATE = "dbgraph calibrate --partitions 2 -o here.toml --quiet"


def tours() -> list[list[str]]:
    """The commands that share files, together; so each group needs nothing of the others."""
    found: list[tuple[set[str], set[int]]] = []
    for number, command in enumerate(COMMANDS):
        files, numbers = set(_WRITTEN.findall(command)), {number}
        for group in [one for one in found if one[0] & files]:
            found.remove(group)
            files |= group[0]
            numbers |= group[1]
        found.append((files, numbers))
    return [[COMMANDS[number] for number in sorted(numbers)] for _, numbers in found]


def run(command: str, folder: Path) -> str:
    """What it prints."""
    here = os.path.dirname(sys.executable)
    environment = {**os.environ, "PATH": here + os.pathsep + os.environ["PATH"]}
    done = subprocess.run(
        command, shell=True, cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("commands", tours(), ids=lambda commands: commands[0])
def test_every_command_of_the_tour_runs(commands: list[str], tmp_path: Path) -> None:
    """And every training gets 97 % of the digits right, and what is measured can be."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    for command in commands:
        printed = run(command, tmp_path)
        if command.startswith("dbgraph train examples/digits.py"):
            (accuracy,) = _ACCURACY.findall(printed)
            assert float(accuracy) >= 97, command
        if command == _CALIBRATE:
            check_figures((tmp_path / "here.toml").read_text(encoding="utf-8"))


def check_figures(file: str) -> None:
    """A product of matrices is faster than 1 and slower than 100,000 GFLOP/s on any machine, a
    message takes between 1 µs and 1 s."""
    found = parse_cluster(file)
    spec = found.machines[0]
    assert 1e9 < spec.flop_s < 1e14
    assert 1e8 < spec.memory_bytes_s < 1e13
    assert 1e-6 < found.local.message_s + found.local.latency_s < 1.0
    assert 1e-5 < found.driver_s + found.control_s < 1.0
    assert cluster_toml(found) == file


def test_the_tour_measures_this_host() -> None:
    assert _CALIBRATE in COMMANDS


def test_all_commands_of_the_tour_are_found() -> None:
    assert len(COMMANDS) > 8
    assert sorted(command for commands in tours() for command in commands) == sorted(COMMANDS)


@pytest.mark.parametrize(
    "options",
    [
        "--partitions 4 --backend zmq",
        "--algorithm downpour --replicas 4 --shards 2",
        "--algorithm sync --replicas 2 --shards 2",
        "--algorithm sandblaster --replicas 4 --shards 2",
    ],
)
def test_the_digits_are_trained_in_every_way(options: str) -> None:
    trainings = [one for one in COMMANDS if one.startswith("dbgraph train examples/digits.py")]
    assert any(options in training for training in trainings)


def test_the_network_of_the_readme_compiles(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.+?)```", README, re.DOTALL)
    source = next(block for block in blocks if "def network" in block)
    scope: dict[str, object] = {}
    exec(compile(source, str(tmp_path / "small.py"), "exec"), scope)
    network = scope["network"]()  # type: ignore[operator]
    assert network.name == "small"


def test_no_placeholder_is_left() -> None:
    assert "@@" not in README


@pytest.mark.parametrize("path", re.findall(r"\]\((docs/[^)]+)\)", README))
def test_pictures_are_there(path: str) -> None:
    assert (ROOT / path).is_file()
