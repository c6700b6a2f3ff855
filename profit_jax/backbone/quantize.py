"""Frozen matrices in eight bits: symmetric int8 values with one scale for each output channel (Dettmers et al. 2022).

Weights alone are kept so, activations and the adapter are not: W [in, out] is `Q diag(s)`, and x W is `(x Q) s` in the
dtype of x, in which every value of Q is exact.
"""

import jax
import jax.numpy as jnp

from profit_jax.typing import Array

LARGEST = 127  # -128 is not used, so that values are symmetric


def quantized(matrix: Array) -> tuple[jax.Array, jax.Array]:
    """Q and s of `W = Q diag(s)`, to half a step s: `[..., in, out]` -> `[..., in, out]` int8, `[..., out]` float32."""
    matrix = matrix.astype(jnp.float32)
    scale = jnp.max(jnp.abs(matrix), axis=-2) / LARGEST
    step = jnp.where(scale == 0, 1, scale)  # a channel of zeros stays one
    return jnp.round(matrix / step[..., None, :]).astype(jnp.int8), scale


@jax.checkpoint
def product(x: Array, values: Array, scale: Array) -> Array:
    """`(x Q) s`: `[..., in]` by `[in, out]` int8 and `[out]` -> `[..., out]` in the dtype of x.

    The backward pass converts Q again: kept, it would be the float copy of all layers that int8 is there to avoid.
    """
    y = jnp.einsum("...i,io->...o", x, values.astype(x.dtype))
    return (y * scale[(None,) * (y.ndim - 1)]).astype(x.dtype)
