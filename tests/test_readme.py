"""The README is true: its commands run, in its order, in an empty folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\$ (.+)$", README, flags=re.MULTILINE)


@pytest.mark.slow
def test_every_command_of_the_tour_runs(tmp_path: Path) -> None:
    assert len(COMMANDS) > 8
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    here = os.path.dirname(sys.executable)
    environment = {**os.environ, "PATH": here + os.pathsep + os.environ["PATH"]}
    for command in COMMANDS:
        done = subprocess.run(
            command, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


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
