"""Generalized FedAvg (Reddi et al. 2021, Algorithm 1; Profit Section 3).

    for each client i of the cohort:  P_i = S steps of the client optimizer from P
    pseudo-gradient                   g = sum_i w_i (P - P_i) / sum_i w_i
    server                            P <- P + server optimizer(g)

The client optimizer starts afresh in every round (clients are stateless). FedAvg(Adam) and FedAvg(SGD) differ only in
the client optimizer; the paper's server optimizer is Adam. With a server of SGD(1), clients weighed by their examples
and a LoRA it is FIT, federated instruction tuning (Zhang et al. 2024; PerFIT Section 5.1).
"""

import jax
import jax.numpy as jnp
import optax

from profit_jax import optim, trees
from profit_jax.federated.algorithm import (
    Algorithm,
    LossFunction,
    State,
    Stats,
    constant_rate,
    over_sound,
    over_steps,
    server,
    server_step,
    weighted_mean,
)
from profit_jax.federated.client import Trained, local_training
from profit_jax.typing import Adapter, Array, Cohort, Frozen, Rows


def fed_avg(
    loss: LossFunction,
    *,
    client_optimizer: optax.GradientTransformation,
    server_optimizer: optax.GradientTransformation,
    client_schedule: optax.Schedule = constant_rate,
) -> Algorithm:
    """FedAvg with any optax optimizer on clients and server; clients weigh as the cohort says.

    `client_schedule(round)`, rounds counted from 0, multiplies the clients' updates in that round.

    >>> import profit_jax as pj
    >>> backbone = pj.Backbone.load("tiny")
    >>> algorithm = fed_avg(backbone.loss, client_optimizer=optax.adam(0.1), server_optimizer=optax.adam(0.1))
    >>> state = algorithm.init(pj.soft_prompt(backbone, length=10))
    >>> state.adapter["prompt"].shape, int(state.round)
    ((10, 192), 0)
    """

    def step(frozen: Frozen, state: State, cohort: Cohort) -> tuple[State, Stats]:
        rate = client_schedule(state.round)

        def lane(batches: Rows, counts: Array, weight: Array) -> tuple[Adapter, Array, Trained]:
            start = trees.broadcast(state.adapter, weight.shape[0])
            fresh = optim.fresh(client_optimizer, start, state.client)
            trained = local_training(
                loss, client_optimizer, frozen, start, fresh, batches, counts, cohort.used, rate=rate
            )
            change = jax.tree.map(jnp.subtract, start, trained.adapters)
            weight = weight * (trained.lost == 0)
            return trees.weighted_sum(change, weight), weight, trained

        of_lanes = jax.vmap(lane, spmd_axis_name="clients")
        changes, weight, trained = of_lanes(cohort.batches, cohort.counts, cohort.weight)
        return server_step(
            server_optimizer,
            state,
            weighted_mean(changes, weight),
            over_steps(trained.losses, cohort.counts),
            trained.lost,
            over_sound(trained.gradient_norms, cohort.counts, trained.lost),
        )

    return Algorithm(lambda adapter: server(server_optimizer, adapter, client_optimizer), step, loss)
