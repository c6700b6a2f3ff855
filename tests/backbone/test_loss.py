"""The loss of packed rows equals one example at a time, client by client."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from profit_jax.backbone import Backbone
from profit_jax.backbone.config import Rope
from profit_jax.typing import Rows, Windows
from tests.backbone.families import TINY, loras, nothing, prompts, sequence_logits, tiny

CLIENTS, PROMPT = 3, 4
TARGETS = ("q", "k", "v", "o", "gate", "up", "down")


class Example(NamedTuple):
    client: int
    query: list[int]
    target: list[int]


def examples(seed: int = 0) -> list[Example]:
    draw = np.random.default_rng(seed)

    def ids(low: int, high: int) -> list[int]:
        return draw.integers(3, TINY.vocabulary, draw.integers(low, high)).tolist()

    return [Example(client, ids(2, 12), ids(1, 5)) for client in (0, 1, 1, 1, 2, 2) for _ in range(2)]


def packed(chosen: list[Example], width: int) -> Rows:
    """Texts in rows of a width and windows of two; the order of `chosen` decides. Always 70 labels in chunks of 10."""
    needed = [len(e.query) + len(e.target) - 1 for e in chosen]
    each = [-(-n // width) for n in needed]  # rows
    wide = max(each)
    height, widths = sum(each) + wide, (wide // 2, wide) if wide > 1 else (1,)  # the last rows are no text's
    tokens, start, client = np.zeros((height, width), np.int32), np.zeros(height, np.int32), np.zeros(height, np.int32)
    windows = [[(0, 0, 0)] for _ in widths]  # the first of each width holds no text
    labels, first, count = [], 0, np.bincount([e.client for e in chosen], minlength=CLIENTS)
    for e, n, rows in zip(chosen, needed, each):
        tokens[first : first + rows] = np.pad(e.query + e.target[:-1], (0, rows * width - n)).reshape(rows, width)
        start[first : first + rows], client[first : first + rows] = width * np.arange(rows), e.client
        windows[0 if rows <= widths[0] else 1].append((first, rows, e.client))
        at = first * width + len(e.query) - 1
        labels += [(at + i, token, 1 / count[e.client]) for i, token in enumerate(e.target)]
        first += rows
    labels += [(0, 0, 0.0)] * (70 - len(labels))
    fields = zip(*([jnp.asarray(values, jnp.int32) for values in zip(*of)] for of in windows))
    return Rows(
        *map(jnp.asarray, (tokens, start, client)),
        Windows(*map(tuple, fields), widths, (1,) * len(widths)),
        *(jnp.asarray(values).reshape(7, 10) for values in zip(*labels)),
    )


def one_at_a_time(backbone: Backbone, adapters: dict, chosen: list[Example]) -> jax.Array:
    """Equation 1 example by example, in a plain loop over sequences; what follows a target nobody sees."""
    count = np.bincount([e.client for e in chosen], minlength=CLIENTS)
    width = max(len(e.query) + len(e.target) for e in chosen)
    tokens = jnp.asarray([e.query + e.target + [0] * (width - len(e.query) - len(e.target)) for e in chosen])
    owner = jnp.asarray([e.client for e in chosen])

    def scores(inputs: tuple) -> jax.Array:
        own = jax.tree.map(lambda leaf: leaf[inputs[0]], adapters)
        return jax.nn.log_softmax(sequence_logits(backbone.frozen, own, inputs[1])[-width:])

    losses = [jnp.zeros(())] * CLIENTS
    for e, found in zip(chosen, jax.lax.map(scores, (owner, tokens))):
        at = len(e.query) - 1 + np.arange(len(e.target))
        losses[e.client] -= jnp.sum(found[at, np.asarray(e.target)]) / count[e.client]
    return jnp.stack(losses)


def in_float64(tree: dict) -> dict:
    """The same numbers, where `jax.enable_x64` holds."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), tree)


def equal_gradient(found: jax.Array, expected: jax.Array):
    """To float32 rounding, 1e-5 of the client's largest entry: not derived, but above what was seen (6.2e-6 on one
    processor, 4.3e-6 on another, where the bound was 5e-6)."""
    largest = np.abs(expected).max(axis=tuple(range(1, expected.ndim)), keepdims=True)
    np.testing.assert_array_less(np.abs(found - expected) / largest, 1e-5)


ADAPTERS = {
    "prompt": prompts(CLIENTS, PROMPT),
    "lora": loras(CLIENTS, targets=TARGETS),
    "both": {**prompts(CLIENTS, PROMPT), **loras(CLIENTS, targets=("q", "v"))},
}


@functools.partial(jax.jit, static_argnames=("remat", "model"))
def gradient(adapters: dict, rows: Rows, remat: bool = False, model=tiny) -> tuple[dict, jax.Array]:
    loss = dataclasses.replace(model().loss, remat=remat)

    def total(adapters: dict) -> tuple[jax.Array, jax.Array]:
        losses = loss(model().frozen, adapters, rows)
        return jnp.sum(losses), losses

    return jax.grad(total, has_aux=True)(adapters)


