"""Rules: their text, what they compute against NumPy, and that regions may be updated apart."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbgraph.errors import CheckpointError, UsageError
from dbgraph.optim.makers import RULE_MAKERS, SCHEDULE_MAKERS, make_schedule
from dbgraph.optim.options import Named, Option, Value
from dbgraph.optim.rules import RULES, SCHEDULES, Rule, Schedule, listing
from dbgraph.optim.slots import slots, with_slots

Arrays = dict[str, Any]


def test_every_name_has_its_maker() -> None:
    assert RULES.keys() == RULE_MAKERS.keys()
    assert SCHEDULES.keys() == SCHEDULE_MAKERS.keys()


def test_descriptions_load_neither_jax_nor_optax() -> None:
    code = (
        "import sys; from dbgraph.optim.rules import Rule; str(Rule.parse('adam')); "
        "print([m for m in ('jax', 'optax', 'zmq') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


# Text


def value_of(option: Option) -> st.SearchStrategy[Value]:
    if option.kind == "counts":
        counts = st.sets(st.integers(1, 10**6), min_size=1, max_size=4)
        return counts.map(lambda found: tuple(sorted(found)))
    if option.kind == "count":
        return st.integers(1, 10**6)
    return st.floats(option.low, min(option.below, 1e6), exclude_max=True)


def options_of(named: Named) -> st.SearchStrategy[dict[str, Value]]:
    required = {k: value_of(o) for k, o in named.options.items() if o.default is None}
    rest = {k: value_of(o) for k, o in named.options.items() if o.default is not None}
    return st.fixed_dictionaries(required, optional=rest)


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    name = draw(st.sampled_from(sorted(SCHEDULES)))
    options = draw(options_of(SCHEDULES[name]))
    if name == "warmup_cosine":
        options["steps"] = int(options["steps"]) + int(options["warmup"])  # type: ignore[arg-type]
    return Schedule(name, options)


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    name = draw(st.sampled_from(sorted(RULES)))
    return Rule(name, draw(options_of(RULES[name])), draw(st.none() | schedules()))


@settings(deadline=None, max_examples=150)
@given(rules())
def test_a_rule_prints_and_parses_back(rule: Rule) -> None:
    assert Rule.parse(str(rule)) == rule
    assert msgspec.json.decode(msgspec.json.encode(rule), type=Rule) == rule
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(rule), type=Rule) == rule
    assert hash(Rule.parse(str(rule))) == hash(rule)


def test_ways_to_write_a_rule() -> None:
    rule = Rule.of("momentum", learning_rate=0.05, schedule="cosine:steps=100")
    assert rule == Rule("momentum", {"learning_rate": 0.05}, Schedule("cosine", {"steps": 100}))
    assert str(rule) == "momentum:learning_rate=0.05,momentum=0.9@cosine:steps=100,final=0.0"
    assert Rule.parse("sgd") == Rule("sgd") == Rule.parse(" sgd : learning_rate = 1e-2 ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no rule ''\n  there are: sgd, momentum"),
        ("adm", r"no rule 'adm'\n  did you mean 'adam'\?"),
        ("adam:learning_rat=1", r"'adam' has no option 'learning_rat'\n  did you mean 'learning_r"),
        ("sgd:beta=1", "has no option 'beta'\n  it takes: learning_rate"),
        ("sgd:learning_rate", "found 'learning_rate'"),
        ("sgd:", "found ''"),
        ("sgd:learning_rate=x", "learning_rate=x is no number"),
        ("sgd:learning_rate=nan", "learning_rate=nan: expected a number"),
        ("sgd:learning_rate=-1", r"learning_rate=-1: must be at least 0$"),
        ("sgd:learning_rate=1/2", "expected a number"),
        ("sgd:learning_rate=1,learning_rate=2", "gives learning_rate twice"),
        ("momentum:momentum=1", "must be at least 0 and below 1"),
        ("sgd@cosin:steps=1", r"no schedule 'cosin'\n  did you mean 'cosine'\?"),
        ("sgd@cosine", "needs steps\n  write cosine:steps="),
        ("sgd@step:every=1.5", "expected a whole number"),
        ("sgd@step:every=0", "must be at least 1"),
        ("sgd@piecewise:at=2/1", "expected rising steps"),
        ("sgd@piecewise:at=2/", "is no number"),
        ("sgd@warmup_cosine:warmup=5,steps=5", "warmup must be below steps"),
    ],
)
def test_what_is_no_rule(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Rule.parse(text)


def test_the_listing_names_everything() -> None:
    for table in (RULES, SCHEDULES):
        lines = listing(table).splitlines()
        assert [line.partition(":")[0] for line in lines] == list(table)


# Values


def run(rule: Rule, parameters: Arrays, gradients: list[Arrays]) -> tuple[Arrays, Any]:
    transformation = rule.transformation()
    state = transformation.init(parameters)
    for gradient in gradients:
        updates, state = transformation.update(gradient, state, parameters)
        parameters = optax.apply_updates(parameters, updates)
    return parameters, state


def made(seed: int, *shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


WITH_SCHEDULE = (*RULES, "adam@cosine:steps=10", "momentum@piecewise:at=2,factor=0.5")


@pytest.mark.parametrize("text", WITH_SCHEDULE)
def test_regions_updated_apart_equal_the_whole(text: str) -> None:
    rule = Rule.parse(text)
    whole, gradients = made(0, 6, 5), [made(n, 6, 5) for n in range(1, 4)]
    expected, _ = run(rule, {"w": whole}, [{"w": g} for g in gradients])

    def halves(a: jax.Array) -> Arrays:
        return {"w[0:2]": a[:2], "w[2:6]": a[2:]}

    parts, _ = run(rule, halves(whole), [halves(g) for g in gradients])
    together = np.concatenate([parts["w[0:2]"], parts["w[2:6]"]])
    np.testing.assert_array_equal(together, expected["w"])
    assert not np.array_equal(together, whole)


@pytest.mark.parametrize("text", WITH_SCHEDULE)
def test_slots_and_back_gives_the_same_state(text: str) -> None:
    rule = Rule.parse(text)
    parameters = {"a/weights": made(0, 3, 2), "b": made(1)}
    gradients = {"a/weights": made(2, 3, 2), "b": made(3)}
    _, state = run(rule, parameters, [gradients])
    found, scalars = slots(state)
    for (_, parameter), array in found.items():
        assert array.shape == parameters[parameter].shape
    assert all(np.ndim(value) == 0 for value in scalars.values())
    template = jax.eval_shape(rule.transformation().init, parameters)
    back = with_slots(template, found, scalars)
    assert str(jax.tree.structure(back)) == str(jax.tree.structure(state))
    assert all(a is b for a, b in zip(jax.tree.leaves(back), jax.tree.leaves(state), strict=True))


def test_the_names_of_slots() -> None:
    """They are in checkpoints: they must stay."""

    def names(text: str) -> tuple[list[str], list[str]]:
        found, scalars = slots(Rule.parse(text).transformation().init({"w": jnp.zeros(2)}))
        return [slot for slot, _ in found], list(scalars)

    assert names("sgd") == ([], [])
    assert names("momentum") == (["0.trace"], [])
    assert names("adagrad") == (["0.sum_of_squares"], [])
    assert names("adam") == (["0.mu", "0.nu"], ["0.count"])
    assert names("adam@step:every=9") == (["0.mu", "0.nu"], ["0.count", "1.count"])


def test_slots_of_another_rule_are_refused() -> None:
    parameters = {"w": jnp.zeros(2)}
    found, scalars = slots(Rule("momentum").transformation().init(parameters))
    adam = Rule("adam").transformation().init(parameters)
    with pytest.raises(CheckpointError, match=r"'0\.count' is missing\n  .*another rule"):
        with_slots(adam, found, scalars)
    with pytest.raises(CheckpointError, match=r"slot '0\.mu' of 'w' is missing"):
        with_slots(adam, found, {"0.count": np.array(0)})
    momentum = Rule("momentum").transformation().init({"w": jnp.zeros(3)})
    with pytest.raises(CheckpointError, match=r"has shape \(2,\), expected \(3,\)"):
        with_slots(momentum, found, scalars)


@settings(deadline=None, max_examples=30)
@given(
    st.lists(
        st.lists(st.sampled_from([0.0, 1e-3, -0.5, 2.0, -30.0]), min_size=4, max_size=4),
        min_size=1,
        max_size=5,
    )
)
def test_adagrad_is_the_papers(rows: list[list[float]]) -> None:
    """Against the formula of section 4.1 in float64."""
    gradients = np.array(rows)
    expected, total = np.ones(4), np.zeros(4)
    for gradient in gradients:
        total += gradient**2
        moved = total > 0
        expected[moved] -= 0.1 / np.sqrt(total[moved]) * gradient[moved]
    rule = Rule("adagrad", {"learning_rate": 0.1})
    steps = [{"w": jnp.asarray(g, jnp.float32)} for g in gradients]
    found, _ = run(rule, {"w": jnp.ones(4)}, steps)
    np.testing.assert_allclose(found["w"], expected, rtol=1e-5, atol=1e-6)


def test_adagrad_moves_nothing_on_zeros_and_shows_what_is_no_number() -> None:
    rule = Rule("adagrad")
    found, _ = run(rule, {"w": jnp.ones(3)}, [{"w": jnp.array([0.0, jnp.nan, 1.0])}])
    assert found["w"][0] == 1.0
    assert jnp.isnan(found["w"][1])
    assert found["w"][2] == pytest.approx(0.99)
    assert not np.isnan(
        rule.transformation().update(
            {"w": jnp.zeros(2)}, rule.transformation().init({"w": jnp.zeros(2)})
        )[0]["w"]
    ).any()


def test_adagrad_sums_16_bit_gradients_in_32() -> None:
    parameters = {"w": jnp.ones(1, jnp.bfloat16)}
    gradient = {"w": jnp.ones(1, jnp.bfloat16)}
    found, state = run(Rule("adagrad"), parameters, [gradient] * 300)
    assert found["w"].dtype == jnp.bfloat16
    assert state[0].sum_of_squares["w"] == 300  # bfloat16 would stop at 256


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("constant", [2.0, 2.0, 2.0]),
        ("cosine:steps=10,final=0.1", [2.0, 1.1, 0.2]),
        ("linear:steps=10,final=0.5", [2.0, 1.5, 1.0]),
        ("exponential:steps=10,factor=0.25", [2.0, 1.0, 0.5]),
        ("step:every=5,factor=0.5", [2.0, 1.0, 0.5]),
        ("piecewise:at=5/10,factor=0.1", [2.0, 0.2, 0.02]),
        ("warmup_cosine:warmup=5,steps=10,final=0.5", [0.0, 2.0, 1.0]),
    ],
)
def test_schedules_at_0_5_and_10(text: str, expected: list[float]) -> None:
    schedule = make_schedule(2.0, Schedule.parse(text))
    np.testing.assert_allclose([float(schedule(n)) for n in (0, 5, 10)], expected, rtol=1e-5)
