"""Every op: a tile computes its region of the whole; kernels agree with NumPy and with calculus."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies_ops import CASES, Case, cut, regions, split_attrs, splits, values
from uncut import QUICKLY

from dbgraph.ir.region import Region
from dbgraph.ir.types import Attrs, TensorType
from dbgraph.kernels.reference import REFERENCES
from dbgraph.kernels.table import KERNELS
from dbgraph.ops import COMMUNICATION, LEAVES, OPS
from dbgraph.ops.derivative import vjp_attrs

WITHOUT_KERNEL = LEAVES | COMMUNICATION
FORWARD = sorted(set(KERNELS) - {"vjp"})
EXACT = {
    *("relu", "leaky_relu", "square", "abs", "affine", "cast"),
    *("add", "subtract", "multiply", "maximum", "minimum", "add_n", "max_n"),
    *("fill", "dropout", "embedding", "pick", "max", "argmax"),
    *("slice", "concat", "transpose", "reshape", "assemble"),
}
"""Ops whose tile is bit-equal to the whole's region. Sums may be taken in another order. XLA
turns a division by a broadcast scalar into a product with its inverse, and evaluates exp, erf and
their like by other instructions in vectors than in the rest of a loop: both depend on the shape.
"""
ROUNDED = {
    *("sigmoid", "tanh", "gelu", "softplus", "silu", "elu", "exp", "log", "sqrt", "power"),
    *("divide", "logsumexp_n"),
}
"""Pointwise too, equal to a few roundings for that reason."""
SEEDS = st.integers(0, 2**32 - 1)


def few(count: int) -> settings:
    """Kernels are compiled for each example: a few, after the many of the rules."""
    return settings(deadline=None, max_examples=count, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(autouse=True, scope="module")
def _float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield
    jax.clear_caches()  # hundreds of executables, each with its own memory maps


Call = tuple[str, Attrs, list[np.ndarray]]


def kernels(*calls: Call) -> list[np.ndarray]:
    """The results of several kernels, compiled together: compiling is what takes the time."""
    bound, arguments = [], []
    for op, attrs, arrays in calls:
        static, dynamic = split_attrs(op, attrs)
        bound.append(partial(KERNELS[op], static))
        arguments.append((*arrays, *dynamic))
    run = jax.jit(lambda given: [fn(*args) for fn, args in zip(bound, given, strict=True)])
    return [np.asarray(result) for result in run(arguments)]


def kernel(op: str, attrs: Attrs, arrays: list[np.ndarray]) -> np.ndarray:
    return kernels((op, attrs, arrays))[0]


def reference(op: str, attrs: Attrs, arrays: list[np.ndarray]) -> np.ndarray:
    static, dynamic = split_attrs(op, attrs)
    return REFERENCES[op](static, *arrays, *dynamic)


def assert_close(found: np.ndarray, wanted: np.ndarray, scale: float = 1.0) -> None:
    """Equal dtype and shape; within 32 roundings (times `scale`) of the largest element."""
    assert found.dtype == wanted.dtype
    assert found.shape == wanted.shape
    if not wanted.size:
        return
    if wanted.dtype.kind != "f":
        np.testing.assert_array_equal(found, wanted)
        return
    bound = 32 * scale * float(np.finfo(wanted.dtype).eps) * max(1.0, float(np.abs(wanted).max()))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=bound)


def assert_region(op: str, found: np.ndarray, wanted: np.ndarray) -> None:
    if op in EXACT:
        np.testing.assert_array_equal(found, wanted, strict=True)
    else:
        assert_close(found, wanted, 1 / 8 if op in ROUNDED else 1)


def case_and_region(data: st.DataObject, op: str) -> tuple[Case, Region]:
    case = data.draw(CASES[op])
    axes = case.definition.cut_axes(case.attrs, case.types)
    return case, data.draw(regions(case.out.shape, axes))


def test_no_op_is_left_out() -> None:
    assert set(KERNELS) == set(REFERENCES) == set(OPS) - WITHOUT_KERNEL
    assert set(CASES) == set(OPS) - {"vjp"}  # made from the other ops' cases, below
    assert set(OPS) >= WITHOUT_KERNEL
    assert all(name == definition.name for name, definition in OPS.items())
    assert all(definition.doc.startswith(f"{name}(") for name, definition in OPS.items())


@pytest.mark.parametrize("op", sorted(CASES))
@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_rules_of_a_tile(op: str, data: st.DataObject) -> None:
    """Shape, dtype, reads inside the inputs, FLOPs that add up at most to the whole's."""
    case, region = case_and_region(data, op)
    definition, out = case.definition, case.out
    reads = definition.reads(case.attrs, case.types, region)
    for read, type_ in zip(reads, case.types, strict=True):
        assert Region.whole(type_.shape).contains(read)
        assert read.empty or min(read.start, default=0) >= 0
    tile = case.tile(region)
    assert tile.out == out.with_shape(region.shape)
    flops = definition.flops(case.attrs, case.types, out)
    tile_flops = definition.flops(tile.attrs, tile.types, tile.out)
    assert 0 <= tile_flops <= flops
    if region == Region.whole(out.shape):
        assert tile_flops == flops


