"""Where the backbone's weights lie on a mesh, and that they compute there what they compute on one device."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import traverse_util

from configs.bench import SHAPES
from profit_jax.backbone import Backbone, BackboneConfig
from profit_jax.federated.mesh import mesh
from tests.backbone.families import TINY, saved

PALM = {name: value for name, value in SHAPES["palm_8b"].items() if name in ("norm", "parallel", "shared_norm")}
CONFIGS = {
    "all divides": dataclasses.replace(TINY, vocabulary=64, key_value_heads=4, tied_embeddings=False),
    "grouped": dataclasses.replace(TINY, vocabulary=64, biases=("down", "gate", "k", "o", "q", "up", "v")),
    "palm": dataclasses.replace(TINY, vocabulary=64, key_value_heads=1, family="palm", **PALM),
    "neither heads, features nor words divide": dataclasses.replace(
        TINY, heads=6, key_value_heads=3, mlp_width=50, tied_embeddings=False, biases=("down", "k", "up")
    ),
}


def axes(config: BackboneConfig, model: int = 4, quantize: str = "") -> dict[str, int | None]:
    """Leaf -> the axis, counted from behind, that is divided along `model`; of a layer's leaves short names."""
    abstract = Backbone.abstract(config, quantize=quantize, mesh=mesh(f"model:{model}"))
    found = {}
    for path, leaf in traverse_util.flatten_dict(abstract.frozen, sep="/").items():
        spec = leaf.sharding.spec
        assert all(name in (None, "model") for name in spec) and spec.count("model") <= 1
        axis = spec.index("model") - leaf.ndim if "model" in spec else None
        assert axis is None or leaf.shape[axis] % model == 0
        assert not path.startswith("blocks") or axis != -leaf.ndim, "layers are never divided"
        found[path.removeprefix("blocks/").removeprefix("attention/").removeprefix("mlp/")] = axis
    return found


NORMS = dict.fromkeys(("attention_norm/scale", "mlp_norm/scale", "norm/scale"))
PARALLEL = {f"{name}/kernel": -1 for name in ("q", "k", "v", "gate", "up")} | {"o/kernel": -2, "down/kernel": -2}


def test_heads_features_and_words_are_divided():
    expected = {**NORMS, **PARALLEL, "embedding/embedding": -2, "head/kernel": -1}
    assert axes(CONFIGS["all divides"]) == expected


def test_scales_and_biases_go_with_the_output_axis_of_their_matrix():
    found = axes(dataclasses.replace(CONFIGS["all divides"], biases=("down", "o", "q", "up")), quantize="int8")
    beside = {name: axis for name, axis in found.items() if name not in NORMS and not name.endswith("kernel")}
    scales = {f"{name}/scale": -1 for name in ("q", "k", "v", "gate", "up", "head")} | {"o/scale": None}
    biases = {"q/bias": -1, "up/bias": -1, "o/bias": None, "down/bias": None}
    assert beside == {**scales, "down/scale": None, **biases, "embedding/embedding": -2}


def test_key_value_heads_that_fewer_devices_could_share_are_whole():
    for name in ("grouped", "palm"):
        found = axes(CONFIGS[name])
        assert {found["k/kernel"], found["v/kernel"]} == {None} and (found["q/kernel"], found["o/kernel"]) == (-1, -2)


def test_what_does_not_divide_so_goes_by_its_largest_axis_that_does():
    """Matrices of 32 x 48, 32 x 24, 48 x 32, 32 x 50, 50 x 32, and tables of 61 words: 6 heads of 8."""
    found = axes(CONFIGS["neither heads, features nor words divide"])
    by_input = dict.fromkeys(("k/kernel", "v/kernel", "o/kernel", "gate/kernel", "up/kernel", "head/kernel"), -2)
    by_output = dict.fromkeys(("q/kernel", "down/kernel", "embedding/embedding", "down/bias"), -1)
    assert found == {**NORMS, **by_input, **by_output, "k/bias": None, "up/bias": None}


def test_what_nothing_divides_is_whole():
    assert set(axes(CONFIGS["neither heads, features nor words divide"], model=7).values()) == {None}


def test_a_mesh_without_model_divides_nothing():
    abstract = Backbone.abstract(TINY, mesh=mesh("clients:8"))
    assert all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(abstract.frozen))


@pytest.mark.parametrize("quantize", ["", "int8"])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_backbone_on_a_mesh_is_the_same(name, quantize):
    """The same random weights, where the abstract ones say, and the same logits."""
    on, config, ids = mesh("clients:2,model:4"), CONFIGS[name], np.random.default_rng(0).integers(0, 61, (2, 12))
    alone, there = (Backbone.random(config, seed=1, quantize=quantize, mesh=place) for place in (None, on))
    abstract = Backbone.abstract(config, quantize=quantize, mesh=on)
    for left, right, leaf in zip(*map(jax.tree.leaves, (there.frozen, alone.frozen, abstract.frozen)), strict=True):
        assert (left.shape, left.dtype, left.sharding) == (leaf.shape, leaf.dtype, leaf.sharding)
        np.testing.assert_allclose(left, right, rtol=1e-6)
    np.testing.assert_allclose(there.logits(ids), alone.logits(ids), atol=1e-5, rtol=0)


LOADED = ("llama: untied", "llama: biases", "mistral", "qwen 3", "gemma 2", "gpt-neox")


@pytest.mark.parametrize("quantize", ["", "int8"])
@pytest.mark.parametrize("name", LOADED)
def test_a_folder_loads_each_tensor_to_its_shards(name, quantize, tmp_path):
    expected, on = Backbone.load(saved(tmp_path, name), quantize=quantize), mesh("clients:2,model:4")
    loaded = Backbone.load(tmp_path, quantize=quantize, mesh=on)
    abstract = Backbone.abstract(expected.config, quantize=quantize, mesh=on)
    for left, right, leaf in zip(*map(jax.tree.leaves, (loaded.frozen, expected.frozen, abstract.frozen)), strict=True):
        assert left.sharding.is_equivalent_to(leaf.sharding, left.ndim)
        np.testing.assert_array_equal(left, right)
    assert {shard.data.shape for shard in loaded.frozen["blocks"]["mlp"]["up"]["kernel"].addressable_shards} == {
        (3, 32, 12)
    }
    ids = np.random.default_rng(0).integers(0, 61, (2, 40))
    np.testing.assert_allclose(loaded.logits(ids), expected.logits(ids), atol=2e-5, rtol=0)


def test_an_abstract_backbone_compiles_for_what_is_not_there():
    on, config = mesh("clients:2,model:4"), CONFIGS["all divides"]
    backbone = Backbone.abstract(config, mesh=on)
    program = jax.jit(lambda frozen: jax.tree.map(lambda leaf: leaf * 2, frozen)).lower(backbone.frozen).compile()
    whole = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(backbone.frozen))
    assert program.memory_analysis().argument_size_in_bytes < whole / 3
