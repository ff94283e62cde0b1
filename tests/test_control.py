"""Asking a run from another terminal."""

from __future__ import annotations

import json
import os
import socket
import stat
import threading
from pathlib import Path

import pytest
from cli_tools import Cli, Outcome
from replica_tools import arrays, network

import dbgraph as dbg
from dbgraph.backends.control import FILE, Answer, Request, ask, controllable
from dbgraph.errors import RunError, UsageError
from dbgraph.train.progress import Silent


def _handle(request: Request) -> Answer:
    if request.get("ask") != "echo":
        raise UsageError("unknown", hint="echo")
    return request


def test_requests_are_answered_and_refused(tmp_path: Path) -> None:
    with controllable(tmp_path, _handle):
        assert ask(tmp_path, {"ask": "echo", "n": [1, 2]}) == {"ask": "echo", "n": [1, 2]}
        with pytest.raises(UsageError, match="unknown") as caught:
            ask(tmp_path, {"ask": "what"})
        assert caught.value.hint == "echo"
        path = Path(json.loads((tmp_path / FILE).read_text())["socket"])
        assert stat.S_IMODE(os.stat(path.parent).st_mode) == 0o700
        with socket.socket(socket.AF_UNIX) as line:  # says nonsense, and goes
            line.connect(str(path))
            line.sendall(b"\xff\n")
        assert ask(tmp_path, {"ask": "echo"}) == {"ask": "echo"}
    assert not path.parent.exists()
    assert not (tmp_path / FILE).exists()
    with pytest.raises(UsageError, match="no run goes on"):
        ask(tmp_path, {"ask": "echo"})


def test_the_file_of_a_killed_run_is_no_harm(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"socket": "/nowhere/at/all"}')
    with pytest.raises(UsageError, match="no run goes on"):
        ask(tmp_path, {"ask": "echo"})
    with controllable(tmp_path, _handle):
        assert ask(tmp_path, {"ask": "echo"}) == {"ask": "echo"}
    (tmp_path / FILE).write_text("[1, 2")
    with controllable(tmp_path, _handle):
        assert ask(tmp_path, {"ask": "echo"}) == {"ask": "echo"}


def test_a_run_that_does_not_answer(tmp_path: Path) -> None:
    """As one whose process is stopped: the system takes the question, and nobody reads it."""
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(path)
        silent.listen()
        (tmp_path / FILE).write_text(json.dumps({"socket": path, "pid": os.getpid()}))
        with pytest.raises(RunError, match=r"does not answer within 0\.05 s"):
            ask(tmp_path, {"ask": "state"}, patience_s=0.05)


class Terminal(Silent):
    """The other terminal: it asks when a step is done, and waits for the answers."""

    def __init__(self, cli: Cli, folder: Path) -> None:
        self.cli, self.folder = cli, folder
        self.said: list[Outcome] = []

    def step(self, done: int, loss: float, accuracy: float | None) -> None:
        if done == 20:
            thread = threading.Thread(target=self.ask)
            thread.start()
            thread.join()

    def ask(self) -> None:
        for words in ("--add 2", "--remove 0", "--remove 9", "--json", "", "--remove 1"):
            self.said.append(self.cli("replicas", self.folder, *words.split()))


def test_replicas_come_and_go_from_the_command_line(cli: Cli, tmp_path: Path) -> None:
    """Those who were there first all go: the others do what is left."""
    terminal = Terminal(cli, tmp_path)
    dbg.Trainer(
        network(), dbg.Data(arrays(160)), algorithm="downpour", replicas=2, steps=700,
        log=tmp_path / "log", checkpoint=tmp_path, checkpoint_every=0, progress=terminal,
    ).train()  # fmt: skip
    added, removed, refused, shown, table, _ = terminal.said
    assert (added.code, removed.code, refused.code, shown.code) == (0, 0, 2, 0)
    assert "asked for 2 replicas more" in added.err
    assert "there is no replica 9" in refused.err
    assert [one["replica"] for one in json.loads(shown.out)["replicas"]] == [0, 1]
    assert "replica 1: training" in table.out
    log = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    last = next(line for line in reversed(log) if "replicas" in line)["replicas"]
    assert [one["replica"] for one in last] == [0, 1, 2, 3]
    assert [one["doing"] for one in last[:2]] == ["gone", "gone"]
    assert last[2]["examples"] + last[3]["examples"] > 0


def test_no_run(cli: Cli, tmp_path: Path) -> None:
    outcome = cli("replicas", tmp_path)
    assert outcome.code == 2
    assert "no run goes on" in outcome.err
