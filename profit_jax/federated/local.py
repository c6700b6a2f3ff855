"""Local training without a server: every client keeps its own adapter and optimizer.

    for each client i of the cohort:  P_i <- S steps of the optimizer from P_i

Profit's stage 2, and PerFIT's comparison with clients that train alone. The state holds all n clients, `[n, ...]`; a
round gathers the cohort's, trains them, and scatters them back.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from profit_jax import trees
from profit_jax.federated.algorithm import Algorithm, LossFunction, Stats, constant_rate, over_sound, over_steps
from profit_jax.federated.client import Trained, local_training
from profit_jax.metrics.mean import Mean
from profit_jax.typing import Adapter, Array, Cohort, Frozen, Rows, Tree


class Personal(NamedTuple):
    """What all clients hold."""

    adapter: Adapter  # [n, ...]
    optimizer: optax.OptState  # [n, ...]
    round: Array  # int32: rounds done


def local(
    loss: LossFunction,
    *,
    optimizer: optax.GradientTransformation,
    clients: int,
    client_schedule: optax.Schedule = constant_rate,
) -> Algorithm:
    """Local training of `clients` clients, all of which start from the same adapter.

    `client_schedule(round)`, rounds counted from 0, multiplies the clients' updates in that round. The norms in a
    round's statistics are means over the cohort's clients.

    >>> import profit_jax as pj
    >>> algorithm = local(pj.Backbone.load("tiny").loss, optimizer=optax.adam(0.1), clients=3)
    >>> algorithm.init({"prompt": jnp.zeros((10, 192))}).adapter["prompt"].shape
    (3, 10, 192)
    """

    def init(adapter: Adapter) -> Personal:
        adapters = trees.broadcast(jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), adapter), clients)
        return trees.copy(Personal(adapters, jax.vmap(optimizer.init)(adapters), jnp.zeros((), jnp.int32)))

    def step(frozen: Frozen, state: Personal, cohort: Cohort) -> tuple[Personal, Stats]:
        rate = client_schedule(state.round)

        def lane(own: tuple[Adapter, optax.OptState], batches: Rows, counts: Array) -> Trained:
            return local_training(loss, optimizer, frozen, *own, batches, counts, cohort.used, rate=rate)

        everyone = (state.adapter, state.optimizer)
        own = take(everyone, cohort.client)
        trained = jax.vmap(lane, spmd_axis_name="clients")(own, cohort.batches, cohort.counts)
        adapter, memory = put(everyone, cohort.client, (trained.adapters, trained.optimizers))
        present = (cohort.client >= 0).astype(jnp.float32)
        change = jax.tree.map(jnp.subtract, trained.adapters, own[0])
        norm = jax.vmap(jax.vmap(trees.norm))
        return Personal(adapter, memory, state.round + 1), Stats(
            losses=over_steps(trained.losses, cohort.counts),
            lost=trained.lost,
            client_gradient_norm=over_sound(trained.gradient_norms, cohort.counts, trained.lost),
            adapter_norm=Mean.of(norm(trained.adapters), present).value,
            change_norm=Mean.of(norm(change), present).value,
        )

    return Algorithm(
        init,
        step,
        loss,
        personal=True,
        adapters=lambda state, chosen: take(state.adapter, chosen),
        exchanged=lambda state, chosen: np.zeros(len(chosen), int),
    )


def take(state: Tree, client: Array) -> Tree:
    """The clients' parts of a state: leaves `[n, ...]`, numbers `[M, C]` -> `[M, C, ...]`; empty places, client 0's."""
    return jax.tree.map(lambda leaf: leaf[jnp.maximum(client, 0)], state)


def put(state: Tree, client: Array, values: Tree) -> Tree:
    """Writes the clients' parts back: numbers `[M, C]`, leaves `[M, C, ...]` into `[n, ...]`; empty places, nothing."""

    def scatter(old: jax.Array, new: Array) -> Array:
        return old.at[jnp.where(client < 0, old.shape[0], client)].set(new, mode="drop")

    return jax.tree.map(scatter, state, values)
