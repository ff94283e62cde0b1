"""From what was timed to rates: pure arithmetic."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import inf

import numpy as np

from dbgraph.cluster import Rates

_ROUNDS = 100
_NEAR, _FAR = 0.05, 1e3


@dataclass(frozen=True, slots=True)
class Timed:
    """What one execution of an op took."""

    flop: float
    traffic_bytes: float
    seconds: float


def fit_rates(timed: Sequence[Timed]) -> Rates:
    """seconds = start_s + flop / flop_s + bytes / memory_bytes_s."""
    features = np.array([(1.0, t.flop, t.traffic_bytes) for t in timed])
    start_s, flop_cost_s, byte_cost_s = non_negative(features, [t.seconds for t in timed])
    return Rates(_rate(flop_cost_s), _rate(byte_cost_s), start_s)


def non_negative(features: np.ndarray, seconds: Sequence[float]) -> tuple[float, ...]:
    """The coefficients, none below 0, for which features @ coefficients comes nearest to the
    seconds: with the least sum of |log(forecast / seconds)|, so that half is as far off as twice,
    and one sample that went wrong moves little; near 0 the square takes over (Huber 1964).
    What the figures do not show costs nothing.

    Solved in rounds of linear least squares, each sample weighted so that its derivative is the
    wanted one at the last round's forecast.

    Args:
        features: (samples, features), none below 0.
        seconds: those that are not above 0, by noise, are left out.
    """
    there = np.asarray(seconds) > 0
    features, wanted = features[there], np.asarray(seconds)[there]
    ratio = np.ones(len(wanted))  # of the forecast to the seconds
    for _ in range(_ROUNDS):
        off = np.log(ratio)
        slope = np.where(off == 0, 1.0, off / np.where(off == 0, 1.0, ratio - 1))
        weights = np.sqrt(slope / ratio / np.maximum(np.abs(off), _NEAR)) / wanted
        found = _least_squares(features * weights[:, None], wanted * weights)
        ratio = np.clip(features @ found / wanted, 1 / _FAR, _FAR)
    return tuple(float(x) for x in found)


def rounded(value: float) -> float:
    """To four digits: nobody can measure more, and the file is for people."""
    return float(f"{value:.4g}")


def _least_squares(features: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """None of the coefficients below 0. All subsets of the features are tried: there are few."""
    count = features.shape[1]
    size = np.maximum(features.max(axis=0, initial=0.0), np.finfo(float).tiny)
    scaled = features / size
    best, least = np.zeros(count), inf
    for chosen in _subsets(count):
        found, *_ = np.linalg.lstsq(scaled[:, chosen], wanted, rcond=None)
        error = float(((scaled[:, chosen] @ found - wanted) ** 2).sum())
        if (found >= 0).all() and error < least:
            least, best = error, np.zeros(count)
            best[chosen] = found
    return np.asarray(best / size)


def _rate(cost_s: float) -> float:
    return 1 / cost_s if cost_s else inf


def _subsets(count: int) -> Iterator[list[int]]:
    for size in range(1, count + 1):
        for chosen in combinations(range(count), size):
            yield list(chosen)
