"""Small random models of every family for parity with `transformers`, and rows built by hand."""

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from profit_jax.backbone import Backbone, BackboneConfig, Rope
from profit_jax.backbone.decoder import Decoder
from profit_jax.typing import Adapter, Frozen

if TYPE_CHECKING:
    from transformers import PreTrainedModel

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

# The numbers of every random model of transformers, and by name what it has beside them: its class, and fields of its
# configuration. Windows are far shorter than the texts of the tests, and soft caps low enough to bend.
_NUMBERS = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    "initializer_range": 0.15,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
}
_GROUPED = {"num_key_value_heads": 2, "rms_norm_eps": 1e-5}
_LLAMA = {**_GROUPED, "rope_theta": 10000.0, "tie_word_embeddings": True}
_UNTIED = {**_LLAMA, "tie_word_embeddings": False}
_MIXED = ["full_attention", "sliding_attention", "full_attention"]
_QWEN_WINDOWS = {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}
_GEMMA = {**_GROUPED, "head_dim": 16}
_GEMMA2 = {**_GEMMA, "sliding_window": 8, "query_pre_attn_scalar": 10}
_LLAMA3 = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", _LLAMA),
    "llama: one key-value head": ("Llama", {**_LLAMA, "num_key_value_heads": 1}),
    "llama: untied": ("Llama", {**_UNTIED, "num_key_value_heads": 4}),
    "llama: heads of their own width": ("Llama", {**_LLAMA, "head_dim": 16}),
    "llama: biases": ("Llama", {**_UNTIED, "attention_bias": True, "mlp_bias": True}),
    "llama: long theta": ("Llama", {**_LLAMA, "rope_theta": 1e6}),
    "llama: linear scaling": ("Llama", {**_LLAMA, "rope_parameters": {"rope_type": "linear", "factor": 4.0}}),
    "llama 3": ("Llama", {**_UNTIED, "rope_parameters": {**_LLAMA3, "original_max_position_embeddings": 64}}),
    "mistral": ("Mistral", {**_GROUPED, "sliding_window": 8}),
    "mistral: no window": ("Mistral", {**_GROUPED, "sliding_window": None}),
    "qwen 2": ("Qwen2", {**_GROUPED, "use_sliding_window": False, "sliding_window": 8}),
    "qwen 2: windows from a layer on": ("Qwen2", {**_GROUPED, **_QWEN_WINDOWS, "tie_word_embeddings": True}),
    "qwen 2: windows by layer": ("Qwen2", {**_GROUPED, **_QWEN_WINDOWS, "layer_types": _MIXED}),
    "qwen 3": ("Qwen3", {**_GROUPED, "head_dim": 16, "tie_word_embeddings": True}),
    "gemma": ("Gemma", _GEMMA),
    "gemma 2": ("Gemma2", {**_GEMMA2, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0}),
    "gemma 2: no caps": ("Gemma2", {**_GEMMA2, "attn_logit_softcapping": None, "final_logit_softcapping": None}),
    "gemma 3": ("Gemma3Text", {**_GEMMA2, "sliding_window_pattern": 2}),
    "gpt-neox": ("GPTNeoX", {}),
    "gpt-neox: one after the other": (
        "GPTNeoX",
        {"use_parallel_residual": False, "rotary_pct": 0.5, "attention_bias": False},
    ),
}


def reference(name: str, **fields: Any) -> "PreTrainedModel":
    """A random model of transformers with weights large enough that every part of it matters."""
    import torch  # here, because it takes seconds and most tests need none
    import transformers

    kind, own = FAMILIES[name]
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**{**_NUMBERS, **own, **fields})
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    for parameter, weight in model.named_parameters():
        if weight.ndim == 1:  # transformers starts norms and biases all alike
            gemma = kind.startswith("Gemma")
            at = 1 if "norm" in parameter and not parameter.endswith("bias") and not gemma else 0
            weight.data = at + 0.3 * torch.randn_like(weight)
    return model


def saved(folder: Path, name: str = "llama", **fields: Any) -> Path:
    """The folder of a random model, as `save_pretrained` writes it."""
    reference(name, **fields).save_pretrained(folder)
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
    x = model.embed_tokens(tokens)
    x = jnp.concatenate([adapter["prompt"], x]) if "prompt" in adapter else x
    length = len(x)
    hidden, _ = model(x[None], jnp.arange(length)[None], jnp.zeros(1, jnp.int32))
    return model.logits(hidden[0])


def merged(frozen: Frozen, lora: dict) -> Frozen:
    """The weights with each low-rank change added."""
    blocks = {**frozen["blocks"], "attention": {**frozen["blocks"]["attention"]}, "mlp": {**frozen["blocks"]["mlp"]}}
    for name, factors in lora.items():
        part = blocks["attention" if name in "qkvo" else "mlp"]
        change = jnp.einsum("ldk,lko->ldo", factors["a"], factors["b"])
        part[name] = {**part[name], "kernel": part[name]["kernel"] + change}
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


def nothing(clients: int, config: BackboneConfig = TINY) -> dict:
    """What is read of a soft prompt without rows, which changes nothing."""
    return {"prefix": (jnp.zeros((clients, config.layers, config.key_value_heads, 0, config.head_width)),) * 2}


def loras(
    clients: int,
    rank: int = 2,
    targets: tuple[str, ...] = ("q", "k", "v"),
    seed: int = 0,
    config: BackboneConfig = TINY,
) -> dict:
    """A different random LoRA for each client."""
    c, draw = config, np.random.default_rng(seed)
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
