"""Centralized training (Profit Section 3): no federation, every step's batch is drawn from all clients' data.

    P <- P + optimizer(gradient at P of the mean loss over the pooled batch)

A cohort's places hold shards of the pooled batch, weighed by their examples, so one step of a round is FedSGD's on
shards instead of clients; a round of several steps applies the optimizer after each.
"""

import dataclasses

import jax
import jax.numpy as jnp
import optax
from jax import lax

from profit_jax import trees
from profit_jax.federated.algorithm import Algorithm, LossFunction, State, Stats
from profit_jax.federated.fed_sgd import fed_sgd
from profit_jax.typing import Cohort, Frozen


def centralized(loss: LossFunction, *, optimizer: optax.GradientTransformation) -> Algorithm:
    """Centralized training with any optax optimizer, whose state is kept between rounds."""
    one_step = fed_sgd(loss, server_optimizer=optimizer)

    def step(frozen: Frozen, state: State, cohort: Cohort) -> tuple[State, Stats]:
        def single(state: State, data: Cohort) -> tuple[State, Stats]:
            # [M, ...] -> [M, 1, ...]: a cohort of one step, its shards weighed by their examples.
            batches = jax.tree.map(lambda leaf: leaf[:, None], data.batches)
            return one_step.step(frozen, state, data._replace(batches=batches, examples=data.examples[:, None]))

        first = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 1, 0), (cohort.batches, cohort.examples))
        steps = cohort.examples.shape[1]
        repeated = jnp.broadcast_to(cohort.client, (steps, *cohort.client.shape))
        after, stats = lax.scan(single, state, Cohort(*first, weight=first[1], client=repeated))
        change = jax.tree.map(jnp.subtract, after.adapter, state.adapter)
        return after, Stats(
            loss=jax.tree.map(jnp.sum, stats.loss),
            client_gradient_norm=jax.tree.map(jnp.sum, stats.client_gradient_norm),
            adapter_norm=stats.adapter_norm[-1],
            change_norm=trees.norm(change),
        )

    return dataclasses.replace(one_step, step=step, pooled=True)
