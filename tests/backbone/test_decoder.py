"""The decoder's mechanisms that no public folder shows: PaLM's blocks, and features that change nothing."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.shapes import SHAPES
from profit_jax import trees
from profit_jax.adapters import lora, soft_prompt
from profit_jax.backbone import Backbone, BackboneConfig, Rope
from profit_jax.backbone.attention import Looks
from profit_jax.backbone.layers import rotation
from profit_jax.errors import InputError
from tests.backbone.families import TINY, block, tiny
from tests.backbone.test_loss import examples, packed

PALM = BackboneConfig(**SHAPES["palm_8b"], norm_epsilon=1e-6, rope=Rope(10_000.0), end_tokens=(2,))
SMALL_PALM = dataclasses.replace(PALM, vocabulary=61, width=32, layers=2, heads=4, head_width=8, mlp_width=48)


def test_palm_has_its_published_number_of_parameters():
    """8.63 billion (Chowdhery et al. 2022, Table 1): by hand, with one norm a block and one at the end."""
    shapes = Backbone.abstract(PALM, dtype="bfloat16").frozen
    attention = 2 * 4096 * 256 * (16 + 1)
    assert trees.count(shapes) == 32 * (attention + 3 * 4096 * 16_384 + 4096) + 4096 * (256_000 + 1)
    assert round(trees.count(shapes) / 1e9, 2) == 8.63


def test_palm_blocks_add_attention_and_mlp_of_the_same_norm():
    layer = block(Backbone.random(SMALL_PALM, seed=1), 1)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 9, 32)), jnp.float32)
    turn = rotation(jnp.tile(jnp.arange(9), (2, 1)), jnp.asarray(SMALL_PALM.rope.frequencies(8)))
    causal = Looks((), (None,))
    read = layer.attention_norm(x)
    np.testing.assert_allclose(read.mean(-1), 0, atol=1e-6)
    np.testing.assert_allclose(read.std(-1), 1, atol=1e-4)
    expected = x + layer.attention(read, turn, causal, {})[0] + layer.mlp(read, {})
    np.testing.assert_allclose(layer(x, turn, causal, {})[0], expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["prompt", "lora"])
def test_palm_trains_an_adapter(kind: str):
    backbone = Backbone.random(SMALL_PALM, remat=True)
    adapter = soft_prompt(backbone, length=4) if kind == "prompt" else lora(backbone, init="gaussian", rank=2)
    rows = packed([e for e in examples() if e.client == 0], 8)
    adapters = jax.tree.map(lambda leaf: leaf[None], adapter)
    gradient = jax.jit(jax.grad(lambda adapters: backbone.loss(backbone.frozen, adapters, rows)[0]))(adapters)
    assert all(np.isfinite(leaf).all() and np.any(leaf != 0) for leaf in jax.tree.leaves(gradient))


def test_windows_as_wide_as_the_text_change_nothing():
    config = dataclasses.replace(TINY, windows=(12, None, 20), local_rope=TINY.rope)
    wide = dataclasses.replace(Backbone.abstract(config), frozen=tiny().frozen)
    ids = np.random.default_rng(0).integers(0, 61, (2, 12))
    np.testing.assert_allclose(wide.logits(ids), tiny().logits(ids), atol=1e-6)
    assert np.abs(wide.logits(np.tile(ids, 2)) - tiny().logits(np.tile(ids, 2))).max() > 1e-3


def test_a_model_without_a_gate_refuses_a_lora_on_it():
    ungated = Backbone.random(dataclasses.replace(TINY, gated=False))
    assert ungated.frozen["blocks"]["mlp"].keys() == {"up", "down"}
    with pytest.raises(InputError, match="this model has no 'gate' for a LoRA"):
        lora(ungated, targets=("up", "gate"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"windows": (8,)}, "1 windows are given for 3 layers"),
        ({"shared_norm": True}, "can share a norm only where they are parallel"),
        ({"rope": Rope(1e4, share=0.1)}, "even head width, not 0"),
    ],
)
def test_decoders_that_cannot_be_are_refused(fields, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(TINY, **fields)
