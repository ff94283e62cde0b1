"""The search core: against brute force, and against what others measured."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import islice, product
from math import inf
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbgraph.errors import NetworkError, NoCutError, UsageError
from dbgraph.passes.search import (
    ADDED,
    DUPLEX,
    OVERLAPPED,
    WORK_ONLY,
    Budget,
    Machine,
    Objective,
    Place,
    Problem,
    Value,
    exact,
    metis,
    search,
)
from dbgraph.passes.search.assignment import Assignment
from dbgraph.passes.search.atoms import condense
from dbgraph.passes.search.branch import branch
from dbgraph.passes.search.coarsen import coarsen
from dbgraph.passes.search.contract import contract, simple_bound
from dbgraph.passes.search.fold import fold
from dbgraph.passes.search.linear import Linear
from dbgraph.passes.search.listing import listed
from dbgraph.passes.search.neighbourhood import improve
from dbgraph.passes.search.refine import refine, try_change

search_module = sys.modules["dbgraph.passes.search.search"]
ROOT = Path(__file__).parents[1]
DATA = Path(__file__).parent / "data" / "dnn-partitioning"
needs_ortools = pytest.mark.skipif(
    not exact.available(), reason="OR-Tools is not installed: pip install 'dbgraph[exact]'"
)
fast = settings(deadline=None, max_examples=60)


# ---- an evaluation that shares nothing with the core: from the definition, node by node


def load_of(
    problem: Problem,
    objective: Objective,
    place: Sequence[int],
    m: int,
    epoch: int | None = None,
) -> float:
    kind = problem.machines[m].kind
    epochs = problem.epoch or (0,) * problem.nodes
    mine = [u for u in range(problem.nodes) if place[u] == m and epoch in (None, epochs[u])]
    work = sum(problem.work[kind][u] for u in mine)
    received = sent = 0.0
    for value in problem.values:
        if epoch not in (None, value.epoch):
            continue
        readers = {place[t] for t in value.targets} - {place[value.source]}
        if m in readers:
            received += value.cost
        if m == place[value.source]:
            sent += value.cost * (len(readers) if objective.per_destination else bool(readers))
    rows = objective.rows[kind]
    return max(0.0, *(a * work + b * received + c * sent for a, b, c in rows))


def cost_of(problem: Problem, objective: Objective, place: Sequence[int]) -> float:
    def busiest(epoch: int | None) -> float:
        machines = range(len(problem.machines))
        return max(load_of(problem, objective, place, m, epoch) for m in machines)

    if not objective.serial:
        return busiest(None)
    in_turn = sum(busiest(epoch) for epoch in range(problem.epochs))
    return objective.serial * in_turn + (1 - objective.serial) * busiest(None)


def is_valid(problem: Problem, place: Sequence[int]) -> bool:
    sizes = problem.size_bytes or (0.0,) * problem.nodes
    for m, machine in enumerate(problem.machines):
        mine = [u for u in range(problem.nodes) if place[u] == m]
        if sum(sizes[u] for u in mine) > machine.memory_bytes:
            return False
        if any(problem.work[machine.kind][u] == inf for u in mine):
            return False
    if any(len({place[u] for u in group}) > 1 for group in problem.together):
        return False
    if any(place[u] not in machines for u, machines in problem.allowed.items()):
        return False
    return not problem.contiguous or is_contiguous(problem, place)


def is_contiguous(problem: Problem, place: Sequence[int]) -> bool:
    phase = problem.phase or (0,) * problem.nodes
    after: dict[int, list[int]] = {}
    for value in problem.values:
        for t in value.targets:
            if phase[t] == phase[value.source]:
                after.setdefault(value.source, []).append(t)

    @cache
    def returns(u: int, home: int, left: bool) -> bool:
        return any(
            (left and place[v] == home) or returns(v, home, left or place[v] != home)
            for v in after.get(u, ())
        )

    return not any(returns(u, place[u], False) for u in range(problem.nodes))


def brute_force(problem: Problem, objective: Objective) -> float:
    """inf where no cut is valid."""
    machines = range(len(problem.machines))
    places = product(machines, repeat=problem.nodes)
    return min(
        (cost_of(problem, objective, p) for p in places if is_valid(problem, p)), default=inf
    )


# ---- random problems


@st.composite
def problems(
    draw: st.DrawFn, most_nodes: int = 6, contiguous: bool | None = None
) -> tuple[Problem, Objective]:
    n = draw(st.integers(1, most_nodes))
    kinds = draw(st.integers(1, 2))
    tenth = st.integers(0, 30).map(lambda x: x / 10)
    barred = st.integers(0, 9).map(lambda x: x == 0)
    work = [tuple(draw(tenth) for _ in range(n))]
    if kinds == 2:
        work.append(tuple(inf if draw(barred) else 2 * w for w in work[0]))
    values = []
    # In the order of time: no value goes back to an earlier epoch.
    epochs = sorted(draw(st.integers(0, 2)) for _ in range(n if draw(st.booleans()) else 0))
    for u in range(n - 1):
        targets = draw(st.sets(st.integers(u + 1, n - 1), max_size=3))
        if targets:
            epoch = epochs[u] if epochs else 0
            values.append(Value(u, tuple(sorted(targets)), draw(tenth), epoch))
    sizes = tuple(float(draw(st.integers(0, 3))) for _ in range(n))
    memory = st.sampled_from([inf, inf, sum(sizes) * 0.7 + 1])
    machines = tuple(
        Machine(draw(st.integers(0, kinds - 1)), draw(memory))
        for _ in range(draw(st.integers(1, 3)))
    )
    nodes = st.integers(0, n - 1)
    together = (
        tuple(
            tuple(sorted(g))
            for g in draw(st.lists(st.sets(nodes, min_size=2, max_size=2), max_size=1))
        )
        if n > 1
        else ()
    )
    some = st.sets(st.integers(0, len(machines) - 1), min_size=1).map(tuple)
    allowed = draw(st.dictionaries(nodes, some, max_size=2))
    border = draw(st.integers(0, n))
    problem = Problem(
        tuple(work),
        tuple(values),
        machines,
        sizes,
        together,
        allowed,
        draw(st.booleans()) if contiguous is None else contiguous,
        tuple(int(u >= border) for u in range(n)),
        tuple(epochs),
    )
    serial = draw(st.sampled_from([0.0, 0.0, 1.0, 0.75]))
    rows = st.sampled_from([ADDED, OVERLAPPED, DUPLEX, WORK_ONLY, ((1.0, 0.5, 2.0),)])
    return problem, Objective(tuple(draw(rows) for _ in work), draw(st.booleans()), serial)


def steps(count: float = 3000) -> Budget:
    return Budget(seconds=inf, steps=count)


# ---- brute force


@settings(deadline=None, max_examples=150)
@given(problems())
def test_search_equals_brute_force(case: tuple[Problem, Objective]) -> None:
    problem, objective = case
    best = brute_force(problem, objective)
    if best == inf:
        with pytest.raises(NoCutError):
            search(problem, objective, steps(), use_exact=False)
        return
    found = search(problem, objective, steps(), use_exact=False)
    assert is_valid(problem, found.place)
    assert found.value == pytest.approx(best)
    assert found.value == pytest.approx(cost_of(problem, objective, found.place))
    assert found.proved


@settings(deadline=None, max_examples=5)
@given(problems(most_nodes=8))
def test_search_equals_brute_force_on_eight_nodes(case: tuple[Problem, Objective]) -> None:
    test_search_equals_brute_force.hypothesis.inner_test(case)  # type: ignore[attr-defined]


@needs_ortools
@fast
@given(problems(), st.randoms(use_true_random=False))
def test_cp_sat_equals_brute_force(case: tuple[Problem, Objective], rng: Random) -> None:
    problem, objective = case
    start = some_valid(problem, objective, rng)
    if start is None:
        return
    best = brute_force(problem, objective)
    solved = exact.solve(start, resolution=10**8)
    assert solved.finished
    assert solved.bound == pytest.approx(best, abs=1e-5)
    assert solved.bound <= best * (1 + 1e-9)
    if solved.places is not None:
        place = start.atoms.spread(solved.places)
        assert is_valid(problem, place)
        assert cost_of(problem, objective, place) == pytest.approx(best, abs=1e-5)


@fast
@given(problems())
def test_merging_what_no_better_cut_parts_loses_nothing(case: tuple[Problem, Objective]) -> None:
    problem, objective = case
    best = brute_force(problem, objective)
    if best == inf:
        return
    atoms = condense(problem)
    assert simple_bound(atoms, objective) <= best * (1 + 1e-9)
    smaller = contract(atoms, objective, best * (1 + 1e-9))
    assert smaller is not None
    places = branch(smaller, objective, steps().start())
    assert places is not None
    assert cost_of(problem, objective, smaller.spread(places)) == pytest.approx(best)


# ---- changes


def some_valid(problem: Problem, objective: Objective, rng: Random) -> Assignment | None:
    machines = range(len(problem.machines))
    places: list[Place] = [
        p for p in product(machines, repeat=problem.nodes) if is_valid(problem, p)
    ]
    if not places:
        return None
    atoms = condense(problem)
    return Assignment(atoms, objective, atoms.gather(rng.choice(places)))


@fast
@given(problems(most_nodes=8), st.data())
def test_delta_evaluation_is_full_evaluation(
    case: tuple[Problem, Objective], data: st.DataObject
) -> None:
    problem, objective = case
    try:
        atoms = condense(problem)
    except NoCutError:
        return
    cut = Assignment(atoms, objective, [allowed[0] for allowed in atoms.allowed])
    for _ in range(12):
        atom = data.draw(st.integers(0, atoms.count - 1))
        cut.move(atom, data.draw(st.sampled_from(atoms.allowed[atom])))
        place = atoms.spread(cut.places)
        whole = [load_of(problem, objective, place, m) for m in range(atoms.machines)]
        assert cut.loads == pytest.approx(whole)
        assert cut.value == pytest.approx(cost_of(problem, objective, place))
        assert cut.valid() == is_valid(problem, place)


@fast
@given(problems(most_nodes=6), st.randoms(use_true_random=False))
def test_changes_keep_what_must_hold(case: tuple[Problem, Objective], rng: Random) -> None:
    problem, objective = case
    cut = some_valid(problem, objective, rng)
    if cut is None:
        return
    for _ in range(12):
        old = list(cut.places)
        change = tuple(
            (rng.randrange(cut.atoms.count), rng.randrange(cut.atoms.machines)) for _ in range(2)
        )
        if not try_change(cut, change):
            assert cut.places == old
        assert is_valid(problem, cut.atoms.spread(cut.places))
    before = cut.key()
    refine(cut, steps(500).start(), rng)
    assert cut.key()[0] <= before[0] * (1 + 1e-9)
    assert is_valid(problem, cut.atoms.spread(cut.places))


@fast
@given(problems(most_nodes=8), st.randoms(use_true_random=False))
def test_linear_orders(case: tuple[Problem, Objective], rng: Random) -> None:
    """What the dynamic program says a cut costs is what it costs, and its cuts are valid."""
    problem, objective = case
    try:
        atoms = condense(problem)
    except NoCutError:
        return
    linear = Linear(atoms, replace(objective, per_destination=False, serial=0.0))
    for style in ("deep", "wide"):
        split = linear.split(linear.order(rng, style))
        if split is None:
            continue
        place = atoms.spread(split.places)
        assert is_valid(problem, place)
        assert split.value == pytest.approx(cost_of(problem, linear.objective, place))


@fast
@given(problems(most_nodes=6), st.randoms(use_true_random=False))
def test_coarser_atoms_leave_the_cut_possible(case: tuple[Problem, Objective], rng: Random) -> None:
    problem, objective = case
    cut = some_valid(problem, objective, rng)
    if cut is None:
        return
    coarse = coarsen(cut.atoms, 2, rng, cut.places)
    place = cut.atoms.spread(cut.places)
    assert coarse.spread(coarse.gather(place)) == place


@needs_ortools
@settings(deadline=None, max_examples=10)
@given(problems(most_nodes=6), st.randoms(use_true_random=False))
def test_neighbourhoods_never_lose(case: tuple[Problem, Objective], rng: Random) -> None:
    problem, objective = case
    cut = some_valid(problem, objective, rng)
    if cut is None:
        return
    better = improve(cut, steps(600).start(), rng, lambda _: None)
    place = better.atoms.spread(better.places)
    assert is_valid(problem, place)
    before = cost_of(problem, objective, cut.atoms.spread(cut.places))
    assert cost_of(problem, objective, place) <= before * (1 + 1e-6)


# ---- a start, idle machines, large problems


@fast
@given(problems(most_nodes=6), st.randoms(use_true_random=False), st.booleans())
def test_a_start_is_never_lost(case: tuple[Problem, Objective], rng: Random, levels: bool) -> None:
    problem, objective = case
    cut = some_valid(problem, objective, rng)
    if cut is None:
        return
    start = cut.atoms.spread(cut.places)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search_module, "_SMALL", 1)
        patch.setattr(search_module, "_MOST_ATOMS", 1 if levels else 2000)
        found = search(problem, objective, steps(20), start=start, use_exact=False)
    assert is_valid(problem, found.place)
    assert found.value == pytest.approx(cost_of(problem, objective, found.place))
    assert found.value <= cost_of(problem, objective, start) * (1 + 1e-9)
    assert found.bound <= brute_force(problem, objective) * (1 + 1e-9)
    assert found.stages[0][0] == "start"


@fast
@given(problems(most_nodes=6, contiguous=True), st.randoms(use_true_random=False))
def test_stretches_of_a_topological_order_are_convex(
    case: tuple[Problem, Objective], rng: Random
) -> None:
    problem, objective = case
    try:
        folded = fold(condense(replace(problem, contiguous=False)), 3)
        atoms = condense(folded.problem)
    except NoCutError:
        return
    cut = Assignment(atoms, objective, [rng.choice(allowed) for allowed in atoms.allowed])
    if cut.valid():
        place = folded.spread(atoms.spread(cut.places))
        assert is_valid(problem, place)
        assert cut.value == pytest.approx(cost_of(problem, objective, place))


def test_a_large_contiguous_problem_is_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_module, "_MOST_CONTIGUOUS", 50)
    monkeypatch.setattr(search_module, "_MOST_ATOMS", 40)
    rng = Random(4)
    values = tuple(
        Value(u, tuple(sorted({u + rng.randint(1, 9) for _ in range(2)})), 0.1) for u in range(190)
    )
    problem = Problem(((1.0,) * 200,), values, (Machine(),) * 4, contiguous=True)
    found = search(problem, Objective(), steps(3000), use_exact=False)
    assert is_valid(problem, found.place)
    assert found.value == pytest.approx(cost_of(problem, Objective(), found.place))
    assert 50 <= found.bound <= found.value < 60
    start = tuple(u // 50 for u in range(200))
    again = search(problem, Objective(), steps(3000), use_exact=False, start=start)
    assert again.value <= cost_of(problem, Objective(), start)


@fast
@given(problems(most_nodes=6))
def test_busy_machines_get_work_if_any_can_be_spared(case: tuple[Problem, Objective]) -> None:
    problem, objective = case
    everyone = range(len(problem.machines))
    try:
        found = search(problem, objective, steps(200), use_exact=False, busy=everyone)
    except NoCutError:
        return
    assert is_valid(problem, found.place)
    assert found.value == pytest.approx(cost_of(problem, objective, found.place))
    free = not (problem.together or problem.allowed or problem.contiguous)
    limited = any(m.memory_bytes < inf for m in problem.machines)
    same = len(problem.work) == 1
    working = [u for u in range(problem.nodes) if problem.work[0][u] > 0]
    if free and same and not limited:
        busy = {found.place[u] for u in working}
        assert len(busy) == min(len(everyone), len(working))


def clusters(parts: int, size: int) -> Problem:
    """Groups of nodes with nothing between them, dealt out in turn."""
    rng, count = Random(3), parts * size
    order = sorted(range(count), key=lambda u: (u % size, u))
    number = {u: i for i, u in enumerate(order)}
    values = []
    for u in range(count):
        mates = [v for v in range(u - u % size, u - u % size + size) if number[v] > number[u]]
        near = rng.sample(mates, min(2, len(mates)))
        values += [Value(number[u], (number[v],), 1.0) for v in near]
    return Problem(((1.0,) * count,), tuple(values), (Machine(),) * parts)


def test_metis_finds_clusters() -> None:
    atoms = condense(clusters(6, 30))
    places = next(metis.seeds(atoms, Objective(), Random(0)))
    cut = Assignment(atoms, Objective(), places)
    assert max(cut.loads) <= 31
    assert cut.moved <= 10


@fast
@given(problems(most_nodes=6), st.randoms(use_true_random=False))
def test_seeds_stand_where_they_may(case: tuple[Problem, Objective], rng: Random) -> None:
    problem, objective = case
    try:
        atoms = condense(replace(problem, contiguous=False))
    except NoCutError:
        return
    cuts = [listed(atoms, objective)]
    cuts += list(islice(metis.seeds(atoms, objective, rng), 3))
    for places in cuts:
        assert len(places) == atoms.count
        assert all(m in atoms.allowed[a] for a, m in enumerate(places))


def test_list_scheduling_spreads_every_epoch() -> None:
    """Two chains: on a machine each, nothing moves and nothing waits."""
    values = tuple(Value(u, (u + 2,), 1.0, u // 2) for u in range(8))
    epochs = tuple(u // 2 for u in range(10))
    problem = Problem(((3.0,) * 10,), values, (Machine(), Machine()), epoch=epochs)
    atoms = condense(problem)
    cut = Assignment(atoms, Objective(serial=1.0), listed(atoms, Objective(serial=1.0)))
    assert cut.value == 5 * 3.0


# ---- bad input


def test_a_cycle_is_an_error() -> None:
    values = (Value(0, (1,), 1.0), Value(1, (0,), 1.0))
    with pytest.raises(NetworkError, match="cycle"):
        Problem(((1.0, 1.0),), values, (Machine(),))


def test_what_fits_nowhere_is_named() -> None:
    problem = Problem(((1.0,),), (), (Machine(memory_bytes=3.0),), size_bytes=(4.0,))
    with pytest.raises(NoCutError, match="4 bytes"):
        search(problem, Objective(), steps())


def test_without_ortools_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ortools.sat.python.cp_model", None)
    problem = Problem(((1.0,) * 12,), (), (Machine(),) * 5)
    assert not exact.available()
    with pytest.raises(UsageError, match="OR-Tools") as error:
        search(problem, Objective(), steps(), use_exact=True)
    assert "dbgraph[exact]" in str(error.value)


# ---- what others measured


@pytest.fixture(scope="module")
def placement() -> Any:
    return _benchmark("device_placement")


def _benchmark(name: str) -> ModuleType:
    folder = ROOT / "benchmarks"
    sys.path.insert(0, str(folder))  # it imports its neighbour _measure
    try:
        spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(folder))


NETWORKS = ("LayerGraphs_bert24_training", "LayerGraphs_gnmt_inference")


def _profile(placement: Any, name: str) -> Any:
    return placement.Profile(name, json.loads((DATA / f"{name}.json").read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", NETWORKS)
def test_dynamic_program_is_within_a_hundredth(placement: Any, name: str) -> None:
    profile = _profile(placement, name)
    reference = placement.references(DATA)[name, "contiguous"]
    found = search(profile.problem(True), placement.OBJECTIVE, steps(5000), use_exact=False)
    value = placement.check(profile, found.place, True)
    assert value == pytest.approx(found.value)
    assert value <= reference * 1.01


@pytest.mark.slow
@needs_ortools
@pytest.mark.parametrize("variant", ["contiguous", "any"])
def test_exact_search_proves_the_reference(placement: Any, variant: str) -> None:
    profile = _profile(placement, NETWORKS[0])
    contiguous = variant == "contiguous"
    found = search(profile.problem(contiguous), placement.OBJECTIVE, steps(5e6))
    assert found.proved
    value = placement.check(profile, found.place, contiguous)
    assert value == pytest.approx(placement.references(DATA)[NETWORKS[0], variant], abs=0.001)


@pytest.mark.parametrize("use_exact", [False, pytest.param(True, marks=needs_ortools)])
def test_same_seed_and_steps_same_cut(placement: Any, use_exact: bool) -> None:
    problem = _profile(placement, NETWORKS[1]).problem(False)

    def cut() -> Place:
        budget = steps(30_000 if use_exact else 3_000)
        return search(problem, placement.OBJECTIVE, budget, seed=3, use_exact=use_exact).place

    assert cut() == cut()


def test_the_check_finds_broken_rules(placement: Any) -> None:
    profile = _profile(placement, NETWORKS[0])
    nodes = profile.data["nodes"]
    with pytest.raises(ValueError, match="colour class"):
        placement.check(profile, [int(n["isBackwardNode"]) for n in nodes], False)
    classes = [n["colorClass"] for n in nodes]
    scattered = [c % 2 for c in classes]
    with pytest.raises(ValueError, match="not contiguous"):
        placement.check(profile, scattered, True)
    profile.data["maxSizePerFPGA"] = 1.0
    with pytest.raises(ValueError, match="bytes"):
        placement.check(profile, scattered, False)
