"""The decoder computes what `transformers` computes, whole and part by part."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from profit_jax.backbone import Backbone
from profit_jax.backbone.generate import generate_tokens
from profit_jax.backbone.layers import rotate, rotation
from tests.backbone.llamas import block, llama

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
VARIANTS = {
    "grouped heads, tied": {},
    "one key-value head": {"num_key_value_heads": 1},
    "no grouping, untied": {"num_key_value_heads": 4, "tie_word_embeddings": False},
    "head width of its own": {"head_dim": 16},
    "long theta": {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
    "linear scaling": {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}},
    "llama3 scaling": {"rope_parameters": LLAMA3},
}


def tokens(vocabulary: int, batch: int, length: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, vocabulary, (batch, length))


def reference_logits(model: torch.nn.Module, ids: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return model(torch.tensor(ids)).logits.float().numpy()


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_equal_transformers(variant: str, tmp_path):
    model = llama(**VARIANTS[variant])
    model.save_pretrained(tmp_path)
    ids = tokens(61, 2, 300)  # far beyond the original context of the llama3 variant
    expected = reference_logits(model, ids)
    assert expected.std() > 0.3  # the comparison says something
    np.testing.assert_allclose(Backbone.load(tmp_path).logits(ids), expected, atol=1e-4, rtol=0)


def test_bfloat16_weights_are_read_exactly(tmp_path):
    llama().to(torch.bfloat16).save_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    ids = tokens(61, 2, 50)
    expected = reference_logits(model, ids)
    np.testing.assert_allclose(Backbone.load(tmp_path).logits(ids), expected, atol=1e-4, rtol=0)
    half = Backbone.load(tmp_path, dtype="bfloat16")
    assert half.frozen["blocks"]["mlp"]["up"]["kernel"].dtype == jnp.bfloat16
    assert np.abs(half.logits(ids) - expected).mean() < 0.05 * expected.std()


def test_parts_equal_transformers(tmp_path):
    model = llama()
    model.save_pretrained(tmp_path)
    theirs, ours = model.model.layers[1], block(Backbone.load(tmp_path), 1)
    x = np.random.default_rng(0).normal(size=(2, 20, 32)).astype(np.float32)
    positions = np.tile(np.arange(100, 120), (2, 1))
    visible = np.tile(np.tri(20, dtype=bool), (2, 1, 1))
    config = Backbone.load(tmp_path).config
    turn = rotation(jnp.asarray(positions), jnp.asarray(config.rope.frequencies(config.head_width)))
    with torch.no_grad():
        inputs = torch.tensor(x)
        angles = model.model.rotary_emb(inputs, torch.tensor(positions))
        heads = inputs.reshape(2, 20, 4, 8)
        rotated = apply_rotary_pos_emb(heads.transpose(1, 2), heads.transpose(1, 2), *angles)[0]
        mask = torch.where(torch.tensor(visible[:, None]), 0.0, -torch.inf)
        pairs = {
            "norm": (theirs.input_layernorm(inputs), ours.attention_norm(x)),
            "rotary": (rotated, rotate(jnp.swapaxes(x.reshape(2, 20, 4, 8), 1, 2), *turn)),
            "attention": (
                theirs.self_attn(inputs, position_embeddings=angles, attention_mask=mask)[0],
                ours.attention(jnp.asarray(x), turn, visible, {})[0],
            ),
            "mlp": (theirs.mlp(inputs), ours.mlp(jnp.asarray(x), {})),
            "block": (
                theirs(inputs, position_embeddings=angles, attention_mask=mask),
                ours(jnp.asarray(x), turn, visible, {})[0],
            ),
        }
    for name, (expected, found) in pairs.items():
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-5, rtol=1e-5, err_msg=name)


@pytest.mark.real_data
def test_trained_model_equals_transformers(stories):
    model, backbone = AutoModelForCausalLM.from_pretrained(stories).eval(), Backbone.load(stories)
    ids = tokens(512, 2, 512)
    np.testing.assert_allclose(backbone.logits(ids), reference_logits(model, ids), atol=1e-4, rtol=0)
    [story] = backbone.tokenizer.encode(["Once upon a time"])
    query = np.asarray([*backbone.tokenizer.start, *story])
    with torch.no_grad():
        expected = model.generate(torch.tensor(query[None]), max_new_tokens=200, do_sample=False)[0, len(query) :]
    [found] = generate_tokens(
        backbone.graph, backbone.frozen, {}, [query], [0], new_tokens=200, end_tokens=backbone.end_tokens
    )
    assert found.tolist() == expected.tolist() and len(found) == 200
