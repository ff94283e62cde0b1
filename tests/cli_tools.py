"""Command lines in this process, and the networks that they are about."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dbgraph.cli import run
from dbgraph.plan.cuts import parse_cuts
from dbgraph.plan.text import open_plan, save_plan

NETWORK = """
import dbgraph as dbg
from dbgraph import layers as L


def network():
    with dbg.Network("small", batch=8) as net:
        image = dbg.input("image", (6, 6, 1))
        label = dbg.input("label", (), dtype="int32")
        h = L.LocallyConnected2D(4, (3, 3), activation="relu", name="local")(image)
        h = L.Pool2D("l2", (2, 2), name="pool")(h)
        scores = L.Dense(10, name="scores")(h)
        dbg.loss(L.SoftmaxCrossEntropy(name="error")(scores, label))
        dbg.output("class", L.ArgMax(name="best")(scores))
        dbg.output("scores", scores)
    return net


def other():
    with dbg.Network("small", batch=8) as net:
        image = dbg.input("image", (6, 6, 1))
        scores = L.Dense(10, name="scores")(image)
        dbg.output("scores", scores)
    return net


def talkative():
    print("hello from the network's file")
    return network()


def nothing():
    network()


def number():
    return 4


def broken():
    return 1 / 0


def misshapen():
    with dbg.Network("bad", batch=8) as net:
        x = dbg.input("x", (5,))
        y = dbg.input("y", (4,))
        dbg.output("sum", x + y)
    return net


def uncuttable():
    with dbg.Network("bad", batch=8) as net:
        x = dbg.input("x", (5,))
        dbg.output("y", L.ArgMax(cut={"units": 2})(x))
    return net


def overcut():
    with dbg.Network("bad", batch=8) as net:
        x = dbg.input("x", (5,))
        dbg.output("y", L.Dense(3, cut={"units": 4})(x))
    return net


def far():
    with dbg.Network("bad", batch=8) as net:
        x = dbg.input("x", (5,))
        with dbg.partition(7):
            dbg.output("y", L.Dense(3)(x))
    return net


constant = 3
"""


class Outcome(NamedTuple):
    """What a command line did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Cli:
    """Runs command lines. None of them may show a traceback."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *args: str | Path | float) -> Outcome:
        self._capsys.readouterr()
        code = run([str(a) for a in args])
        out, err = self._capsys.readouterr()
        assert "Traceback" not in out + err
        return Outcome(code, out, err)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(capsys)


def compiled(cli: Cli, folder: Path, *options: str | float, name: str = "small.plan") -> Path:
    """A plan of NETWORK."""
    path = folder / name
    outcome = cli("compile", net_file(folder), *options, "-o", path, "--quiet")
    assert outcome.code == 0, outcome.err
    return path


def net_file(folder: Path) -> Path:
    """NETWORK in a file."""
    path = folder / "net.py"
    if not path.exists():
        path.write_text(NETWORK)
    return path


def recut(path: Path, *lines: str) -> Path:
    """The plan with these lines for their nodes."""
    old = open_plan(path, edited=True)
    new = parse_cuts(lines, old.network, old.batch)
    target = path.with_name("edited.plan")
    save_plan(replace(old, cuts={**old.cuts, **new}), target)
    return target