@pytest.mark.parametrize("kind", ADAPTERS)
def test_rows_of_texts_equal_one_example_at_a_time(kind):
    adapters, chosen = ADAPTERS[kind], examples()
    found, losses = gradient(adapters, packed(chosen, 8))

    def total(adapters: dict, backbone: Backbone) -> tuple[jax.Array, jax.Array]:
        losses = one_at_a_time(backbone, adapters, chosen)
        return jnp.sum(losses), losses

    with jax.enable_x64(True):  # so that the rounding is that of one side
        backbone = dataclasses.replace(tiny(), frozen=in_float64(tiny().frozen))
        value = functools.partial(total, backbone=backbone)
        expected, expected_losses = jax.jit(jax.grad(value, has_aux=True))(in_float64(adapters))
        expected, expected_losses = jax.device_get((expected, expected_losses))
    assert losses.shape == (CLIENTS,) and np.all(losses > 0.1)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-6)
    jax.tree.map(equal_gradient, found, expected)


def test_layout_changes_nothing():
    chosen, adapters = examples(), ADAPTERS["both"]
    tight, _ = gradient(adapters, packed(chosen, 8))
    others = [gradient(adapters, packed(chosen[::-1], 8))[0]]
    others += [gradient(adapters, packed(chosen, 20))[0]]
    others += [gradient(adapters, packed(chosen, 8), remat=True)[0]]
    alone = [gradient(adapters, packed([e for e in chosen if e.client == c], 8))[0] for c in range(CLIENTS)]
    others += [jax.tree.map(lambda *leaves: sum(leaves), *alone)]
    for other in others:
        jax.tree.map(equal_gradient, tight, other)


@functools.cache
def windowed() -> Backbone:
    """Layers that see 5 positions back, all, and 9, with another rotation where there is a window; capped scores."""
    config = dataclasses.replace(TINY, windows=(5, None, 9), local_rope=Rope(500.0), score_cap=3.0)
    return dataclasses.replace(Backbone.random(config), frozen=tiny().frozen)


@pytest.mark.parametrize("model", [tiny, windowed])
@pytest.mark.parametrize("width", [1, 3, 8])
def test_texts_of_many_rows_are_texts_in_one_row(model, width):
    whole, losses = gradient(ADAPTERS["both"], packed(examples(), 20), model=model)
    found, again = gradient(ADAPTERS["both"], packed(examples(), width), model=model)
    np.testing.assert_allclose(again, losses, rtol=1e-6)
    jax.tree.map(equal_gradient, found, whole)


def test_chunks_that_are_not_in_use_are_not_computed():
    """Labels stand in 7 chunks of 10; of the first two alone, the loss is that of their labels."""
    rows = packed(examples(), 8)
    first = jnp.arange(7)[:, None] < 2
    expected, losses = gradient(ADAPTERS["both"], dataclasses.replace(rows, label_weight=rows.label_weight * first))
    found, counted = gradient(ADAPTERS["both"], dataclasses.replace(rows, chunks=jnp.asarray(2)))
    assert (np.asarray(rows.label_weight)[2:] > 0).any()
    np.testing.assert_array_equal(counted, losses)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_a_client_without_labels_has_no_loss_and_no_gradient():
    rows = packed(examples(), 8)
    mine = rows.client[rows.label_at // 8] == 1
    rows = dataclasses.replace(rows, label_weight=jnp.where(mine, rows.label_weight, 0.0))
    found, losses = gradient(ADAPTERS["both"], rows)
    assert losses[1] > 0 and losses[0] == losses[2] == 0
    for leaf in jax.tree.leaves(found):
        assert np.any(leaf[1] != 0) and np.all(leaf[0] == 0) and np.all(leaf[2] == 0)


def test_a_prompt_of_token_embeddings_equals_the_text():
    backbone = tiny()
    text, query, target = [5, 9, 17, 33], [40, 41, 8], [12, 7]
    adapters = {"prompt": backbone.frozen["embedding"]["embedding"][jnp.asarray(text)][None]}
    soft = packed([Example(0, query, target)], 16)
    hard = packed([Example(0, text + query, target)], 16)
    _, left = gradient(adapters, soft)
    _, right = gradient(nothing(1), hard)
    np.testing.assert_allclose(left, right, rtol=1e-6)


def test_a_lora_with_zero_b_is_the_identity():
    rows = packed(examples(), 8)
    lora = loras(CLIENTS, targets=TARGETS)["lora"]
    zero = {"lora": {name: {"a": f["a"], "b": jnp.zeros_like(f["b"])} for name, f in lora.items()}}
    np.testing.assert_array_equal(gradient(zero, rows)[1], gradient(nothing(CLIENTS), rows)[1])


def test_the_structure_is_static_and_the_weights_are_plain():
    backbone, other = tiny(), Backbone.random(TINY, seed=2)
    assert hash(backbone.graph) == hash(other.graph) and backbone.graph == other.graph
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(backbone.frozen))
    assert not any(isinstance(leaf, nnx.Variable) for leaf in jax.tree.leaves(backbone.frozen))
