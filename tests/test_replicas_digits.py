"""The real digits by all three algorithms, from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dbgraph.cli import run

EXAMPLE = str(Path(__file__).parent.parent / "examples" / "digits.py")


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        f"{EXAMPLE} --algorithm downpour --replicas 4",
        f"{EXAMPLE} --algorithm sync --replicas 2",
        f"{EXAMPLE}:plain --algorithm sandblaster --replicas 4 --steps 60",
    ],
)
def test_97_percent_of_the_digits(options: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", *options.split(), "--shards", "2", "--json", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["held_out"]["accuracy"] >= 0.97
