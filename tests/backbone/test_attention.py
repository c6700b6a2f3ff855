"""Attention in windows and blocks against the formula, and a pass that ends with the last layer's keys and values."""

import re
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.cudnn import fused_attention_stablehlo

from profit_jax.backbone import attention
from profit_jax.backbone.attention import KeysValues, Texts, attend, attend_windows
from profit_jax.typing import Windows
from tests.backbone.families import TINY, decoder, prompts, tiny

ROWS, HEADS, GROUPS, AHEAD, WIDTH, SCALE = 2, 4, 2, 5, 8, 0.3


def normal(seed: int, *shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=(*shape, WIDTH)), jnp.float32)


def parts(length: int) -> tuple[jax.Array, KeysValues, KeysValues]:
    """Queries, their own keys and values, and those ahead."""
    own, ahead = ((normal(n, ROWS, GROUPS, n), normal(n + 1, ROWS, GROUPS, n)) for n in (length, AHEAD))
    return normal(length + 2, ROWS, HEADS, length), own, ahead


def formula(
    queries: jax.Array, own: KeysValues, ahead: KeysValues, visible: np.ndarray, cap: float | None
) -> jax.Array:
    """`softmax(scale Q K^T) V`, all keys for every query."""
    keys, values = (jnp.repeat(jnp.concatenate(part, 2), HEADS // GROUPS, axis=1) for part in zip(ahead, own))
    scores = SCALE * jnp.einsum("rhte,rhse->rhts", queries, keys)
    scores = scores if cap is None else cap * jnp.tanh(scores / cap)
    shares = jax.nn.softmax(jnp.where(visible[:, None], scores, -jnp.inf))
    return jnp.einsum("rhts,rhse->rhte", shares, values)


def causally(length: int) -> np.ndarray:
    return np.tri(length, AHEAD + length, AHEAD, dtype=bool)[None]


def one_way(queries: jax.Array, own: KeysValues, ahead: KeysValues, mask=None, cap=None) -> jax.Array:
    return attend(Texts(queries, *own, (ahead,)), mask, SCALE, cap)


def with_slope(function, *given) -> tuple:
    y, pull = jax.vjp(function, *given)
    return y, pull(jnp.cos(y))


def close(found, expected):
    """To 16 roundings in float32 of the largest entry: sums of some hundred products of both signs."""
    bound = 2.0**-20 * max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(expected))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=bound), found, expected)


@pytest.mark.parametrize("cap", [None, 1.5])
@pytest.mark.parametrize("length", [1, 7, 128, 129, 200, 640])
def test_attention_is_its_formula_and_so_is_its_gradient(length: int, cap: float | None):
    given, causal = parts(length), causally(length)
    expected = with_slope(lambda *given: formula(*given, causal, cap), *given)
    close(with_slope(lambda *given: one_way(*given, cap=cap), *given), expected)
    # A mask for every row, of two segments the first of which sees what is ahead, and one for all rows.
    segments = np.concatenate([np.zeros(AHEAD + length // 3), np.ones(length - length // 3)])
    visible = causal & (segments[AHEAD:, None] == segments)
    expected = with_slope(lambda *given: formula(*given, visible, cap), *given)
    for mask in (jnp.asarray(visible), jnp.asarray(np.repeat(visible, ROWS, 0))):
        close(with_slope(lambda *given, mask=mask: one_way(*given, mask, cap), *given), expected)


TEXTS, SHORT = {0: (0, 1), 1: (2, 3, 4), 2: (6,), 3: (7, 8, 9)}, 3  # rows of each text, positions of a row
WIDTHS = (1, 3)
OWNERS = (2, 0, 2, 1)  # of the texts
WINDOWS = Windows(
    first=(jnp.asarray([6, 0, 5]), jnp.asarray([0, 2, 4, 7])),
    rows=(jnp.asarray([1, 0, 1]), jnp.asarray([2, 3, 0, 3])),
    owner=(jnp.asarray([2, 1, 0]), jnp.asarray([2, 0, 1, 1])),
    widths=WIDTHS,
    together=(1, 2),
    used=jnp.asarray([2, 3]),
)


def in_rows() -> tuple[jax.Array, KeysValues, KeysValues]:
    """Four texts in ten rows, of which one is no text's, and the prompts of three clients."""
    own, ahead = ((normal(n, 10, SHORT, GROUPS), normal(n + 1, 10, SHORT, GROUPS)) for n in (3, 5))
    prompts = tuple(jnp.swapaxes(leaf[:3], 1, 2)[:, :, :2] for leaf in ahead)
    return normal(7, 10, SHORT, HEADS), own, prompts


def in_windows(queries: jax.Array, own: KeysValues, prompts: KeysValues, masks=(None, None), cap=None) -> jax.Array:
    return attend_windows(Texts(queries, *own, (prompts,)), masks, WINDOWS, SCALE, cap)


def text_by_text(queries: jax.Array, own: KeysValues, prompts: KeysValues, mask=None, cap=None) -> jax.Array:
    y = jnp.zeros_like(queries)
    for text, rows in TEXTS.items():

        def flat(leaf: jax.Array, rows=rows) -> jax.Array:
            return jnp.swapaxes(jnp.concatenate([leaf[row] for row in rows])[None], 1, 2)

        mine = tuple(leaf[OWNERS[text]][None] for leaf in prompts)
        length = SHORT * len(rows)
        visible = np.tri(length, 2 + length, 2, dtype=bool)[None]
        visible = visible if mask is None else visible & mask[:, :length, : 2 + length]
        seen = jnp.swapaxes(formula(flat(queries), tuple(map(flat, own)), mine, visible, cap), 1, 2)[0]
        for number, row in enumerate(rows):
            y = y.at[row].set(seen[SHORT * number : SHORT * (number + 1)])
    return y


@pytest.mark.parametrize("kernel", [False, True])
def test_texts_of_several_rows_see_themselves_and_their_owners_prompt(kernel: bool, monkeypatch):
    """The kernel by XLA's way of the same call."""
    monkeypatch.setattr(attention, "fits", lambda *_: kernel)
    given = in_rows()
    close(with_slope(in_windows, *given), with_slope(text_by_text, *given))


def test_texts_of_several_rows_see_what_a_mask_leaves_them():
    given, length = in_rows(), SHORT * WIDTHS[-1]
    near = (np.arange(length)[:, None] + 2 - np.arange(2 + length) < 4)[None]  # a window of 4 positions
    near &= np.tri(length, 2 + length, 2, dtype=bool)[None]
    masks = (jnp.asarray(near[:, :SHORT, : 2 + SHORT]), jnp.asarray(near))
    found = with_slope(lambda *given: in_windows(*given, masks, 1.5), *given)
    close(found, with_slope(lambda *given: text_by_text(*given, near, 1.5), *given))


@pytest.mark.parametrize("kernel", [False, True])
def test_a_text_that_is_not_finite_spoils_none_that_looks_over_it_in_its_window(kernel: bool, monkeypatch):
    """Text 1, of client 0, begins in the last row of text 0's window."""
    monkeypatch.setattr(attention, "fits", lambda *_: kernel)
    queries, own, prompts = in_rows()
    lost = jnp.asarray([row in TEXTS[1] for row in range(10)])

    def spoiled(leaf: jax.Array) -> jax.Array:
        return jnp.where(lost[:, None, None, None], jnp.nan, leaf)

    def of_others(y: jax.Array, dqueries: jax.Array, down: KeysValues, dprompts: KeysValues) -> tuple:
        return jax.tree.map(lambda leaf: leaf[~lost], (y, dqueries, down)), jax.tree.map(
            lambda leaf: leaf[1:], dprompts
        )

    y, slopes = with_slope(in_windows, spoiled(queries), jax.tree.map(spoiled, own), prompts)
    sound, expected = with_slope(in_windows, queries, own, prompts)
    assert np.isnan(y[2]).any()
    jax.tree.map(np.testing.assert_array_equal, of_others(y, *slopes), of_others(sound, *expected))


@pytest.mark.parametrize("kernel", [False, True])
def test_lanes_are_worked_on_as_each_alone(kernel: bool, monkeypatch):
    monkeypatch.setattr(attention, "fits", lambda *_: kernel)
    given = in_rows()
    lanes = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), given)
    each = [jax.tree.map(lambda leaf, lane=lane: leaf[lane], lanes) for lane in (0, 1)]
    alone = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(with_slope(in_windows, *own) for own in each))
    close(jax.vmap(lambda *given: with_slope(in_windows, *given))(*lanes), alone)