@pytest.mark.parametrize("op", sorted(CASES))
@settings(deadline=None, max_examples=10)
@given(data=st.data())
def test_a_tile_of_a_tile_is_a_tile(op: str, data: st.DataObject) -> None:
    """Cutting twice reads what cutting once reads."""
    case, outer = case_and_region(data, op)
    tile = case.tile(outer)
    axes = tile.definition.cut_axes(tile.attrs, tile.types)
    inner = data.draw(regions(outer.shape, axes))
    twice, once = tile.tile(inner), case.tile(inner.shift(outer.start))
    assert twice.out == once.out
    if op != "reshape":  # which may read more the first time, and takes the region from that
        assert twice.types == once.types
        if op != "slice":
            assert twice.attrs == once.attrs


@pytest.mark.parametrize("op", FORWARD)
@settings(deadline=None, max_examples=15)
@given(data=st.data(), seed=SEEDS)
def test_reference_of_a_tile_is_the_region_of_the_whole(
    op: str, data: st.DataObject, seed: int
) -> None:
    case, region = case_and_region(data, op)
    arrays = values(case, seed)
    tile = case.tile(region)
    parts = cut(arrays, case.definition.reads(case.attrs, case.types, region))
    whole = reference(op, case.attrs, arrays)
    assert whole.shape == case.out.shape
    assert whole.dtype == case.out.dtype
    assert_close(reference(op, tile.attrs, parts), whole[region.slices()])


@pytest.mark.parametrize("op", FORWARD)
@few(2)
@given(data=st.data(), seed=SEEDS)
def test_kernel_of_a_tile_is_the_region_of_the_whole(
    op: str, data: st.DataObject, seed: int
) -> None:
    case, region = case_and_region(data, op)
    arrays = values(case, seed)
    tile = case.tile(region)
    parts = cut(arrays, case.definition.reads(case.attrs, case.types, region))
    whole, found = kernels((op, case.attrs, arrays), (op, tile.attrs, parts))
    assert_close(whole, reference(op, case.attrs, arrays))
    assert_region(op, found, whole[region.slices()])


REDUCING = sorted(name for name in FORWARD if OPS[name].combine)


def partials(case: Case, data: st.DataObject, arrays: list[np.ndarray]) -> list[tuple]:
    """A reduced axis in uneven ranges: attributes and inputs of each partial result."""
    definition = case.definition
    reduction = data.draw(st.sampled_from(definition.reductions(case.attrs, case.types)))
    first_input, first_axis = reduction.axes[0]
    found = []
    for bounds in data.draw(splits(case.types[first_input].shape[first_axis])):
        reads = [Region.whole(t.shape) for t in case.types]
        for k, axis in reduction.axes:
            reads[k] = reads[k].replace(axis, bounds)
        attrs = definition.partial(case.attrs, reduction, bounds)
        types = tuple(t.with_shape(r.shape) for t, r in zip(case.types, reads, strict=True))
        assert definition.infer(attrs, types) == case.out
        found.append((attrs, cut(arrays, tuple(reads))))
    return found


