"""`dbgraph train`: what it prints, what it refuses, how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from zmq_tools import alive

from dbgraph import checkpoint
from dbgraph.cli import run
from dbgraph.metrics import read_log

EXAMPLE = str(Path(__file__).parent.parent / "examples" / "digits.py")
NETWORK = """
import os
import signal

import numpy as np

import dbgraph as dbg
from dbgraph import layers as L


def network(logs=False):
    with dbg.Network("toy", batch=8) as net:
        x = dbg.input("x", (4,))
        y = dbg.input("y", (), dtype="int32")
        h = L.Dense(6, "sigmoid", name="hidden")(x)
        if logs:
            h = L.Activation("log", name="logs")(-h)
        scores = L.Dense(3, name="scores")(h)
        dbg.loss(L.SoftmaxCrossEntropy()(scores, y))
        dbg.output("class", L.ArgMax()(scores))
    return net


def other():
    with dbg.Network("other", batch=8) as net:
        scores = L.Dense(2)(dbg.input("x", (4,)))
        dbg.loss(L.SoftmaxCrossEntropy()(scores, dbg.input("y", (), dtype="int32")))
    return net


def broken():
    return network(logs=True)


def nothing():
    pass


def arrays(count, dtype="float32"):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, count).astype("int32")
    x = rng.normal(size=(count, 4)).astype(dtype)
    x[np.arange(count), y] += 3
    return {"x": x, "y": y}


def data():
    print("reading")
    return dbg.Data(arrays(40), arrays(20))


def few():
    return arrays(5)


def wide():
    return arrays(40, "float64")


class Interrupting:
    \"\"\"Somebody presses Ctrl-C when the third batch is read.\"\"\"

    def __init__(self):
        self.source = dbg.Data(arrays(40)).train
        self.reads = 0

    def __len__(self):
        return len(self.source)

    def inputs(self):
        return self.source.inputs()

    def read(self, name, examples, region):
        self.reads += name == "x"
        if self.reads == 3 and name == "x":
            os.kill(os.getpid(), signal.SIGINT)
        return self.source.read(name, examples, region)


def interrupting():
    return Interrupting()
