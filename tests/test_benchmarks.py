"""Every benchmark runs with --quick and writes its figures. What the figures are is not tested
here: that depends on the machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
NAMES = (
    "compile_time",
    "figure4",
    "locally_connected",
    "parameter_server",
    "scaling",
    "step_overhead",
    "tracing",
    "two_processes",
)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_runs_and_writes_its_figures(name: str, tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), "--quick", "--json", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    found = json.loads(file.read_text())
    assert found["benchmark"] == name
    assert found["machine"]["cores"] >= 1
    assert found["machine"]["packages"]["jax"]
    assert len(found) > 2
