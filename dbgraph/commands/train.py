"""`dbgraph train`: trains a network."""

from __future__ import annotations

import math
import sys
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

import click

from dbgraph.commands.algorithm import algorithm_options, take_algorithm
from dbgraph.commands.base import (
    AS_JSON,
    NETWORK,
    QUIET,
    TRACE,
    folder_to_write,
    load_network,
    log_to_write,
    print_json,
)
from dbgraph.commands.sections import SectionCommand
from dbgraph.errors import DataError, UsageError
from dbgraph.kernels.cache import use_compilation_cache
from dbgraph.units import bytes_

if TYPE_CHECKING:
    from dbgraph.data import Data
    from dbgraph.train.history import Evaluation, Result
    from dbgraph.train.trainer import Trainer

_EPILOG = """\
\b
Examples:
  dbgraph train examples/digits.py --partitions 4 --backend zmq
  dbgraph train net.py:small --data digits.npz --epochs 20 --optimizer adam:learning_rate=0.001
  dbgraph train net.py --checkpoint runs/a --steps 5000 --patience 5 --log runs/a.jsonl
  dbgraph train net.py --checkpoint runs/a --steps 9000 --resume --partitions 8
  dbgraph train examples/digits.py --algorithm downpour --replicas 4 --shards 2 --n-fetch 2
  dbgraph train examples/digits.py --partitions 4 --backend zmq --checkpoint runs/b --dashboard
"""


