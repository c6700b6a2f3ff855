"""Personalized aggregation (PerFIT, Algorithm 3): every coordinate is averaged among the clients that own it.

    Gamma^z_j = N^z / sum of N^k over the clients k whose mask holds coordinate j
    theta^z_j <- sum over those clients of theta^k_j Gamma^k_j      for the coordinates j that client z owns

(The paper's sum for B repeats A, a typing error.) On packed modules this is two segment sums over the coordinates, of
N theta and of N, one division, and a gather for each client: O(clients x coordinates of a client).
"""

import functools

import chex
import jax
import jax.numpy as jnp

from profit_jax.typing import Array


def owners_sums(values: Array, indices: Array, weights: Array, size: int) -> jax.Array:
    """Sums over the clients that own a coordinate: of weight x value, and of weight. `[size, 2]`.

    Args:
      values: `[C, K]`.
      indices: `[C, K]`; what is not below `size` counts nowhere.
      weights: `[C]`, the clients' numbers of examples.
      size: of the coordinate space.
    """

    # Client by client, so that no array of all clients' coordinates is made beside those that are there.
    def add(sums: jax.Array, client: tuple[Array, Array, Array]) -> tuple[jax.Array, None]:
        values, indices, weight = client
        both = jnp.stack([weight * values, jnp.full_like(values, weight)], axis=-1)
        return sums + jax.ops.segment_sum(both, indices, size, indices_are_sorted=True, unique_indices=True), None

    return jax.lax.scan(add, jnp.zeros((size, 2), values.dtype), (values, indices, weights))[0]


def dispatched(sums: jax.Array, values: Array, indices: Array) -> Array:
    """The clients' modules after aggregation, `[C, K]`: the owners' mean; where there is none, what was held."""

    def client(values: Array, indices: Array) -> Array:
        total, weight = jnp.moveaxis(sums.at[indices].get(mode="fill", fill_value=0), 1, 0)
        return jnp.where(weight > 0, total / jnp.where(weight > 0, weight, 1), values)

    return jax.vmap(client)(values, indices)


@functools.partial(jax.jit, static_argnames="size")
def aggregate(values: Array, indices: Array, weights: Array, size: int) -> Array:
    """The clients' personalized modules, `[C, K]`, from their packed modules (Algorithm 3).

    >>> values, indices = jnp.array([[1.0, 2.0], [5.0, 6.0]]), jnp.array([[0, 1], [1, 3]])
    >>> aggregate(values, indices, jnp.array([1.0, 3.0]), size=4).tolist()
    [[1.0, 4.25], [4.25, 6.0]]

    Raises:
      AssertionError: values and indices of different shapes, or not a weight for each client.
    """
    chex.assert_equal_shape([values, indices])
    chex.assert_shape(weights, values.shape[:1])
    return dispatched(owners_sums(values, indices, weights, size), values, indices)
