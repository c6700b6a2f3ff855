"""Centralized training (Profit Section 3): no federation, every step's batch is drawn from all clients' data.

    P <- P + optimizer(gradient at P of the mean loss over the pooled batch)

A cohort's places hold shards of the pooled batch, weighed by their examples, so one step of a round is FedSGD's on
shards instead of clients; a round of several steps applies the optimizer after each.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from profit_jax import trees
from profit_jax.federated.algorithm import Algorithm, LossFunction, State, Stats
from profit_jax.federated.fed_sgd import fed_sgd
from profit_jax.typing import Array, Cohort, Frozen


def centralized(loss: LossFunction, *, optimizer: optax.GradientTransformation) -> Algorithm:
    """Centralized training with any optax optimizer, whose state is kept between rounds.

    >>> import profit_jax as pj
    >>> algorithm = centralized(pj.Backbone.load("tiny").loss, optimizer=optax.adam(1.0))
    >>> algorithm.pooled  # `train` draws a round's examples from all clients' data at once
    True
    """
    one_step = fed_sgd(loss, server_optimizer=optimizer)

    def step(frozen: Frozen, state: State, cohort: Cohort) -> tuple[State, Stats]:
        def single(state: State, data: Cohort) -> tuple[State, Stats]:
            # [M, ...] -> [M, 1, ...]: a cohort of one step, its shards weighed by their examples.
            batches = jax.tree.map(lambda leaf: leaf[:, None], data.batches)
            used = jax.tree.map(lambda leaf: leaf[None], data.used)
            one = data._replace(batches=batches, counts=data.counts[:, None], used=used)
            after, stats = one_step.step(frozen, state, one)
            # Room for a step that does not exist is passed over.
            return jax.tree.map(lambda new, old: jnp.where(data.counts.any(), new, old), after, state), stats

        batches, counts = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 1, 0), (cohort.batches, cohort.counts))
        repeated = jnp.broadcast_to(cohort.client, (len(counts), *cohort.client.shape))
        by_step = Cohort(batches, counts, cohort.used, weight=counts, client=repeated)
        after, stats = lax.scan(single, state, by_step)
        change = jax.tree.map(jnp.subtract, after.adapter, state.adapter)
        return after._replace(round=state.round + 1), Stats(
            losses=jax.tree.map(lambda leaf: leaf.sum(0), stats.losses),
            lost=first_lost(stats.lost),
            client_gradient_norm=jax.tree.map(jnp.sum, stats.client_gradient_norm),
            adapter_norm=trees.norm(after.adapter),
            change_norm=trees.norm(change),
        )

    def first_lost(lost: Array) -> Array:
        """Of each shard, from what its batches of one step say, `[S, M, C]` -> `[M, C]`."""
        step = jnp.arange(1, len(lost) + 1, dtype=jnp.int32)[:, None, None]
        first = jnp.min(jnp.where(lost > 0, step, len(lost) + 1), axis=0)
        return jnp.where(first > len(lost), 0, first)

    return dataclasses.replace(
        one_step, step=step, pooled=True, exchanged=lambda state, clients: np.zeros(len(clients), int)
    )
