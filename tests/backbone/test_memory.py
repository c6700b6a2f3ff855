"""What a backbone takes: of the host while it loads, of a training step."""

import dataclasses
import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from profit_jax.backbone import Backbone
from tests.backbone.families import TINY, prompts
from tests.backbone.loading import MIB, held, sized, write
from tests.backbone.test_loss import CLIENTS, PROMPT, examples, packed

linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
DEEP = dataclasses.replace(TINY, width=64, layers=12, head_width=16, key_value_heads=4, mlp_width=176)


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> tuple[Path, int]:
    """A model of 162 MiB in three files, and the bytes of its largest tensor."""
    folder = tmp_path_factory.mktemp("small")
    return folder, write(folder, sized(width=512, layers=12, vocabulary=8000), "float32", files=3)


@linux
@pytest.mark.parametrize("settings", [{"dtype": "bfloat16"}, {"quantize": "int8"}], ids=json.dumps)
def test_loading_holds_one_tensor_beside_the_weights(settings, small):
    """To 64 MiB, less than half of what is read: neither the files nor a float copy of the weights fit in."""
    folder, largest = small
    memory = held(folder, **settings)
    assert memory["weights"] > 40 * MIB
    assert memory["beyond"] < largest + 64 * MIB


@linux
@pytest.mark.slow
@pytest.mark.parametrize(("stored", "layers"), [("float32", 18), ("bfloat16", 36)])
def test_loading_two_gib_holds_one_tensor_beside_the_weights(stored, layers, tmp_path):
    largest = write(tmp_path, sized(width=1536, layers=layers, vocabulary=32_000), stored, files=5)
    for settings in ({}, {"dtype": "bfloat16"}, {"quantize": "int8"}):
        assert held(tmp_path, **settings)["beyond"] < largest + 1024 * MIB, settings


@functools.cache
def temporary(remat: bool = False, quantize: str = "") -> int:
    """Bytes beside arguments and results in a compiled training step of a prompt on twelve layers."""
    backbone, rows = Backbone.random(DEEP, remat=remat, quantize=quantize), packed(examples(), 40)

    @jax.jit
    def gradient(frozen: dict, adapters: dict) -> dict:
        return jax.grad(lambda adapters: jnp.sum(backbone.loss(frozen, adapters, rows)))(adapters)

    step = gradient.lower(backbone.frozen, prompts(CLIENTS, PROMPT, DEEP.width)).compile()
    return step.memory_analysis().temp_size_in_bytes


def test_rematerialization_takes_less_than_half_the_memory():
    assert temporary(remat=True) < temporary() / 2


def test_a_step_on_int8_weights_holds_no_float_copy_of_them():
    """At most two layers' more than a step on float weights, of twelve."""
    matrices = 4 * DEEP.block_parameters
    assert temporary(quantize="int8") < temporary() + matrices / 6
    assert temporary(remat=True, quantize="int8") < temporary(remat=True) + matrices / 6


def test_int8_takes_a_quarter_of_the_matrices_memory():
    def size(quantize: str) -> int:
        blocks = Backbone.abstract(DEEP, quantize=quantize).frozen["blocks"]
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(blocks))

    assert size("int8") < 0.3 * size("")
