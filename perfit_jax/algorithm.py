"""PerFIT's rounds (Algorithm 2): clients tune their personal sparse LoRA, the server averages it among owners.

    for each client i of the cohort:  theta_i <- S steps of the client optimizer on the coordinates that i owns
    aggregate                         theta_j <- mean of theta_kj among the owners k of coordinate j, weighed by N^k
    dispatch                          each client of the cohort takes the new theta_j of the coordinates it owns

Only owned coordinates exist as parameters, so nothing else can move. The client optimizer starts afresh in every
round. Line 14 dispatches to the clients of the cohort (`selected`); step 4 of Section 4.1 lets every client that starts
a round do so from the global module (`global`): then a coordinate that was averaged is new for all its owners.
"""

import functools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from perfit_jax.aggregate import dispatched, owners_sums
from perfit_jax.masks import Masks
from perfit_jax.space import Space
from profit_jax import optim, trees
from profit_jax.errors import InputError
from profit_jax.federated.algorithm import Algorithm, LossFunction, Stats, constant_rate, over_sound, over_steps
from profit_jax.federated.client import Trained, local_training
from profit_jax.federated.local import put, take
from profit_jax.metrics.mean import Mean
from profit_jax.optim import Hyperparameters, hyperparameters
from profit_jax.typing import Adapter, Array, Cohort, Frozen, Rows


class Modules(NamedTuple):
    """What all clients hold: packed modules."""

    adapter: Array  # [n, K] float32, values
    indices: Array  # [n, K] int32, their coordinates
    client: Hyperparameters  # of the clients' optimizer, which starts afresh in every round
    round: Array  # int32: rounds done


def perfit(
    loss: LossFunction,
    masks: Masks,
    *,
    client_optimizer: optax.GradientTransformation,
    client_schedule: optax.Schedule = constant_rate,
    dispatch: Literal["selected", "global"] = "selected",
) -> Algorithm:
    """PerFIT with any optax client optimizer; `client_schedule(round)` multiplies the clients' updates in that round.

    The norms in a round's statistics are root mean squares over the cohort's clients, of their modules and of the
    modules' change.

    >>> import profit_jax as pj
    >>> backbone = pj.Backbone.load("tiny")
    >>> masks = Masks.of_ranks(pj.lora(backbone, rank=4, init="gaussian"), [4, 2])
    >>> method = perfit(backbone.loss, masks, client_optimizer=optax.adam(5e-5, b2=0.99))
    >>> state = method.init(masks.adapter)
    >>> state.adapter.shape, method.adapters(state, jnp.array([1]))["lora"]["q"]["a"].shape
    ((2, 18432), (1, 4, 192, 4))
    """
    if dispatch not in ("selected", "global"):
        raise InputError(f"dispatch must be 'selected' or 'global', not {dispatch!r}")
    space = masks.space

    def init(adapter: Adapter) -> Modules:
        if Space.of(adapter) != space:
            raise InputError(f"the masks are over a LoRA of rank {space.rank}; start from it, which is masks.adapter")
        held = Masks(adapter, masks.bitmaps)
        values, indices = jnp.asarray(held.values()), jnp.asarray(held.indices())
        client = trees.copy(hyperparameters(client_optimizer.init(values[0])))
        return Modules(values, indices, client, jnp.zeros((), jnp.int32))

    def shapes() -> Modules:
        held = (len(masks), int(masks.owned.max()))
        values = jax.ShapeDtypeStruct(held, jnp.float32)
        client = jax.eval_shape(lambda: hyperparameters(client_optimizer.init(jnp.zeros(held[1:]))))
        indices, round = jax.ShapeDtypeStruct(held, jnp.int32), jax.ShapeDtypeStruct((), jnp.int32)
        return Modules._make((values, indices, client, round))

    def step(frozen: Frozen, state: Modules, cohort: Cohort) -> tuple[Modules, Stats]:
        rate = client_schedule(state.round)

        def lane(values: Array, indices: Array, batches: Rows, counts: Array) -> Trained:
            fresh = optim.fresh(client_optimizer, values, state.client)
            return local_training(
                loss,
                client_optimizer,
                frozen,
                values,
                fresh,
                batches,
                counts,
                cohort.used,
                rate=rate,
                expand=lambda values: space.expand(values, indices),
            )

        before, indices = take((state.adapter, state.indices), cohort.client)
        trained = jax.vmap(lane, spmd_axis_name="clients")(before, indices, cohort.batches, cohort.counts)
        weight = cohort.weight * (trained.lost == 0)
        adapter, after = exchange(state, cohort.client, trained.adapters, weight, space.size, dispatch)
        present = (cohort.client >= 0).astype(jnp.float32)

        def root_mean_square(values: Array) -> Array:
            return jnp.sqrt(Mean.of(jnp.sum(jnp.square(values), -1), present).value)

        return Modules(adapter, state.indices, state.client, state.round + 1), Stats(
            losses=over_steps(trained.losses, cohort.counts),
            lost=trained.lost,
            client_gradient_norm=over_sound(trained.gradient_norms, cohort.counts, trained.lost),
            adapter_norm=root_mean_square(after),
            change_norm=root_mean_square(after - before),
        )

    return Algorithm(
        init,
        step,
        loss,
        personal=True,
        shapes=shapes,
        adapters=lambda state, clients: space.expand(*take((state.adapter, state.indices), clients)),
        exchanged=lambda state, clients: masks.owned[clients],
    )


def exchange(
    state: Modules, client: Array, trained: Array, weight: Array, size: int, dispatch: str
) -> tuple[Array, Array]:
    """The server's part of a round: aggregates the cohort's modules `[M, C, K]` and dispatches the means.

    Returns what all clients hold then `[n, K]`, and the cohort's part of it `[M, C, K]`.
    """
    indices = take(state.indices, client)
    owners = jax.vmap(functools.partial(owners_sums, size=size), spmd_axis_name="clients")
    sums = owners(trained, indices, weight).sum(0)
    after = jax.vmap(lambda *lane: dispatched(sums, *lane), spmd_axis_name="clients")(trained, indices)
    after = trees.where(weight > 0, after, trained)  # who has given nothing, keeps what it had
    held = put(state.adapter, client, after)
    return dispatched(sums, held, state.indices) if dispatch == "global" else held, after
