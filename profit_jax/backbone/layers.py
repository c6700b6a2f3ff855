"""The blocks of a decoder, each callable on its own: Llama's (Touvron et al. 2023), and what other families vary in it.

Einsum letters: r row, t position, d width in, o width out, k LoRA rank, e width of a head. Shapes follow
`profit_jax.typing`.

What the backward pass needs is chosen here, since memory traffic, not arithmetic, is what limits a small model:
products are kept, elementwise results are computed again.
"""

import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from profit_jax.backbone.attention import KeysValues, Looks, Texts, attend, attend_windows
from profit_jax.backbone.config import BackboneConfig
from profit_jax.backbone.quantize import product, quantized
from profit_jax.typing import Array

LoraRows = Mapping[str, Mapping[str, Array]]  # {target: {"a": [R, in, r], "b": [R, r, out]}}, one layer's


def rotation(positions: Array, frequencies: Array) -> tuple[Array, Array]:
    """Cosine and sine of every position's angles: `[R, T]` -> two of `[R, T, 1, E / 2]` float32."""
    angle = jnp.einsum("rt,e->rte", positions.astype(jnp.float32), frequencies)[:, :, None]
    return jnp.cos(angle), jnp.sin(angle)


def rotate(x: Array, cosine: Array, sine: Array) -> Array:
    """Turns feature pairs (i, i + n) of each head by its position's n angles (Su et al. 2021). x is `[R, T, H, E]`.

    Features from 2 n on, where there are any, have no position.
    """
    n = cosine.shape[-1]
    first, second, rest = jnp.split(x.astype(jnp.float32), [n, 2 * n], axis=-1)
    turned = jnp.concatenate([first * cosine - second * sine, second * cosine + first * sine, rest], axis=-1)
    return turned.astype(x.dtype)


def adapted(linear: "Linear", x: Array, factors: Mapping[str, Array] | None) -> Array:
    """`x W + x A_r B_r` for row r: a frozen matrix and, where there is one, the row's own low-rank change."""
    y = linear(x)
    if factors is None:
        return y
    low = jnp.einsum("rtd,rdk->rtk", x, factors["a"].astype(x.dtype))
    return y + jnp.einsum("rtk,rko->rto", low, factors["b"].astype(x.dtype))


class Linear(nnx.Linear):
    """`x W + b`, b where the config names a bias for this matrix. A quantized W is an int8 kernel with a scale."""

    scale: nnx.Param | None = None  # [out] float32

    def __init__(
        self, name: str, inputs: int, outputs: int, config: BackboneConfig, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ):
        bias = name in config.biases
        super().__init__(inputs, outputs, use_bias=bias, dtype=dtype, param_dtype=dtype, rngs=rngs)

    def quantize(self) -> None:
        """Keeps W in int8."""
        values, scale = quantized(self.kernel[...])
        self.kernel, self.scale = nnx.Param(values), nnx.Param(scale)

    def __call__(self, x: Array) -> Array:
        """`[..., in]` -> `[..., out]`."""
        if self.scale is None:
            return super().__call__(jnp.asarray(x))
        y = product(x, self.kernel[...], self.scale[...])
        return y if self.bias is None else y + self.bias[(None,) * (y.ndim - 1)]