@pytest.mark.parametrize(
    ("dtype", "masked", "cap", "kernels"),
    [
        ("bfloat16", False, None, {"cudnn$fmhaSoftmax": 2, "cudnn$fmhaSoftmaxBackward": 1}),
        ("float32", False, None, {}),
        ("bfloat16", True, None, {}),
        ("bfloat16", False, 30.0, {}),
    ],
)
def test_for_a_gpu_attention_is_lowered_to_the_kernel_where_there_is_one(dtype, masked, cap, kernels, monkeypatch):
    """Without a GPU: JAX is told of one, and writes the program of several lanes down for it."""
    monkeypatch.setattr(attention, "_widest_head", lambda: 128)
    for name, told in (("check_cudnn_version", 91_300), ("check_compute_capability", True)):
        monkeypatch.setattr(fused_attention_stablehlo, name, lambda *_, told=told: told)
    monkeypatch.setattr(fused_attention_stablehlo, "is_cuda_compute_capability_equal", lambda _: False)
    given = jax.tree.map(lambda leaf: leaf.astype(dtype), parts(7))
    mask = jnp.asarray(causally(7)) if masked else None

    def of(*given) -> tuple:
        return with_slope(lambda *given: one_way(*given, mask, cap), *given)

    traced = jax.jit(jax.vmap(of)).trace(*jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), given))
    program = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert Counter(re.findall(r"custom_call @__(cudnn\S+?)\(", program)) == kernels


def test_of_the_scores_that_nobody_sees_a_quarter_is_made():
    """5/8 of all scores, by the arithmetic of the compiled program: each costs two products and a softmax."""
    given, causal = parts(512), causally(512)

    def arithmetic(function) -> float:
        counted = jax.jit(function).lower(*given).compile().cost_analysis()
        assert counted is not None
        return counted["flops"]

    ratio = arithmetic(one_way) / arithmetic(lambda *given: formula(*given, causal, None))
    assert 0.5 < ratio < 0.67


def test_keys_and_values_alone_are_those_of_a_whole_pass():
    model, ids = decoder(tiny()), jnp.asarray(np.random.default_rng(0).integers(0, TINY.vocabulary, (3, 40)))
    at, clients = jnp.arange(40)[None], jnp.asarray([2, 0, 1])
    adapters, x = model.read(prompts(3, 4)), model.embed_tokens(ids)
    (whole, known), (before, alone) = (model(x, at, clients, adapters, only_keys_values=only) for only in (False, True))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), alone, known)
    assert np.abs(whole - before).max() > 1e-3, "the last layer's attention and MLP are left out"
