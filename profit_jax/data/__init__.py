"""Data: task files, instruction sets, partitions, stores, and the planner that lays cohorts out in rows."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the same names for type checkers, which do not run `__getattr__`
    from profit_jax.data import instructions, shares, sni, tiny

__all__ = ["instructions", "shares", "sni", "tiny"]


def __getattr__(name: str) -> object:
    if name in __all__:
        return importlib.import_module(f"profit_jax.data.{name}")
    raise AttributeError(f"module 'profit_jax.data' has no attribute {name!r}")
