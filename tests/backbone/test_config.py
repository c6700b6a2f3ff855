"""What config.json may say."""

import json

import numpy as np
import pytest
from transformers import CONFIG_MAPPING

from profit_jax.backbone import Rope, read_config
from profit_jax.errors import InputError

FIELDS = {
    "model_type": "llama",
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "eos_token_id": 2,
}


def written(folder, base=FIELDS, **fields):
    fields = {name: value for name, value in {**base, **fields}.items() if value is not ...}
    (folder / "config.json").write_text(json.dumps(fields))
    return folder


def test_numbers_are_read(tmp_path):
    config = read_config(written(tmp_path))
    assert (config.layers, config.head_width, config.end_tokens, config.tied_embeddings) == (3, 8, (2,), False)
    # By hand: q and o 32 x 32 each, k and v 32 x 16 each, three MLP matrices 32 x 48, three layers.
    assert config.block_parameters == 3 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 48)


def test_old_and_new_rope_fields_agree(tmp_path):
    old = read_config(written(tmp_path, rope_scaling={"type": "linear", "factor": 2.0})).rope
    new = {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}
    assert old == read_config(written(tmp_path, rope_theta=..., rope_parameters=new)).rope
    np.testing.assert_allclose(old.frequencies(4), [0.5, 0.005])


def test_generation_config_names_the_end_tokens(tmp_path):
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [1, 2]}')
    assert read_config(written(tmp_path)).end_tokens == (1, 2)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"vocab_size": ...}, "vocab_size must be a positive int, not None"),
        ({"hidden_size": -1}, "hidden_size must be a positive int"),
        ({"rms_norm_eps": "small"}, "rms_norm_eps must be a positive float"),
        ({"num_hidden_layers": True}, "num_hidden_layers must be a positive int"),
        ({"rope_theta": -1}, "rope_theta must be a positive float"),
        ({"rope_scaling": {"type": "yarn", "factor": 2}}, "rope type 'yarn' is not supported"),
        ({"rope_scaling": {"type": "linear"}}, "factor must be a positive float"),
        ({"rope_scaling": "linear"}, "rope_scaling must be an object"),
        ({"model_type": "gpt2"}, "model_type 'gpt2' is not supported; supported: llama, mistral, qwen2"),
        ({"model_type": ["llama"]}, "model_type ['llama'] is not supported"),
        ({"model_type": "gemma3"}, "it has a vision model too, so give a folder of its text model alone"),
        ({"hidden_act": "relu2"}, "hidden_act = 'relu2' is not supported; supported: 'silu', 'gelu'"),
        ({"attention_bias": 1}, "attention_bias = 1 is not supported; supported: False, True"),
        ({"pretraining_tp": 2}, "pretraining_tp = 2 is not supported; supported: 1"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor) must be 1 for this model_type, not 0.5"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2}}, "rope type 'dynamic' is not supported"),
        ({"rope_scaling": {"type": "linear", "factor": 2, "mscale": 1}}, "rope_scaling.mscale is not supported"),
        (
            {"rope_parameters": {"full_attention": {"rope_theta": 1e4}}},
            "rope_parameters.full_attention is not supported",
        ),
        ({"rope_parameters": {"rope_theta": 1e4}, "rope_scaling": {"type": "linear"}}, "are both given; keep the"),
        ({"quantization_config": {"bits": 4}}, "quantization_config is not supported"),
        ({"num_attention_heads": 5}, "hidden_size 32 is not a multiple of num_attention_heads 5"),
        ({"num_key_value_heads": 3}, "4 query heads do not share 3 key-value heads evenly"),
        ({"head_dim": 7}, "even head width, not 7"),
        ({"eos_token_id": "</s>"}, "eos_token_id must be a token id"),
    ],
)
def test_bad_fields_are_named(fields, message, tmp_path):
    with pytest.raises(InputError) as error:
        read_config(written(tmp_path, **fields))
    assert message in str(error.value) and "\n" not in str(error.value)


