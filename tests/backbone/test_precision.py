"""Weights in fewer bits: an int8 model is a float model with other weights, and adapters train in float32 on any."""

import dataclasses
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import traverse_util

import perfit_jax as pf
from profit_jax.adapters import lora
from profit_jax.backbone import Backbone
from profit_jax.backbone.generate import generate_tokens
from profit_jax.backbone.save import save
from profit_jax.errors import InputError
from profit_jax.federated import fed_avg
from profit_jax.federated.algorithm import State, Stats
from tests import worlds
from tests.backbone.families import TINY, loras, prompts, reference
from tests.backbone.test_loss import CLIENTS, PROMPT, TARGETS, examples, packed
from tests.perfit import plain

SETTINGS = {"bfloat16": {"dtype": "bfloat16"}, "int8 in bfloat16": {"dtype": "bfloat16", "quantize": "int8"}}


def stepped(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whole steps and the step of each output channel of `[out, in]`, 127 steps to the channel's largest magnitude."""
    step = np.abs(weight).max(axis=1) / np.float32(127)
    return np.rint(weight / np.where(step == 0, 1, step)[:, None]), step


@pytest.mark.parametrize("name", ["llama", "llama: untied", "llama: biases", "gpt-neox"])
def test_an_int8_model_equals_transformers_with_the_rounded_weights(name, tmp_path):
    model, ids = reference(name), np.random.default_rng(0).integers(0, 61, (2, 40))
    table = model.get_input_embeddings().weight
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            module.weight.data[3] = 0  # a channel without weights
    model.save_pretrained(tmp_path)
    backbone, before = Backbone.load(tmp_path, quantize="int8"), Backbone.load(tmp_path)
    for module in model.modules():
        if isinstance(module, torch.nn.Linear) and module.weight is not table:
            values, step = stepped(module.weight.detach().numpy())
            module.weight.data = torch.tensor(values * step[:, None])
    with torch.no_grad():
        expected = model(torch.tensor(ids)).logits.numpy()
    np.testing.assert_allclose(backbone.logits(ids), expected, atol=1e-4, rtol=0)
    assert np.abs(before.logits(ids) - expected).max() > 1e-3
    values, step = stepped(np.asarray(before.frozen["blocks"]["mlp"]["up"]["kernel"][2]).T)
    np.testing.assert_array_equal(backbone.frozen["blocks"]["mlp"]["up"]["kernel"][2], values.T)
    np.testing.assert_allclose(backbone.frozen["blocks"]["mlp"]["up"]["scale"][2], step, rtol=1e-6)


def test_matrices_alone_are_int8():
    kinds = {
        path: str(leaf.dtype)
        for path, leaf in traverse_util.flatten_dict(
            Backbone.random(dataclasses.replace(TINY, tied_embeddings=False), quantize="int8").frozen, sep="/"
        ).items()
    }
    assert {path for path, kind in kinds.items() if kind == "int8"} == {p for p in kinds if p.endswith("kernel")}
    assert kinds["head/kernel"] == "int8" and kinds["embedding/embedding"] == "float32"


@functools.cache
def rounded() -> tuple[Backbone, Backbone]:
    """An int8 backbone, and the float32 one with its weights."""
    backbone = Backbone.random(TINY, seed=1, quantize="int8")
    leaves = traverse_util.flatten_dict(backbone.frozen, sep="/")
    for path, leaf in [*leaves.items()]:
        if leaf.dtype == jnp.int8:
            scale = leaves.pop(path.replace("kernel", "scale"))
            leaves[path] = leaf * scale[:, None]
    return backbone, dataclasses.replace(Backbone.random(TINY), frozen=traverse_util.unflatten_dict(leaves, sep="/"))


@pytest.mark.parametrize("remat", [False, True])
def test_gradients_of_adapters_are_those_of_the_rounded_weights(remat):
    adapters = {**prompts(CLIENTS, PROMPT), **loras(CLIENTS, targets=TARGETS)}
    rows = packed(examples(), 40)

    def gradient(backbone: Backbone) -> tuple[dict, jax.Array]:
        loss = dataclasses.replace(backbone.loss, remat=remat)

        def total(adapters: dict) -> tuple[jax.Array, jax.Array]:
            losses = loss(backbone.frozen, adapters, rows)
            return jnp.sum(losses), losses

        return jax.jit(jax.grad(total, has_aux=True))(adapters)

    (found, losses), (expected, expected_losses) = map(gradient, rounded())
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-5)
    for left, right in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
        np.testing.assert_allclose(left, right, atol=1e-5 * np.abs(right).max(), rtol=0)