def test_only_ops_with_reductions_combine() -> None:
    assert set(REDUCING) == {
        "contract",
        "conv2d",
        "embedding",
        "local2d",
        "logsumexp",
        "max",
        "pick",
        "sum",
    }


@pytest.mark.parametrize("op", REDUCING)
@settings(deadline=None, max_examples=15)
@given(data=st.data(), seed=SEEDS)
def test_partial_results_combine_to_the_whole(op: str, data: st.DataObject, seed: int) -> None:
    case = data.draw(CASES[op])
    arrays = values(case, seed)
    parts = [reference(op, attrs, inputs) for attrs, inputs in partials(case, data, arrays)]
    combine = case.definition.combine
    assert OPS[combine].infer(Attrs(), (case.out,) * len(parts)) == case.out
    assert_close(reference(combine, Attrs(), parts), reference(op, case.attrs, arrays))


@pytest.mark.parametrize("op", REDUCING)
@few(2)
@given(data=st.data(), seed=SEEDS)
def test_kernels_of_partial_results_combine(op: str, data: st.DataObject, seed: int) -> None:
    case = data.draw(CASES[op])
    arrays = values(case, seed)
    parts = kernels(*((op, attrs, inputs) for attrs, inputs in partials(case, data, arrays)))
    whole = kernel(case.definition.combine, Attrs(), parts)
    assert_close(whole, reference(op, case.attrs, arrays))


def derivatives(case: Case) -> list[int]:
    """The inputs by which the case may be differentiated."""
    if not case.definition.differentiable:
        return []
    return [k for k, t in enumerate(case.types) if t.is_float]


def vjp_case(case: Case, wrt: int) -> tuple[Case, list[int]]:
    """The vjp node of a case, and the forward inputs that it takes."""
    attrs = vjp_attrs(case.definition, case.attrs, case.types, wrt)
    given_inputs = list(attrs.ints("vjp_given"))
    types = (*(case.types[k] for k in given_inputs), case.out)
    return Case("vjp", attrs, types), given_inputs


def cotangent(out: TensorType, seed: int) -> np.ndarray:
    return np.random.default_rng(seed + 1).uniform(-1, 1, out.shape).astype(out.dtype)


DIFFERENTIABLE = sorted(name for name in FORWARD if OPS[name].differentiable and name != "fill")


@pytest.mark.parametrize("op", DIFFERENTIABLE)
@few(2)
@given(data=st.data(), seed=SEEDS)
def test_vjp_needs_no_more_than_it_is_given(op: str, data: st.DataObject, seed: int) -> None:
    """With what `vjp_needs` names the vjp equals jax.vjp with everything, and differences."""
    case = data.draw(CASES[op])
    arrays = values(case, seed)
    weights = cotangent(case.out, seed)
    calls: list[Call] = []
    for wrt in derivatives(case):
        node, inputs = vjp_case(case, wrt)
        assert node.out == case.types[wrt]
        calls.append(("vjp", node.attrs, [*(arrays[k] for k in inputs), weights]))
    full = full_vjps(case, arrays, weights)
    for call, found, wanted in zip(calls, kernels(*calls), full, strict=True):
        assert_close(found, wanted, 4)
        if found.dtype == np.float64 and found.size <= 64:
            np.testing.assert_allclose(found, reference(*call), rtol=1e-7, atol=1e-7)


def full_vjps(case: Case, arrays: list[np.ndarray], weights: np.ndarray) -> list[np.ndarray]:
    """`jax.vjp` by all inputs that have a derivative, all values given."""
    static, dynamic = split_attrs(case.op, case.attrs)
    places = derivatives(case)

    def forward(*xs: jax.Array) -> jax.Array:
        known = dict(zip(places, xs, strict=True))
        inputs = [known.get(k, array) for k, array in enumerate(arrays)]
        return KERNELS[case.op](static, *inputs, *dynamic)

    run = jax.jit(lambda xs, y: jax.vjp(forward, *xs)[1](y), compiler_options=QUICKLY)
    return [np.asarray(result) for result in run([arrays[k] for k in places], weights)]


