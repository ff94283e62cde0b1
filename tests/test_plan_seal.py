"""Plans that the compiler wrote are not verified again; those that somebody has touched are."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_tools import Cli, compiled

from dbgraph.plan.seal import is_sealed
from dbgraph.plan.text import open_plan, save_plan


@pytest.fixture
def plan(cli: Cli, tmp_path: Path) -> Path:
    return compiled(cli, tmp_path, "-n", 2, "--strategy", "tiles")


def test_what_the_compiler_wrote_is_sealed(plan: Path) -> None:
    assert is_sealed(plan)
    again = plan.with_name("again.plan")
    save_plan(open_plan(plan), again)
    assert not is_sealed(again), "nobody has verified it"
    assert again.read_text().splitlines()[:-1] == plan.read_text().splitlines()[:-1]


def test_a_sealed_plan_is_verified_only_when_asked(
    plan: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified = []
    monkeypatch.setattr("dbgraph.plan.verify.verify_plan", verified.append)
    assert cli("simulate", plan).code == 0
    assert not verified
    assert cli("verify", plan).code == 0
    assert len(verified) == 1


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text.replace("RUN s0.0\n", "", 1),
        lambda text: text.replace("RUN s0.0\n", "", 1).rsplit("\n", 2)[0] + "\nend\n",
        lambda text: text.replace("RUN s0.0\n", "", 1).rsplit(" ", 1)[0] + " 0123456789abcdef\n",
    ],
)
def test_an_edited_plan_is_verified(plan: Path, cli: Cli, edit: Callable[[str], str]) -> None:
    plan.write_text(edit(plan.read_text()))
    assert not is_sealed(plan)
    done = cli("simulate", plan)
    assert done.code == 3
    assert "is not there yet" in done.err


def test_a_pipe_is_not_read_again(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.plan"
    os.mkfifo(pipe)
    assert not is_sealed(pipe)


@pytest.mark.parametrize("content", [b"", b"end ", b"end 0", b"\nend \n", b"\xff\nend ef"])
def test_what_is_no_plan_is_not_sealed(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "no.plan"
    path.write_bytes(content)
    assert not is_sealed(path)
