"""The round: algorithms as pairs of pure functions, and what they are made of."""

from profit_jax.federated.algorithm import Algorithm
from profit_jax.federated.centralized import centralized
from profit_jax.federated.debug import debugged
from profit_jax.federated.fed_avg import fed_avg
from profit_jax.federated.fed_sgd import fed_sgd
from profit_jax.federated.local import local
from profit_jax.federated.side_by_side import side_by_side

__all__ = ["Algorithm", "centralized", "debugged", "fed_avg", "fed_sgd", "local", "side_by_side"]