@click.command(cls=SectionCommand, epilog=_EPILOG, context_settings={"max_content_width": 100})
@NETWORK
@algorithm_options
@click.option("-n", "--partitions", type=click.IntRange(1), help="Machines to cut it for.  [1]")
@click.option("--backend", default="local", show_default=True, help="local, zmq or another.")
@click.option("--steps", type=click.IntRange(0), help="Train until step N is done.  [500]")
@click.option("--epochs", type=click.IntRange(0), help="The same, in rounds over the data.")
@click.option(
    "--data",
    metavar="SOURCE",
    help="FILE.py:FUNCTION, FILE.npz, or a folder of .npy files.  [data() in the network's file]",
)
@click.option(
    "--optimizer",
    metavar="TEXT",
    help="Rule and schedule, such as adam:learning_rate=0.001@cosine:steps=1000.  "
    "[momentum:learning_rate=0.05, with downpour adagrad:learning_rate=0.02]",
)
@click.option(
    "--microbatches", type=click.IntRange(1), help="Parts of the batch, gradients added up.  [1]"
)
@click.option("--strategy", help="auto, tiles or stages; see compile.  [auto]")
@click.option("--plan", metavar="PLAN", help="Use this plan instead of compiling one.")
@click.option(
    "--seed", type=click.IntRange(0), help="Of parameters and order.  [the network's own]"
)
@click.option(
    "--evaluate-every",
    type=click.IntRange(0),
    help="Evaluate after so many steps; 0: only at the end.  [an epoch, at least 100 steps]",
)
@click.option(
    "--patience", type=click.IntRange(1), help="Stop after K evaluations without a better loss."
)
@click.option("--accuracy", metavar="OUTPUT=INPUT", help="What to compare, such as class=label.")
@click.option(
    "--checkpoint", type=folder_to_write, metavar="DIR", help="Save checkpoints in this folder."
)
@click.option(
    "--checkpoint-every",
    type=click.IntRange(0),
    help="Save after so many steps; 0: only at the end.  [at every evaluation]",
)
@click.option("--keep", type=click.IntRange(1), default=3, show_default=True, help="How many stay.")
@click.option("--resume", is_flag=True, help="Go on from the newest checkpoint in the folder.")
@click.option("--log", type=log_to_write, metavar="FILE", help="Write a log of JSON lines.")
@TRACE
@click.option(
    "--tensorboard", type=folder_to_write, metavar="DIR", help="Write event files for TensorBoard."
)
@click.option(
    "--dashboard", is_flag=True, help="Show the run as a page on this host; stderr says where."
)
@click.option(
    "--dashboard-port", type=click.IntRange(0, 65535), help="The same, on a port of your choice."
)
@click.option("--hosts", metavar="FILE", help="zmq: TOML file of the workers' addresses.")
@click.option("--key", metavar="FILE", help="zmq: the key that those workers were started with.")
@click.option("--port", type=click.IntRange(1, 65535), help="zmq: partition p listens on PORT + p.")
@AS_JSON
@QUIET
def train(
    spec: str,
    data: str | None,
    hosts: str | None,
    key: str | None,
    port: int | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Train a network, on one machine or many.

    By default by SGD over one plan, whose partitions work on each batch together. With
    --algorithm by many replicas of the plan, which share their parameters through a parameter
    server: asynchronously (downpour), on the whole data at a time (sandblaster: L-BFGS), or on
    large batches (sync).

    The result goes to stdout, the story to stderr. Ctrl-C (or SIGTERM, or a terminal that is
    closed) ends it after the step at hand and saves a checkpoint, if there is a folder for them.
    """
    options["algorithm"] = take_algorithm(options)
    options["dashboard"] = _dashboard(options.pop("dashboard"), options.pop("dashboard_port"))
    options["backend_options"] = _backend_options(options["backend"], hosts, key, port)
    use_compilation_cache()
    network = load_network(spec)
    with redirect_stdout(sys.stderr):  # what the user's own functions print is no result
        examples = _data(spec, data)
        from dbgraph.train.trainer import Trainer

        trainer = Trainer(network, examples, progress="none" if quiet else "auto", **options)
        result = trainer.train()
    if as_json:
        print_json(_record(trainer, result))
    else:
        click.echo(_text(result))


def _data(network: str, data: str | None) -> Data:
    """What `--data` names, or of the function `data` in the network's file."""
    from dbgraph.data import load_data
    from dbgraph.userfile import split_spec

    if data is not None:
        return load_data(data)
    path, _ = split_spec(network, "network")
    try:
        return load_data(f"{path}:data")
    except DataError as error:
        if "has no function" not in error.rule:
            raise
        hint = "give --data FILE.npz, a folder or FILE.py:FUNCTION, or write `def data(): …` there"
        raise DataError(f"there is no data: {error.rule}", hint=hint) from error


def _dashboard(wanted: bool, port: int | None) -> int | None:
    """See `Options.dashboard`."""
    return 0 if wanted and port is None else port


def _backend_options(
    backend: str, hosts: str | None, key: str | None, port: int | None
) -> dict[str, object]:
    given: dict[str, object] = {
        name: value
        for name, value in (("hosts", hosts), ("key", key), ("port", port))
        if value is not None
    }
    if given and backend == "local":
        names = ", ".join(f"--{name}" for name in given)
        raise UsageError(f"{names}: the local backend has no use for it", hint="--backend zmq")
    return given


# The result


def _text(result: Result) -> str:
    lines = []
    if result.evaluations:
        lines.append(_held_out(result.evaluations[-1]))
    elif result.losses:
        lines.append(f"training loss {result.loss:.4g}")
    early = "" if result.reason == "steps" else f" ({result.reason})"
    lines.append(
        f"at step {result.step:,}{early} after {result.seconds:.1f} s, "
        f"{result.examples_per_s:,.0f} examples/s"
    )
    best = result.best
    if best is not None and best.step != result.step:
        lines.append(f"best after {best.step:,} steps: {_held_out(best)}")
    if result.saved_bytes:
        plain_bytes = result.moved_bytes + result.saved_bytes
        lines.append(
            f"compression saved {bytes_(result.saved_bytes)} of {bytes_(plain_bytes)} "
            f"({result.saved_bytes / plain_bytes:.0%}) between replicas and shards"
        )
    if result.checkpoint is not None:
        lines.append(f"checkpoint {result.checkpoint}")
    return "\n".join(lines)


def _held_out(evaluation: Evaluation) -> str:
    loss = f"loss {evaluation.loss:.4g} on {evaluation.examples:,} held-out examples"
    if evaluation.accuracy is None:
        return f"held-out {loss}"
    return f"held-out accuracy {evaluation.accuracy:.2%}, {loss}"


def _record(trainer: Trainer, result: Result) -> dict[str, object]:
    plan = trainer.plan
    return {
        "network": plan.name,
        "partitions": plan.partitions,
        "strategy": plan.strategy,
        "backend": trainer.options.backend,
        "algorithm": str(trainer.setup.many) if trainer.setup.many else None,
        "optimizer": trainer.setup.method,
        "steps": result.step,
        "reason": result.reason,
        "seconds": round(result.seconds, 3),
        "examples_per_s": round(result.examples_per_s, 1),
        "training_loss": _number(result.losses[-1]) if result.losses else None,
        "held_out": _evaluation(result.evaluations[-1]) if result.evaluations else None,
        "best": _evaluation(result.best) if result.best is not None else None,
        "moved_bytes": result.moved_bytes,
        "saved_bytes": result.saved_bytes,
        "checkpoint": result.checkpoint,
    }


def _evaluation(evaluation: Evaluation) -> dict[str, object]:
    return {
        "step": evaluation.step,
        "loss": _number(evaluation.loss),
        "terms": {name: _number(value) for name, value in evaluation.terms.items()},
        "accuracy": evaluation.accuracy,
        "examples": evaluation.examples,
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