def test_greedy_tokens_are_those_of_the_rounded_weights():
    queries = [np.arange(3, 3 + length, dtype=np.int32) for length in (4, 11)]
    int8, floats = (
        generate_tokens(b.graph, b.frozen, prompts(2, PROMPT), queries, [0, 1], new_tokens=12, end_tokens=(61,))
        for b in rounded()
    )
    assert [ids.tolist() for ids in int8] == [ids.tolist() for ids in floats]


def tuned(folder: Path, kind: str, **settings: str) -> tuple[State, list[float]]:
    """The state after three rounds of FedAvg(Adam) on the same cohort, and the loss of each."""
    backbone = Backbone.load(folder, **settings)
    adapter = worlds.prompt() if kind == "prompt" else lora(backbone, rank=2, init="gaussian")
    algorithm = fed_avg(backbone.loss, client_optimizer=optax.adam(0.03), server_optimizer=optax.adam(0.03))
    data = worlds.encoded(worlds.clients())
    cohort = worlds.cohort(data, [2, 0, 3])
    state, losses = algorithm.init(adapter), []
    for _ in range(3):
        state, stats = algorithm.round(state, cohort)
        losses.append(mean(stats))
    return state, losses


def mean(stats: Stats) -> float:
    """The loss of a round."""
    assert stats.loss.total.dtype == np.float32
    return float(stats.loss.value)


@pytest.mark.parametrize("kind", ["prompt", "lora"])
def test_adapters_train_in_float32_on_weights_of_few_bits(kind, tmp_path):
    folder = save(tmp_path / "model", worlds.CONFIG, jax.device_get(worlds.backbone().frozen))
    _, expected = tuned(folder, kind)
    for name, settings in SETTINGS.items():
        state, losses = tuned(folder, kind, **settings)
        for leaf in jax.tree.leaves(state):
            assert leaf.dtype in (jnp.float32, jnp.int32), name
        np.testing.assert_allclose(losses, expected, rtol=0.02, err_msg=name)
        assert losses[-1] < losses[0]


def test_perfit_prunes_and_tunes_on_an_int8_backbone():
    backbone = Backbone.random(worlds.CONFIG, tokenizer=worlds.Letters(), quantize="int8")
    clients = worlds.clients()
    masks = pf.search(
        backbone,
        clients,
        sparsity=0.5,
        rank=2,
        epochs=1,
        batch_size=3,
        encoder=plain.encoder(),
        layout=plain.layout(),
        progress=False,
    )
    method = pf.perfit(backbone.loss, masks, client_optimizer=optax.sgd(0.3))
    cohort = worlds.cohort(worlds.encoded(clients), [2, 0, 3])
    state, first = method.round(method.init(masks.adapter), cohort)
    _, second = method.round(state, cohort)
    assert mean(second) < mean(first)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dtype": "int8"}, "unknown dtype 'int8'; known: float32, bfloat16"),
        ({"quantize": "int4"}, "unknown quantize 'int4'; known: int8, or nothing"),
    ],
)
def test_unknown_precisions_are_named(settings, message):
    with pytest.raises(InputError, match=message):
        Backbone.load("tiny", **settings)


def test_int8_weights_are_not_saved(tmp_path):
    with pytest.raises(InputError, match="int8 weights are not saved"):
        save(tmp_path / "new", TINY, jax.device_get(rounded()[0].frozen))
