"""Attention over packed rows: every row sees its own keys, those of the rows before it, and a prompt's ahead of all.

One formula in two ways. `plain` writes the scores down, in blocks, and is for every device and precision. `fused` goes
through cuDNN's kernel, which holds a tile of them at a time, where there is a GPU that has it (`fits`).

Einsum letters: r row, t position, s position looked at, g key-value head, q query head of that key-value head, e width
of a head. Shapes follow `profit_jax.typing`.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap

from profit_jax.typing import Array, Tree

KeysValues = tuple[Array, Array]  # [R, G, T, E] each

_BLOCKS, _NARROWEST_BLOCK = 4, 64  # of the queries of a row, and positions of a block at least
_ALIGNED = 8  # keys come in multiples of this many in cuDNN's kernel, whose rows of the mask then start at 16 bytes


def capped(x: Array, cap: float | None) -> Array:
    """`c tanh(x / c)`, which stays between -c and c (Gemma Team 2024); x itself without a cap."""
    return x if cap is None else cap * jnp.tanh(x / cap)


def over_span(x: Array, span: int, axis: int) -> Array:
    """The `span - 1` rows before each row, and itself, along an axis: `[R, ..., T, ...]` -> `[R, ..., span T, ...]`.

    What stands before the first row is 0.
    """
    shifted = [jnp.pad(x, [(back, 0), *[(0, 0)] * (x.ndim - 1)])[: x.shape[0]] for back in range(span - 1, -1, -1)]
    return jnp.concatenate(shifted, axis)


def attend(
    queries: Array,
    parts: tuple[KeysValues, ...],
    visible: Array,
    scale: float,
    cap: float | None = None,
    span: int = 1,
) -> Array:
    """`softmax(scale Q K^T) V` (Vaswani et al. 2017), keys and values in parts.

    Args:
      queries: `[R, H, T, E]`.
      parts: keys and values `[R, G, S_i, E]` each; query head h looks at key-value head h // (H / G).
      visible: `[R, T, S_1 + S_2 + ... + span T]` bool, or `[1, T, ...]` for all rows; the last T keys are those of the
        queries' own positions, and a query sees none of those behind its own.
      scale: of the products.
      cap: of the scaled products, see `capped`.
      span: rows of the last part that a row looks at, the last of which is its own; see `over_span`.

    Returns:
      `[R, H, T, E]`.
    """
    if fits(queries, cap):
        return fused(queries, parts, visible, scale, span)
    return plain(queries, parts, visible, scale, cap, span)


def plain(
    queries: Array, parts: tuple[KeysValues, ...], visible: Array, scale: float, cap: float | None, span: int
) -> Array:
    """`attend` by products and a softmax.

    A row's queries are taken in a few blocks, each with the keys up to its end: of the scores of keys behind the query,
    which nobody sees, up to three quarters are never made. Rows that run on from one another are short, and one block.
    """
    rows, heads, length, width = queries.shape
    groups = parts[0][0].shape[1]
    grouped, visible = queries.reshape(rows, groups, heads // groups, length, width), visible[:, None, None]
    *past, (keys, values) = parts
    size = length if span > 1 else max(_NARROWEST_BLOCK, -(-length // _BLOCKS))

    def block(start: int) -> Array:
        end = min(start + size, length)
        seen, own = visible.shape[-1] - length + end, keys.shape[2] - length + end
        known = (*past, (keys[:, :, :own], values[:, :, :own]))
        return _attend(grouped[..., start:end, :], known, visible[..., start:end, :seen], scale, cap, span)

    return jnp.concatenate([block(start) for start in range(0, length, size)], axis=3).reshape(queries.shape)


def _looked_at(parts: tuple[KeysValues, ...], span: int, queries: int) -> tuple[KeysValues, ...]:
    """The parts with the last as rows look at it: of one query never joined, since its scores are less than they.

    For many queries they are joined, since the scores are more.
    """
    *past, (keys, values) = parts
    parts = (*past, (over_span(keys, span, axis=2), over_span(values, span, axis=2)))
    if queries == 1:
        return parts
    keys, values = (jnp.concatenate(part, axis=2) for part in zip(*parts))
    return ((keys, values),)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def _attend(
    queries: Array, parts: tuple[KeysValues, ...], visible: Array, scale: float, cap: float | None, span: int
) -> Array:
    return _attend_forward(queries, parts, visible, scale, cap, span)[0]


def _attend_forward(
    queries: Array, own: tuple[KeysValues, ...], visible: Array, scale: float, cap: float | None, span: int
) -> tuple[Array, tuple]:
    parts = _looked_at(own, span, queries.shape[3])
    scores = jnp.where(visible, capped(_scores(queries, parts, scale), cap), jnp.finfo(jnp.float32).min)
    shares = jax.nn.softmax(scores).astype(queries.dtype)
    split = _split(shares, parts)
    summands = [jnp.einsum("rgqts,rgse->rgqte", share, values) for share, (_, values) in zip(split, parts)]
    y = functools.reduce(jnp.add, summands)
    return y, (queries, own, shares, y)


def _attend_backward(
    scale: float, cap: float | None, span: int, saved: tuple, dy: Array
) -> tuple[Array, tuple[KeysValues, ...], None]:
    # With shares p = softmax(s): ds = p * (dp - sum(p * dp)), and that sum is y . dy (Dao et al. 2022): one pass over
    # [T, S] less than what autodiff does. Keys and values are spread over rows again, rather than kept so.
    queries, own, shares, y = saved
    parts, gathered = jax.vjp(functools.partial(_looked_at, span=span, queries=queries.shape[3]), own)
    mean = jnp.einsum("rgqte,rgqte->rgqt", y, dy, preferred_element_type=jnp.float32)[..., None]
    dshares = _joined([jnp.einsum("rgqte,rgse->rgqts", dy, values) for _, values in parts])
    dscores = shares * (dshares - mean) * scale
    if cap is not None:  # c tanh(s / c) grows by 1 - tanh^2(s / c); s is computed again rather than kept
        dscores *= 1 - jnp.square(jnp.tanh(_scores(queries, parts, scale) / cap))
    dscores = dscores.astype(queries.dtype)
    dqueries, dparts = jnp.zeros_like(queries), []
    for share, dscore, (keys, _) in zip(_split(shares, parts), _split(dscores, parts), parts):
        dqueries += jnp.einsum("rgqts,rgse->rgqte", dscore, keys)
        # The widths of heads first, since it is the first operand of such a product that is turned in memory.
        dkeys, dvalues = jnp.einsum("rgqte,rgqts->rges", queries, dscore), jnp.einsum("rgqte,rgqts->rges", dy, share)
        dparts.append((jnp.swapaxes(dkeys, -1, -2), jnp.swapaxes(dvalues, -1, -2)))
    return dqueries, *gathered(tuple(dparts)), None


_attend.defvjp(_attend_forward, _attend_backward)


def _scores(queries: Array, parts: tuple[KeysValues, ...], scale: float) -> Array:
    """Scaled products of every query with every key, `[R, G, H / G, T, S]` float32."""
    return _joined([jnp.einsum("rgqte,rgse->rgqts", queries, keys) for keys, _ in parts]).astype(jnp.float32) * scale


def _joined(scores: Sequence[Array]) -> Array:
    return scores[0] if len(scores) == 1 else jnp.concatenate(scores, axis=-1)


def _split(scores: Array, parts: tuple[KeysValues, ...]) -> Sequence[Array]:
    ends = np.cumsum([keys.shape[2] for keys, _ in parts])
    return [scores] if len(parts) == 1 else jnp.split(scores, ends[:-1], axis=-1)


def fits(queries: Array, cap: float | None) -> bool:
    """Whether cuDNN has a kernel for this: bfloat16, queries of an even number, heads of a width it knows, a GPU."""
    *_, length, width = queries.shape
    known = queries.dtype == jnp.bfloat16 and cap is None
    return known and length % 2 == 0 and width % 8 == 0 and width <= _widest_head()


@functools.cache
def _widest_head() -> int:
    """Of cuDNN's kernels on this machine's devices; 0 where there is none."""
    device = jax.devices()[0]
    if "cuda" not in device.client.platform_version.lower():
        return 0
    capability = float(device.compute_capability)  # 8.0 is A100, 9.0 is H100
    return 0 if capability < 8 else 128 if capability < 9 else 256


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def fused(queries: Array, parts: tuple[KeysValues, ...], visible: Array, scale: float, span: int) -> Array:
    """`attend` through a kernel that never writes the scores down (Dao et al. 2022).

    The backward pass keeps nothing but queries, keys and values and runs the kernel again: by count a hundredth of the
    work of a 7B model's products at 256 keys. What it saves is memory, the keys of a whole span among it.
    """
    ((keys, values),) = _looked_at(parts, span, queries.shape[2])
    return _folding(functools.partial(_kernel, scale))(queries, keys, values, _each(visible, queries))


def _fused_forward(
    queries: Array, parts: tuple[KeysValues, ...], visible: Array, scale: float, span: int
) -> tuple[Array, tuple]:
    return fused(queries, parts, visible, scale, span), (queries, parts, visible)


def _fused_backward(scale: float, span: int, saved: tuple, dy: Array) -> tuple[Array, tuple[KeysValues, ...], None]:
    queries, parts, visible = saved
    joined, gathered = jax.vjp(functools.partial(_looked_at, span=span, queries=queries.shape[2]), parts)
    dqueries, *dkeys_values = _folding(functools.partial(_kernel_slope, scale))(
        queries, *joined[0], _each(visible, queries), dy
    )
    return dqueries, *gathered((tuple(dkeys_values),)), None


fused.defvjp(_fused_forward, _fused_backward)


def _each(visible: Array, queries: Array) -> Array:
    return jnp.broadcast_to(visible, (queries.shape[0], *visible.shape[1:]))


def _kernel(scale: float, queries: Array, keys: Array, values: Array, visible: Array) -> Array:
    """`[R, H, T, E]` of keys and values `[R, G, S, E]` and a mask `[R, T, S]`."""
    more = -keys.shape[2] % _ALIGNED
    keys, values = (jnp.pad(leaf, ((0, 0), (0, 0), (0, more), (0, 0))) for leaf in (keys, values))
    y = jax.nn.dot_product_attention(
        *(jnp.swapaxes(leaf, 1, 2) for leaf in (queries, keys, values)),
        mask=jnp.pad(visible, ((0, 0), (0, 0), (0, more)))[:, None],
        scale=scale,
        implementation="cudnn" if _widest_head() else "xla",
    )
    return jnp.swapaxes(y, 1, 2)


def _kernel_slope(
    scale: float, queries: Array, keys: Array, values: Array, visible: Array, dy: Array
) -> tuple[Array, Array, Array]:
    """What a change `[R, H, T, E]` of the kernel's result says of queries, keys and values."""
    _, pull_back = jax.vjp(functools.partial(_kernel, scale, visible=visible), queries, keys, values)
    return pull_back(dy)


def _folding(work: Callable[..., Tree]) -> Callable[..., Tree]:
    """Under `jax.vmap`, work on the rows of all lanes at once: the kernel's own rule wants a mask for each head."""
    mapped = custom_vmap(work)

    @mapped.def_vmap
    def _(lanes: int, batched: Sequence[bool], *given: Array) -> tuple[Tree, Tree]:
        whole = [x if own else jnp.broadcast_to(x, (lanes, *x.shape)) for x, own in zip(given, batched, strict=True)]
        y = _folding(work)(*(x.reshape(-1, *x.shape[2:]) for x in whole))
        y = jax.tree.map(lambda leaf: leaf.reshape(lanes, -1, *leaf.shape[1:]), y)
        return y, jax.tree.map(lambda _: True, y)

    return mapped
