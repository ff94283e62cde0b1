"""Update rules and learning rate schedules, as descriptions that travel and print.

All rules are elementwise: each parameter element's update depends on that element's own gradients
alone. So updating the regions of a parameter apart, on several machines, equals updating the
whole. A rule that is not (clipping by the global norm, layer-wise rates) has no place here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from dbgraph.errors import UsageError
from dbgraph.optim.options import Named, Option, Table, Value, complete, from_text, to_text

if TYPE_CHECKING:
    import optax

_DECAY = {"b1": Option(0.9, below=1.0), "b2": Option(0.999, below=1.0), "eps": Option(1e-8)}

RULES: Table = {
    "sgd": Named("gradient descent", {"learning_rate": Option(0.01)}),
    "momentum": Named(
        "gradient descent with heavy-ball momentum",
        {"learning_rate": Option(0.01), "momentum": Option(0.9, below=1.0)},
    ),
    "nesterov": Named(
        "gradient descent with Nesterov's momentum",
        {"learning_rate": Option(0.01), "momentum": Option(0.9, below=1.0)},
    ),
    "adagrad": Named(
        "Adagrad as in DistBelief (Dean et al. 2012, section 4.1): learning_rate / "
        "sqrt(sum of squared gradients), no epsilon",
        {"learning_rate": Option(0.01)},
    ),
    "adagrad_optax": Named(
        "Adagrad as optax has it, with an epsilon and a first value of the sum",
        {
            "learning_rate": Option(0.01),
            "initial_accumulator_value": Option(0.1),
            "eps": Option(1e-7),
        },
    ),
    "adam": Named("Adam (Kingma and Ba 2015)", {"learning_rate": Option(0.001), **_DECAY}),
    "adamw": Named(
        "Adam with decoupled weight decay (Loshchilov and Hutter 2019)",
        {"learning_rate": Option(0.001), **_DECAY, "weight_decay": Option(1e-4)},
    ),
    "rmsprop": Named(
        "RMSProp (Tieleman and Hinton 2012)",
        {
            "learning_rate": Option(0.001),
            "decay": Option(0.9, below=1.0),
            "eps": Option(1e-8),
        },
    ),
}
"""By name; the functions that make them are in `makers.RULE_MAKERS`, with the same keys."""

_STEPS = Option(low=1, kind="count")
_FACTOR = Option(0.1, low=1e-9)

SCHEDULES: Table = {
    "constant": Named("the learning rate as it is", {}),
    "cosine": Named(
        "half a cosine from 1 to `final` over `steps`", {"steps": _STEPS, "final": Option(0.0)}
    ),
    "linear": Named(
        "a line from 1 to `final` over `steps`", {"steps": _STEPS, "final": Option(0.0)}
    ),
    "exponential": Named(
        "times `factor` over `steps`, smoothly, and on", {"steps": _STEPS, "factor": _FACTOR}
    ),
    "step": Named("times `factor` at every `every` steps", {"every": _STEPS, "factor": _FACTOR}),
    "piecewise": Named(
        "times `factor` at each step of `at`, such as at=1000/2000",
        {"at": Option(low=1, kind="counts"), "factor": _FACTOR},
    ),
    "warmup_cosine": Named(
        "a line from 0 to 1 over `warmup` steps, then a cosine to `final` at `steps`",
        {"warmup": _STEPS, "steps": _STEPS, "final": Option(0.0)},
    ),
}
"""By name: the factor on the learning rate, by the number of updates done."""


class Schedule(msgspec.Struct, frozen=True):
    """How the learning rate goes on: a factor on the rule's own."""

    name: str = "constant"
    options: dict[str, Value] = {}

    def __post_init__(self) -> None:
        options = complete("schedule", SCHEDULES, self.name, self.options)
        msgspec.structs.force_setattr(self, "options", options)
        if self.name == "warmup_cosine" and not options["warmup"] < options["steps"]:  # type: ignore[operator]  # both counts
            raise UsageError(f"schedule {self}: warmup must be below steps")

    @staticmethod
    def parse(text: str) -> Schedule:
        """The inverse of `str`: `cosine:steps=1000,final=0.1`. Raises UsageError."""
        return Schedule(*from_text(text))

    def __str__(self) -> str:
        return to_text(self.name, self.options)

    def __hash__(self) -> int:
        return hash(str(self))


class Rule(msgspec.Struct, frozen=True):
    """How UPDATE changes a parameter by its gradient: a name of RULES, its options, a schedule.

    >>> str(Rule("momentum", {"learning_rate": 0.05}))
    'momentum:learning_rate=0.05,momentum=0.9'

    Options that are not given get their defaults at once, so a rule says all of itself wherever
    it is printed or stored. Raises UsageError for unknown names and numbers out of range.
    """

    name: str
    options: dict[str, Value] = {}
    schedule: Schedule | None = None

    def __post_init__(self) -> None:
        options = complete("rule", RULES, self.name, self.options)
        msgspec.structs.force_setattr(self, "options", options)

    @staticmethod
    def of(name: str, schedule: Schedule | str | None = None, **options: Value) -> Rule:
        """`Rule.of("momentum", learning_rate=0.05, schedule="cosine:steps=1000")`."""
        chosen = Schedule.parse(schedule) if isinstance(schedule, str) else schedule
        return Rule(name, options, chosen)

    @staticmethod
    def parse(text: str) -> Rule:
        """The inverse of `str`: `adam:learning_rate=0.001@cosine:steps=1000`. Raises UsageError."""
        rule, at, schedule = text.partition("@")
        name, options = from_text(rule)
        return Rule(name, options, Schedule.parse(schedule) if at else None)

    def __str__(self) -> str:
        schedule = f"@{self.schedule}" if self.schedule else ""
        return to_text(self.name, self.options) + schedule

    def __hash__(self) -> int:
        return hash(str(self))

    def transformation(self) -> optax.GradientTransformation:
        """The rule as optax has them; loads optax and jax."""
        from dbgraph.optim.makers import make_transformation

        return make_transformation(self)


def listing(table: Mapping[str, Named]) -> str:
    """A table as text for help: one line per name, with its options and their defaults."""
    lines = []
    for name, named in table.items():
        options = ", ".join(
            key if option.default is None else f"{key}={option.default}"
            for key, option in named.options.items()
        )
        lines.append(f"{name}: {named.doc}" + (f" ({options})" if options else ""))
    return "\n".join(lines)
