"""Data: task files, partitions, stores, and the planner that lays cohorts out in rows."""

import importlib


def __getattr__(name: str) -> object:
    if name == "sni":
        return importlib.import_module("profit_jax.data.sni")
    raise AttributeError(f"module 'profit_jax.data' has no attribute {name!r}")