# What published folders of each family say, as transformers 4 wrote it, with small numbers.
_SIZES = {"vocab_size": 61, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4}
_SIZES |= {"num_attention_heads": 4, "max_position_embeddings": 2048, "torch_dtype": "bfloat16", "use_cache": True}
_RMS = {**_SIZES, "rms_norm_eps": 1e-6, "num_key_value_heads": 2, "eos_token_id": 2}
_QWEN = {**_RMS, "hidden_act": "silu", "rope_theta": 1e6, "sliding_window": 512, "attention_dropout": 0.0}
_GEMMA = {**_RMS, "head_dim": 16, "attention_bias": False, "rope_theta": 10000.0}
_GEMMA2 = {**_GEMMA, "hidden_activation": "gelu_pytorch_tanh", "query_pre_attn_scalar": 10, "sliding_window": 512}
_CAPS = {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}
_LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 1024}
PUBLISHED = {
    "Llama 1, Alpaca": {
        **_SIZES,
        "model_type": "llama",
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "max_sequence_length": 2048,
        "eos_token_id": 2,
    },
    "Llama 2, Vicuna": {**_RMS, "model_type": "llama", "pretraining_tp": 1, "rope_scaling": None},
    "Vicuna, long": {**_RMS, "model_type": "llama", "rope_scaling": {"factor": 4.0, "type": "linear"}},
    "Llama 3": {
        **_RMS,
        "model_type": "llama",
        "rope_theta": 5e5,
        "rope_scaling": {"rope_type": "llama3", **_LLAMA3},
        "eos_token_id": [3, 4],
        "tie_word_embeddings": True,
    },
    "Mistral": {**_RMS, "model_type": "mistral", "rope_theta": 1e4, "sliding_window": 512},
    "Mistral, later": {**_RMS, "model_type": "mistral", "rope_theta": 1e6, "sliding_window": None},
    "Qwen 2.5": {
        **_QWEN,
        "model_type": "qwen2",
        "use_sliding_window": False,
        "max_window_layers": 4,
        "use_mrope": False,
    },
    "Qwen 2, windows": {**_QWEN, "model_type": "qwen2", "use_sliding_window": True, "max_window_layers": 2},
    "Qwen 3": {
        **_QWEN,
        "model_type": "qwen3",
        "head_dim": 16,
        "attention_bias": False,
        "use_sliding_window": False,
        "sliding_window": None,
        "max_window_layers": 4,
    },
    "Gemma": {**_GEMMA, "model_type": "gemma", "hidden_act": "gelu"},
    "Gemma 2": {**_GEMMA2, **_CAPS, "model_type": "gemma2", "cache_implementation": "hybrid"},
    "Gemma 3": {
        **_GEMMA2,
        **dict.fromkeys(_CAPS),
        "model_type": "gemma3_text",
        "rope_theta": 1e6,
        "rope_local_base_freq": 1e4,
        "sliding_window_pattern": 2,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
    },
    "Pythia": {
        **_SIZES,
        "model_type": "gpt_neox",
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-5,
        "rotary_emb_base": 10000,
        "rotary_pct": 0.25,
        "use_parallel_residual": True,
        "eos_token_id": 0,
    },
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_transformers_4_and_5_write_the_same_model(name, tmp_path):
    """A published file, and what version 5 makes of it: it fills in every field that the published one leaves out."""
    published = PUBLISHED[name]
    rewritten = CONFIG_MAPPING[published["model_type"]].from_dict(published).to_dict()
    assert "rope_parameters" in rewritten and "rope_theta" not in rewritten
    config = read_config(written(tmp_path, published))
    assert config == read_config(written(tmp_path, json.loads(json.dumps(rewritten))))
    assert config.family == published["model_type"] and config.layers == 4


def test_windows_and_rope_are_those_of_their_layer(tmp_path):
    def reach(name):
        return read_config(written(tmp_path, PUBLISHED[name])).reach

    assert [kind.window for kind in reach("Qwen 2, windows")] == [None, None, 512, 512]
    assert [kind.window for kind in reach("Gemma 2")] == [512, None, 512, None]
    near, far = Rope(1e4), Rope(1e6, "linear", factor=8.0)
    assert reach("Gemma 3") == ((512, near), (None, far)) * 2


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("Mistral", {"sliding_window": ...}, "sliding_window is missing; give a number, or null for none"),
        ("Mistral", {"layer_types": ["full_attention"] * 4}, "layer_types = "),
        ("Qwen 2.5", {"layer_types": ["chunked_attention"] * 4}, "layer_types must name 'full_attention' or"),
        ("Qwen 2.5", {"layer_types": ["full_attention"] * 3}, "for each of 4 layers"),
        ("Qwen 2.5", {"layer_types": ["sliding_attention"] * 4}, "but use_sliding_window is off"),
        ("Qwen 2.5", {"use_mrope": True}, "use_mrope = True is not supported"),
        ("Qwen 2, windows", {"sliding_window": None}, "sliding_window must be a positive int, not None"),
        ("Gemma", {"hidden_act": "silu"}, "hidden_act = 'silu' is not supported"),
        ("Gemma", {"use_bidirectional_attention": True}, "use_bidirectional_attention = True is not supported"),
        ("Gemma 2", {"attn_logit_softcapping": ...}, "attn_logit_softcapping is missing"),
        ("Gemma 2", {"query_pre_attn_scalar": 0}, "query_pre_attn_scalar must be a positive int, not 0"),
        ("Gemma 3", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping = 50.0 is not supported"),
        ("Pythia", {"use_parallel_residual": "yes"}, "use_parallel_residual = 'yes' is not supported"),
        ("Pythia", {"rotary_pct": 1.5}, "rotary_pct (or partial_rotary_factor) must be at most 1, not 1.5"),
        ("Pythia", {"rotary_emb_base": "x"}, "rotary_emb_base must be a positive float"),
        ("Pythia", {"num_attention_heads": 5}, "hidden_size 32 is not a multiple of num_attention_heads 5"),
        (
            "Gemma 3",
            {"rope_scaling": None, "rope_parameters": {"rope_theta": 1e6}},
            "rope_parameters must be an object of",
        ),
        ("Pythia", {"rotary_pct": 0.1}, "even head width, not 0"),
    ],
)
def test_bad_fields_of_a_family_are_named(name, fields, message, tmp_path):
    with pytest.raises(InputError) as error:
        read_config(written(tmp_path, PUBLISHED[name], **fields))
    assert "config.json: " in str(error.value) and message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("content", ["", "[1]", "{", "\ufffe"])
def test_broken_json_is_named(content, tmp_path):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match=r"config\.json: "):
        read_config(tmp_path)


def test_a_folder_without_config_is_named(tmp_path):
    with pytest.raises(InputError, match=r"config\.json: no such file"):
        read_config(tmp_path)
