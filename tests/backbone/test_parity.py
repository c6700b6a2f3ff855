"""The decoder computes what `transformers` computes, whole and part by part, for every family."""

import functools
import tempfile
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from profit_jax.backbone import Backbone
from profit_jax.backbone.attention import Looks
from profit_jax.backbone.generate import generate_tokens
from profit_jax.backbone.layers import rotate, rotation
from tests.backbone.families import FAMILIES, block, loras, merged, nothing, prompts, reference
from tests.backbone.test_loss import CLIENTS, PROMPT, TARGETS, Example, examples, packed

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# One of each mechanism, for what takes longer than a forward pass.
MECHANISMS = (
    "llama 3",
    "llama: biases",
    "mistral",
    "qwen 2: windows by layer",
    "qwen 3",
    "gemma",
    "gemma 2",
    "gemma 3",
    "gpt-neox",
    "gpt-neox: one after the other",
)


@functools.cache
def loaded(name: str) -> "tuple[PreTrainedModel, Backbone]":
    """The same random model in transformers and, through a folder of many files, here."""
    model = reference(name)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder, max_shard_size="20KB")
        return model, Backbone.load(folder)


def tokens(vocabulary: int, batch: int, length: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, vocabulary, (batch, length))


def reference_logits(model: torch.nn.Module, ids: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    with torch.no_grad():
        return model(torch.tensor(ids), None if mask is None else torch.tensor(mask)).logits.float().numpy()


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_equal_transformers(name: str):
    """Of texts ten times as long as a window and beyond the context before scaling, one of them padded."""
    model, backbone = loaded(name)
    ids, mask = tokens(61, 2, 80), np.ones((2, 80), np.int64)
    mask[1, 50:] = 0
    expected, real = reference_logits(model, ids, mask), mask > 0
    assert expected[real].std() > 0.3  # the comparison says something
    np.testing.assert_allclose(backbone.logits(ids)[real], expected[real], atol=1e-4, rtol=0)


def reference_gradient(model: torch.nn.Module, adapters: dict, chosen: list[Example]) -> tuple[np.ndarray, np.ndarray]:
    """Equation 1 and its gradient with respect to the clients' prompts, one example at a time, by autograd."""
    table, like = model.get_input_embeddings(), next(model.parameters())
    prompt = torch.tensor(np.asarray(adapters["prompt"])).to(like.dtype).requires_grad_()
    losses = torch.zeros(CLIENTS, dtype=like.dtype)
    count = np.bincount([e.client for e in chosen], minlength=CLIENTS)
    for e in chosen:
        text = table(torch.tensor(e.query + e.target[:-1]))
        logits = model(inputs_embeds=torch.cat([prompt[e.client], text])[None]).logits[0, -len(e.target) :]
        nll = torch.nn.functional.cross_entropy(logits, torch.tensor(e.target), reduction="sum")
        losses = losses + torch.nn.functional.one_hot(torch.tensor(e.client), CLIENTS) * nll / count[e.client]
    [gradient] = torch.autograd.grad(losses.sum(), prompt)
    return losses.detach().numpy(), gradient.numpy()


@pytest.mark.parametrize("name", MECHANISMS)
def test_packed_losses_and_prompt_gradients_equal_transformers(name: str):
    """Many texts in a row, each behind a soft prompt, against one text at a time.

    The truth is computed in float64. Our distance from it is float32 rounding, which is at most four times what
    transformers' own float32 shows.
    """
    model, backbone = loaded(name)
    adapters, chosen = prompts(CLIENTS, PROMPT), examples()

    @jax.jit
    def gradient(adapters: dict, rows) -> tuple[jax.Array, jax.Array]:
        def total(adapters: dict) -> tuple[jax.Array, jax.Array]:
            losses = backbone.loss(backbone.frozen, adapters, rows)
            return jnp.sum(losses), losses

        return jax.grad(total, has_aux=True)(adapters)

    found, losses = gradient(adapters, packed(chosen, 40))
    _, rounded = reference_gradient(model, adapters, chosen)
    try:
        true_losses, truth = reference_gradient(model.double(), adapters, chosen)
    finally:
        model.float()
    assert np.abs(truth).max() > 0.01
    np.testing.assert_allclose(losses, true_losses, rtol=1e-5)
    assert np.abs(found["prompt"] - truth).max() < 4 * np.abs(rounded - truth).max()


@pytest.mark.parametrize("name", MECHANISMS)
def test_greedy_tokens_equal_transformers(name: str):
    """Twenty of them with a cache, behind a soft prompt and a text shorter or longer than a window."""
    model, backbone = loaded(name)
    adapters, draw = prompts(2, PROMPT), np.random.default_rng(1)
    queries = [draw.integers(0, 61, length).astype(np.int32) for length in (3, 30)]
    expected = []
    with torch.no_grad():
        for query, prompt in zip(queries, np.asarray(adapters["prompt"])):
            text = model.get_input_embeddings()(torch.tensor(query))
            inputs = torch.cat([torch.tensor(prompt), text])[None]
            mask = torch.ones(inputs.shape[:2], dtype=torch.int64)
            written = model.generate(inputs_embeds=inputs, attention_mask=mask, max_new_tokens=20, do_sample=False)
            expected.append(written[0].tolist())
    found = generate_tokens(backbone.graph, backbone.frozen, adapters, queries, [0, 1], new_tokens=20, end_tokens=(61,))
    assert [ids.tolist() for ids in found] == expected and len({*expected[0], *expected[1]}) > 3


@pytest.mark.parametrize("name", ["gemma 2", "gpt-neox"])
def test_a_lora_is_a_change_of_the_weights(name: str):
    """Each family's matrices go by the same seven names, fewer without a gate, and act as W + A B beside a bias."""
    _, backbone = loaded(name)
    targets = [target for part in ("attention", "mlp") for target in backbone.frozen["blocks"][part]]
    targets = tuple(target for target in targets if "norm" not in target)
    assert {*TARGETS} - {*targets} == ({"gate"} if name == "gpt-neox" else set())
    adapters = loras(1, targets=targets, config=backbone.config)
    rows = packed([e for e in examples() if e.client == 0], 40)
    own = jax.tree.map(lambda leaf: leaf[0], adapters["lora"])
    expected = jax.jit(backbone.loss)(merged(backbone.frozen, own), nothing(1, backbone.config), rows)
    np.testing.assert_allclose(jax.jit(backbone.loss)(backbone.frozen, adapters, rows), expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["gemma", "gpt-neox"])
def test_a_prompt_of_embedded_tokens_equals_the_text(name: str):
    """Soft prompts live where the first block reads, behind the scale of the embeddings."""
    _, backbone = loaded(name)
    text, query, target = [5, 9, 17, 33], [40, 41, 8], [12, 7]
    soft = packed([Example(0, query, target)], 16)
    hard = packed([Example(0, text + query, target)], 16)
    loss = jax.jit(backbone.loss)
    left = loss(backbone.frozen, {"prompt": backbone.embed(jnp.asarray(text))[None]}, soft)
    np.testing.assert_allclose(left, loss(backbone.frozen, nothing(1, backbone.config), hard), rtol=1e-6)


@pytest.mark.parametrize("name", ["llama", "gemma 2"])
def test_bfloat16_weights_are_read_exactly(name: str, tmp_path):
    reference(name).to(torch.bfloat16).save_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    ids = tokens(61, 2, 50)
    expected = reference_logits(model, ids)
    np.testing.assert_allclose(Backbone.load(tmp_path).logits(ids), expected, atol=1e-4, rtol=0)
    half = Backbone.load(tmp_path, dtype="bfloat16")
    assert half.frozen["blocks"]["mlp"]["up"]["kernel"].dtype == jnp.bfloat16
    assert np.abs(half.logits(ids) - expected).mean() < 0.05 * expected.std()


CAUSAL = Looks((), (None,))


def test_parts_equal_transformers(tmp_path):
    model = reference("llama")
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
            "rotary": (rotated, jnp.swapaxes(rotate(x.reshape(2, 20, 4, 8), *turn), 1, 2)),
            "attention": (
                theirs.self_attn(inputs, position_embeddings=angles, attention_mask=mask)[0],
                ours.attention(jnp.asarray(x), turn, CAUSAL, {})[0],
            ),
            "mlp": (theirs.mlp(inputs), ours.mlp(jnp.asarray(x), {})),
            "block": (
                theirs(inputs, position_embeddings=angles, attention_mask=mask),
                ours(jnp.asarray(x), turn, CAUSAL, {})[0],
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
