"""What clients compute, all clients of a lane side by side: gradients of a step, and steps of local training."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from profit_jax import trees
from profit_jax.federated.algorithm import LossFunction
from profit_jax.typing import Adapter, Array, Batch, Frozen


def gradients(loss: LossFunction, frozen: Frozen, adapters: Adapter, batch: Batch) -> tuple[Array, Adapter]:
    """Each client's loss `[C]` and gradient (leaves `[C, ...]`) on one step's rows.

    The rows of all clients go through the backbone together. The loss is a sum over rows and each row reads its
    owner's adapter alone, so the gradient of the sum holds every client's own gradient. Both are accumulated over
    flights, which bounds the activations in memory.
    """

    def flight(total: tuple, rows) -> tuple[tuple, None]:
        def summed(adapters: Adapter) -> tuple[Array, Array]:
            losses = loss(frozen, adapters, rows)
            return jnp.sum(losses), losses

        own, losses = jax.grad(summed, has_aux=True)(adapters)
        return jax.tree.map(jnp.add, total, (losses, own)), None

    clients = jax.tree.leaves(adapters)[0].shape[0]
    total = jnp.zeros(clients), jax.tree.map(jnp.zeros_like, adapters)
    for block in batch:
        total, _ = lax.scan(flight, total, block)
    return total


class Trained(NamedTuple):
    """Clients after local training."""

    adapters: Adapter  # [C, ...]
    optimizers: optax.OptState  # leaves [C, ...]
    losses: Array  # [S, C], before each step
    gradient_norms: Array  # [S, C]


def local_training(
    loss: LossFunction,
    optimizer: optax.GradientTransformation,
    frozen: Frozen,
    adapters: Adapter,  # [C, ...]
    optimizers: optax.OptState,  # [C, ...]
    batches: Batch,  # leaves [S, Q, ...]
    examples: Array,  # [S, C]
) -> Trained:
    """S steps of every client's own optimizer. A step for which a client has no examples leaves it as it is."""

    def step(carry: tuple, data: tuple) -> tuple[tuple, tuple]:
        adapters, optimizers = carry
        batch, examples = data
        losses, own = gradients(loss, frozen, adapters, batch)
        updates, moved = jax.vmap(optimizer.update)(own, optimizers, adapters)
        after = optax.apply_updates(adapters, updates), moved
        return trees.where(examples > 0, after, carry), (losses, jax.vmap(trees.norm)(own))

    (adapters, optimizers), (losses, norms) = lax.scan(step, (adapters, optimizers), (batches, examples))
    return Trained(adapters, optimizers, losses, norms)
