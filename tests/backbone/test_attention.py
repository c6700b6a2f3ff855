"""Attention in blocks of queries against the formula, and a pass that ends with the last layer's keys and values."""

import re
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.cudnn import fused_attention_stablehlo

from profit_jax.backbone import attention
from profit_jax.backbone.attention import attend, fused, plain
from tests.backbone.families import TINY, decoder, prompts, tiny

ROWS, HEADS, GROUPS, AHEAD, WIDTH, SCALE = 2, 4, 2, 5, 8, 0.3


def parts(length: int) -> tuple[jax.Array, tuple, np.ndarray]:
    """Queries, keys and values ahead and own, and a causal mask within two segments, the first with what is ahead."""
    draw = np.random.default_rng(length)

    def normal(heads: int, positions: int) -> jax.Array:
        return jnp.asarray(draw.normal(size=(ROWS, heads, positions, WIDTH)), jnp.float32)

    past, own = ((normal(GROUPS, n), normal(GROUPS, n)) for n in (AHEAD, length))
    segments = np.concatenate([np.zeros(AHEAD + length // 3), np.ones(length - length // 3)])
    causal = np.tri(length, AHEAD + length, AHEAD, dtype=bool) & (segments[AHEAD:, None] == segments)
    return normal(HEADS, length), (past, own), np.broadcast_to(causal, (ROWS, *causal.shape))


def formula(queries: jax.Array, parts: tuple, visible: np.ndarray) -> jax.Array:
    """`softmax(scale Q K^T) V`, all keys for every query."""
    keys, values = (jnp.repeat(jnp.concatenate(part, 2), HEADS // GROUPS, axis=1) for part in zip(*parts))
    scores = jnp.where(visible[:, None], SCALE * jnp.einsum("rhte,rhse->rhts", queries, keys), -jnp.inf)
    return jnp.einsum("rhts,rhse->rhte", jax.nn.softmax(scores), values)


@pytest.mark.parametrize("length", [1, 7, 64, 65, 100, 320])
def test_attention_is_its_formula_and_so_is_its_gradient(length: int):
    queries, known, visible = parts(length)

    def of(function, visible):
        y, pull = jax.vjp(lambda queries, known: function(queries, known, visible), queries, known)
        return y, pull(jnp.cos(y))

    found = of(lambda *given: attend(*given, SCALE), visible)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-6, atol=2e-6), found, of(formula, visible))
    once = of(lambda *given: attend(*given, SCALE), visible[:1])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-7), once, found)


def half_visible(span: int) -> tuple[jax.Array, tuple, np.ndarray]:
    """Queries of six positions, what they may look at in rows of a span, and a mask without any order."""
    queries, known, _ = parts(6)
    visible = np.random.default_rng(span).random((ROWS, 6, AHEAD + span * 6)) < 0.5
    visible[..., -1] = True  # a query sees something
    return queries, known, visible


def with_slope(function, queries: jax.Array, known: tuple) -> tuple:
    y, pull = jax.vjp(function, queries, known)
    return y, pull(jnp.cos(y))


@pytest.mark.parametrize("span", [1, 3])
def test_through_the_kernel_attention_and_its_gradient_are_the_same(span: int):
    """The kernel's arguments and axes, by XLA's way of the same call."""
    queries, known, visible = half_visible(span)
    found = with_slope(lambda *given: fused(*given, visible, SCALE, span), queries, known)
    expected = with_slope(lambda *given: plain(*given, visible, SCALE, None, span), queries, known)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-6, atol=2e-6), found, expected)


def test_lanes_go_through_the_kernel_as_rows():
    queries, known, visible = half_visible(2)

    def of(queries: jax.Array) -> tuple:
        return with_slope(lambda *given: fused(*given, visible, SCALE, 2), queries, known)

    lanes = jnp.stack([queries, 2 * queries])
    alone = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(of, lanes))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-6, atol=2e-6), jax.vmap(of)(lanes), alone)


@pytest.mark.parametrize(
    ("dtype", "length", "cap", "kernels"),
    [
        ("bfloat16", 6, None, {"cudnn$fmhaScaleBiasSoftmax": 2, "cudnn$fmhaScaleBiasSoftmaxBackward": 1}),
        ("float32", 6, None, {}),
        ("bfloat16", 7, None, {}),
        ("bfloat16", 6, 30.0, {}),
    ],
)
def test_for_a_gpu_attention_is_lowered_to_the_kernel_where_there_is_one(dtype, length, cap, kernels, monkeypatch):
    """Without a GPU: JAX is told of one, and writes the program of several lanes down for it."""
    monkeypatch.setattr(attention, "_widest_head", lambda: 128)
    for name, told in (("check_cudnn_version", 91_300), ("check_compute_capability", True)):
        monkeypatch.setattr(fused_attention_stablehlo, name, lambda *_, told=told: told)
    monkeypatch.setattr(fused_attention_stablehlo, "is_cuda_compute_capability_equal", lambda _: False)
    queries, known, visible = jax.tree.map(lambda leaf: leaf.astype(dtype), parts(length)[:2]) + parts(length)[2:]

    def of(queries: jax.Array) -> tuple:
        return with_slope(lambda *given: attend(*given, visible, SCALE, cap), queries, known)

    traced = jax.jit(jax.vmap(of)).trace(jnp.stack([queries, queries]))
    program = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert Counter(re.findall(r"custom_call @__(cudnn\S+?)\(", program)) == kernels


def test_of_the_scores_that_nobody_sees_a_quarter_is_made():
    """5/8 of all scores, by the arithmetic of the compiled program: each costs two products and a softmax."""

    def arithmetic(function) -> float:
        queries, known, visible = parts(256)
        counted = jax.jit(function).lower(queries, known, visible).compile().cost_analysis()
        assert counted is not None
        return counted["flops"]

    ratio = arithmetic(lambda *given: attend(*given, SCALE)) / arithmetic(formula)
    assert 0.5 < ratio < 0.67


def test_keys_and_values_alone_are_those_of_a_whole_pass():
    model, ids = decoder(tiny()), jnp.asarray(np.random.default_rng(0).integers(0, TINY.vocabulary, (3, 40)))
    at, causal, clients = jnp.arange(40)[None], jnp.tri(40, dtype=bool)[None], jnp.asarray([2, 0, 1])
    adapters, x = model.read(prompts(3, 4)), model.embed_tokens(ids)
    (whole, known), (before, alone) = (
        model(x, at, causal, clients, adapters, only_keys_values=only) for only in (False, True)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), alone, known)
    assert np.abs(whole - before).max() > 1e-3, "the last layer's attention and MLP are left out"
