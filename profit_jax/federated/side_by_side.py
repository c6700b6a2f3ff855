"""Several settings of one algorithm in one compiled round, on the same cohorts."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from profit_jax.federated.algorithm import Algorithm, Stats
from profit_jax.typing import Adapter, Array, Cohort, Frozen


def side_by_side(settings: Sequence[Algorithm]) -> Algorithm:
    """An algorithm whose state and statistics have an axis of settings first, `[G, ...]`.

    The settings may differ in what their states hold and in nothing else: in the learning rates of optimizers that
    `optim.optimizer` or `optax.inject_hyperparams` has made. The first one's round is every setting's.

    >>> import profit_jax as pj
    >>> loss = pj.Backbone.load("tiny").loss
    >>> servers = [pj.optim.optimizer("adam", learning_rate=rate) for rate in (0.1, 1.0)]
    >>> together = side_by_side([pj.fed_sgd(loss, server_optimizer=server) for server in servers])
    >>> together.init({"prompt": jnp.zeros((10, 192))}).adapter["prompt"].shape
    (2, 10, 192)
    """
    first = settings[0]

    def init(adapter: Adapter) -> Any:
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *(each.init(adapter) for each in settings))

    def step(frozen: Frozen, states: Any, cohort: Cohort) -> tuple[Any, Stats]:
        return jax.vmap(first.step, in_axes=(None, 0, None))(frozen, states, cohort)

    def exchanged(states: Any, clients: np.ndarray) -> np.ndarray:
        return first.exchanged(setting(states, 0), clients)

    def adapters(states: Any, clients: Array) -> Adapter:
        return jax.vmap(first.adapters, in_axes=(0, None))(states, clients)

    # The axis that a mesh would divide is that of clients, which is not the first here.
    return dataclasses.replace(
        first, init=init, step=step, adapters=adapters, exchanged=exchanged, personal=False, settings=len(settings)
    )


def setting(tree: Any, number: int) -> Any:
    """One setting's part of a tree: leaves `[G, ...]` -> `[...]`."""
    return jax.tree.map(lambda leaf: leaf[number], tree)
