"""The few tree helpers that everything uses. Trees are adapters or gradients: nested dicts of float arrays."""

import jax
import jax.numpy as jnp
import optax

from profit_jax.typing import Array, Tree

norm = optax.tree.norm
"""Euclidean norm over all leaves: the Frobenius norm of a prompt."""


def broadcast(tree: Tree, clients: int) -> Tree:
    """Gives every leaf a leading client axis: `[...]` -> `[C, ...]`, the same value for each client."""
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (clients, *leaf.shape)), tree)


def copy(tree: Tree) -> Tree:
    """Buffers of its own for every leaf: a round consumes its state, which may share none with the caller or itself."""
    return jax.tree.map(jnp.array, tree)


def weighted_sum(tree: Tree, weight: Array) -> Tree:
    """`sum_c weight[c] * leaf[c]` over the leading axis of each leaf."""
    return jax.tree.map(lambda leaf: jnp.einsum("c...,c->...", leaf, weight.astype(leaf.dtype)), tree)


def where(keep: Array, new: Tree, old: Tree) -> Tree:
    """Chooses per client: leaves are `[C, ...]`, `keep` is `[C]`."""
    return jax.tree.map(lambda n, o: jnp.where(keep.reshape(keep.shape + (1,) * (n.ndim - keep.ndim)), n, o), new, old)


def count(tree: Tree) -> int:
    """The number of elements."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))
