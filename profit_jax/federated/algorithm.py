"""What every federated algorithm is: a pair of pure functions over one state."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding
from jax.stages import Wrapped
from jax.typing import ArrayLike

from profit_jax import trees
from profit_jax.data.encode import TextCoder
from profit_jax.federated.mesh import abstract, place_state, state_places
from profit_jax.metrics.mean import Mean
from profit_jax.optim import Hyperparameters, hyperparameters
from profit_jax.typing import Adapter, Array, Cohort, Frozen, Rows


class LossFunction(Protocol):
    """A flight's losses, `[C]`, from the frozen weights, what is read of the clients' adapters, and the rows.

    `read` makes of adapters, leaves `[C, ...]`, what all flights of a step have in common; it may be the identity.
    """

    @property
    def frozen(self) -> Frozen:
        """The weights to pass as the first argument."""
        ...

    @property
    def tokenizer(self) -> TextCoder | None:
        """How text becomes this loss's tokens."""
        ...

    def read(self, frozen: Frozen, adapters: Adapter) -> Adapter: ...  # noqa: D102

    def __call__(self, frozen: Frozen, adapters: Adapter, rows: Rows) -> Array: ...  # noqa: D102


class State(NamedTuple):
    """What a server keeps between rounds."""

    adapter: Adapter  # the global adapter
    optimizer: optax.OptState
    client: Hyperparameters  # of the clients' optimizer, which starts afresh in every round
    round: Array  # int32: rounds done


class Stats(NamedTuple):
    """What is recorded of a round (Profit Figure 3, right). All norms are Frobenius norms."""

    losses: Mean  # [M, C]: each client's mean loss over its local steps, before each of them
    lost: Array  # [M, C] int32: the step, from 1, at which a loss or gradient was not finite; 0 = the client counts
    client_gradient_norm: Mean  # over the cohort's clients and local steps
    adapter_norm: Array  # of the new global adapter
    change_norm: Array  # of its change in this round

    @property
    def sound(self) -> Array:
        """Which clients count, `[M, C]` bool."""
        return self.lost == 0

    @property
    def loss(self) -> Mean:
        """Over the sound clients' local steps, weighted by examples (or target tokens); not a number without any."""
        total, weight = (np.where(self.sound, leaf, 0).sum((-2, -1)) for leaf in self.losses)
        return Mean(np.where(weight > 0, total, np.nan), weight)


def over_steps(losses: Array, counts: Array) -> Mean:
    """Each client's mean loss `[M, C]` from its steps' losses and counts `[M, S, C]`."""
    return Mean(jnp.einsum("msc,msc->mc", losses, counts), counts.sum(1))


@dataclasses.dataclass(frozen=True)
class Algorithm:
    """`init(adapter) -> state` and `round(state, cohort) -> (state, stats)`; `round` is one compiled step.

    `step(frozen, state, cohort)` is the same round with the frozen weights as an argument, for those who compile it
    themselves. A state has the fields `adapter`, what is trained, and `round`. `pooled` algorithms draw a round's
    examples from all clients' data at once.
    """

    init: Callable[[Adapter], Any]
    step: Callable[[Frozen, Any, Cohort], tuple[Any, Stats]]
    loss: LossFunction
    pooled: bool = False
    personal: bool = False  # the state's arrays have an axis of all clients first
    settings: int | None = None  # G, where state and statistics have an axis of settings first (`side_by_side`)
    adapters: Callable[[Any, Array], Adapter] = lambda state, clients: trees.broadcast(state.adapter, clients.shape[0])
    """(state, client numbers [C]) -> the adapters [C, ...] that these clients would answer with now."""
    shapes: Callable[[], Any] | None = None
    """The abstract state, of an algorithm whose `init` works on the host and cannot be traced for it."""
    exchanged: Callable[[Any, np.ndarray], np.ndarray] = lambda state, clients: np.full(
        len(clients), trees.count(state.adapter)
    )
    """(state, client numbers) -> how many numbers each of them sends up in a round, and gets down."""

    def start(self, adapter: Adapter, mesh: Mesh | None = None) -> Any:
        """The state before the first round, on the devices of the mesh: personal states sharded, others whole on each.

        A personal state of a number of clients that the mesh does not divide is whole on each device too.
        """
        state = self.init(adapter)
        return place_state(state, mesh, over_clients=self.personal) if mesh else state

    def abstract(self, adapter: Adapter, mesh: Mesh) -> Any:
        """What `start` makes, without values: `jax.ShapeDtypeStruct`s in their places, to compile for."""
        state = self.shapes() if self.shapes else jax.eval_shape(self.init, adapter)
        return abstract(state, state_places(state, mesh, over_clients=self.personal))

    @functools.cached_property
    def compiled(self) -> Wrapped:
        """`step`, jitted, with the state donated. On the mesh of the frozen weights it comes back to where it was."""
        weights = jax.tree.leaves(self.loss.frozen)[0].sharding
        if not isinstance(weights, NamedSharding):
            return jax.jit(self.step, donate_argnums=1)

        def step(frozen: Frozen, state: Any, cohort: Cohort) -> tuple[Any, Stats]:
            after, stats = self.step(frozen, state, cohort)
            # Otherwise factors of a LoRA would follow the weights over `model`, and the next round be another program.
            places = state_places(after, weights.mesh, over_clients=self.personal)
            return jax.lax.with_sharding_constraint(after, places), stats

        return jax.jit(step, donate_argnums=1)

    def round(self, state: Any, cohort: Cohort) -> tuple[Any, Stats]:
        """One round. The state passed in is consumed."""
        return self.compiled(self.loss.frozen, state, cohort)


def over_sound(norms: Array, counts: Array, lost: Array) -> Mean:
    """The mean over steps and clients of their norms `[M, S, C]`, where there was a step and the client counts."""
    return Mean.of(norms, ((counts > 0) & (lost == 0)[:, None]).astype(jnp.float32))


def weighted_mean(sums: Adapter, weight: Array) -> Adapter:
    """Lanes' sums `[M, ...]` over the weight `[M, C]` of all clients; 0 where no client counts."""
    total = weight.sum()
    return jax.tree.map(lambda leaf: jnp.where(total > 0, leaf.sum(0) / jnp.where(total > 0, total, 1), 0), sums)


def constant_rate(round: ArrayLike) -> float:
    """The client schedule that changes nothing: 1 in every round."""
    del round
    return 1.0


def server(
    optimizer: optax.GradientTransformation,
    adapter: Adapter,
    client_optimizer: optax.GradientTransformation | None = None,
) -> State:
    """The server's state before the first round."""
    adapter = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), adapter)
    client = hyperparameters(client_optimizer.init(adapter)) if client_optimizer else []
    return trees.copy(State(adapter, optimizer.init(adapter), client, jnp.zeros((), jnp.int32)))


def server_step(
    optimizer: optax.GradientTransformation, state: State, gradient: Adapter, losses: Mean, lost: Array, norms: Mean
) -> tuple[State, Stats]:
    """Applies the server optimizer to a gradient, or to FedAvg's pseudo-gradient (Reddi et al. 2021)."""
    updates, memory = optimizer.update(gradient, state.optimizer, state.adapter)
    adapter: Any = optax.apply_updates(state.adapter, updates)
    after = State(adapter, memory, state.client, state.round + 1)
    return after, Stats(losses, lost, norms, trees.norm(adapter), trees.norm(updates))
