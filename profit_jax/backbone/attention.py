"""Attention: every text's queries see its own keys, causally, and those ahead of all, a prompt's.

A text that takes several rows lies in a window of them, and windows are worked on in turns (`attend_windows`);
elsewhere every row is a text (`attend`). One formula in two ways: `plain` writes the scores down, in blocks, and is for
every device and precision; `_kernel` goes through cuDNN's, which holds a tile of them at a time, where there is a GPU
that has it (`fits`). Either way the backward pass makes scores again rather than keep them.

Einsum letters: r row, t position, s position looked at, g key-value head, q query head of that key-value head, e width
of a head. Shapes follow `profit_jax.typing`.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from profit_jax.typing import Array, Tree, Windows

KeysValues = tuple[Array, Array]  # [R, G, T, E] each

_ALIGNED = 8  # of keys in cuDNN's kernel: a multiple
_BLOCKS, _NARROWEST_BLOCK = 4, 128  # of the queries of a text, and positions of a block at least


class Looks(NamedTuple):
    """What attention looks at beside its own positions: of rows that are a text each, or of windows of several."""

    past: tuple[KeysValues, ...]  # of rows: leaves [R, G, ., E]; of windows: one, the clients' prompts, [C, G, K, E]
    masks: Sequence[Array | None]  # of rows: one; of windows: one of each width
    windows: Windows | None = None


def capped(x: Array, cap: float | None) -> Array:
    """`c tanh(x / c)`, which stays between -c and c (Gemma Team 2024); x itself without a cap."""
    return x if cap is None else cap * jnp.tanh(x / cap)


class Texts(NamedTuple):
    """What attention is computed of: texts side by side, or, before they are read into windows, rows of them."""

    queries: Array  # [R, H, T, E], or of rows [R, T, H, E]
    keys: Array  # [R, G, T, E] or [R, T, G, E]; query head h looks at key-value head h // (H / G)
    values: Array
    past: tuple[KeysValues, ...] = ()  # ahead of them, each [R, G, S_i, E]; of rows: none, or the prompts [C, G, K, E]


class _Change(NamedTuple):
    """Of what texts see, y: its change dy `[R, H, T, E]`; y . dy and the logarithm of a query's sum, `[R, H, T, 1]`."""

    dy: Array
    mean: Array
    sums: Array


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def attend(texts: Texts, mask: Array | None, scale: float, cap: float | None = None) -> Array:
    """`softmax(scale Q K^T) V` (Vaswani et al. 2017) of texts.

    Args:
      texts: side by side.
      mask: `[R, T, S_1 + S_2 + ... + T]` bool, or `[1, ...]` for all texts: what a query sees of what does not stand
        behind it. None: all of it.
      scale: of the products.
      cap: of the scaled products, see `capped`.

    Returns:
      `[R, H, T, E]`.
    """
    return _attend(texts, mask, scale, cap)[0]


def _attend_forward(texts: Texts, mask: Array | None, scale: float, cap: float | None) -> tuple[Array, tuple]:
    y, sums = _attend(texts, mask, scale, cap)
    return y, (texts, mask, y, sums)


def _attend_backward(scale: float, cap: float | None, saved: tuple, dy: Array) -> tuple[Texts, None]:
    texts, mask, y, sums = saved
    return _slope(texts, mask, _Change(dy, _mean(y, dy), sums), scale, cap), None


