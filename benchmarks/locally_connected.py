"""Locally connected filters: dbgraph's kernel against the usual ways to write them.

    python benchmarks/locally_connected.py [--quick] [--json FILE]

Layers in the style of the image networks of Dean et al. 2012 (10x10 patches, 8 to 36 maps), batch
32, float32: forward, and forward with both gradients. Before timing, every variant's result and
gradients are compared with dbgraph's. "×" is the median of the rounds' ratios to dbgraph's time,
"grad" is forward and both gradients. The limits, measured in rounds with dbgraph's kernel, are
to read the weights once (their sum), and to read them and write as many numbers (twice the
weights), as the gradient of the weights must.
"""

import argparse
import importlib
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _measure import median_ratio, print_table, rounds_seconds, write_json
from jax import lax

from dbgraph.kernels.local2d import local2d

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]
Function = Callable[[Any, Any], Any]
Times = dict[str, list[float]]
FLAT = ((0, 0), (0, 0))
TORCH = "torch unfold + einsum"


@dataclass(frozen=True)
class Size:
    side: int
    channels: int
    maps: int
    patch: int = 10
    batch: int = 32

    @property
    def out(self) -> int:
        return self.side - self.patch + 1

    @property
    def weights(self) -> int:
        return self.out**2 * self.patch**2 * self.channels * self.maps

    def __str__(self) -> str:
        image = f"{self.side}×{self.side}×{self.channels}"
        return f"{image} → {self.maps} maps, {self.weights / 1e6:.1f} M weights"

    def arrays(self) -> Arrays:
        """x, w and the cotangent of the result."""
        rng = np.random.default_rng(0)
        image, filters = (self.side,) * 2, (self.out,) * 2
        shapes = (
            (self.batch, *image, self.channels),
            (*filters, self.patch, self.patch, self.channels, self.maps),
            (self.batch, *filters, self.maps),
        )
        x, w, dy = (rng.standard_normal(shape, dtype=np.float32) for shape in shapes)
        return x, w, dy


SIZES = (Size(24, 18, 18), Size(48, 8, 8), Size(32, 8, 36))
QUICK = (Size(16, 4, 4), Size(16, 4, 9))


def conv_local(x: jax.Array, w: jax.Array) -> jax.Array:
    oh, ow, ph, pw, channels, maps = w.shape
    filters = w.transpose(0, 1, 4, 2, 3, 5).reshape(oh, ow, channels * ph * pw, maps)
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated_local(
        x, filters, (1, 1), FLAT, (ph, pw), dimension_numbers=layout
    )


def patches_einsum(x: jax.Array, w: jax.Array) -> jax.Array:
    oh, ow, ph, pw, channels, maps = w.shape
    filters = w.transpose(0, 1, 4, 2, 3, 5).reshape(oh, ow, channels * ph * pw, maps)
    layout = ("NHWC", "HWIO", "NHWC")
    patches = lax.conv_general_dilated_patches(x, (ph, pw), (1, 1), FLAT, dimension_numbers=layout)
    return jnp.einsum("bhwk,hwkm->bhwm", patches, filters)


def slices_einsum(x: jax.Array, w: jax.Array) -> jax.Array:
    """All patches at once, position by position: (positions, batch, patch) @ (patch, maps)."""
    oh, ow, ph, pw, _, maps = w.shape
    parts = [x[:, i : i + oh, j : j + ow] for i in range(ph) for j in range(pw)]
    patches = jnp.stack(parts, axis=3).transpose(1, 2, 0, 3, 4)
    patches = patches.reshape(oh * ow, x.shape[0], -1)
    y = jnp.einsum("obk,okm->obm", patches, w.reshape(oh * ow, -1, maps))
    return y.reshape(oh, ow, -1, maps).transpose(2, 0, 1, 3)


def dbgraph_kernel(x: jax.Array, w: jax.Array) -> jax.Array:
    return local2d(x, w, strides=(1, 1), padding=FLAT)


JAX_VARIANTS: dict[str, Function] = {
    "dbgraph": dbgraph_kernel,
    "lax.conv_general_dilated_local": conv_local,
    "patches + einsum": patches_einsum,
    "slices + batched matmul": slices_einsum,
}


@dataclass(frozen=True)
class Variant:
    """Calls that return when their results are there."""

    forward: Callable[[], Any]
    gradients: Callable[[], tuple[Any, Any, Any]]


def ready(result: Any) -> Any:
    return jax.block_until_ready(result)  # type: ignore[no-untyped-call]


def jax_variant(fn: Function, arrays: Arrays) -> Variant:
    x, w, dy = (jnp.asarray(a) for a in arrays)

    def with_gradients(x: jax.Array, w: jax.Array, dy: jax.Array) -> Any:
        y, vjp = jax.vjp(fn, x, w)
        return (y, *vjp(dy))

    forward, gradients = jax.jit(fn), jax.jit(with_gradients)
    return Variant(
        lambda: ready(forward(x, w)),
        lambda: ready(gradients(x, w, dy)),
    )