@pytest.mark.parametrize("op", ["relu", "abs", "sqrt"])
def test_derivative_at_zero_is_zero(op: str) -> None:
    case = Case(op, Attrs(), (TensorType((2,)),))
    node, _ = vjp_case(case, 0)
    zeros, ones = np.zeros(2, np.float32), np.ones(2, np.float32)
    np.testing.assert_array_equal(kernel("vjp", node.attrs, [zeros, ones]), zeros)


def test_l2_pool_of_zeros_has_derivative_zero() -> None:
    attrs = Attrs(kind="l2", size=(2, 2), strides=(2, 2), padding=((0, 0), (0, 0)))
    case = Case("pool2d", attrs, (TensorType((1, 4, 4, 1)),))
    node, _ = vjp_case(case, 0)
    inputs = [np.zeros((1, 4, 4, 1), np.float32), np.ones((1, 2, 2, 1), np.float32)]
    np.testing.assert_array_equal(kernel("vjp", node.attrs, inputs), inputs[0])


@pytest.mark.parametrize("op", ["logsumexp_n", "logsumexp"])
def test_logsumexp_is_stable(op: str) -> None:
    """At ±1000, and at -inf (as a masked class is), value and derivative are finite."""
    rows = np.array([[1000.0, 1001.0], [-1000.0, -1001.0], [-np.inf, 3.0]])
    if op == "logsumexp":
        attrs, inputs = Attrs(axes=(1,), keepdims=False), [rows]
    else:
        attrs, inputs = Attrs(), [rows[:, 0], rows[:, 1]]
    wanted = np.array([1001.3132616875182, -999.6867383124818, 3.0])
    np.testing.assert_allclose(kernel(op, attrs, inputs), wanted)
    np.testing.assert_allclose(reference(op, attrs, inputs), wanted)
    types = tuple(TensorType(a.shape, "float64") for a in inputs)
    node, _ = vjp_case(Case(op, attrs, types), 0)
    assert np.isfinite(kernel("vjp", node.attrs, [*inputs, np.ones(3)])).all()


def test_logsumexp_of_nothing_is_minus_infinity() -> None:
    """A partial result over masked classes alone must not turn the whole into NaN."""
    nothing = np.full((2,), -np.inf)
    assert kernel("logsumexp_n", Attrs(), [nothing, nothing]).tolist() == [-np.inf] * 2


@pytest.mark.parametrize(("x", "w"), [((8, 16), (16, 4)), ((8, 2, 3, 4), (2, 3, 4, 5))])
def test_contract_is_one_dot_and_moves_nothing(x: tuple[int, ...], w: tuple[int, ...]) -> None:
    attrs = Attrs(contracted=len(w) - 1)
    program = jax.make_jaxpr(lambda a, b: KERNELS["contract"](attrs, a, b))(
        jnp.zeros(x, jnp.float32), jnp.zeros(w, jnp.float32)
    )
    names = [equation.primitive.name for equation in program.jaxpr.eqns]
    assert names.count("dot_general") == 1
    assert set(names) <= {"dot_general", "reshape"}
    if len(w) == 2:
        assert names == ["dot_general"]


def test_integers_keep_their_dtype() -> None:
    numbers = np.array([[100, 100], [1, 2]], np.int8)
    attrs = Attrs(axes=(1,), keepdims=False)
    for run in (kernel, reference):
        assert run("sum", attrs, [numbers]).dtype == np.int8
        assert run("add", Attrs(), [numbers, numbers]).dtype == np.int8
        assert run("max", attrs, [numbers]).tolist() == [100, 2]


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**64), step=st.integers(0, 2**31 - 1), first=st.integers(0, 2**31 - 9))
def test_dropout_is_the_same_in_numpy(seed: int, step: int, first: int) -> None:
    attrs = Attrs(rate=0.5, seed=seed, start=(2, 1), whole=(8, 70000))
    inputs = [np.ones((3, 5), np.float32), np.array([step, first], np.int32)]
    found = kernel("dropout", attrs, inputs)
    np.testing.assert_array_equal(found, reference("dropout", attrs, inputs), strict=True)
    assert set(np.unique(found)) <= {0.0, 2.0}
