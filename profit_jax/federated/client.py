"""What clients compute, all clients of a lane side by side: losses, gradients, and steps of local training."""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.typing import ArrayLike

from profit_jax import trees
from profit_jax.federated.algorithm import LossFunction
from profit_jax.typing import Adapter, Array, Frozen, Rows, Tree, Used


def over_flights(work: Callable[[Rows], Tree], start: Tree, batch: Rows, used: Used) -> Tree:
    """`start + sum of work(rows)` over a step's flights, one after another, which bounds the activations in memory.

    The loop runs over the flights that have chunks of labels in use, so that room for more costs no computation.
    """

    def add(flight: Array, total: Tree) -> Tree:
        rows, own = jax.tree.map(lambda leaf: lax.dynamic_index_in_dim(leaf, flight, keepdims=False), (batch, used))
        return jax.tree.map(jnp.add, total, work(with_used(rows, own)))

    return lax.fori_loop(0, jnp.sum(used.chunks > 0), add, start)


def with_used(rows: Rows, used: Used) -> Rows:
    """A flight's rows, and what of them is computed."""
    windows = dataclasses.replace(rows.windows, used=used.windows)
    return dataclasses.replace(rows, windows=windows, chunks=used.chunks)


def losses(loss: LossFunction, frozen: Frozen, adapters: Adapter, batch: Rows, used: Used) -> Array:
    """Each client's loss `[C]` on one step's rows."""
    clients = jax.tree.leaves(adapters)[0].shape[0]
    read = loss.read(frozen, adapters)
    return over_flights(lambda rows: loss(frozen, read, rows), jnp.zeros(clients), batch, used)


def gradients(loss: LossFunction, frozen: Frozen, adapters: Adapter, batch: Rows, used: Used) -> tuple[Array, Adapter]:
    """Each client's loss `[C]` and gradient (leaves `[C, ...]`) on one step's rows.

    What the flights have in common is computed once, before them, and its gradient followed back once, after them.
    """
    read, pull_back = jax.vjp(functools.partial(loss.read, frozen), adapters)
    clients = jax.tree.leaves(adapters)[0].shape[0]
    start = jnp.zeros(clients), jax.tree.map(jnp.zeros_like, read)
    losses, own = over_flights(functools.partial(flight_gradients, loss, frozen, read), start, batch, used)
    return losses, *pull_back(own)


def flight_gradients(loss: LossFunction, frozen: Frozen, read: Adapter, rows: Rows) -> tuple[Array, Adapter]:
    """Each client's loss `[C]` on a flight's rows, and its gradient with respect to what they read.

    The rows of all clients go through the backbone together. The loss is a sum over rows and each row reads its
    owner's adapter alone, so the gradient of the sum holds every client's own gradient.
    """

    def summed(read: Adapter) -> tuple[Array, Array]:
        losses = loss(frozen, read, rows)
        return jnp.sum(losses), losses

    own, losses = jax.grad(summed, has_aux=True)(read)
    return losses, own


class Moments(NamedTuple):
    """Clients' gradients over several steps at one adapter."""

    losses: Array  # [S, C]
    gradient: Adapter  # [C, ...], of the mean loss over all examples of the steps; 0 where it is not finite
    square: Adapter | None  # [C, ...], the mean over the client's steps of the squared gradient; None if not asked for
    lost: Array  # [C] int32: the step, from 1, at which it has not stayed finite, or 0