def torch_variant(arrays: Arrays) -> Variant | None:
    """torch's unfold + einsum, its weights in the layout that its unfold gives."""
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        return None
    x, w, dy = (torch.from_numpy(a) for a in arrays)
    ph, pw = w.shape[2:4]
    x_nchw = x.permute(0, 3, 1, 2).contiguous().requires_grad_()
    dy_nmhw = dy.permute(0, 3, 1, 2).contiguous()
    filters = w.permute(0, 1, 4, 2, 3, 5).contiguous().requires_grad_()

    def run(x: Any, w: Any) -> Any:
        patches = x.unfold(2, ph, 1).unfold(3, pw, 1)
        return torch.einsum("bchwpq,hwcpqm->bmhw", patches, w)

    def forward() -> Any:
        with torch.no_grad():
            return run(x_nchw, filters).permute(0, 2, 3, 1)

    def gradients() -> tuple[Any, Any, Any]:
        y = run(x_nchw, filters)
        dx, dw = torch.autograd.grad(y, (x_nchw, filters), dy_nmhw)
        return (
            y.detach().permute(0, 2, 3, 1),
            dx.permute(0, 2, 3, 1),
            dw.permute(0, 1, 3, 4, 2, 5),
        )

    return Variant(forward, gradients)


def check(name: str, variant: Variant, expected: tuple[Any, Any, Any]) -> None:
    """Raises ValueError if a result or gradient is further from dbgraph's than rounding."""
    pairs = zip(("result", "dx", "dw"), variant.gradients(), expected, strict=True)
    for what, got, want in pairs:
        off = np.abs(np.asarray(got) - np.asarray(want)).max() / np.abs(np.asarray(want)).max()
        if off > 1e-4:
            raise ValueError(f"{name}: {what} differs from dbgraph's by {off:.1e} (relative)")


def limits(w: np.ndarray, dbgraph: Variant) -> dict[str, Callable[[], Any]]:
    weights, read, copy = jnp.asarray(w), jax.jit(jnp.sum), jax.jit(lambda w: 2 * w)
    return {
        "read": lambda: ready(read(weights)),
        "read and write": lambda: ready(copy(weights)),
        "forward": dbgraph.forward,
        "gradients": dbgraph.gradients,
    }


def measure(size: Size, rounds: int, budget_s: float) -> dict[str, Times]:
    """Times of all variants and limits at one size; half of budget_s for either kind."""
    arrays = size.arrays()
    variants = {name: jax_variant(fn, arrays) for name, fn in JAX_VARIANTS.items()}
    torch = torch_variant(arrays)
    if torch is not None:
        variants[TORCH] = torch
    expected = variants["dbgraph"].gradients()
    for name, variant in variants.items():
        check(name, variant, expected)
    timed = partial(rounds_seconds, rounds=rounds, budget_s=budget_s / 2)
    return {
        "forward": timed({name: v.forward for name, v in variants.items()}),
        "gradients": timed({name: v.gradients for name, v in variants.items()}),
        "limits": rounds_seconds(limits(arrays[1], variants["dbgraph"]), 3 * rounds),
    }


def medians_ms(times: Times) -> dict[str, float]:
    return {name: 1e3 * statistics.median(seconds) for name, seconds in times.items()}


def ratios(times: Times, base: str) -> dict[str, float]:
    return {name: median_ratio(seconds, times[base]) for name, seconds in times.items()}


def report(size: Size, times: dict[str, Times]) -> dict[str, Any]:
    """Prints one size's table; returns its figures for the JSON file."""
    ms = {kind: medians_ms(of_kind) for kind, of_kind in times.items()}
    ratio = {kind: ratios(times[kind], "dbgraph") for kind in ("forward", "gradients")}
    to_read = ratios(times["limits"], "read")
    to_write = ratios(times["limits"], "read and write")["gradients"]
    rows = [
        (
            name,
            *(
                f"{of[kind][name]:.{digits}f}"
                for of, digits in ((ms, 1), (ratio, 2))
                for kind in ratio
            ),
        )
        for name in ratio["forward"]
    ]
    columns = ("", "forward ms", "grad ms", "forward ×", "grad ×")
    print_table(str(size), columns, rows)
    print(
        f"To read the weights once takes {ms['limits']['read']:.1f} ms, to read them and write as "
        f"many {ms['limits']['read and write']:.1f} ms.\n"
        f"dbgraph's forward takes {to_read['forward']:.0f} times the first; its gradients "
        f"{to_read['gradients']:.0f} times the first, {to_write:.1f} times the second.\n"
    )
    over = {"forward/read": to_read["forward"], "gradients/read": to_read["gradients"]}
    over["gradients/read and write"] = to_write
    return {"size": str(size), "ms": ms, "ratio_to_dbgraph": ratio, "times_the_limit": over}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two small layers, few rounds")
    parser.add_argument("--json", metavar="FILE", help="write the figures here as well")
    args = parser.parse_args()
    sizes, rounds, budget_s = (QUICK, 3, 2) if args.quick else (SIZES, 7, 40)
    results = [report(size, measure(size, rounds, budget_s)) for size in sizes]
    if TORCH not in results[0]["ms"]["forward"]:
        print(f"{TORCH}: torch is not installed")
    worst = min(
        r["ratio_to_dbgraph"]["gradients"]["lax.conv_general_dilated_local"] for r in results
    )
    print(
        f"With gradients dbgraph is at least {worst:.1f} times faster than "
        "lax.conv_general_dilated_local (the aim is 8)."
    )
    if args.json:
        write_json(args.json, {"benchmark": "locally_connected", "results": results})


if __name__ == "__main__":
    main()
