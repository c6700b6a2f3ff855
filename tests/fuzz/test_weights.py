"""config.json, safetensors files and their index."""

import dataclasses
import json
import math
import struct
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import traverse_util
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from profit_jax.backbone import Backbone, BackboneConfig
from profit_jax.backbone.families import FAMILIES, fields_of, read_config
from profit_jax.backbone.save import save
from profit_jax.backbone.weights import load_weights
from profit_jax.errors import InputError
from tests.backbone.families import TINY
from tests.fuzz import faults, law

CONFIG = dataclasses.replace(TINY, layers=2, width=8, heads=2, key_value_heads=1, head_width=4, mlp_width=8)
FIELDS = fields_of(CONFIG)
OTHERS = ("qwen3", "gemma3_text", "gpt_neox", "mistral")  # whose pieces of config.json are not Llama's
DTYPES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F4": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with its weights in one file; beside it one with them in two, and a third that belongs to nobody."""
    root = tmp_path_factory.mktemp("models")
    weights = jax.device_get(Backbone.random(CONFIG).frozen)
    save(root / "one", CONFIG, weights)
    save(root / "other", CONFIG, weights)
    (root / "many").mkdir()
    content = (root / "one" / "model.safetensors").read_bytes()
    names = sorted(header(content)[0].keys() - {"__metadata__"})
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for shard, own in shards.items():
        save_file({name: tensor(content, name) for name in own}, root / "many" / shard)
    index = {"weight_map": {name: shard for shard, own in shards.items() for name in own}}
    (root / "many" / "model.safetensors.index.json").write_text(json.dumps(index))
    (root / "many" / "config.json").write_text(json.dumps(FIELDS))
    return root / "one"


def header(content: bytes) -> tuple[dict[str, Any], bytes]:
    """What a safetensors file says of its tensors, and their bytes."""
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def tensor(content: bytes, name: str) -> np.ndarray:
    """A tensor by the format's own description: https://github.com/huggingface/safetensors#format."""
    fields, data = header(content)
    start, end = fields[name]["data_offsets"]
    kind = {"F64": np.float64, "F32": np.float32, "F16": np.float16}[fields[name]["dtype"]]
    return np.frombuffer(data[start:end], kind).reshape(fields[name]["shape"])


def with_header(fields: bytes, data: bytes) -> bytes:
    return struct.pack("<Q", len(fields)) + fields + data


def loaded(folder: Path) -> dict[str, np.ndarray]:
    """The weights by path."""
    frozen = load_weights(folder, CONFIG, Backbone.abstract(CONFIG).frozen)
    return {path: np.asarray(leaf) for path, leaf in traverse_util.flatten_dict(frozen, sep="/").items()}


@law.cases
@given(st.data())
@pytest.mark.parametrize("family", ["llama", *OTHERS])
def test_config_json(folder: Path, family: str, data: st.DataObject) -> None:
    file = folder / "config.json"
    kinds = {"gemma3_text": {"query_pre_attn_scalar": 4, "sliding_window": 4, "layer_types": ["full_attention"] * 2}}
    own = {"rope_scaling": {"rope_type": "linear", "factor": 2.0}, "sliding_window": None} | kinds.get(family, {})
    neox = {"layer_norm_eps": 1e-5, "rotary_pct": 0.5, "hidden_act": "gelu", "max_window_layers": 1}
    fields = {**FIELDS, **own, **neox, "model_type": family, "final_logit_softcapping": None}
    if family == "gpt_neox":
        del fields["rope_scaling"]
    fault = data.draw(faults.or_no_file(faults.damaged_json(fields)))

    def read() -> BackboneConfig:
        config = read_config(folder)
        Backbone.abstract(config)
        return config

    def right(config: BackboneConfig) -> None:
        said = json.loads(file.read_bytes().decode("utf-8-sig"))
        assert (config.family, config.vocabulary) == (said["model_type"], said["vocab_size"])
        assert (config.width, config.layers) == (said["hidden_size"], said["num_hidden_layers"])
        assert (config.heads, config.mlp_width) == (said["num_attention_heads"], said["intermediate_size"])
        assert all(math.isfinite(number) for number in (config.norm_epsilon, config.rope.theta))
        assert config.family in FAMILIES

    with faults.spoilt(file, fault):
        law.holds(read, folder, [folder], right)


