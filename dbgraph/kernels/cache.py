"""Compiled programs are kept on disk, so that the next run starts faster."""

from __future__ import annotations

import os


def use_compilation_cache() -> None:
    """To be called before jax is imported. What the user set in the environment stays."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.join(cache, "dbgraph", "jax"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
