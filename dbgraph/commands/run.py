"""`dbgraph run`: a network's outputs for given arrays."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

import click

from dbgraph.commands.base import (
    AS_JSON,
    PLAN,
    QUIET,
    TRACE,
    load_plan,
    output_option,
    print_json,
    story,
    warn,
    write_file,
)
from dbgraph.errors import PlanError, UsageError

if TYPE_CHECKING:
    import numpy as np

    from dbgraph.data import Source
    from dbgraph.plan.plan import Plan
    from dbgraph.state import State
    from dbgraph.trace.recording import Recording

NAME = "run"
"""Of the plan, in its job."""

_EPILOG = """\b
Examples:
  dbgraph compile digits.py --partitions 4 --mode inference -o predict.plan
  dbgraph run predict.plan --inputs images.npz --checkpoint runs/digits -o classes.npz
  dbgraph run predict.plan --inputs images.npz --backend zmq --json

The inputs are arrays by the names of the network's inputs, axis 0 counting
examples; any number of them: the last batch is filled up, and cut off again.
"""


@click.command(name="run", epilog=_EPILOG)
@PLAN
@click.option(
    "--inputs",
    required=True,
    metavar="DATA",
    help="FILE.npz, a folder of .npy files, or FILE.py:FUNCTION that returns arrays.",
)
@click.option("--checkpoint", metavar="DIR", help="Take the parameters from there.")
@click.option("--backend", default="local", show_default=True, help="local, zmq, …")
@click.option("--hosts", metavar="FILE", help="zmq: the hosts where workers listen.")
@click.option("--key", metavar="FILE", help="zmq: the key file of those workers.")
@output_option(metavar="FILE.npz", help="Write the outputs to this file.")
@TRACE
@AS_JSON
@QUIET
def run(
    plan_file: str,
    inputs: str,
    checkpoint: str | None,
    backend: str,
    hosts: str | None,
    key: str | None,
    output: str | None,
    trace: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Compute a network's outputs for given arrays.

    PLAN is one for inference. Without a checkpoint the parameters are the initial ones.
    """
    plan = load_plan(plan_file)
    if plan.mode != "inference":
        hint = "compile the network again with --mode inference"
        raise PlanError(f"{plan_file} is a plan for {plan.mode}, not for inference", hint=hint)
    options = _backend_options(backend, hosts, key)
    from dbgraph.kernels.cache import use_compilation_cache
    from dbgraph.trace.recording import Recording

    use_compilation_cache()
    with redirect_stdout(sys.stderr):  # what a user's function prints is no result
        source = _source(plan, inputs)
        state = _state(plan, checkpoint)
        if state is None:
            warn("no --checkpoint: the parameters are the initial, untrained ones")
        recording = None
        if trace is not None:
            say = (lambda text: None) if quiet else story
            recording = Recording(trace, {NAME: plan}, backend, say)
        outputs = _compute(plan, source, state, backend, options, recording)
    if output is not None:
        write_file(output, _npz(outputs))
        if not quiet:
            story(f"wrote {output}: {', '.join(outputs)} of {len(source):,} examples")
    if as_json:
        print_json({"examples": len(source), "outputs": {k: _plain(v) for k, v in outputs.items()}})
    elif output is None:
        click.echo(_table(outputs))


def _backend_options(backend: str, hosts: str | None, key: str | None) -> dict[str, Any]:
    options = {name: v for name, v in (("hosts", hosts), ("key", key)) if v is not None}
    if options and backend == "local":
        raise UsageError(f"--{next(iter(options))} is for the backend zmq", hint="--backend zmq")
    return options


def _source(plan: Plan, spec: str) -> Source:
    """The arrays, checked against what the plan reads. Raises DataError."""
    from dbgraph.data import check, load_data

    data = load_data(spec)
    needed = {leaf.of for p in range(plan.partitions) for leaf in plan.leaves("input", p)}
    check(data.train, plan.input_types, needed=needed, padded=True)
    return data.train


def _state(plan: Plan, checkpoint: str | None) -> State | None:
    from dbgraph.checkpoint import load

    if checkpoint is None:
        return None
    return load(checkpoint, plan.parameter_types, plan.fingerprint)[0]


def _compute(
    plan: Plan,
    source: Source,
    state: State | None,
    backend: str,
    options: dict[str, Any],
    recording: Recording | None,
) -> dict[str, np.ndarray]:
    """All outputs of all examples, batch by batch."""
    import numpy as np

    from dbgraph.backends.base import make_backend
    from dbgraph.job import Job, Step
    from dbgraph.sampler import sweep

    runner = make_backend(backend, **options)
    found: dict[str, list[np.ndarray]] = {name: [] for name in plan.outputs}
    try:
        collector = recording.collector if recording is not None else None
        runner.start(Job({NAME: plan}, sources={NAME: source}, collector=collector))
        runner.load(state)
        for number, (examples, valid) in enumerate(sweep(len(source), plan.batch)):
            step = Step(NAME, number, examples=examples, want=frozenset({"output"}))
            for name, value in runner.step(step).outputs.items():
                found[name].append(value[:valid] if _has_batch(plan, name) else value)
    finally:
        runner.stop()
        if recording is not None:
            recording.finish(sys.exception())
    return {
        name: np.concatenate(parts) if _has_batch(plan, name) else parts[-1]
        for name, parts in found.items()
    }


def _has_batch(plan: Plan, name: str) -> bool:
    """Whether an output has a row for each example; one of parameters alone has none."""
    return plan.outputs[name].shape[:1] == (plan.batch,)


def _npz(outputs: dict[str, np.ndarray]) -> bytes:
    """Not by `np.savez`, to which an output may not be called "file"."""
    import zipfile

    import numpy as np

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, value in outputs.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, _common(value), allow_pickle=False)
    return buffer.getvalue()


def _common(value: np.ndarray) -> np.ndarray:
    """bfloat16, which files do not know, as float32."""
    return value.astype("float32") if value.dtype.name == "bfloat16" else value


def _plain(value: np.ndarray) -> Any:
    """Nested lists for JSON; null stands for what is not finite."""
    import numpy as np

    if value.dtype.kind in "iub":
        return value.tolist()
    numbers = value.astype(np.float64)
    finite = np.isfinite(numbers)
    if not finite.all():
        numbers = numbers.astype(object)
        numbers[~finite] = None
    return numbers.tolist()


def _table(outputs: dict[str, np.ndarray]) -> str:
    """The first few values of each output."""
    from dbgraph.show.columns import columns

    rows = []
    for name, value in outputs.items():
        flat = value.reshape(-1)
        first = " ".join(f"{x:.4g}" if value.dtype.kind not in "iub" else str(x) for x in flat[:8])
        shape = ",".join(map(str, value.shape))
        more = " …" if len(flat) > 8 else ""
        rows.append([name, f"{value.dtype.name}[{shape}]", first + more])
    head = ["output", "type", "values"]
    return columns(head, rows, left=frozenset(head))
