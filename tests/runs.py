"""Records of made-up runs, for the tests of what shows them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

Records = list[dict[str, Any]]


def start(step: int = 0, **more: Any) -> dict[str, Any]:
    known = {
        "network": "digits",
        "partitions": 2,
        "rule": "sgd:learning_rate=0.1",
        "algorithm": "downpour, 2 replicas, 1 shard",
        "algorithm_options": {"n_fetch": 1},
        "steps": 400,
        "examples_per_step": 128,
    }
    return {"kind": "start", "time_s": 1e9, "step": step, "elapsed_s": 0.0, **known, **more}


def at(kind: str, step: int, **more: Any) -> dict[str, Any]:
    """A record of a run that takes 10 ms a step."""
    return {
        "kind": kind,
        "time_s": 1e9 + step / 100,
        "step": step,
        "elapsed_s": step / 100,
        **more,
    }


def standing(step: int, machines: int = 0) -> dict[str, Any]:
    return at(
        "standing",
        step,
        replicas=[
            {
                "replica": r,
                "doing": "training",
                "examples": 64 * step,
                "examples_per_s": 6400.0 - 400 * r,
                "staleness": r,
                "heard_s": 0.25,
            }
            for r in range(2)
        ],
        shards=[
            {
                "shard": 0,
                "updates": 2 * step,
                "updates_per_s": 200.0,
                "bytes_per_s": 5e7,
                "pushed_bytes_per_s": 2e7,
                "fetched_bytes_per_s": 3e7,
                "heard_s": 0.5,
            }
        ],
        machines=[
            {"name": f"partition {p}", "doing": "RUN s0.0 (hidden)", "examples_per_s": 12800.0}
            for p in range(machines)
        ],
        staleness=[[0, step // 4], [1, step // 2], [3, 1]],
    )


def whole(steps: int = 400, decay: float = 80.0, **more: Any) -> Records:
    """A run from its start to its end."""
    found = [start(**more)]
    for step in range(10, steps + 1, 10):
        loss = 2.3 * math.exp(-step / decay) + 0.05 + 0.02 * math.sin(step)
        found.append(at("train", step, loss=loss, examples_per_s=12800.0 + 10 * (step % 70)))
        if step % 100 == 0:
            found.append(standing(step))
            accuracy = 1 - 0.8 * math.exp(-step / decay)
            found.append(at("eval", step, loss=loss + 0.02, accuracy=accuracy, best=True))
            found.append(at("checkpoint", step, path=f"runs/a/step-{step:08d}", best=True))
    return [*found, at("end", steps, reason="steps")]


def write(path: Path, records: Records) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path
