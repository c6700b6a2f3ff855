"""Data: task files, instruction sets, partitions, stores, and the planner that lays cohorts out in rows."""

import importlib


def __getattr__(name: str) -> object:
    if name in ("instructions", "shares", "sni", "tiny"):
        return importlib.import_module(f"profit_jax.data.{name}")
    raise AttributeError(f"module 'profit_jax.data' has no attribute {name!r}")
