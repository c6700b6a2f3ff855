"""FedSGD (McMahan et al. 2017; Profit Section 3 and Appendix C).

    for each client i of the cohort:  g_i = gradient of L_i at P on the client's batch
    server                            P <- P + server optimizer(sum_i w_i g_i / sum_i w_i)

FedSGD-LB, the paper's large-batch variant, is the same with more examples: a cohort of several steps is one large
batch, whose gradient is accumulated over the steps.
"""

import jax
import jax.numpy as jnp
import optax

from profit_jax import trees
from profit_jax.federated.algorithm import (
    Algorithm,
    LossFunction,
    State,
    Stats,
    over_steps,
    server,
    server_step,
    weighted_mean,
)
from profit_jax.federated.client import Moments, moments
from profit_jax.metrics.mean import Mean
from profit_jax.typing import Adapter, Array, Cohort, Frozen, Rows


def fed_sgd(loss: LossFunction, *, server_optimizer: optax.GradientTransformation) -> Algorithm:
    """FedSGD with any optax server optimizer; clients weigh as the cohort says.

    >>> import profit_jax as pj
    >>> algorithm = fed_sgd(pj.Backbone.load("tiny").loss, server_optimizer=optax.adam(0.1))
    >>> state = algorithm.init({"prompt": jnp.zeros((10, 192))})
    >>> [leaf.shape for leaf in jax.tree.leaves(state.optimizer)]  # Adam's count and moments are the server's
    [(), (10, 192), (10, 192)]
    """

    def step(frozen: Frozen, state: State, cohort: Cohort) -> tuple[State, Stats]:
        def lane(batches: Rows, counts: Array, weight: Array) -> tuple[Adapter, Array, Array, Moments]:
            adapters = trees.broadcast(state.adapter, weight.shape[0])
            taken = moments(loss, frozen, adapters, batches, counts, cohort.used)
            weight = weight * (taken.lost == 0)
            return trees.weighted_sum(taken.gradient, weight), weight, jax.vmap(trees.norm)(taken.gradient), taken

        of_lanes = jax.vmap(lane, spmd_axis_name="clients")
        sums, weight, norms, taken = of_lanes(cohort.batches, cohort.counts, cohort.weight)
        return server_step(
            server_optimizer,
            state,
            weighted_mean(sums, weight),
            over_steps(taken.losses, cohort.counts),
            taken.lost,
            Mean.of(norms, (weight > 0).astype(jnp.float32)),
        )

    return Algorithm(lambda adapter: server(server_optimizer, adapter), step, loss)
