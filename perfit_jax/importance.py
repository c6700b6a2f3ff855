"""How much the loss would change without a coordinate: the Taylor importance scores of PerFIT, Section 4.2.

first    I = |g theta|                            (Eq. 2)   g the gradient on all local data
second   I = |theta H theta|                      (Eq. 3)   H = mean over batches of the squared gradient (Fisher)
mixed    I = |g theta - 1/2 theta H theta|        (Eq. 4)
"""

from typing import Literal

import jax.numpy as jnp
from jax import lax

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
    assert fisher is not None, f"{metric} importance needs the Fisher diagonal"
    curvature = theta * fisher * theta
    if metric == "second":
        return jnp.abs(curvature)
    return jnp.abs(gradient * theta - 0.5 * curvature)


def keep_largest(scores: Array, keep: Array) -> Array:
    """Exactly `keep` of the scores `[N]` stay, the largest; of equal ones those that come first. `[N]` bool.

    Nothing is sorted: the least score that stays, and then the last place of its equals that does, are found bit by
    bit, each bit by one count over the scores. Linear in N, and reductions alone, which run well on every device.

    >>> keep_largest(jnp.array([1.0, 3.0, 1.0, 0.0]), jnp.array(2)).tolist()
    [True, True, False, False]
    """
    size = scores.shape[0]
    ordered = _as_whole_numbers(scores)
    least = _largest_held(ordered, keep, bits=32)
    above = ordered > least
    # Equal ones by their places, counted from the end: no two are the same, and the first is the largest.
    places = jnp.where(ordered == least, size - jnp.arange(size, dtype=jnp.uint32), 0)
    return above | (places >= _largest_held(places, keep - jnp.sum(above), bits=size.bit_length()))


def _as_whole_numbers(scores: Array) -> Array:
    """float32 -> uint32 in the same order: the sign bit is turned over, and of negative numbers all others too."""
    bits = lax.bitcast_convert_type(jnp.where(scores == 0, 0, scores), jnp.uint32)  # -0 is 0
    return jnp.where(bits >> 31, ~bits, bits | jnp.uint32(1 << 31))


def _largest_held(numbers: Array, keep: Array, *, bits: int) -> Array:
    """The largest uint32 below `2 ** bits` that `keep` of the numbers reach: the keep-th largest of them."""

    def with_next_bit(i: Array, held: Array) -> Array:
        trial = held | jnp.left_shift(jnp.uint32(1), jnp.asarray(bits - 1 - i, jnp.uint32))
        return jnp.where(jnp.sum(numbers >= trial, dtype=jnp.int32) >= keep, trial, held)

    return lax.fori_loop(0, bits, with_next_bit, jnp.uint32(0))
