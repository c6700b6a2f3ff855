"""A backbone as a Hugging Face folder: the inverse of loading."""

import json
from pathlib import Path

import numpy as np
from flax import traverse_util
from safetensors.numpy import save_file

from profit_jax.backbone.config import BackboneConfig, Rope
from profit_jax.backbone.tokenizer import Tokenizer
from profit_jax.backbone.weights import LLAMA
from profit_jax.errors import InputError
from profit_jax.typing import Frozen


def save(folder: str | Path, config: BackboneConfig, frozen: Frozen, tokenizer: Tokenizer | None = None) -> Path:
    """Writes `config.json`, `model.safetensors` and the tokenizer, for transformers and for `Backbone.load`.

    Raises:
      InputError: the folder holds something already.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder} is not empty; a model is written to a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for path, leaf in traverse_util.flatten_dict(frozen, sep="/").items():
        stacked = "{}" in LLAMA[path]
        for layer, value in enumerate(np.asarray(leaf) if stacked else [np.asarray(leaf)]):
            tensors[LLAMA[path].format(layer)] = np.ascontiguousarray(value.T if path.endswith("kernel") else value)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    dtype = str(frozen["embedding"]["embedding"].dtype)
    (folder / "config.json").write_text(json.dumps(_fields(config, dtype), indent=2) + "\n", encoding="utf-8")
    if tokenizer is not None:
        tokenizer.inner.save_pretrained(folder)
    return folder


def _fields(config: BackboneConfig, dtype: str) -> dict:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": config.vocabulary,
        "hidden_size": config.width,
        "intermediate_size": config.mlp_width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.key_value_heads,
        "head_dim": config.head_width,
        "hidden_act": "silu",
        "rms_norm_eps": config.norm_epsilon,
        "tie_word_embeddings": config.tied_embeddings,
        "eos_token_id": list(config.end_tokens),
        "torch_dtype": dtype,
        **_rope(config.rope),
    }


def _rope(rope: Rope) -> dict:
    scaling = {"rope_type": rope.kind}
    if rope.kind != "default":
        scaling["factor"] = rope.factor
    if rope.kind == "llama3":
        scaling["low_freq_factor"] = rope.low_frequency_factor
        scaling["high_freq_factor"] = rope.high_frequency_factor
        scaling["original_max_position_embeddings"] = rope.original_positions
    return {"rope_theta": rope.theta, "rope_scaling": None if rope.kind == "default" else scaling}
