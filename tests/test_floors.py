"""Import only downwards: DESIGN.md's floor table, held against the code."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import dbgraph
import dbgraph.backends
import dbgraph.passes

# (prefix of a module, floor). The longest prefix that fits counts. Compile tower and run tower
# stand side by side on the common floors 0 to 3; the roof may see both.
COMMON = {
    "dbgraph.errors": 0,
    "dbgraph.source": 0,
    "dbgraph.suggest": 0,
    "dbgraph.target": 0,
    "dbgraph.tomltable": 0,
    "dbgraph.units": 0,
    "dbgraph.ir": 1,
    "dbgraph.ops": 2,
    "dbgraph.ir.verify": 2.5,  # it asks the ops for their rules
    "dbgraph.initial": 2.5,
    "dbgraph.userfile": 2.5,
    "dbgraph.cluster": 3,
    "dbgraph.clusterfile": 3,
    "dbgraph.dsl": 3,
    "dbgraph.layers": 3,
    "dbgraph.plan": 3,
    "dbgraph.wire": 3,
    # What a run notes of itself; the run tower writes it, the compile tower reads it.
    "dbgraph.trace": 3.2,
    "dbgraph.actor": 3.5,
    # Messages that the wire is to carry, and what stands in them: data alone.
    "dbgraph.optim.vectors": 3,
    "dbgraph.ps.messages": 3,
}
COMPILE = {
    "dbgraph.memory": 4,
    "dbgraph.cost": 4,
    "dbgraph.profile": 4,
    "dbgraph.simulate": 5,
    "dbgraph.show": 6,
    "dbgraph.trace.timeline": 6.5,
    "dbgraph.trace.against": 6.5,
    "dbgraph.trace.gap": 6.4,
    "dbgraph.trace.launches": 6.4,
    "dbgraph.trace.served": 6.45,
    "dbgraph.trace.gaps": 6.6,
    "dbgraph.passes": 7,
    "dbgraph.pipeline": 7.5,
    "dbgraph.placing": 7.7,
    "dbgraph.compile": 8,
    "dbgraph.explain": 8.5,
}
RUN = {
    "dbgraph.data": 4,
    "dbgraph.datasource": 4,
    "dbgraph.sampler": 4,
    "dbgraph.readahead": 4,
    "dbgraph.state": 4,
    "dbgraph.checkpoint": 4,
    "dbgraph.manifest": 4,
    "dbgraph.tensorfile": 4,
    "dbgraph.metrics": 4,
    "dbgraph.kernels": 4,
    "dbgraph.optim": 4.5,
    "dbgraph.coordinate": 5,
    "dbgraph.job": 5,
    "dbgraph.worker": 5,
    "dbgraph.results": 5,
    "dbgraph.loaded": 5,
    "dbgraph.uncut": 5,
    "dbgraph.model": 5,
    "dbgraph.ps": 5,
    "dbgraph.machine": 5,
    "dbgraph.actors": 5.5,
    "dbgraph.backends": 6,
}
ROOF = {
    # A trainer compiles its network and runs it: it stands on both towers.
    "dbgraph.train": 8.5,
    "dbgraph.calibrate": 8.5,
    # A run as its records tell it, and what shows it.
    "dbgraph.watch": 8.2,
    "dbgraph.numerics": 8.5,
    "dbgraph.commands": 9,
    "dbgraph.cli": 9,
    "dbgraph.__main__": 9,
}
HEAVY = {"jax", "zmq", "optax", "jaxlib"}
# `dbg.op(fn)` asks JAX for the shapes of the user's function when the network is declared.
EXCEPTIONS = {("dbgraph.dsl.custom", "jax")}
# A plan shows itself in notebooks: it asks for its picture when the notebook does.
UPWARDS = {("dbgraph.plan.plan", "dbgraph.show.page.plan")}


def _packages() -> dict[str, Path]:
    roots = {
        "dbgraph": Path(dbgraph.__file__).parent,
        "dbgraph.passes": Path(dbgraph.passes.__file__).parent,
        "dbgraph.backends": Path(dbgraph.backends.__file__).parent,
    }
    found = {}
    for package, root in roots.items():
        for path in sorted(root.rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            name = ".".join([package, *parts])
            found[name.removesuffix(".__init__")] = path
    return found


MODULES = _packages()


def _floor(module: str, table: dict[str, float]) -> float | None:
    best = _prefix(module, table)
    return table[best] if best else None


def _prefix(module: str, table: dict[str, float]) -> str:
    """The longest that fits; "" where none does."""
    fitting = (p for p in table if module == p or module.startswith(p + "."))
    return max(fitting, key=len, default="")


def _tower(module: str) -> str:
    towers = {"common": COMMON, "compile": COMPILE, "run": RUN, "roof": ROOF}
    found = {name: _prefix(module, table) for name, table in towers.items()}
    best = max(found, key=lambda name: len(found[name]))
    assert found[best], f"{module} stands on no floor: add it to the table, and to DESIGN's"
    return best


class _Imports(ast.NodeVisitor):
    """Every import of a file, also those inside functions; not those for type checkers alone."""

    def __init__(self) -> None:
        self.found: set[str] = set()

    def visit_If(self, node: ast.If) -> None:
        if ast.unparse(node.test) != "TYPE_CHECKING":
            self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        self.found.update(alias.name for alias in node.names)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        assert node.module is not None, "imports are absolute"
        for alias in node.names:
            full = f"{node.module}.{alias.name}"
            self.found.add(full if full in MODULES else node.module)


@cache
def _imports(path: Path) -> set[str]:
    visitor = _Imports()
    visitor.visit(ast.parse(path.read_text(encoding="utf-8")))
    return visitor.found


ALL = {**COMMON, **COMPILE, **RUN, **ROOF}


@pytest.mark.parametrize("module", [m for m in MODULES if m != "dbgraph"])
def test_imports_point_downwards(module: str) -> None:
    tower, floor = _tower(module), _floor(module, ALL)
    assert floor is not None
    for name in _imports(MODULES[module]):
        top = name.split(".")[0]
        assert top not in ("passes", "backends"), f"{module}: import dbgraph.{name} instead"
        if top != "dbgraph" or name == "dbgraph" or (module, name) in UPWARDS:
            continue
        other, other_floor = _tower(name), _floor(name, ALL)
        assert other_floor is not None
        same_package = name.rpartition(".")[0] == module.rpartition(".")[0]
        assert other_floor < floor or (other_floor == floor and tower == other) or same_package, (
            f"{module} (floor {floor}) imports {name} (floor {other_floor})"
        )
        if tower != "roof":
            assert other in ("common", tower), f"{module} ({tower}) imports {name} ({other})"


@pytest.mark.parametrize("module", [m for m in MODULES if m != "dbgraph"])
def test_compile_tower_and_common_floors_never_import_jax_or_zmq(module: str) -> None:
    if _tower(module) in ("run", "roof"):
        return
    for name in _imports(MODULES[module]):
        top = name.split(".")[0]
        assert top not in HEAVY or (module, top) in EXCEPTIONS, f"{module} imports {name}"


@pytest.mark.parametrize("code", ["import dbgraph", "import dbgraph.cli", "import dbgraph.compile"])
def test_what_people_import_first_loads_neither_jax_nor_zmq(code: str) -> None:
    check = f"{code}; import sys; print(sorted(m for m in sys.modules if m in {HEAVY!r}))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_top_level_names_are_few_and_there() -> None:
    assert len(dbgraph.__all__) <= 20
    for name in dbgraph.__all__:
        assert getattr(dbgraph, name) is not None
