"""Optimizers: names -> optax, the two pieces that personalization adds to a chain, and learning rates as data.

A learning rate that `optax.inject_hyperparams` has put into an optimizer's state is an input of a compiled round: runs
with other rates share the program, and a stack of states trains several of them side by side.
"""

import inspect
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from profit_jax.errors import InputError, nearest
from profit_jax.typing import Array, Tree

Hyperparameters = list[dict[str, Array]]
"""What an optimizer's state holds of `optax.inject_hyperparams`, in the order of the chain; mostly a learning rate."""

_NAMES = ("adam", "adamw", "adagrad", "adafactor", "lion", "rmsprop", "sgd", "yogi")


def optimizer(name: str, *, learning_rate: float, **settings: Any) -> optax.GradientTransformation:
    """The optax optimizer of this name, e.g. `optimizer("adam", learning_rate=0.1, b1=0.99)`; its rate is data.

    Raises:
      InputError: an unknown name, or a setting that the optimizer does not have.
    """
    if name not in _NAMES:
        near = nearest(name, _NAMES)
        hint = f"did you mean {near!r}?" if near else f"known: {', '.join(_NAMES)}"
        raise InputError(f"unknown optimizer {name!r}; {hint}")
    make = getattr(optax, name)
    known = inspect.signature(make).parameters.keys()
    if unknown := settings.keys() - known:
        raise InputError(f"optimizer {name!r} has no setting {sorted(unknown)[0]!r}")
    injected = optax.inject_hyperparams(make, static_args=tuple(known - {"learning_rate"}))
    return injected(learning_rate=learning_rate, **settings)


def hyperparameters(state: optax.OptState) -> Hyperparameters:
    """What is data of an optimizer: `[{"learning_rate": 0.1}]`, nothing where nothing was injected."""
    return [held.hyperparams for held in jax.tree.leaves(state, is_leaf=_injected) if _injected(held)]


def fresh(optimizer: optax.GradientTransformation, adapters: Tree, hyperparameters: Hyperparameters) -> optax.OptState:
    """The states `[C, ...]` of clients' optimizers before their first step from `adapters` `[C, ...]`.

    Args:
      optimizer: of every client.
      adapters: where they start.
      hyperparameters: what is data of the optimizer, the same for all.
    """

    def one(adapter: Tree) -> optax.OptState:
        values = iter(hyperparameters)
        return jax.tree.map(
            lambda held: held._replace(hyperparams=next(values)) if _injected(held) else held,
            optimizer.init(adapter),
            is_leaf=_injected,
        )

    return jax.vmap(one)(adapters)


def _injected(part: Any) -> bool:
    return isinstance(part, optax.InjectStatefulHyperparamsState)


def proximal(strength: float) -> optax.GradientTransformation:
    r"""Adds the gradient of `strength / 2 ||P - P_0||^2`, P_0 the parameters at initialization.

    First in a chain, it is Profit's l2 regularization towards the global prompt (Appendix C.2):
    `optax.chain(proximal(1e-3), optax.adam(0.1))`.

    >>> towards_start = proximal(0.5)
    >>> start = towards_start.init(jnp.array([1.0, 2.0]))
    >>> towards_start.update(jnp.zeros(2), start, jnp.array([3.0, 2.0]))[0].tolist()
    [1.0, 0.0]
    """

    def update(updates: Tree, state: Tree, params: Tree = None) -> tuple:
        return jax.tree.map(lambda g, p, a: g + strength * (p - a), updates, params, state), state

    return optax.GradientTransformation(lambda params: params, update)


def frozen_rows(rows: Sequence[int]) -> optax.GradientTransformation:
    """Keeps these rows of a soft prompt where they are (Profit Appendix C.2, "Freeze First" and "Freeze Last").

    Last in a chain: `optax.chain(optax.adam(0.1), frozen_rows(range(8)))`.
    """

    def hold(update: jax.Array) -> jax.Array:
        return update.at[jnp.asarray(list(rows), jnp.int32)].set(0)

    def held(updates: Tree, params: Tree) -> Tree:
        return {**updates, "prompt": hold(updates["prompt"])}

    return optax.stateless(held)
