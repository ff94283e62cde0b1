"""The user's functions: found by registry, module or file, and only if they are the plan's."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dbgraph.errors import RunError
from dbgraph.ir.types import Attrs
from dbgraph.kernels.custom import custom, register, resolve
from dbgraph.ops.custom import fingerprint


def double(x: jnp.ndarray) -> jnp.ndarray:
    return 2 * x


@jax.jit
def jitted(x: jnp.ndarray) -> jnp.ndarray:
    return 3 * x


def attrs(module: str, name: str, mark: str, file: str = "") -> Attrs:
    return Attrs(module=module, name=name, fingerprint=mark, file=file, shape=(2,), dtype="float32")


def test_imported_by_module() -> None:
    assert resolve(attrs(__name__, "double", fingerprint(double))) is double


def test_imported_under_a_decorator() -> None:
    assert resolve(attrs(__name__, "jitted", fingerprint(jitted))) is jitted
    inner = jitted.__wrapped__
    assert resolve(attrs(__name__, "jitted", fingerprint(inner))) is inner


def test_changed_since_the_plan_was_made() -> None:
    with pytest.raises(RunError, match=r"double has changed since the plan was made: .* is 1234"):
        resolve(attrs(__name__, "double", "1234"))


def test_registered_first() -> None:
    register(("nowhere", "<lambda>", "5678"), double)
    assert resolve(attrs("nowhere", "<lambda>", "5678")) is double


def test_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    file = tmp_path / "net.py"
    file.write_text("def half(x):\n    return x / 2\n")
    probe = attrs("net_of_no_path", "half", "?", str(file))
    with pytest.raises(RunError) as caught:
        resolve(probe)
    mark = str(caught.value).split("its fingerprint is ")[1][:16]
    found = resolve(probe.having(fingerprint=mark))
    assert float(found(jnp.float32(3))) == 1.5


@pytest.mark.parametrize(
    ("module", "name", "text", "rule"),
    [
        ("no_such_module", "f", None, "module no_such_module does not import"),
        (__name__, "no_such_name", None, "no_such_name is not in"),
        (__name__, "test_from_a_file.<locals>.f", None, "is not in"),
        ("no_such_module", "f", "1 / 0", "does not import: division by zero"),
    ],
)
def test_not_found(tmp_path: Path, module: str, name: str, text: str | None, rule: str) -> None:
    file = tmp_path / "net.py"
    if text is not None:
        file.write_text(text)
    with pytest.raises(RunError) as caught:
        resolve(attrs(module, name, "0", str(file) if text is not None else ""))
    assert rule in str(caught.value)


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there is no file"):
        resolve(attrs("no_such_module", "f", "0", str(tmp_path / "gone.py")))


def test_result_that_was_not_declared() -> None:
    node = attrs(__name__, "double", fingerprint(double))
    assert custom(node, jnp.ones(2, jnp.float32)).tolist() == [2, 2]
    with pytest.raises(RunError, match="gave int32 of rank 1; it was declared with float32"):
        custom(node, jnp.ones(2, jnp.int32))
    with pytest.raises(RunError, match="gave float32 of rank 2"):
        custom(node, jnp.ones((2, 2), jnp.float32))


def test_fingerprint_is_of_the_text() -> None:
    def one(x: float) -> float:
        return x + 1

    def two(x: float) -> float:
        return x + 2

    assert fingerprint(one) != fingerprint(two)
    assert fingerprint(one) == fingerprint(one)
    assert len(fingerprint(np.sum)) == 16
    typed: dict = {}
    exec("def f(x): return x + 1\ndef g(x): return x + 2\nh = lambda x: (lambda: x)", typed)
    marks = {fingerprint(typed[name]) for name in "fgh"}
    assert len(marks) == 3
    assert fingerprint(typed["f"]) in marks


def scaled(by: object) -> Callable:
    def multiply(x: object) -> object:
        return x * by

    return multiply


class Scale:
    def __init__(self, by: float) -> None:
        self.by = by

    def __call__(self, x: float) -> float:
        return x * self.by

    def method(self, x: float) -> float:
        return x * self.by


# fmt: off
ON_ONE_LINE = ((lambda x: x + 1), (lambda x: x + 2), (lambda x: x * 2))
# fmt: on


@pytest.mark.parametrize(
    "make",
    [
        lambda: [scaled(2), scaled(3), scaled(2.0), scaled("2"), scaled((2, 3))],
        lambda: [scaled(np.arange(3)), scaled(np.arange(3.0)), scaled(np.arange(1, 4))],
        lambda: [scaled(jnp.zeros(2)), scaled(jnp.ones(2)), scaled({"a": 1}), scaled({"a": 2})],
        lambda: [scaled(scaled(2)), scaled(scaled(3)), scaled({1, 2}), scaled({1, 3})],
        lambda: [partial(double, x=1), partial(double, x=2), partial(double, 1)],
        lambda: [Scale(2), Scale(3), Scale(2).method, Scale(3).method],
        lambda: list(ON_ONE_LINE),
        lambda: [np.add, np.multiply, max, min],
    ],
)
def test_fingerprint_tells_values_apart(make: Callable) -> None:
    """Two functions of one text must not be taken for each other; made again, they are the same."""
    marks = [fingerprint(fn) for fn in make()]
    assert len(set(marks)) == len(marks)
    assert marks == [fingerprint(fn) for fn in make()]


def test_fingerprint_of_what_refers_to_itself() -> None:
    loop: list = []
    loop.append(loop)
    assert fingerprint(scaled(loop)) != fingerprint(scaled([]))

    def itself(n: int) -> int:
        return itself(n - 1) if n else 0

    assert fingerprint(itself) == fingerprint(itself)


def test_fingerprint_of_a_jitted_function() -> None:
    assert fingerprint(jax.jit(double)) == fingerprint(jax.jit(double))
    assert fingerprint(jax.jit(scaled(2))) != fingerprint(jax.jit(scaled(3)))
