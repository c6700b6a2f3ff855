"""The loss of packed rows equals one example at a time, client by client."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from profit_jax.backbone import Backbone, Loss
from profit_jax.typing import Rows
from tests.backbone.llamas import TINY, decoder, loras, prompts, tiny

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


def packed(chosen: list[Example], width: int, prompt: int) -> Rows:
    """First fit, a row at a time; the order of `chosen` decides the layout."""
    rows: list[list[Example]] = []

    def used(row: list[Example]) -> int:
        return sum(prompt + len(e.query) + len(e.target) - 1 for e in row)

    for e in chosen:
        needed = used([e])
        fits = [row for row in rows if row[0].client == e.client and used(row) + needed <= width]
        fits[0].append(e) if fits else rows.append([e])
    shape = (len(rows) + 1, width)  # the last row is empty
    tokens, segments, positions, slots = (np.full(shape, fill, np.int32) for fill in (0, 0, 0, -1))
    labels = []
    count = np.bincount([e.client for e in chosen], minlength=CLIENTS)
    for r, row in enumerate(rows):
        start = 0
        for s, e in enumerate(row):
            ids = [0] * prompt + e.query + e.target[:-1]
            at = slice(start, start + len(ids))
            tokens[r, at], segments[r, at], positions[r, at] = ids, s + 1, np.arange(len(ids))
            slots[r, start : start + prompt] = np.arange(prompt)
            first = r * width + start + prompt + len(e.query) - 1
            labels += [(first + i, token, 1 / count[e.client]) for i, token in enumerate(e.target)]
            start += len(ids)
    labels += [(0, 0, 0.0)] * 3
    at, token, weight = zip(*labels)
    client = np.asarray([row[0].client for row in rows] + [0], np.int32)
    return Rows(
        *map(jnp.asarray, (tokens, segments, positions, slots, client)),
        jnp.asarray(at, jnp.int32),
        jnp.asarray(token, jnp.int32),
        jnp.asarray(weight, jnp.float32),
    )


def one_at_a_time(backbone: Backbone, adapters: dict, chosen: list[Example]) -> jax.Array:
    """Equation 1 example by example: prompt, query and target as one sequence, LoRA merged into the weights."""
    losses = [jnp.zeros(())] * CLIENTS
    count = np.bincount([e.client for e in chosen], minlength=CLIENTS)
    for e in chosen:
        own = jax.tree.map(lambda leaf, c=e.client: leaf[c], adapters)
        model = decoder(Backbone(TINY, backbone.graph, merged(backbone.frozen, own.get("lora", {}))))
        x = model.embedding(jnp.asarray([e.query + e.target]))
        x = jnp.concatenate([own["prompt"][None], x], axis=1) if "prompt" in own else x
        length = x.shape[1]
        hidden, _ = model(x, jnp.arange(length)[None], jnp.tri(length, dtype=bool)[None], jnp.zeros(1, jnp.int32))
        scores = jax.nn.log_softmax(model.logits(hidden[0]))[length - len(e.target) - 1 : length - 1]
        losses[e.client] -= jnp.sum(scores[jnp.arange(len(e.target)), jnp.asarray(e.target)]) / count[e.client]
    return jnp.stack(losses)


def merged(frozen: dict, lora: dict) -> dict:
    """`W + A B` in the place of W."""
    blocks = {**frozen["blocks"], "attention": {**frozen["blocks"]["attention"]}, "mlp": {**frozen["blocks"]["mlp"]}}
    for name, factors in lora.items():
        part = blocks["attention" if name in "qkvo" else "mlp"]
        change = jnp.einsum("ldk,lko->ldo", factors["a"], factors["b"])
        part[name] = {"kernel": part[name]["kernel"] + change}
    return {**frozen, "blocks": blocks}


ADAPTERS = {
    "prompt": prompts(CLIENTS, PROMPT),
    "lora": loras(CLIENTS, targets=TARGETS),
    "both": {**prompts(CLIENTS, PROMPT), **loras(CLIENTS, targets=("q", "v"))},
}


@pytest.mark.parametrize("kind", ADAPTERS)
def test_packed_rows_equal_one_example_at_a_time(kind):
    backbone, adapters, chosen = tiny(), ADAPTERS[kind], examples()
    prompt = PROMPT if "prompt" in adapters else 0
    batch = (packed(chosen, 40, prompt),)

    def total(losses):
        return lambda adapters: (jnp.sum(losses(adapters)), losses(adapters))

    packed_grad = jax.jit(jax.grad(total(lambda a: backbone.loss(backbone.frozen, a, batch)), has_aux=True))
    single_grad = jax.grad(total(lambda a: one_at_a_time(backbone, a, chosen)), has_aux=True)
    gradient, losses = packed_grad(adapters)
    expected, expected_losses = jax.jit(single_grad)(adapters)
    assert losses.shape == (CLIENTS,) and np.all(losses > 0.1)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6 * np.abs(b).max() * 10), gradient, expected)


def test_layout_changes_nothing():
    backbone, chosen, adapters = tiny(), examples(), ADAPTERS["both"]
    gradient = jax.jit(jax.grad(lambda a, batch: jnp.sum(backbone.loss(backbone.frozen, a, batch))))
    tight = gradient(adapters, (packed(chosen, 40, PROMPT),))
    reversed_rows = gradient(adapters, (packed(chosen[::-1], 40, PROMPT),))
    wide = gradient(adapters, (packed(chosen, 96, PROMPT),))
    clients = [[e for e in chosen if e.client == c] for c in range(CLIENTS)]
    blocks = gradient(adapters, (packed(clients[0] + clients[2], 40, PROMPT), packed(clients[1], 64, PROMPT)))
    remat = Loss(backbone.graph, remat=True)
    again = jax.jit(jax.grad(lambda a, batch: jnp.sum(remat(backbone.frozen, a, batch))))(
        adapters, (packed(chosen, 40, PROMPT),)
    )
    for other in (reversed_rows, wide, blocks, again):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), tight, other)


def test_a_client_without_labels_has_no_loss_and_no_gradient():
    backbone, chosen, adapters = tiny(), examples(), ADAPTERS["both"]
    rows = packed(chosen, 40, PROMPT)
    mine = rows.client[rows.label_at // 40] == 1
    batch = (rows._replace(label_weight=jnp.where(mine, rows.label_weight, 0.0)),)
    gradient = jax.jit(jax.grad(lambda a: jnp.sum(backbone.loss(backbone.frozen, a, batch))))(adapters)
    losses = backbone.loss(backbone.frozen, adapters, batch)
    assert losses[1] > 0 and losses[0] == losses[2] == 0
    for leaf in jax.tree.leaves(gradient):
        assert np.any(leaf[1] != 0) and np.all(leaf[0] == 0) and np.all(leaf[2] == 0)


def test_a_prompt_of_token_embeddings_equals_the_text():
    backbone = tiny()
    text, query, target = [5, 9, 17, 33], [40, 41, 8], [12, 7]
    adapters = {"prompt": backbone.frozen["embedding"]["embedding"][jnp.asarray(text)][None]}
    soft = packed([Example(0, query, target)], 16, len(text))
    hard = packed([Example(0, text + query, target)], 16, 0)
    left = backbone.loss(backbone.frozen, adapters, (soft,))
    right = backbone.loss(backbone.frozen, prompts(1, 1), (hard,))
    np.testing.assert_allclose(left, right, rtol=1e-6)


def test_a_lora_with_zero_b_is_the_identity():
    backbone, rows = tiny(), packed(examples(), 40, 0)
    lora = loras(CLIENTS, targets=TARGETS)["lora"]
    zero = {"lora": {name: {"a": f["a"], "b": jnp.zeros_like(f["b"])} for name, f in lora.items()}}
    nothing = backbone.loss(backbone.frozen, prompts(CLIENTS, 1), (rows,))
    np.testing.assert_array_equal(backbone.loss(backbone.frozen, zero, (rows,)), nothing)


def test_graph_is_hashable_and_weights_are_plain():
    backbone = tiny()
    assert hash(backbone.loss) == hash(Loss(backbone.graph))
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(backbone.frozen))
    assert not any(isinstance(leaf, nnx.Variable) for leaf in jax.tree.leaves(backbone.frozen))
