"""Families of published models: what their `config.json` says, and what their tensors are called.

A family is data for the one decoder: the pieces of its config.json (`fields`), and a table from paths in the decoder's
tree to names of tensors.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from profit_jax.backbone import fields
from profit_jax.backbone.config import BackboneConfig
from profit_jax.backbone.fields import Fields, Piece
from profit_jax.errors import InputError
from profit_jax.files import read_object


class Third(NamedTuple):
    """Query, key or value (0, 1, 2) of a tensor that holds all three, head by head: `[H 3 E, ...]`."""

    tensor: str
    index: int


# Path in the decoder's tree -> name in the checkpoint. `{}` is the layer; leaves of `blocks` stack all layers. Every
# `kernel` is transposed on the way. A table may name more than one model has: biases, say.
Names = Mapping[str, str | Third]

_LAYER = "model.layers.{}."
_PROJECTIONS = {
    **{f"attention/{target}": f"self_attn.{target}_proj" for target in "qkvo"},
    **{f"mlp/{target}": f"mlp.{target}_proj" for target in ("gate", "up", "down")},
}
LLAMA: Names = {
    "embedding/embedding": "model.embed_tokens.weight",
    "blocks/attention_norm/scale": _LAYER + "input_layernorm.weight",
    **{f"blocks/{path}/kernel": f"{_LAYER}{name}.weight" for path, name in _PROJECTIONS.items()},
    **{f"blocks/{path}/bias": f"{_LAYER}{name}.bias" for path, name in _PROJECTIONS.items()},
    "blocks/attention/q_norm/scale": _LAYER + "self_attn.q_norm.weight",
    "blocks/attention/k_norm/scale": _LAYER + "self_attn.k_norm.weight",
    "blocks/mlp_norm/scale": _LAYER + "post_attention_layernorm.weight",
    "norm/scale": "model.norm.weight",
    "head/kernel": "lm_head.weight",
}

# Gemma 2 put norms behind attention and MLP too, and gave the name of one that was there to another.
GEMMA2: Names = {
    **LLAMA,
    "blocks/attention_out_norm/scale": _LAYER + "post_attention_layernorm.weight",
    "blocks/mlp_norm/scale": _LAYER + "pre_feedforward_layernorm.weight",
    "blocks/mlp_out_norm/scale": _LAYER + "post_feedforward_layernorm.weight",
}

_NEOX_LAYER = "gpt_neox.layers.{}."
_NEOX_PARTS = {
    "attention_norm": "input_layernorm",
    "attention/o": "attention.dense",
    "mlp_norm": "post_attention_layernorm",
    "mlp/up": "mlp.dense_h_to_4h",
    "mlp/down": "mlp.dense_4h_to_h",
}
GPT_NEOX: Names = {
    "embedding/embedding": "gpt_neox.embed_in.weight",
    **{
        f"blocks/{path}/{leaf}": f"{_NEOX_LAYER}{name}.{'bias' if leaf == 'bias' else 'weight'}"
        for path, name in _NEOX_PARTS.items()
        for leaf in (("scale", "bias") if path.endswith("norm") else ("kernel", "bias"))
    },
    **{
        f"blocks/attention/{target}/{leaf}": Third(f"{_NEOX_LAYER}attention.query_key_value.{theirs}", index)
        for index, target in enumerate("qkv")
        for leaf, theirs in (("kernel", "weight"), ("bias", "bias"))
    },
    "norm/scale": "gpt_neox.final_layer_norm.weight",
    "norm/bias": "gpt_neox.final_layer_norm.bias",
    "head/kernel": "embed_out.weight",
}


_SHARED = (
    fields.number("vocab_size", "vocabulary"),
    fields.number("hidden_size", "width"),
    fields.LAYERS,
    fields.number("intermediate_size", "mlp_width"),
    fields.END_TOKENS,
)


@dataclasses.dataclass(frozen=True)
class Family:
    """A family of models."""

    architecture: str  # its class in transformers
    names: Names
    own: tuple[Piece, ...]  # of config.json, beside what all families share

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """All that config.json says."""
        return _SHARED + self.own


_TANH = "gelu_pytorch_tanh"
_ACTIVATIONS = {"silu": "silu", "gelu": "gelu", _TANH: "gelu_tanh", "gelu_new": "gelu_tanh", "gelu_fast": "gelu_tanh"}
_RMS = fields.number("rms_norm_eps", "norm_epsilon", float)
_LLAMA_LIKE = (_RMS, fields.HEADS, fields.activation("hidden_act", _ACTIVATIONS, "silu"))
_UNTIED = fields.flag("tie_word_embeddings", "tied_embeddings", absent=False)
_QWEN_WINDOWS = fields.windows(lambda f, layer: layer >= f.count("max_window_layers"), switch="use_sliding_window")
_GEMMA_LIKE = (
    _RMS,
    fields.HEADS,
    fields.flag("tie_word_embeddings", "tied_embeddings", absent=True),
    fields.biases(attention_bias=(False, ("q", "k", "v", "o"))),
    fields.always(norm_offset=1.0),
    fields.ROOT_OF_WIDTH,
    fields.only("use_bidirectional_attention", False),
)
_GEMMA2_LIKE = (
    *_GEMMA_LIKE,
    fields.activation("hidden_activation", _ACTIVATIONS, _TANH),
    fields.always(out_norms=True),
    fields.number("query_pre_attn_scalar", "query_scalar"),
)

# By model_type.
FAMILIES: Mapping[str, Family] = {
    # Llama 1 to 3, Alpaca, Vicuna, TinyLlama, SmolLM2.
    "llama": Family(
        "LlamaForCausalLM",
        LLAMA,
        (
            *_LLAMA_LIKE,
            _UNTIED,
            fields.rope(),
            fields.biases(
                attention_bias=(False, ("q", "k", "v", "o")),
                mlp_bias=(False, ("gate", "up", "down")),
            ),
            fields.only("pretraining_tp", 1),
        ),
    ),
    "mistral": Family(
        "MistralForCausalLM",
        LLAMA,
        (*_LLAMA_LIKE, _UNTIED, fields.rope(), fields.WINDOW, fields.only("layer_types")),
    ),
    # Qwen 2 and 2.5.
    "qwen2": Family(
        "Qwen2ForCausalLM",
        LLAMA,
        (
            *_LLAMA_LIKE,
            _UNTIED,
            fields.rope(),
            fields.biases("q", "k", "v"),
            _QWEN_WINDOWS,
            fields.only("use_mrope", False),
        ),
    ),
    "qwen3": Family(
        "Qwen3ForCausalLM",
        LLAMA,
        (
            *_LLAMA_LIKE,
            _UNTIED,
            fields.rope(),
            fields.biases(attention_bias=(False, ("q", "k", "v", "o"))),
            fields.always(query_key_norms=True),
            _QWEN_WINDOWS,
        ),
    ),
    "gemma": Family(
        "GemmaForCausalLM",
        LLAMA,
        (
            *_GEMMA_LIKE,
            fields.rope(),
            # Old folders say "gelu" and mean its approximation.
            fields.activation("hidden_act", {_TANH: "gelu_tanh", "gelu": "gelu_tanh"}, _TANH),
            fields.only("hidden_activation", _TANH),
        ),
    ),
    "gemma2": Family(
        "Gemma2ForCausalLM",
        GEMMA2,
        (
            *_GEMMA2_LIKE,
            fields.rope(),
            fields.windows(lambda f, layer: layer % 2 == 0),
            fields.nullable("attn_logit_softcapping", "score_cap", float),
            fields.nullable("final_logit_softcapping", "logit_cap", float),
        ),
    ),
    "gemma3_text": Family(
        "Gemma3ForCausalLM",
        GEMMA2,
        (
            *_GEMMA2_LIKE,
            fields.rope(absent=1e6, local=("rope_local_base_freq", 10_000.0)),
            fields.always(query_key_norms=True),
            fields.windows(lambda f, layer: (layer + 1) % f.number("sliding_window_pattern", absent=6) > 0),
            fields.only("attn_logit_softcapping"),  # transformers reads it and does not use it
            fields.nullable("final_logit_softcapping", "logit_cap", float),
        ),
    ),
    # GPT-NeoX and Pythia.
    "gpt_neox": Family(
        "GPTNeoXForCausalLM",
        GPT_NEOX,
        (
            fields.number("layer_norm_eps", "norm_epsilon", float),
            fields.EQUAL_HEADS,
            fields.activation("hidden_act", _ACTIVATIONS, "gelu"),
            _UNTIED,
            fields.rope(theta="rotary_emb_base", share=("rotary_pct", 0.25)),
            fields.biases("norm", "up", "down", attention_bias=(True, ("q", "k", "v", "o"))),
            fields.always(norm="layer", gated=False),
            fields.flag("use_parallel_residual", "parallel", absent=True),
        ),
    ),
}

# What else a person may hold, and what to do with it.
_ADVICE = {
    "gemma3": "; it has a vision model too, so give a folder of its text model alone (gemma3_text)",
}


def read_config(folder: Path) -> BackboneConfig:
    """Reads `config.json` (and `generation_config.json`, if there, for the tokens that end a text).

    Fields that say nothing about what a model computes are not looked at, and neither is dropout: a frozen backbone
    has none.

    Raises:
      InputError: names the field that is missing, malformed, or asks for what the decoder does not do.
    """
    file = Path(folder) / "config.json"
    config = read_object(file, "a model is a Hugging Face folder with a config.json")
    generation = file.with_name("generation_config.json")
    ends = (read_object(generation) if generation.exists() else {}).get("eos_token_id", config.get("eos_token_id"))
    return parse(file, {**config, "eos_token_id": ends})


def parse(file: Path, config: Mapping[str, Any]) -> BackboneConfig:
    """The decoder that the fields of a config.json describe; errors name `file`."""
    kind = config.get("model_type")
    if kind not in list(FAMILIES):
        advice = _ADVICE.get(str(kind), "")
        raise InputError(f"{file}: model_type {kind!r} is not supported; supported: {', '.join(FAMILIES)}{advice}")
    if config.get("quantization_config"):
        raise InputError(f"{file}: quantization_config is not supported; give the unquantized weights")
    said = Fields(file, config)
    ours = {name: value for piece in FAMILIES[kind].pieces for name, value in piece.read(said).items()}
    try:
        return BackboneConfig(**ours, family=kind)
    except InputError as error:
        raise InputError(f"{file}: {error}") from None


def fields_of(config: BackboneConfig) -> dict[str, Any]:
    """The inverse of `parse`: what config.json says about a decoder, as transformers 4 wrote it and 5 reads it.

    Raises:
      InputError: the family has no such models.
    """
    if config.family not in FAMILIES:
        raise InputError(f"models of the family {config.family!r} have no Hugging Face folder")
    family = FAMILIES[config.family]
    said = {name: value for piece in family.pieces for name, value in piece.write(config).items()}
    said = {"architectures": [family.architecture], "model_type": config.family, **said}
    understood = parse(Path("config.json"), said)
    if wrong := [name for name, value in vars(config).items() if value != getattr(understood, name)]:
        raise InputError(f"a {config.family} folder cannot say {wrong[0]} = {getattr(config, wrong[0])!r}")
    return said
