"""Reading weights: one file or many, and every error at once."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import profit_jax as pj
from profit_jax.backbone import Backbone
from profit_jax.errors import InputError
from tests.backbone.families import reference, saved


def edited(folder: Path, change) -> Path:
    file = folder / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)
    return folder


def leaves_equal(left, right) -> bool:
    return jax.tree.all(jax.tree.map(lambda a, b: np.array_equal(a, b), left, right))


def test_sharded_files_equal_one_file(tmp_path):
    model = reference("llama", tie_word_embeddings=False)
    model.save_pretrained(tmp_path / "one")
    model.save_pretrained(tmp_path / "many", max_shard_size="20KB")
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 2
    expected = Backbone.load(tmp_path / "one").frozen
    assert leaves_equal(Backbone.load(tmp_path / "many").frozen, expected)
    (tmp_path / "many" / "model.safetensors.index.json").unlink()
    assert leaves_equal(Backbone.load(tmp_path / "many").frozen, expected)


def test_tree_is_stacked_and_kernels_are_transposed(tmp_path):
    model = reference("llama")
    model.save_pretrained(tmp_path)
    frozen = Backbone.load(tmp_path).frozen
    up = frozen["blocks"]["mlp"]["up"]["kernel"]
    assert up.shape == (3, 32, 48)
    np.testing.assert_array_equal(up[2], model.model.layers[2].mlp.up_proj.weight.detach().numpy().T)
    assert "head" not in frozen


def test_every_mapping_error_is_named_at_once(tmp_path):
    def change(tensors: dict):
        del tensors["model.norm.weight"]
        tensors["model.layers.0.self_attn.q_proj.weight"] = torch.zeros(32, 31)
        tensors["model.layers.1.self_attn.q_proj.bias"] = torch.zeros(32)
        tensors["model.layers.2.mlp.up_proj.weight"] = torch.zeros(48, 32, dtype=torch.int8)

    with pytest.raises(InputError) as error:
        Backbone.load(edited(saved(tmp_path), change))
    message = str(error.value)
    assert "\n" not in message and str(tmp_path) in message
    assert "tensor model.norm.weight [32] is missing" in message
    assert "tensor model.layers.0.self_attn.q_proj.weight has shape [32, 31], not [32, 32]" in message
    assert "tensor model.layers.1.self_attn.q_proj.bias is not part of this model" in message
    assert "tensor model.layers.2.mlp.up_proj.weight has dtype I8" in message


def test_many_mapping_errors_are_counted(tmp_path):
    def change(tensors: dict):
        tensors.update({f"extra.{i}": torch.zeros(1) for i in range(27)})

    with pytest.raises(InputError, match=r"tensor extra\.0 is.*; and 7 more$"):
        Backbone.load(edited(saved(tmp_path), change))


def test_known_extras_are_skipped(tmp_path):
    def change(tensors: dict):
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.zeros(4)
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()

    expected = Backbone.load(saved(tmp_path)).frozen
    assert leaves_equal(Backbone.load(edited(tmp_path, change)).frozen, expected)


def test_causal_masks_beside_gpt_neox_are_skipped(tmp_path):
    def change(tensors: dict):
        tensors["gpt_neox.layers.0.attention.bias"] = torch.ones(1, 1, 8, 8, dtype=torch.bool)
        tensors["gpt_neox.layers.0.attention.masked_bias"] = torch.tensor(-1e9)

    folder = saved(tmp_path, "gpt-neox")
    expected = Backbone.load(folder).frozen
    assert leaves_equal(Backbone.load(edited(folder, change)).frozen, expected)


def test_missing_shard_is_named_with_its_tensors(tmp_path):
    reference("llama").save_pretrained(tmp_path, max_shard_size="20KB")
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    shard = index["weight_map"]["model.norm.weight"]
    (tmp_path / shard).unlink()
    with pytest.raises(InputError, match=rf"file {shard} is missing; .*model\.norm\.weight \[32\] is missing"):
        Backbone.load(tmp_path)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "consolidated.00.pth"])
def test_pickles_are_refused(name, tmp_path):
    (saved(tmp_path) / "model.safetensors").rename(tmp_path / name)
    with pytest.raises(InputError, match=rf"{name} holds pickled weights.*save_pretrained"):
        Backbone.load(tmp_path)


def broken_index(folder: Path, index: object) -> Path:
    (folder / "model.safetensors").rename(folder / "a.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


@pytest.mark.parametrize("index", [{}, {"weight_map": ["a"]}, {"weight_map": {"x": 3}}])
def test_broken_index_is_named(index, tmp_path):
    with pytest.raises(InputError, match=r"index\.json: weight_map must be"):
        Backbone.load(broken_index(saved(tmp_path), index))


def test_index_cannot_leave_the_folder(tmp_path):
    with pytest.raises(InputError, match=r"not the name of a \.safetensors file in this folder"):
        Backbone.load(broken_index(saved(tmp_path), {"weight_map": {"x": "../a.safetensors"}}))


def test_unreadable_and_absent_files_are_named(tmp_path):
    file = saved(tmp_path) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InputError, match=r"model\.safetensors: not a readable safetensors file"):
        Backbone.load(tmp_path)
    file.unlink()
    with pytest.raises(InputError, match=r"no \.safetensors file"):
        Backbone.load(tmp_path)


@pytest.mark.parametrize("kept", [{}, {"dtype": "bfloat16"}, {"quantize": "int8"}, {"mesh": pj.mesh("model:2")}])
@pytest.mark.parametrize("bad", [float("nan"), float("-inf")])
@pytest.mark.parametrize("name", ["model.embed_tokens.weight", "model.layers.1.mlp.up_proj.weight"])
def test_a_tensor_that_is_not_finite_is_named_with_its_file(name, bad, kept, tmp_path):
    reference("llama").save_pretrained(tmp_path, max_shard_size="20KB")
    file = tmp_path / json.loads((tmp_path / "model.safetensors.index.json").read_text())["weight_map"][name]
    tensors = load_file(file)
    tensors[name][3, 5] = bad
    save_file(tensors, file)
    with pytest.raises(InputError) as error:
        Backbone.load(tmp_path, **kept)
    dtype = kept.get("dtype", "float32")
    assert str(error.value) == f"{file}: tensor {name} holds numbers that are not finite in {dtype}"


@pytest.mark.parametrize("bad", ["nan", "-nan", "inf", "-inf"])
def test_a_tensor_of_bfloat16_that_is_not_finite_is_named(bad, tmp_path):
    def change(tensors: dict):
        tensors.update({name: tensor.to(torch.bfloat16) for name, tensor in tensors.items()})
        tensors["model.norm.weight"][3] = float(bad)

    with pytest.raises(InputError, match=r"tensor model\.norm\.weight holds numbers that are not finite"):
        Backbone.load(edited(saved(tmp_path), change))


def test_a_number_too_large_for_the_dtype_it_is_kept_in_is_refused(tmp_path):
    def change(tensors: dict):
        tensors["model.norm.weight"] = torch.full((32,), 3.4e38)  # rounds up

    with pytest.raises(InputError, match=r"tensor model\.norm\.weight holds numbers that are not finite in bfloat16"):
        Backbone.load(edited(saved(tmp_path), change), dtype="bfloat16")
