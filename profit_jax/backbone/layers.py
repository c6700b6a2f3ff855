"""The blocks of a Llama decoder (Touvron et al. 2023), each callable on its own.

Einsum letters: r row, t position, d width in, o width out, k LoRA rank. Shapes follow `profit_jax.typing`.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from profit_jax.backbone.config import BackboneConfig
from profit_jax.typing import Array

LoraRows = Mapping[str, Mapping[str, Array]]  # {target: {"a": [R, in, r], "b": [R, r, out]}}, one layer's
KeysValues = tuple[Array, Array]  # [R, T, G, E] each


def rotation(positions: Array, frequencies: Array) -> tuple[Array, Array]:
    """Cosine and sine of every position's angles: `[R, T]` -> two of `[R, T, 1, E / 2]` float32."""
    angle = jnp.einsum("rt,e->rte", positions.astype(jnp.float32), frequencies)[:, :, None, :]
    return jnp.cos(angle), jnp.sin(angle)


def rotate(x: Array, cosine: Array, sine: Array) -> Array:
    """Turns feature pairs (i, i + E / 2) of each head by its position's angle (Su et al. 2021). x is `[R, T, H, E]`."""
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    turned = jnp.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=-1)
    return turned.astype(x.dtype)


def adapted(linear: nnx.Linear, x: Array, factors: Mapping[str, Array] | None) -> Array:
    """`x W + x A_r B_r` for row r: a frozen matrix and, where there is one, the row's own low-rank change."""
    y = linear(x)
    if factors is None:
        return y
    low = jnp.einsum("rtd,rdk->rtk", x, factors["a"].astype(x.dtype))
    return y + jnp.einsum("rtk,rko->rto", low, factors["b"].astype(x.dtype))


class Attention(nnx.Module):
    """Causal attention with grouped key-value heads."""

    def __init__(self, config: BackboneConfig, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        def linear(inputs: int, outputs: int) -> nnx.Linear:
            return nnx.Linear(inputs, outputs, use_bias=False, dtype=dtype, param_dtype=dtype, rngs=rngs)

        self.head_width = config.head_width
        self.q = linear(config.width, config.heads * config.head_width)
        self.k = linear(config.width, config.key_value_heads * config.head_width)
        self.v = linear(config.width, config.key_value_heads * config.head_width)
        self.o = linear(config.heads * config.head_width, config.width)

    def __call__(
        self,
        x: Array,  # [R, T, D]
        turn: tuple[Array, Array],
        visible: Array,  # [R, T, S] bool; S counts `past` first, then x's own positions
        lora: LoraRows,
        past: tuple[KeysValues, ...] = (),
    ) -> tuple[Array, KeysValues]:
        """Returns the attended values `[R, T, D]` and x's own keys and values."""

        def heads(name: str) -> Array:
            y = adapted(getattr(self, name), x, lora.get(name))
            return y.reshape(*y.shape[:2], -1, self.head_width)

        own = rotate(heads("k"), *turn), heads("v")
        keys, values = (jnp.concatenate([*parts], axis=1) for parts in zip(*past, own))
        y = jax.nn.dot_product_attention(rotate(heads("q"), *turn), keys, values, mask=visible[:, None])
        return adapted(self.o, y.reshape(*y.shape[:2], -1), lora.get("o")), own


class Mlp(nnx.Module):
    """SwiGLU (Shazeer 2020): `(silu(x W_gate) * x W_up) W_down`."""

    def __init__(self, config: BackboneConfig, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        def linear(inputs: int, outputs: int) -> nnx.Linear:
            return nnx.Linear(inputs, outputs, use_bias=False, dtype=dtype, param_dtype=dtype, rngs=rngs)

        self.gate = linear(config.width, config.mlp_width)
        self.up = linear(config.width, config.mlp_width)
        self.down = linear(config.mlp_width, config.width)

    def __call__(self, x: Array, lora: LoraRows) -> Array:
        """`[R, T, D]` -> `[R, T, D]`."""
        gate = nnx.silu(adapted(self.gate, x, lora.get("gate")))
        return adapted(self.down, gate * adapted(self.up, x, lora.get("up")), lora.get("down"))


class Block(nnx.Module):
    """One layer: `x + attention(norm(x))`, then `x + mlp(norm(x))`."""

    def __init__(self, config: BackboneConfig, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.attention_norm = norm(config, dtype, rngs)
        self.attention = Attention(config, dtype=dtype, rngs=rngs)
        self.mlp_norm = norm(config, dtype, rngs)
        self.mlp = Mlp(config, dtype=dtype, rngs=rngs)

    def __call__(
        self,
        x: Array,
        turn: tuple[Array, Array],
        visible: Array,
        lora: LoraRows,
        past: tuple[KeysValues, ...] = (),
    ) -> tuple[Array, KeysValues]:
        """`[R, T, D]` -> `[R, T, D]`, and the layer's keys and values."""
        attended, own = self.attention(self.attention_norm(x), turn, visible, lora, past)
        x = x + attended
        return x + self.mlp(self.mlp_norm(x), lora), own


def norm(config: BackboneConfig, dtype: jnp.dtype, rngs: nnx.Rngs) -> nnx.RMSNorm:
    """`x / rms(x) * scale` (Zhang and Sennrich 2019), computed in float32."""
    return nnx.RMSNorm(config.width, epsilon=config.norm_epsilon, dtype=dtype, param_dtype=dtype, rngs=rngs)