class Norm(nnx.Module):
    """`(x - m) / sqrt(mean((x - m)^2) + epsilon) (offset + scale) + bias` over the last axis, in float32.

    m is x's mean in a layer norm (Ba et al. 2016), 0 in an RMS norm (Zhang and Sennrich 2019).
    """

    def __init__(self, width: int, config: BackboneConfig, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.centered = config.norm == "layer"
        self.epsilon, self.offset = config.norm_epsilon, config.norm_offset
        self.scale = nnx.Param(nnx.initializers.constant(1 - self.offset)(rngs.params(), (width,), dtype))
        self.bias = nnx.Param(jnp.zeros(width, dtype)) if "norm" in config.biases else None

    def __call__(self, x: Array) -> jax.Array:
        """`[..., D]` -> `[..., D]`."""
        lift = (None,) * (x.ndim - 1)
        y = jnp.asarray(x, jnp.float32)
        y = y - jnp.mean(y, -1, keepdims=True) if self.centered else y
        scale = self.scale[lift].astype(jnp.float32) + self.offset
        root = lax.rsqrt(jnp.mean(jnp.square(y), -1) + self.epsilon)
        # An einsum, whose gradient is a product: a multiplication's is a sum, ten times slower on a CPU.
        y = jnp.einsum("...d,...->...d", y, root, precision=lax.Precision.HIGHEST) * scale
        y = y if self.bias is None else y + self.bias[lift].astype(jnp.float32)
        return y.astype(x.dtype)


def normed(norm: Norm | None, x: Array) -> Array:
    """x after a norm, or x itself where the model has none there. Computed again in the backward pass."""
    return x if norm is None else jax.checkpoint(norm)(x)


class Attention(nnx.Module):
    """Causal attention with grouped key-value heads; queries and keys may have norms (Henry et al. 2020)."""

    def __init__(self, config: BackboneConfig, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        linear = functools.partial(Linear, config=config, dtype=dtype, rngs=rngs)
        self.head_width, self.scale, self.cap = config.head_width, config.score_scale, config.score_cap
        self.q = linear("q", config.width, config.heads * config.head_width)
        self.k = linear("k", config.width, config.key_value_heads * config.head_width)
        self.v = linear("v", config.width, config.key_value_heads * config.head_width)
        self.o = linear("o", config.heads * config.head_width, config.width)
        norm = functools.partial(Norm, config.head_width, config, dtype=dtype, rngs=rngs)
        self.q_norm, self.k_norm = (norm(), norm()) if config.query_key_norms else (None, None)

    def __call__(
        self,
        x: Array,  # [R, T, D]
        turn: tuple[Array, Array],
        looks: Looks,
        lora: LoraRows,
    ) -> tuple[Array, KeysValues]:
        """Returns the attended values `[R, T, D]` and x's own keys and values."""
        keys, values = self._keys_values(x, turn, lora)
        queries = rotate(normed(self.q_norm, self._heads("q", x, lora)), *turn)
        own = _heads_first(keys), _heads_first(values)
        if looks.windows is None:
            (mask,) = looks.masks
            y = _heads_first(attend(Texts(_heads_first(queries), *own, looks.past), mask, self.scale, self.cap))
        else:
            rows = Texts(queries, keys, values, looks.past)
            y = attend_windows(rows, tuple(looks.masks), looks.windows, self.scale, self.cap)
        return adapted(self.o, y.reshape(*y.shape[:2], -1), lora.get("o")), own

    def keys_values(self, x: Array, turn: tuple[Array, Array], lora: LoraRows) -> KeysValues:
        """Those of x `[R, T, D]`."""
        keys, values = self._keys_values(x, turn, lora)
        return _heads_first(keys), _heads_first(values)

    def _keys_values(self, x: Array, turn: tuple[Array, Array], lora: LoraRows) -> KeysValues:
        return rotate(normed(self.k_norm, self._heads("k", x, lora)), *turn), self._heads("v", x, lora)

    def _heads(self, name: str, x: Array, lora: LoraRows) -> Array:
        y = adapted(getattr(self, name), x, lora.get(name))
        return y.reshape(*y.shape[:2], -1, self.head_width)


def _heads_first(x: Array) -> Array:
    """`[R, T, H, E]` -> `[R, H, T, E]`, and back."""
    return jnp.swapaxes(x, 1, 2)


ACTIVATIONS = {"silu": nnx.silu, "gelu": functools.partial(nnx.gelu, approximate=False), "gelu_tanh": nnx.gelu}


class Mlp(nnx.Module):
    """`(act(x W_gate) * x W_up) W_down` (Shazeer 2020), or `act(x W_up) W_down` without a gate."""

    def __init__(self, config: BackboneConfig, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        linear = functools.partial(Linear, config=config, dtype=dtype, rngs=rngs)
        self.activation = config.activation
        self.gate = linear("gate", config.width, config.mlp_width) if config.gated else None
        self.up = linear("up", config.width, config.mlp_width)
        self.down = linear("down", config.mlp_width, config.width)

    def __call__(self, x: Array, lora: LoraRows) -> Array:
        """`[R, T, D]` -> `[R, T, D]`."""
        gate = None if self.gate is None else adapted(self.gate, x, lora.get("gate"))
        up = adapted(self.up, x, lora.get("up"))
        return adapted(self.down, _activated(ACTIVATIONS[self.activation], gate, up), lora.get("down"))


@functools.partial(jax.checkpoint, static_argnums=0)
def _activated(activation: Callable[[Array], Array], gate: Array | None, up: Array) -> Array:
    return activation(up) if gate is None else activation(gate) * up


class Block(nnx.Module):
    """One layer: `x + attention(norm(x))`, then `x + mlp(norm(x))`; or both from the same x, side by side."""

    def __init__(self, config: BackboneConfig, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        def norm(present: bool) -> Norm | None:
            return Norm(config.width, config, dtype=dtype, rngs=rngs) if present else None

        self.parallel = config.parallel
        self.attention_norm = norm(True)
        self.attention = Attention(config, dtype=dtype, rngs=rngs)
        self.attention_out_norm = norm(config.out_norms)
        self.mlp_norm = norm(not config.shared_norm)
        self.mlp = Mlp(config, dtype=dtype, rngs=rngs)
        self.mlp_out_norm = norm(config.out_norms)

    def __call__(
        self,
        x: Array,
        turn: tuple[Array, Array],
        looks: Looks,
        lora: LoraRows,
    ) -> tuple[Array, KeysValues]:
        """`[R, T, D]` -> `[R, T, D]`, and the layer's keys and values."""
        read = normed(self.attention_norm, x)
        attended, own = self.attention(read, turn, looks, lora)
        between = x + normed(self.attention_out_norm, attended)
        if self.mlp_norm is not None:  # otherwise the MLP reads what attention reads
            read = normed(self.mlp_norm, x if self.parallel else between)
        return between + normed(self.mlp_out_norm, self.mlp(read, lora)), own

    def keys_values(self, x: Array, turn: tuple[Array, Array], lora: LoraRows) -> KeysValues:
        """The layer's keys and values alone."""
        return self.attention.keys_values(normed(self.attention_norm, x), turn, lora)