"""


@pytest.fixture
def net(tmp_path: Path) -> str:
    path = tmp_path / "net.py"
    path.write_text(NETWORK)
    return str(path)


@pytest.fixture
def train(capsys):
    """Runs `dbgraph train …`: (exit code, stdout, stderr)."""

    def invoke(*arguments: object) -> tuple[int, str, str]:
        code = run(["train", *map(str, arguments)])
        out, err = capsys.readouterr()
        return code, out, err

    return invoke


def test_the_result_on_stdout_and_the_story_on_stderr(net, train):
    code, out, err = train(net, "--steps", 20, "--evaluate-every", 10)
    assert code == 0
    first, second, *_ = out.splitlines()
    assert first.startswith("held-out accuracy ")
    assert first.endswith("on 20 held-out examples")
    assert second.startswith("at step 20 after ")
    assert "reading" not in out
    assert "training toy on 1 partition (auto, local): 40 examples, 20 held out, batch 8" in err
    assert "step 20/20" in err


def test_json_and_quiet(net, train):
    code, out, err = train(net, "--steps", 12, "-n", 2, "--json", "--quiet")
    assert (code, err) == (0, "reading\n")
    found = json.loads(out)
    assert found["partitions"] == 2
    assert found["steps"] == 12
    assert found["optimizer"] == "momentum:learning_rate=0.05,momentum=0.9"
    assert 0 <= found["held_out"]["accuracy"] <= 1
    assert found["held_out"]["examples"] == 20


def test_without_held_out_data(net, train):
    code, out, _ = train(net, "--steps", 2, "--data", f"{net}:wide")
    assert code == 1
    code, out, _ = train(net, "--steps", 2, "--data", f"{net}:interrupting")
    assert code == 0
    assert out.startswith("training loss ")


def test_checkpoints_resume_and_log(net, train, tmp_path):
    folder, log = tmp_path / "run", tmp_path / "log"
    straight = train(net, "--steps", 12, "--json", "-q")[1]
    options = (net, "--checkpoint", folder, "--checkpoint-every", 4, "--log", log)
    assert train(*options, "--steps", 5)[0] == 0
    code, _, err = train(*options, "--steps", 12)
    assert code == 2
    assert "--resume" in err
    code, out, err = train(*options, "--steps", 12, "--resume", "--json")
    assert code == 0
    assert f"resuming at step 5 from {folder}/step-00000005" in err
    assert json.loads(out)["held_out"] == json.loads(straight)["held_out"]
    assert json.loads(out)["checkpoint"] == checkpoint.latest(str(folder))
    saved = [r["step"] for r in read_log(str(log)) if r["kind"] == "checkpoint"]
    assert saved[-2:] == [8, 12]


def test_a_plan(net, train, tmp_path):
    plan = tmp_path / "toy.plan"
    assert run(["compile", net, "--partitions", "2", "-o", str(plan), "-q"]) == 0
    code, out, _ = train(net, "--plan", plan, "--steps", 2, "--json")
    assert code == 0
    assert json.loads(out.partition("{")[1] + out.partition("{")[2])["partitions"] == 2
    code, _, err = train(f"{net}:other", "--plan", plan, "--data", f"{net}:data")
    assert code == 3
    assert "the plan is for another network: 'toy'" in err


def test_nan_names_step_layer_and_line(net, train, tmp_path):
    line = 1 + NETWORK.splitlines().index('            h = L.Activation("log", name="logs")(-h)')
    code, out, err = train(f"{net}:broken", "--checkpoint", tmp_path / "run")
    assert (code, out) == (1, "")
    assert f"net.py:{line}: step 1: the loss is nan; it first appears in layer 'logs' (log)" in err
    assert "Traceback" not in err


def test_ctrl_c(net, train, tmp_path):
    folder = tmp_path / "run"
    options = (net, "--data", f"{net}:interrupting", "--checkpoint", folder)
    code, out, err = train(*options, "--steps", 100)
    assert (code, out) == (130, "")
    assert "interrupted after step 3; checkpoint: " in err
    assert checkpoint.load(str(folder))[0].step == 3


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["{net}:nothing"], 3, "returned None, not a dbg.Network"),
        (["{net}:missing"], 3, "no function 'missing'"),
        (["{net}:other", "--data", "{net}:arrays"], 1, "arrays() raised TypeError"),
        (["{net}", "--data", "{net}:few"], 1, "5 examples, a batch takes 8"),
        (["{net}", "--data", "{net}:wide"], 1, 'array.astype("float32")'),
        (["{net}", "--data", "nowhere"], 1, "no data at 'nowhere'"),
        (["{net}", "--partitions", "500"], 4, "partitions"),
        (["{net}", "--steps", "1", "--epochs", "1"], 2, "both given"),
        (["{net}", "--resume"], 2, "needs a folder"),
        (["{net}", "--optimizer", "adm"], 2, "did you mean 'adam'"),
        (["{net}", "--backend", "smoke"], 2, "no backend 'smoke'"),
        (["{net}", "--hosts", "h", "--key", "k"], 2, "--hosts, --key: the local backend"),
        (["{net}", "--partitions", "0"], 2, "0 is not in the range"),
        (["{net}", "--log", "{net}/log", "--steps", "1"], 2, "net.py' is a file"),
        (["{net}", "--plan", "none.plan"], 3, "none.plan: No such file"),
    ],
)
def test_what_is_refused(net, train, arguments, code, said):
    found, out, err = train(*(a.format(net=net) for a in arguments))
    assert said in err
    assert (found, out) == (code, "")
    assert "Traceback" not in err


def test_a_file_without_data(tmp_path, train):
    path = tmp_path / "bare.py"
    path.write_text(NETWORK.replace("def data()", "def not_data()"))
    code, _, err = train(path)
    assert code == 1
    assert "there is no data: " in err
    assert "--data" in err


def test_the_module_is_light():
    code = "import sys, dbgraph.commands.train; print({'jax', 'zmq', 'numpy'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_digits_are_held_out_evenly():
    """A fifth is held out, and no image is on both sides."""
    from dbgraph.data import load_data

    found = load_data(EXAMPLE)
    assert found.test is not None
    assert len(found.test) == (len(found.train) + len(found.test)) // 5
    image, dtype = found.train.inputs()["image"]
    assert (image, dtype) == ((8, 8, 1), "float32")


def test_digits_without_scikit_learn(monkeypatch, train):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    code, _, err = train(EXAMPLE)
    assert code == 1
    assert "pip install 'dbgraph[examples]'" in err


def test_dashboard_is_a_flag(train, net):
    code, _, err = train("--dashboard", net, "--steps", 1)
    assert code == 0, err
    assert "dashboard: http://127.0.0.1:" in err
    code, _, err = train(net, "--dashboard-port", 70000)
    assert code == 2
    assert "70000" in err


# With processes


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "dbgraph", "train", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


@pytest.mark.slow
def test_the_example_as_a_program():
    done = subprocess.run(
        [sys.executable, EXAMPLE], capture_output=True, text=True, timeout=300, check=True
    )
    accuracy = float(done.stdout.partition("accuracy ")[2].partition("%")[0])
    assert accuracy >= 97


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["local", "zmq"])
def test_ctrl_c_leaves_a_checkpoint_and_no_process(net, tmp_path, backend):
    folder = tmp_path / "run"
    process = start(
        net, "--backend", backend, "--partitions", 2, "--steps", 10**6, "--evaluate-every", 5,
        "--checkpoint", folder, "--checkpoint-every", 0,
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("step 10/"):
            break
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) == (2 if backend == "zmq" else 0)
    os.kill(process.pid, signal.SIGSTOP)  # as Ctrl-Z and fg do
    os.kill(process.pid, signal.SIGCONT)
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out == ""
    assert read_log(str(folder / "log.jsonl"))[-1]["reason"] == "interrupted"
    assert not (folder / "control.json").exists()
    assert "interrupted after step" in err
    assert not any(alive(int(child)) for child in children)
    state, _ = checkpoint.load(str(folder))
    assert state.step >= 10
    assert all(np.isfinite(a).all() for pieces in state.tensors.values() for _, a in pieces)
