"""`dbgraph train`: the options of training with replicas."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from dbgraph.commands.sections import SectionOption
from dbgraph.errors import UsageError

if TYPE_CHECKING:
    from dbgraph.train.algorithm import Algorithm

F = TypeVar("F", bound=Callable[..., Any])

SECTIONS = {"downpour": "Downpour SGD", "sandblaster": "Sandblaster", "sync": "Synchronous SGD"}

_COUNT, _NUMBER = click.IntRange(1), click.FloatRange(0)
_OPTIONS: Mapping[str, Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "downpour": {
        "n_fetch": ("--n-fetch", {"type": _COUNT, "help": "Fetch every N steps.  [1]"}),
        "n_push": ("--n-push", {"type": _COUNT, "help": "Push every N steps.  [1]"}),
        "local_rate": (
            "--local-rate",
            {"type": _NUMBER, "help": "Of the descent between fetches.  [the learning rate]"},
        ),
        "warm_start": (
            "--warm-start",
            {"type": click.IntRange(0), "help": "Steps of one replica before the others.  [0]"},
        ),
        "max_staleness": (
            "--max-staleness",
            {"type": click.IntRange(0), "help": "Pushes ahead of the slowest.  [no bound]"},
        ),
        "scale_by_staleness": (
            "--scale-by-staleness",
            {"is_flag": True, "default": None, "help": "Smaller steps for staler gradients."},
        ),
        "push_compression": (
            "--push-compression",
            {"metavar": "CODEC", "help": "bfloat16, float16, int8 or topk:FRACTION.  [none]"},
        ),
        "fetch_compression": (
            "--fetch-compression",
            {"metavar": "CODEC", "help": "bfloat16, float16 or int8.  [none]"},
        ),
        "share": ("--share", {"type": _COUNT, "help": "Batches handed out at a time.  [16]"}),
    },
    "sandblaster": {
        "method": ("--method", {"help": "lbfgs, cg or gd.  [lbfgs]"}),
        "history": ("--history", {"type": _COUNT, "help": "Pairs that L-BFGS keeps.  [10]"}),
        "portion": (
            "--portion",
            {"type": _COUNT, "help": "Examples of a portion.  [the network's batch]"},
        ),
        "flush_every": (
            "--flush-every",
            {"type": _COUNT, "help": "Portions between sends of gradients.  [4]"},
        ),
        "patience": (
            "--overdue",
            {"type": click.FloatRange(1), "help": "Late: so many times the usual time.  [2]"},
        ),
        "duplicate": (
            "--duplicate/--no-duplicate",
            {"default": None, "help": "Give late portions to others too.  [yes]"},
        ),
        "gtol": ("--gtol", {"type": _NUMBER, "help": "Stop at this gradient element.  [1e-5]"}),
        "ftol": (
            "--ftol",
            {"type": _NUMBER, "help": "Stop at this relative gain.  [float32: 1e-6]"},
        ),
    },
    "sync": {
        "backups": (
            "--backups",
            {"type": click.IntRange(0), "help": "Replicas that a step does not wait for.  [0]"},
        ),
    },
}
"""By algorithm: field → (the option, how it is declared)."""


def algorithm_options(command: F) -> F:
    """Declares them all."""
    for name, fields in reversed(list(_OPTIONS.items())):
        for field, (flag, declared) in reversed(list(fields.items())):
            section = SECTIONS[name]
            option = click.option(
                flag, _key(name, field), cls=SectionOption, section=section, **declared
            )
            command = option(command)
    for flag, what in (
        ("--shards", "Of the parameter server.  [1]"),
        ("--replicas", "Copies of the plan that train.  [1]"),
    ):
        command = click.option(flag, type=_COUNT, help=what, cls=SectionOption, section="Replicas")(
            command
        )
    return click.option(
        "--algorithm",
        metavar="NAME",
        help="downpour, sandblaster or sync.  [SGD over one plan, without replicas]",
        cls=SectionOption,
        section="Replicas",
    )(command)


def take_algorithm(options: dict[str, Any]) -> Algorithm | str | None:
    """Takes what `algorithm_options` has declared out of the options.

    Raises UsageError for options of another algorithm.
    """
    chosen: str | None = options.pop("algorithm")
    given: dict[str, dict[str, Any]] = {}
    for name, fields in _OPTIONS.items():
        values = {field: options.pop(_key(name, field)) for field in fields}
        given[name] = {field: value for field, value in values.items() if value is not None}
    for name, values in given.items():
        if values and name != chosen:
            flag = _OPTIONS[name][next(iter(values))][0].partition("/")[0]
            raise UsageError(f"{flag} belongs to --algorithm {name}", hint="give both, or neither")
    if chosen is None or chosen not in _OPTIONS:
        return chosen
    from dbgraph.train.algorithm import ALGORITHMS

    return ALGORITHMS[chosen](**given[chosen])


def _key(algorithm: str, field: str) -> str:
    return f"{algorithm}_{field}"
