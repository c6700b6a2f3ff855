"""Local training without a server: every client keeps its own adapter and optimizer (Profit's stage 2).

    for each client i of the cohort:  P_i <- S steps of the optimizer from P_i

The state holds all n clients, `[n, ...]`; a round gathers the cohort's, trains them, and scatters them back.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from profit_jax import trees
from profit_jax.federated.algorithm import LossFunction
from profit_jax.federated.client import Trained, local_training
from profit_jax.metrics.mean import Mean
from profit_jax.typing import Adapter, Array, Batch, Cohort, Frozen, Tree


class Personal(NamedTuple):
    """What all clients hold."""

    adapters: Adapter  # [n, ...]
    optimizers: optax.OptState  # [n, ...]


@dataclasses.dataclass(frozen=True)
class Local:
    """The pair `init(adapter, clients)`, `round(state, cohort)`; a round returns each client's mean loss `[n]`."""

    loss: LossFunction
    optimizer: optax.GradientTransformation

    def init(self, adapter: Adapter, clients: int) -> Personal:
        """All clients start from the same adapter."""
        adapters = trees.broadcast(jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), adapter), clients)
        return trees.copy(Personal(adapters, jax.vmap(self.optimizer.init)(adapters)))

    def step(self, frozen: Frozen, state: Personal, cohort: Cohort) -> tuple[Personal, Mean]:
        """The round, with the frozen weights as an argument."""
        clients = jax.tree.leaves(state.adapters)[0].shape[0]

        def lane(own: Personal, batches: Batch, examples: Array) -> Trained:
            return local_training(self.loss, self.optimizer, frozen, *own, batches, examples)

        # Empty places (client -1) read client 0 and write nowhere.
        own = jax.tree.map(lambda leaf: leaf[jnp.maximum(cohort.client, 0)], state)
        trained = jax.vmap(lane, spmd_axis_name="clients")(own, cohort.batches, cohort.examples)
        place = jnp.where(cohort.client < 0, clients, cohort.client)

        def scatter(into: Tree, values: Tree) -> Tree:
            return jax.tree.map(lambda old, new: old.at[place].set(new, mode="drop"), into, values)

        state = scatter(state, Personal(trained.adapters, trained.optimizers))
        total = jnp.einsum("msc,msc->mc", trained.losses, cohort.examples)
        return state, scatter(Mean(jnp.zeros(clients), jnp.zeros(clients)), Mean(total, cohort.examples.sum(1)))

    @functools.cached_property
    def compiled(self) -> Callable[[Frozen, Personal, Cohort], tuple[Personal, Mean]]:
        """`step`, jitted, with the state donated."""
        return jax.jit(self.step, donate_argnums=1)

    def round(self, state: Personal, cohort: Cohort) -> tuple[Personal, Mean]:
        """One round. The state passed in is consumed."""
        return self.compiled(self.loss.frozen, state, cohort)
