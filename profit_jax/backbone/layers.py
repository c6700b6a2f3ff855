"""The blocks of a Llama decoder (Touvron et al. 2023), each callable on its own.

Einsum letters: r row, t position, s position looked at, d width in, o width out, k LoRA rank, g key-value head,
q query head of that key-value head, e width of a head. Shapes follow `profit_jax.typing`.

What the backward pass needs is chosen here, since memory traffic, not arithmetic, is what limits a small model:
products are kept, elementwise results are computed again.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from profit_jax.backbone.config import BackboneConfig
from profit_jax.typing import Array

LoraRows = Mapping[str, Mapping[str, Array]]  # {target: {"a": [R, in, r], "b": [R, r, out]}}, one layer's
KeysValues = tuple[Array, Array]  # [R, G, T, E] each


def rotation(positions: Array, frequencies: Array) -> tuple[Array, Array]:
    """Cosine and sine of every position's angles: `[R, T]` -> two of `[R, 1, T, E / 2]` float32."""
    angle = jnp.einsum("rt,e->rte", positions.astype(jnp.float32), frequencies)[:, None]
    return jnp.cos(angle), jnp.sin(angle)


def rotate(x: Array, cosine: Array, sine: Array) -> Array:
    """Turns feature pairs (i, i + E / 2) of each head by its position's angle (Su et al. 2021). x is `[R, H, T, E]`."""
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


def attend(queries: Array, parts: tuple[KeysValues, ...], visible: Array) -> Array:
    """`softmax(Q K^T / sqrt(E)) V` (Vaswani et al. 2017), keys and values in parts that are never joined.

    Args:
      queries: `[R, H, T, E]`.
      parts: keys and values `[R, G, S_i, E]` each; query head h looks at key-value head h // (H / G).
      visible: `[R, T, S_1 + S_2 + ...]` bool.

    Returns:
      `[R, H, T, E]`.
    """
    rows, heads, length, width = queries.shape
    groups = parts[0][0].shape[1]
    grouped = queries.reshape(rows, groups, heads // groups, length, width)
    return _attend(grouped, parts, visible[:, None, None]).reshape(queries.shape)


@jax.custom_vjp
def _attend(queries: Array, parts: tuple[KeysValues, ...], visible: Array) -> Array:
    return _attend_forward(queries, parts, visible)[0]


def _attend_forward(queries: Array, parts: tuple[KeysValues, ...], visible: Array) -> tuple[Array, tuple]:
    scores = _joined([jnp.einsum("rgqte,rgse->rgqts", queries, keys) for keys, _ in parts])
    scores = jnp.where(visible, scores.astype(jnp.float32) * queries.shape[-1] ** -0.5, jnp.finfo(jnp.float32).min)
    shares = jax.nn.softmax(scores).astype(queries.dtype)
    split = _split(shares, parts)
    y = sum(jnp.einsum("rgqts,rgse->rgqte", share, values) for share, (_, values) in zip(split, parts))
    return y, (queries, parts, shares, y)


def _attend_backward(saved: tuple, dy: Array) -> tuple[Array, tuple[KeysValues, ...], None]:
    # With shares p = softmax(s): ds = p * (dp - sum(p * dp)), and that sum is y . dy (Dao et al. 2022): one pass over
    # [T, S] less than what autodiff does.
    queries, parts, shares, y = saved
    mean = jnp.einsum("rgqte,rgqte->rgqt", y, dy, preferred_element_type=jnp.float32)[..., None]
    dshares = _joined([jnp.einsum("rgqte,rgse->rgqts", dy, values) for _, values in parts])
    dscores = (shares * (dshares - mean) * queries.shape[-1] ** -0.5).astype(queries.dtype)
    dqueries, dparts = 0.0, []
    for share, dscore, (keys, _) in zip(_split(shares, parts), _split(dscores, parts), parts):
        dqueries += jnp.einsum("rgqts,rgse->rgqte", dscore, keys)
        dkeys = jnp.einsum("rgqts,rgqte->rgse", dscore, queries)
        dparts.append((dkeys, jnp.einsum("rgqts,rgqte->rgse", share, dy)))
    return dqueries, tuple(dparts), None


_attend.defvjp(_attend_forward, _attend_backward)


def _joined(scores: list[Array]) -> Array:
    return scores[0] if len(scores) == 1 else jnp.concatenate(scores, axis=-1)


def _split(scores: Array, parts: tuple[KeysValues, ...]) -> list[Array]:
    ends = np.cumsum([keys.shape[2] for keys, _ in parts])
    return [scores] if len(parts) == 1 else jnp.split(scores, ends[:-1], axis=-1)


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
            return jnp.swapaxes(y.reshape(*y.shape[:2], -1, self.head_width), 1, 2)

        own = rotate(heads("k"), *turn), heads("v")
        y = attend(rotate(heads("q"), *turn), (*past, own), visible)
        y = jnp.swapaxes(y, 1, 2)
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
        gate, up = (adapted(getattr(self, name), x, lora.get(name)) for name in ("gate", "up"))
        return adapted(self.down, _gated(gate, up), lora.get("down"))


@jax.checkpoint
def _gated(gate: Array, up: Array) -> Array:
    return nnx.silu(gate) * up


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
        attended, own = self.attention(jax.checkpoint(self.attention_norm)(x), turn, visible, lora, past)
        x = x + attended
        return x + self.mlp(jax.checkpoint(self.mlp_norm)(x), lora), own


def norm(config: BackboneConfig, dtype: jnp.dtype, rngs: nnx.Rngs) -> nnx.RMSNorm:
    """`x / rms(x) * scale` (Zhang and Sennrich 2019), computed in float32."""
    return nnx.RMSNorm(config.width, epsilon=config.norm_epsilon, dtype=dtype, param_dtype=dtype, rngs=rngs)