attend.defvjp(_attend_forward, _attend_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def attend_windows(
    rows: Texts, masks: tuple[Array | None, ...], windows: Windows, scale: float, cap: float | None = None
) -> Array:
    """`attend` of texts that take several rows, one turn of windows after another, of each width those in use.

    Args:
      rows: of all texts; a text looks at its owner's prompt.
      masks: for windows of each width, `[1, w T, K + w T]`, or None.
      windows: where texts are.
      scale: as in `attend`.
      cap: as in `attend`.

    Returns:
      `[R, T, H, E]`; 0 in rows without a text.
    """
    return _windows_forward(rows, masks, windows, scale, cap)[0]


def _windows_forward(
    rows: Texts, masks: tuple[Array | None, ...], windows: Windows, scale: float, cap: float | None
) -> tuple[Array, tuple]:
    def write(turn: _Turn, before: tuple) -> tuple:
        return tuple(map(turn.write, before, _attend(turn.texts(rows), masks[turn.kind], scale, cap)))

    y, sums = _over(windows, write, (jnp.zeros_like(rows.queries), jnp.zeros((*rows.queries.shape[:-1], 1))))
    return y, (rows, masks, windows, y, sums)


def _windows_backward(scale: float, cap: float | None, saved: tuple, dy: Array) -> tuple[Texts, None, None]:
    rows, masks, windows, y, sums = saved
    changes = _Change(dy, _mean(y, dy), sums)

    def write(turn: _Turn, before: Texts) -> Texts:
        # What follows a text in its window is another's, or nobody's: no change of it is the text's.
        own = (turn.own(turn.read(leaf), beyond) for leaf, beyond in zip(changes, (0, 0, np.inf), strict=True))
        slope = _slope(turn.texts(rows), masks[turn.kind], _Change(*own), scale, cap)
        queries, keys, values = map(turn.write, before[:3], slope[:3])
        return Texts(queries, keys, values, jax.tree.map(turn.add, before.past, slope.past))

    return _over(windows, write, jax.tree.map(jnp.zeros_like, rows)), None, None


attend_windows.defvjp(_windows_forward, _windows_backward)


class _Turn(NamedTuple):
    """Windows of one width that are worked on together."""

    kind: int  # the number of their width
    width: int
    first: Array  # [W] int32
    rows: Array  # [W] int32
    owner: Array  # [W] int32

    def read(self, x: Array) -> Array:
        """Their parts of rows `[R, T, H, E]`, each as one text: `[W, H, w T, E]`."""
        parts = jnp.stack([lax.dynamic_slice_in_dim(x, first, self.width) for first in self.first])
        return jnp.swapaxes(parts.reshape(len(parts), -1, *x.shape[2:]), 1, 2)

    def texts(self, rows: Texts) -> Texts:
        """Their parts of all rows, with their owners' prompts.

        What follows a text in its window is 0: another's may not be finite, and a share of 0 of that is not 0.
        """
        queries, keys, values = (self.own(self.read(leaf), 0) for leaf in rows[:3])
        prompts = jax.tree.map(lambda leaf: leaf[self.owner].astype(queries.dtype), rows.past)
        return Texts(queries, keys, values, prompts)

    def own(self, x: Array, other: Array | float) -> Array:
        """x `[W, H, w T, E]` where it is the texts', elsewhere `other`."""
        row = jnp.arange(x.shape[2]) // (x.shape[2] // self.width)
        return jnp.where((row[None] < self.rows[:, None])[:, None, :, None], x, other)

    def write(self, x: Array, texts: Array) -> Array:
        """Rows x with the texts' parts `[W, H, w T, E]` in their places."""
        parts = jnp.swapaxes(texts, 1, 2).reshape(len(texts), self.width, *x.shape[1:])
        at = jnp.arange(self.width)
        for part, first, rows in zip(parts, self.first, self.rows, strict=True):
            before = lax.dynamic_slice_in_dim(x, first, self.width)
            part = jnp.where((at < rows)[:, None, None, None], part, before)
            x = lax.dynamic_update_slice_in_dim(x, part, first, 0)
        return x

    def add(self, total: Array, parts: Array) -> Array:
        """Adds what is their owners': `[W, ...]` to `[C, ...]`."""
        for part, owner in zip(parts, self.owner, strict=True):
            own = lax.dynamic_index_in_dim(total, owner) + part[None].astype(total.dtype)
            total = lax.dynamic_update_slice_in_dim(total, own, owner, 0)
        return total


def _over(windows: Windows, write: Callable[[_Turn, Tree], Tree], start: Tree) -> Tree:
    """What `write(turn, before)` leaves, one turn after another, of the windows in use."""
    total, fields = start, (windows.first, windows.rows, windows.owner)
    for kind, (width, together) in enumerate(zip(windows.widths, windows.together, strict=True)):

        def take(number: Array, total: Tree, kind: int = kind, width: int = width, each: int = together) -> Tree:
            own = (lax.dynamic_slice_in_dim(of[kind], number * each, each) for of in fields)
            return write(_Turn(kind, width, *own), total)

        used = len(windows.first[kind]) if windows.used is None else windows.used[kind]
        with jax.named_scope(f"windows_{kind}"):
            total = lax.fori_loop(0, -(-used // together), take, total)
    return total


def _mean(y: Array, dy: Array) -> Array:
    return jnp.einsum("...e,...e->...", y, dy, preferred_element_type=jnp.float32)[..., None]


def _attend(texts: Texts, mask: Array | None, scale: float, cap: float | None) -> tuple[Array, Array]:
    """What texts see, and the logarithm of each query's sum of exponentials where the backward pass wants it."""
    if fits(texts.queries, mask, cap):
        return _kernel(texts, scale), jnp.zeros((*texts.queries.shape[:-1], 1))
    return plain(texts, mask, scale, cap)


def _slope(texts: Texts, mask: Array | None, change: _Change, scale: float, cap: float | None) -> Texts:
    """What a change of what texts see says of queries, keys, values and what is ahead.

    Scores are made again: by the kernel, by count, a hundredth of the work of a 7B model's products at 256 keys.
    """
    if fits(texts.queries, mask, cap):
        return jax.vjp(lambda texts: _kernel(texts, scale), texts)[1](change.dy)[0]
    return plain_slope(texts, mask, change, scale, cap)


def plain(texts: Texts, mask: Array | None, scale: float, cap: float | None) -> tuple[Array, Array]:
    """`_attend` by products and a softmax.

    Queries are taken in a few blocks, each with the keys up to its end: of the scores of keys behind the query, which
    nobody sees, up to three quarters are never made.
    """
    queries, parts = _grouped(texts.queries, texts.keys), _looked_at(texts)
    seen, sums = [], []
    for block in _blocks(queries.shape[3], parts, mask):
        known = [(keys[:, :, :size], values[:, :, :size]) for (keys, values), size in zip(parts, block.sizes)]
        scores = [_products(queries[block.queries], keys, scale) for keys, _ in known]
        scores = _seen(scores[0] if len(known) == 1 else jnp.concatenate(scores, axis=-1), block, cap)
        largest = scores.max(axis=-1, keepdims=True)
        powers = jnp.exp(scores - largest)  # once: what divides them is applied to what they weigh
        total = powers.sum(axis=-1, keepdims=True)
        powers = powers.astype(queries.dtype)
        split = [powers] if len(known) == 1 else jnp.split(powers, np.cumsum(block.sizes)[:-1], axis=-1)
        summands = [jnp.einsum("rgqts,rgse->rgqte", part, values) for part, (_, values) in zip(split, known)]
        seen.append((functools.reduce(jnp.add, summands) / total).astype(queries.dtype))
        sums.append(largest + jnp.log(total))
    y, sums = (jnp.concatenate(leaf, axis=3) for leaf in (seen, sums))
    return y.reshape(texts.queries.shape), sums.reshape(*texts.queries.shape[:-1], 1)


def plain_slope(texts: Texts, mask: Array | None, change: _Change, scale: float, cap: float | None) -> Texts:
    """`_slope` by products: with shares p = softmax(s), ds = p (dp - y . dy) (Dao et al. 2022)."""
    queries, dy, mean, sums = (_grouped(leaf, texts.keys) for leaf in (texts.queries, *change))
    (keys, values), split = jax.vjp(_joined, (*texts.past, (texts.keys, texts.values)))
    dqueries, dkeys_values = [], []
    for block in _blocks(queries.shape[3], ((keys, values),), mask):
        (size,), here = block.sizes, block.queries
        scores = _products(queries[here], keys[:, :, :size], scale)
        shares = jnp.exp(_seen(scores, block, cap) - sums[here])
        dshares = jnp.einsum("rgqte,rgse->rgqts", dy[here], values[:, :, :size])
        dscores = shares * (dshares - mean[here]) * scale
        if cap is not None:  # c tanh(s / c) grows by 1 - tanh^2(s / c)
            dscores *= 1 - jnp.square(jnp.tanh(scores / cap))
        dscores, shares = dscores.astype(queries.dtype), shares.astype(queries.dtype)
        dqueries.append(jnp.einsum("rgqts,rgse->rgqte", dscores, keys[:, :, :size]))
        # The widths of heads first, since it is the first operand of such a product that is turned in memory.
        dkeys = jnp.einsum("rgqte,rgqts->rges", queries[here], dscores)
        dvalues = jnp.einsum("rgqte,rgqts->rges", dy[here], shares)
        unseen = (0, 0), (0, 0), (0, keys.shape[2] - size), (0, 0)
        dkeys_values.append([jnp.pad(jnp.swapaxes(leaf, -1, -2), unseen) for leaf in (dkeys, dvalues)])
    dkeys, dvalues = (functools.reduce(jnp.add, leaves) for leaves in zip(*dkeys_values))
    *past, (dkeys, dvalues) = split((dkeys, dvalues))[0]
    return Texts(jnp.concatenate(dqueries, axis=3).reshape(texts.queries.shape), dkeys, dvalues, tuple(past))


def _seen(scores: Array, block: "_Block", cap: float | None) -> Array:
    return jnp.where(block.visible, capped(scores, cap), jnp.finfo(jnp.float32).min)


def _grouped(queries: Array, keys: Array) -> Array:
    """`[R, H, T, .]` -> `[R, G, H / G, T, .]`."""
    rows, heads, *rest = queries.shape
    return queries.reshape(rows, keys.shape[1], heads // keys.shape[1], *rest)


def _looked_at(texts: Texts) -> tuple[KeysValues, ...]:
    """All keys and values in order: joined, but not for one query, whose scores are less than they."""
    parts = (*texts.past, (texts.keys, texts.values))
    return parts if texts.queries.shape[2] == 1 else (_joined(parts),)


def _joined(parts: tuple[KeysValues, ...]) -> KeysValues:
    keys, values = (jnp.concatenate(part, axis=2) for part in zip(*parts))
    return keys, values


class _Block(NamedTuple):
    queries: tuple  # which: an index
    sizes: list[int]  # how many keys they look at of each part, the first ones
    visible: Array  # which of these they see


def _blocks(length: int, parts: tuple[KeysValues, ...], mask: Array | None) -> Iterator[_Block]:
    """So many queries in blocks; the last keys are their own."""
    *before, last = (keys.shape[2] for keys, _ in parts)
    step = max(_NARROWEST_BLOCK, -(-length // _BLOCKS))
    for start in range(0, length, step):
        end = min(start + step, length)
        sizes = [*before, last - length + end]
        seen = causal(end - start, sum(sizes)) if mask is None else mask[:, start:end, : sum(sizes)]
        yield _Block(np.s_[..., start:end, :], sizes, seen[:, None, None])


def causal(queries: int, keys: int) -> Array:
    """The last so many of a row's keys are the queries' own: each sees none behind it. `[1, T, S]` bool."""
    return jnp.tri(queries, keys, keys - queries, dtype=bool)[None]


def _products(queries: Array, keys: Array, scale: float) -> Array:
    """Scaled products of every query with every key, `[R, G, H / G, T, S]` float32."""
    return jnp.einsum("rgqte,rgse->rgqts", queries, keys).astype(jnp.float32) * scale


def fits(queries: Array, mask: Array | None, cap: float | None) -> bool:
    """Whether cuDNN has a kernel for this: bfloat16, no mask but the causal one, heads of a width it knows, a GPU."""
    known = queries.dtype == jnp.bfloat16 and cap is None and mask is None
    return known and queries.shape[-1] % 8 == 0 and queries.shape[-1] <= _widest_head()


@functools.cache
def _widest_head() -> int:
    """Of cuDNN's kernels on this machine's devices; 0 where there is none."""
    device = jax.devices()[0]
    if "cuda" not in device.client.platform_version.lower():
        return 0
    capability = float(device.compute_capability)  # 8.0 is A100, 9.0 is H100
    return 0 if capability < 8 else 128 if capability < 9 else 256


def _kernel(texts: Texts, scale: float) -> Array:
    """`attend` without a mask through a kernel that never writes the scores down (Dao et al. 2022).

    The kernel's queries are as many as its keys: empty ones stand in front, beside the keys that are ahead of all, and
    behind, where both fill up to a number that it takes.
    """
    length = texts.queries.shape[2]
    keys, values = _joined((*texts.past, (texts.keys, texts.values)))
    ahead, behind = keys.shape[2] - length, -keys.shape[2] % _ALIGNED

    def filled(leaf: Array, ahead: int = 0) -> Array:
        return jnp.swapaxes(jnp.pad(leaf, ((0, 0), (0, 0), (ahead, behind), (0, 0))), 1, 2)

    y = jax.nn.dot_product_attention(
        filled(texts.queries, ahead),
        filled(keys),
        filled(values),
        is_causal=True,
        scale=scale,
        implementation="cudnn" if _widest_head() else "xla",
    )
    return jnp.swapaxes(y, 1, 2)[:, :, ahead : ahead + length]