def moments(
    loss: LossFunction,
    frozen: Frozen,
    adapters: Adapter,  # [C, ...]
    batches: Rows,  # leaves [S, Q, ...]
    counts: Array,  # [S, C]
    used: Used,  # leaves [S, Q, ...]
    *,
    square: bool = False,
) -> Moments:
    """First and, if asked for, second moments of the steps' gradients; the adapters stay where they are.

    Each step counts in the gradient with its share of the client's examples, so that the sum is the gradient of the
    mean loss over all of them; in the squares every step of the client counts alike.
    """
    share = counts / jnp.maximum(counts.sum(0, keepdims=True), 1)
    present = (counts > 0) / jnp.maximum((counts > 0).sum(0, keepdims=True), 1)

    def add(total: Adapter, weight: Array, values: Adapter) -> Adapter:
        return jax.tree.map(lambda t, v: t + v * weight.reshape(weight.shape + (1,) * (v.ndim - 1)), total, values)

    def accumulate(total: tuple, data: tuple) -> tuple[tuple, Array]:
        gradient, squares = total
        batch, share, present, used = data
        losses, own = gradients(loss, frozen, adapters, batch, used)
        if square:
            squares = add(squares, present, jax.tree.map(jnp.square, own))
        return (add(gradient, share, own), squares), losses

    zero = jax.tree.map(jnp.zeros_like, adapters)
    start = zero, (zero if square else None)
    (gradient, squares), losses = lax.scan(accumulate, start, (batches, share, present, used))
    lost = lost_step(losses, gradient)
    return Moments(losses, trees.where(lost == 0, gradient, zero), squares, lost)


def lost_step(values: Array, results: Tree) -> Array:
    """The first step, from 1, at which a client's value `[S, C]` is not finite, `[C]` int32.

    The last where only its result, leaves `[C, ...]`, is not; 0 where all is finite.
    """
    steps = jnp.arange(1, len(values) + 1, dtype=jnp.int32)[:, None]
    first = jnp.min(jnp.where(jnp.isfinite(values), len(values) + 1, steps), axis=0)
    parts = [jnp.isfinite(leaf).all(tuple(range(1, leaf.ndim))) for leaf in jax.tree.leaves(results)]
    whole = functools.reduce(jnp.logical_and, parts, first > len(values))
    return jnp.where(whole, 0, jnp.minimum(first, len(values)))


class Trained(NamedTuple):
    """Clients after local training; one whose loss or adapter has not stayed finite is as it was before."""

    adapters: Tree  # [C, ...]
    optimizers: optax.OptState  # leaves [C, ...]
    losses: Array  # [S, C], before each step
    gradient_norms: Array  # [S, C]
    lost: Array  # [C] int32: the step, from 1, at which its loss or gradient was not finite, or 0


def local_training(
    loss: LossFunction,
    optimizer: optax.GradientTransformation,
    frozen: Frozen,
    adapters: Tree,  # [C, ...]
    optimizers: optax.OptState,  # [C, ...]
    batches: Rows,  # leaves [S, Q, ...]
    counts: Array,  # [S, C]
    used: Used,  # leaves [S, Q, ...]
    *,
    rate: ArrayLike = 1.0,
    expand: Callable[[Tree], Adapter] = lambda adapters: adapters,
) -> Trained:
    """S steps of every client's own optimizer. A step for which a client has no examples leaves it as it is.

    Args:
      rate: what every update is multiplied with, for a learning rate that the server schedules by round.
      expand: what trains -> the adapters that the backbone reads; differentiated through.
    """

    def step(carry: tuple, data: tuple) -> tuple[tuple, tuple]:
        adapters, optimizers = carry
        batch, counts, used = data
        read, pull_back = jax.vjp(expand, adapters)
        losses, own = gradients(loss, frozen, read, batch, used)
        (own,) = pull_back(own)
        updates, moved = jax.vmap(optimizer.update)(own, optimizers, adapters)
        updates = jax.tree.map(lambda leaf: rate * leaf, updates)
        after = optax.apply_updates(adapters, updates), moved
        return trees.where(counts > 0, after, carry), (losses, jax.vmap(trees.norm)(own))

    before = adapters, optimizers
    after, (losses, norms) = lax.scan(step, before, (batches, counts, used))
    lost = lost_step(losses + norms, after[0])
    adapters, optimizers = trees.where(lost == 0, after, before)
    return Trained(adapters, optimizers, losses, norms, lost)
