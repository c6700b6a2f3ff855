"""Random tiny Llamas for parity with `transformers`, and rows built by hand."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx
from transformers import LlamaConfig, LlamaForCausalLM

from profit_jax.backbone import Backbone, BackboneConfig, Rope
from profit_jax.backbone.decoder import Decoder
from profit_jax.typing import Adapter, Frozen

TINY = BackboneConfig(
    vocabulary=61,
    width=32,
    layers=3,
    heads=4,
    key_value_heads=2,
    head_width=8,
    mlp_width=48,
    norm_epsilon=1e-5,
    rope=Rope(10000.0),
    tied_embeddings=True,
    end_tokens=(2,),
)


def llama(**fields) -> LlamaForCausalLM:
    """A random model of transformers with weights large enough that every part of it matters."""
    base = {
        "vocab_size": 61,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "rope_theta": 10000.0,
        "rms_norm_eps": 1e-5,
        "initializer_range": 0.15,
        "tie_word_embeddings": True,
    }
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**{**base, **fields})).eval()
    for name, weight in model.named_parameters():
        if "norm" in name:  # transformers starts them all at one
            weight.data = 1 + 0.3 * torch.randn_like(weight)
    return model


def saved(folder: Path, **fields) -> Path:
    """The folder of a random model, as `save_pretrained` writes it."""
    llama(**fields).save_pretrained(folder)
    return folder


@functools.cache
def tiny() -> Backbone:
    """A random backbone whose attention is not uniform: every matrix is scaled up."""
    with jax.ensure_compile_time_eval():  # the first caller may be inside jit
        backbone = Backbone.random(TINY, seed=1)
        frozen = jax.tree.map(lambda leaf: leaf * 1.5 if leaf.ndim == 3 else leaf, backbone.frozen)
    return Backbone(TINY, backbone.graph, frozen)


@jax.jit
def sequence_logits(frozen: Frozen, adapter: Adapter, tokens: jax.Array) -> jax.Array:
    """Logits `[K + T, V]` of one sequence, as written in a book: prompt before text, `W + A B` in the place of W."""
    model = decoder(Backbone(TINY, tiny().graph, merged(frozen, adapter.get("lora", {}))))
    x = model.embedding(tokens)
    x = jnp.concatenate([adapter["prompt"], x]) if "prompt" in adapter else x
    length = len(x)
    causal = jnp.tri(length, dtype=bool)[None]
    hidden, _ = model(x[None], jnp.arange(length)[None], causal, jnp.zeros(1, jnp.int32))
    return model.logits(hidden[0])


def merged(frozen: Frozen, lora: dict) -> Frozen:
    """The weights with each low-rank change added."""
    blocks = {**frozen["blocks"], "attention": {**frozen["blocks"]["attention"]}, "mlp": {**frozen["blocks"]["mlp"]}}
    for name, factors in lora.items():
        part = blocks["attention" if name in "qkvo" else "mlp"]
        change = jnp.einsum("ldk,lko->ldo", factors["a"], factors["b"])
        part[name] = {"kernel": part[name]["kernel"] + change}
    return {**frozen, "blocks": blocks}


def decoder(backbone: Backbone) -> Decoder:
    """The callable module."""
    return nnx.merge(backbone.graph, nnx.State(backbone.frozen))


def block(backbone: Backbone, layer: int):
    """One layer of the stack, callable on its own."""
    graph, weights = nnx.split(decoder(backbone).blocks)
    return nnx.merge(graph, jax.tree.map(lambda leaf: leaf[layer], weights))


def prompts(clients: int, rows: int, width: int = TINY.width, seed: int = 0) -> dict:
    """A different random soft prompt for each client."""
    draw = np.random.default_rng(seed)
    return {"prompt": jnp.asarray(draw.normal(0, 0.5, (clients, rows, width)), jnp.float32)}


def loras(clients: int, rank: int = 2, targets: tuple[str, ...] = ("q", "k", "v"), seed: int = 0) -> dict:
    """A different random LoRA for each client."""
    c, draw = TINY, np.random.default_rng(seed)
    kv, heads = c.key_value_heads * c.head_width, c.heads * c.head_width
    shapes = {
        "q": (c.width, heads),
        "k": (c.width, kv),
        "v": (c.width, kv),
        "o": (heads, c.width),
        "gate": (c.width, c.mlp_width),
        "up": (c.width, c.mlp_width),
        "down": (c.mlp_width, c.width),
    }

    def leaf(*shape: int) -> jax.Array:
        return jnp.asarray(draw.normal(0, 0.2, (clients, c.layers, *shape)), jnp.float32)

    return {"lora": {name: {"a": leaf(shapes[name][0], rank), "b": leaf(rank, shapes[name][1])} for name in targets}}