@law.cases
@given(st.data())
def test_a_file_of_weights(folder: Path, data: st.DataObject) -> None:
    file = folder / "model.safetensors"
    fields, tensors = header(file.read_bytes())
    contents = st.one_of(
        faults.damaged(file.read_bytes()),
        faults.damaged_tree(fields).map(lambda tree: with_header(faults.text(tree), tensors)),
        _other_numbers(fields).map(lambda tree: with_header(json.dumps(tree).encode(), tensors)),
        st.sampled_from((2**64 - 1, 2**63, 10**8, 0)).map(
            lambda length: struct.pack("<Q", length) + file.read_bytes()[8:]
        ),
    )
    fault = data.draw(faults.or_no_file(contents))

    def right(found: dict[str, np.ndarray]) -> None:
        """There is no checksum: what bytes in their places say is what the file says."""
        content = file.read_bytes()
        np.testing.assert_array_equal(found["embedding/embedding"], tensor(content, "model.embed_tokens.weight"))
        for layer in range(CONFIG.layers):
            expected = tensor(content, f"model.layers.{layer}.mlp.up_proj.weight").T
            np.testing.assert_array_equal(found["blocks/mlp/up/kernel"][layer], expected)
        assert all(np.isfinite(leaf).all() for leaf in found.values())

    with faults.spoilt(file, fault):
        law.holds(lambda: loaded(folder), folder, [folder], right)


@st.composite
def _other_numbers(draw: st.DrawFn, fields: dict[str, Any]) -> dict[str, Any]:
    """A header in which one tensor has another dtype, shape or place."""
    fields = json.loads(json.dumps(fields))
    one = fields[draw(st.sampled_from(sorted(fields.keys() - {"__metadata__"})))]
    numbers = st.sampled_from((-1, 0, 1, 4, 8, 256, 2**31, 2**62, 2**64))
    match draw(st.sampled_from(sorted(one))):
        case "dtype":
            one["dtype"] = draw(st.sampled_from((*DTYPES, "F128", "float32", "")))
        case field:
            one[field] = draw(st.lists(numbers, max_size=4))
    return fields


@law.cases
@given(st.data())
def test_an_index_of_weights(folder: Path, data: st.DataObject) -> None:
    many = folder.parent / "many"
    file = many / "model.safetensors.index.json"
    whole, index = loaded(many), json.loads(file.read_text())
    shard = st.sampled_from(
        (*faults.NAMES, "../other/model.safetensors", str(folder / "model.safetensors"), "c.safetensors")
    )

    def named(drawn: tuple[str, str]) -> bytes:
        return json.dumps({"weight_map": {**index["weight_map"], drawn[0]: drawn[1]}}).encode()

    places = st.tuples(st.sampled_from(sorted(index["weight_map"])), shard).map(named)
    fault = data.draw(faults.or_no_file(st.one_of(places, faults.damaged_json(index))))
    with faults.spoilt(file, fault):
        law.holds(lambda: loaded(many), many, [many], lambda found: np.testing.assert_equal(found, whole))


@pytest.mark.parametrize("name", ["../other/model.safetensors", "/etc/passwd", "..", "sub/a.safetensors", "a.bin"])
def test_an_index_names_files_of_its_folder_alone(folder: Path, name: str) -> None:
    many, message = folder.parent / "many", r"index\.json: .* is not the name of a \.safetensors file in this folder"
    fault = json.dumps({"weight_map": {"x": name}}).encode()
    with faults.spoilt(many / "model.safetensors.index.json", fault), pytest.raises(InputError, match=message):
        loaded(many)
