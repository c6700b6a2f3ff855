"""Optimizers: names -> optax, and the two pieces that personalization adds to a chain."""

import inspect
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import jax
import jax.numpy as jnp
import optax

from profit_jax.errors import InputError
from profit_jax.typing import Array

_NAMES = ("adam", "adamw", "adagrad", "adafactor", "lion", "rmsprop", "sgd", "yogi")


def optimizer(name: str, *, learning_rate: float, **settings: Any) -> optax.GradientTransformation:
    """The optax optimizer of this name, e.g. `optimizer("adam", learning_rate=0.1, b1=0.99)`.

    Raises:
      InputError: an unknown name, or a setting that the optimizer does not have.
    """
    if name not in _NAMES:
        near = get_close_matches(name, _NAMES, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(_NAMES)}"
        raise InputError(f"unknown optimizer {name!r}; {hint}")
    make = getattr(optax, name)
    unknown = settings.keys() - inspect.signature(make).parameters.keys()
    if unknown:
        raise InputError(f"optimizer {name!r} has no setting {sorted(unknown)[0]!r}")
    return make(learning_rate, **settings)


def proximal(strength: float) -> optax.GradientTransformation:
    r"""Adds the gradient of `strength / 2 ||P - P_0||^2`, P_0 the parameters at initialization.

    First in a chain, it is Profit's l2 regularization towards the global prompt (Appendix C.2):
    `optax.chain(proximal(1e-3), optax.adam(0.1))`.
    """

    def update(updates: optax.Updates, anchor: optax.Params, params: optax.Params) -> tuple:
        return jax.tree.map(lambda g, p, a: g + strength * (p - a), updates, params, anchor), anchor

    return optax.GradientTransformation(lambda params: params, update)


def frozen_rows(rows: Sequence[int]) -> optax.GradientTransformation:
    """Keeps these rows of a soft prompt where they are (Profit Appendix C.2, "Freeze First" and "Freeze Last").

    Last in a chain: `optax.chain(optax.adam(0.1), frozen_rows(range(8)))`.
    """

    def hold(update: Array) -> Array:
        return update.at[jnp.asarray(list(rows), jnp.int32)].set(0)

    return optax.stateless(lambda updates, params: {**updates, "prompt": hold(updates["prompt"])})
