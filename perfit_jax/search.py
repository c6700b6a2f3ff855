"""The architecture search: each client prunes an expanded LoRA to a personal sparse mask (PerFIT, Algorithm 1).

    for each client i:  m = 1
        for t = 1 .. T_p:
            I = importance of the coordinates of theta * m on the client's data        (Eqs. 2 to 4)
            keep the (1 - s)^(t / T_p) of all coordinates with the largest I           (exactly k, ties by index)

Line 5 of the algorithm keeps scores *below* the threshold; the text, and we, remove the smallest. A coordinate once
pruned stays so. All clients of a group prune together, in one compiled step for each epoch.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from perfit_jax.groups import groups
from perfit_jax.importance import Metric, check_metric, importance, keep_largest
from perfit_jax.masks import Masks, to_bitmaps
from perfit_jax.space import Scope, Space, budget, expanded_rank
from profit_jax import hosts
from profit_jax.adapters import lora
from profit_jax.adapters.lora import Init
from profit_jax.backbone import Backbone
from profit_jax.data.cohort import Batches, Layout, Planner
from profit_jax.data.encode import EncodedClients, Encoder
from profit_jax.data.examples import Clients
from profit_jax.data.prefetch import prefetch
from profit_jax.errors import InputError
from profit_jax.federated import sampling
from profit_jax.federated.algorithm import LossFunction
from profit_jax.federated.client import moments
from profit_jax.federated.debug import checked
from profit_jax.federated.local import put, take
from profit_jax.federated.mesh import over_clients, place_state
from profit_jax.progress import Progress
from profit_jax.typing import Adapter, Array, Cohort, Frozen, Rows


def search(
    backbone: Backbone,
    clients: Clients,
    *,
    sparsity: float | Sequence[float] = 0.5,
    rank: int = 8,
    metric: Metric = "first",
    epochs: int = 5,
    scope: Scope = "client",
    targets: Sequence[str] = ("q", "k", "v"),
    init: Init = "gaussian",
    deviation: float | None = None,
    batch_size: int = 8,
    reduction: Literal["example", "token"] = "token",
    clients_at_once: int = 16,
    seed: int = 0,
    encoder: Encoder | None = None,
    layout: Layout | None = None,
    mesh: Mesh | None = None,
    progress: bool = True,
    debug: bool = False,
) -> Masks:
    """Every client's mask, from its training examples alone. A function of the data and the seed.

    Args:
      backbone: the frozen model.
      clients: the training clients.
      sparsity: s, or one for each group of equally many clients with unequal resources.
      rank: r, the rank whose parameters are left to the client (to the smallest group's clients); the LoRA that is
        pruned has rank R = r / (1 - s).
      metric: `first` (Eq. 2), `second` (Eq. 3) or `mixed` (Eq. 4).
      epochs: T_p, passes over a client's examples, with pruning after each.
      scope: rank all coordinates of a `client` together, or each `module` (matrix of a layer) by itself.
      targets: the matrices that get a LoRA.
      init, deviation: of the LoRA, `gaussian` or `uniform`; not `vanilla`, under which all scores of A are zero.
      batch_size: examples whose squared gradient is one term of the Fisher diagonal.
      reduction: a client's loss is a mean over `token`s or over `example`s.
      clients_at_once: clients that prune together in one compiled step, for each lane.
      seed: of the LoRA's initialization and of the order of examples.
      encoder, layout, mesh, progress: as in `experiment.train`.
      debug: whether every pruning epoch is checked client by client (`federated.debug`).

    Raises:
      InputError: an R that is not whole, an unknown metric or scope, an initialization that leaves scores at zero, a
        loss that is not finite.

    >>> import profit_jax as pj
    >>> clients = pj.MemoryClients([[pj.Example("1", "two plus two", ("four",), "sums", "Arithmetic")]])
    >>> search(pj.Backbone.load("tiny"), clients, sparsity=0.5, rank=2, init="vanilla")
    Traceback (most recent call last):
    profit_jax.errors.InputError: B of 'q' is zero, so all importance scores of A would be too ...
    """
    check_metric(metric)
    if epochs < 1:
        raise InputError(f"the search needs one pruning epoch at least, not {epochs}")
    expanded = expanded_rank(rank, sparsity)
    adapter = lora(backbone, rank=expanded, targets=targets, init=init, deviation=deviation, seed=seed)
    check_gradients_exist(adapter)
    if not clients.sizes.all():
        raise InputError(f"client {int(np.argmin(clients.sizes))} has no training examples to search with")
    layout = layout or Layout()
    space, data = Space.of(adapter), EncodedClients(clients, encoder or Encoder(backbone.tokenizer))
    ranks, parts = budget(rank, sparsity, len(clients)), space.groups(scope)
    steps = -(-int(clients.sizes.max()) // batch_size)
    readers = hosts.readers(mesh, layout.lanes)
    planner = Planner(layout, reduction=reduction, steps=steps, readers=readers)
    prune = pruning(backbone.loss, space, metric, scope)
    theta = np.asarray(space.flatten(jax.tree.map(lambda leaf: leaf[None], adapter))[0])
    bitmaps = np.zeros((len(clients), -(-space.size // 8)), np.uint8)
    members = groups(clients.sizes, clients_at_once * layout.lanes)

    def plan(item: tuple[np.ndarray, int]) -> Cohort:
        group, epoch = item

        def batches(place: int) -> Batches:
            return _batches(data, int(group[place]), seed, epoch, batch_size)

        return planner(np.where(group < 0, -1, np.arange(len(group))).tolist(), batches).cohort

    def placed(masks: Array) -> Array:
        return place_state(masks, mesh, over_clients=True) if mesh else masks

    def pruned(group: np.ndarray, epoch: int, masks: Array, cohort: Cohort, keep: np.ndarray) -> tuple[Array, Array]:
        if not debug:
            return prune(backbone.frozen, theta, masks, cohort, keep)
        return checked(
            lambda frozen, masks, cohort: prune(frozen, theta, masks, cohort, keep),
            backbone.frozen,
            masks,
            cohort,
            where=f"pruning epoch {epoch + 1}",
            fault=_infinite,
            name=lambda place: int(group[place]),
        )

    passes = [(group, epoch) for group in members for epoch in range(epochs)]
    masks: Any = None  # of a group, whose first pass makes them
    with Progress("search", len(clients) * epochs, "clients", show=progress and hosts.first()) as shown:
        for (group, epoch), planned in zip(passes, prefetch(plan, passes)):
            if epoch == 0:
                masks = jnp.ones((len(group), space.size), bool)
            density = (ranks[group] / space.rank) ** ((epoch + 1) / epochs)
            keep = np.stack([np.rint(part.piece * density) for part in parts], -1).astype(np.int32)
            cohort = over_clients(planned, mesh) if mesh else planned
            masks, faults = pruned(group, epoch, placed(masks), cohort, keep)
            faults = hosts.gathered(faults)
            if faults.any():  # the client at fault may spoil the scores, but not the losses, of others in its flight
                client = group[planned.client.ravel()[np.argmax(faults)]]
                raise InputError(f"client {client}: the loss or its gradient is not finite, so nothing can be ranked")
            if epoch == epochs - 1:
                bitmaps[group[group >= 0]] = hosts.gathered(to_bitmaps(masks))[group >= 0]
            shown.advance(int((group >= 0).sum()), epoch=f"{epoch + 1}/{epochs}")
    return Masks(adapter, bitmaps)


def check_gradients_exist(adapter: Adapter) -> None:
    """Raises InputError where a factor is zero: then the other's gradient, and with it every score, is zero."""
    for target, factors in adapter["lora"].items():
        for zero, other in (("b", "a"), ("a", "b")):
            if not jnp.any(factors[zero]):
                raise InputError(
                    f"{zero.upper()} of {target!r} is zero, so all importance scores of {other.upper()} would be "
                    "too (measurement vanishing, Section 4.2); search from init gaussian or uniform"
                )


def pruning(loss: LossFunction, space: Space, metric: Metric, scope: Scope) -> Callable:
    """The compiled step of one pruning epoch, for a group of g clients of which `cohort.client` names the places.

    `(frozen, theta [size], masks [g, size] bool, cohort, keep [g, parts])` -> masks after pruning, and faults `[M, C]`:
    2 where a client's loss was not finite, 1 where only its scores were not.
    """

    def step(frozen: Frozen, theta: Array, masks: Array, cohort: Cohort, keep: Array) -> tuple[Array, Array]:
        def lane(masks: Array, batches: Rows, counts: Array, keep: Array) -> tuple[Array, Array]:
            own = jnp.where(masks, theta[None], 0)
            taken = moments(loss, frozen, space.unflatten(own), batches, counts, cohort.used, square=metric != "first")
            fisher = None if taken.square is None else space.flatten(taken.square)
            scores = importance(metric, own, space.flatten(taken.gradient), fisher)
            pruned = jax.vmap(functools.partial(survivors, space, scope))(scores, masks, keep)
            return pruned, jnp.where(
                jnp.isfinite(taken.losses).all(0), (taken.lost > 0) | ~jnp.isfinite(scores).all(1), 2
            )

        own, most = take((masks, keep), cohort.client)
        pruned, faults = jax.vmap(lane, spmd_axis_name="clients")(own, cohort.batches, cohort.counts, most)
        return put(masks, cohort.client, pruned), jnp.where(cohort.client < 0, 0, faults)

    return jax.jit(step, donate_argnums=2)


def survivors(space: Space, scope: Scope, scores: Array, mask: Array, keep: Array) -> Array:
    """The mask after pruning, `[size]`: of every piece ranked by itself exactly `keep[part]` coordinates stay."""
    alive = jnp.where(mask, scores, -1)  # what was pruned ranks below every score, so it never returns
    kept = [
        jax.vmap(keep_largest, in_axes=(0, None))(alive[part.start : part.stop].reshape(part.count, -1), most).ravel()
        for part, most in zip(space.groups(scope), keep)
    ]
    return jnp.concatenate(kept)


def _infinite(faults: Array) -> str:
    """What `pruning` has found of clients none of whose numbers is nan."""
    return ("", "the gradient or an importance score is infinite", "the loss is infinite")[int(np.max(faults))]


def _batches(data: EncodedClients, client: int, seed: int, epoch: int, size: int) -> list[list]:
    """A client's batches of a pruning epoch; none for an empty place."""
    if client < 0:
        return []
    own = data.client(client)
    order = sampling.epochs(seed, epoch, 1, client, len(own), batch=size)
    return [[own[i] for i in step] for step in order]
