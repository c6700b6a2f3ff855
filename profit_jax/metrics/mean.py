"""Mergeable means: a sum and its weight, divided last."""

from typing import NamedTuple

import jax.numpy as jnp

from profit_jax.typing import Array


class Mean(NamedTuple):
    """A weighted mean that has not been divided yet. Means of parts add up to the mean of the whole.

    >>> whole = Mean.of(jnp.array([1.0, 2.0, 6.0]), jnp.array([1.0, 1.0, 2.0]))
    >>> float(whole.value), float(whole.weight)
    (3.75, 4.0)
    """

    total: Array
    weight: Array

    @classmethod
    def of(cls, values: Array, weights: Array) -> "Mean":
        """`sum w v` and `sum w` over all axes; values of weight 0 do not count, whatever they are."""
        counted = jnp.where(weights > 0, values, 0)
        return cls(jnp.sum(counted * weights), jnp.sum(weights))

    @property
    def value(self) -> Array:
        """The mean; 0 where nothing was counted."""
        return self.total / jnp.maximum(self.weight, jnp.finfo(jnp.float32).tiny)
