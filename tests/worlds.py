"""A small world for tests: a random backbone, a tokenizer of letters, clients, and plain loops to compare with."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from profit_jax.backbone import Backbone
from profit_jax.backbone.pretrain import bpe
from profit_jax.backbone.save import save
from profit_jax.data import tiny
from profit_jax.data.cohort import Layout, Plan, Planner
from profit_jax.data.encode import EncodedClients, Encoder
from profit_jax.data.examples import Example, MemoryClients
from profit_jax.data.prepare import prepare
from profit_jax.data.tasks import read_task, task_files
from profit_jax.federated import sampling
from profit_jax.typing import Adapter, Array, Cohort
from tests.backbone.families import TINY

CONFIG = dataclasses.replace(TINY, vocabulary=32, width=16, layers=2, head_width=4, mlp_width=24, end_tokens=(1,))


class Letters:
    """Letters to tokens 3 to 28, a blank to 2; 0 starts a text, 1 ends it."""

    start, end, size = (0,), 1, 32

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        return [
            np.array([" abcdefghijklmnopqrstuvwxyz".find(c) + 2 for c in text if c != "\n"], np.int32) for text in texts
        ]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(" abcdefghijklmnopqrstuvwxyz"[i - 2] if 2 <= i <= 28 else "" for i in ids)


@functools.cache
def backbone() -> Backbone:
    return Backbone.random(CONFIG, seed=0, tokenizer=Letters())


def examples(count: int, seed: int, task: str = "task") -> list[Example]:
    draw = np.random.default_rng(seed)

    def word(low: int, high: int) -> str:
        return "".join(draw.choice(list("abcdefgh "), draw.integers(low, high))) or "a"

    return [Example(f"{task}-{i}", word(2, 14), (word(1, 5),), task, "type") for i in range(count)]


def clients(sizes: Sequence[int] = (7, 5, 9, 6)) -> MemoryClients:
    return MemoryClients([examples(size, seed, f"task{seed}") for seed, size in enumerate(sizes)])


def encoded(data: MemoryClients) -> EncodedClients:
    return EncodedClients(data, Encoder(Letters(), max_query=16, max_target=6))


def prompt(rows: int = 3, seed: int = 5) -> Adapter:
    return {"prompt": jnp.asarray(np.random.default_rng(seed).normal(0, 0.5, (rows, CONFIG.width)), jnp.float32)}


def batches(data: EncodedClients, chosen: Sequence[int], steps: int, batch: int, seed: int = 0):
    """Each client's local steps as the sampling module draws them."""
    return [
        [
            [data.client(c)[i] for i in step]
            for step in sampling.batches(seed, 0, c, len(data.client(c)), steps=steps, batch=batch)
        ]
        for c in chosen
    ]


def plan(chosen: Sequence[int], drawn, weights=None, **layout) -> Plan:
    settings = {"row_width": 8, "positions_per_flight": 4096} | layout
    return Planner(Layout(**settings))(chosen, drawn.__getitem__, weights)


def cohort(data: EncodedClients, chosen: Sequence[int], steps: int = 2, batch: int = 3, **layout) -> Cohort:
    return plan(chosen, batches(data, chosen, steps, batch), **layout).cohort


@functools.partial(jax.jit, static_argnums=0)
def _nll(graph: nnx.GraphDef, frozen, prompt: Array, tokens: Array, labelled: Array) -> Array:
    """Equation 1 for one example, unpacked: the negative log-likelihood of the target after [P, x]."""
    model = nnx.merge(graph, nnx.State(frozen))
    x = jnp.concatenate([prompt, model.embedding(tokens)])[None]
    length = x.shape[1]
    causal = jnp.tri(length, dtype=bool)[None]
    hidden, _ = model(x, jnp.arange(length)[None], jnp.zeros(1, jnp.int32), visible=causal)
    scores = jax.nn.log_softmax(model.logits(hidden)[0, :-1])
    picked = jnp.take_along_axis(scores[prompt.shape[0] - 1 :], tokens[:, None], axis=1)[:, 0]
    return -jnp.sum(jnp.where(labelled, picked, 0))


_gradient = jax.jit(jax.value_and_grad(_nll, argnums=2), static_argnums=0)


def mean_loss_and_gradient(prompt: np.ndarray, batch) -> tuple[float, np.ndarray]:
    """A plain loop over examples: the mean loss of a batch and its gradient, one unpacked example at a time."""
    model, total, gradient = backbone(), 0.0, np.zeros_like(prompt)
    for query, target in batch:
        # Padded on the right to one length, which causal attention hides from the labels.
        tokens = np.zeros(24, np.int32)
        tokens[: len(query) + len(target)] = np.concatenate([query, target])
        labelled = (np.arange(24) >= len(query)) & (np.arange(24) < len(query) + len(target))
        loss, own = _gradient(
            model.graph, model.frozen, jnp.asarray(prompt), jnp.asarray(tokens), jnp.asarray(labelled)
        )
        total, gradient = total + float(loss), gradient + np.asarray(own)
    return total / len(batch), gradient / len(batch)


def prepared(folder: Path) -> Path:
    """A folder with a small prepared corpus, `data`, and a random model for it, `model`."""
    tasks = tiny.write(folder / "corpus", instances=60)
    prepare(tasks.parent, folder / "data", chunk_size=60)
    random_model(folder / "model", tasks)
    return folder


def random_model(folder: Path, tasks: Path) -> None:
    """Writes a Hugging Face folder: a BPE trained on task files, and a 2-layer Llama with random weights."""
    instances = [instance for file in task_files(tasks) for instance in read_task(file).instances]
    tokenizer = bpe([text for instance in instances for text in (instance.input, *instance.output)], 512)
    config = dataclasses.replace(
        CONFIG, vocabulary=tokenizer.size, width=64, head_width=16, mlp_width=128, end_tokens=(tokenizer.end,)
    )
    save(folder, config, jax.device_get(Backbone.random(config).frozen), tokenizer)
