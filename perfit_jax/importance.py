"""How much the loss would change without a coordinate: the Taylor importance scores of PerFIT, Section 4.2.

first    I = |g theta|                            (Eq. 2)   g the gradient on all local data
second   I = |theta H theta|                      (Eq. 3)   H = mean over batches of the squared gradient (Fisher)
mixed    I = |g theta - 1/2 theta H theta|        (Eq. 4)
"""

from typing import Literal

import jax
import jax.numpy as jnp

from profit_jax.errors import InputError
from profit_jax.typing import Array

Metric = Literal["first", "second", "mixed"]


def check_metric(metric: str) -> None:
    """Raises InputError unless there is such a metric."""
    if metric not in ("first", "second", "mixed"):
        raise InputError(f"unknown importance metric {metric!r}; known: first, second, mixed")


def importance(metric: Metric, theta: Array, gradient: Array, fisher: Array | None) -> Array:
    """Scores of coordinates, all arrays of one shape; `fisher` is not read by the first-order metric.

    >>> theta, g, h = jnp.array([2.0, -1.0]), jnp.array([0.5, 3.0]), jnp.array([1.0, 4.0])
    >>> [importance(metric, theta, g, h).tolist() for metric in ("first", "second", "mixed")]
    [[1.0, 3.0], [4.0, 4.0], [1.0, 5.0]]
    """
    if metric == "first":
        return jnp.abs(gradient * theta)
    curvature = theta * fisher * theta
    if metric == "second":
        return jnp.abs(curvature)
    return jnp.abs(gradient * theta - 0.5 * curvature)


def keep_largest(scores: Array, keep: Array) -> Array:
    """Exactly `keep` of the scores `[N]` stay, the largest; of equal ones those that come first. `[N]` bool.

    >>> keep_largest(jnp.array([1.0, 3.0, 1.0, 0.0]), jnp.array(2)).tolist()
    [True, True, False, False]
    """
    smallest_kept = jax.lax.dynamic_index_in_dim(jnp.sort(scores, descending=True), jnp.maximum(keep, 1) - 1)
    above, equal = scores > smallest_kept, scores == smallest_kept
    return above | (equal & (jnp.cumsum(equal) <= keep - above.sum()))
