"""Attention in blocks of queries against the formula, and a pass that ends with the last layer's keys and values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from profit_jax.backbone.layers import attend
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
