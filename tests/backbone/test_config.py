"""What config.json may say."""

import json

import numpy as np
import pytest

from profit_jax.backbone import read_config
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


def written(folder, **fields):
    fields = {name: value for name, value in {**FIELDS, **fields}.items() if value is not ...}
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
        ({"rope_theta": ...}, "rope_theta is missing"),
        ({"rope_scaling": {"type": "yarn", "factor": 2}}, "rope type 'yarn' is not supported"),
        ({"rope_scaling": {"type": "linear"}}, "factor must be a positive float"),
        ({"rope_scaling": "linear"}, "rope_scaling must be an object"),
        ({"model_type": "gpt2"}, "model_type 'gpt2' is not supported"),
        ({"hidden_act": "gelu"}, "hidden_act = 'gelu' is not supported"),
        ({"attention_bias": True}, "attention_bias = True is not supported"),
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


@pytest.mark.parametrize("content", ["", "[1]", "{", "\ufffe"])
def test_broken_json_is_named(content, tmp_path):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match=r"config\.json: "):
        read_config(tmp_path)


def test_a_folder_without_config_is_named(tmp_path):
    with pytest.raises(InputError, match=r"config\.json: no such file"):
        read_config(tmp_path)
