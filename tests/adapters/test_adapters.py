"""Soft prompts and LoRA: what they start from."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from profit_jax import trees
from profit_jax.adapters import lora, soft_prompt
from profit_jax.errors import InputError
from tests import worlds
from tests.backbone.families import nothing


def test_a_gaussian_prompt_has_variance_a_quarter():
    """4,096 draws: the sample variance of N(0, 0.25) stays within 5 standard errors, 0.25 sqrt(2 / 4096)."""
    values = np.asarray(soft_prompt(worlds.backbone(), length=256, seed=1)["prompt"])
    assert values.shape == (256, worlds.CONFIG.width) and values.dtype == np.float32
    assert abs(values.var() - 0.25) < 5 * 0.25 * np.sqrt(2 / values.size)
    assert abs(values.mean()) < 5 * 0.5 / np.sqrt(values.size)


def test_random_words_are_rows_of_the_embedding_table_each_once():
    table = np.asarray(worlds.backbone().frozen["embedding"]["embedding"])
    rows = np.asarray(soft_prompt(worlds.backbone(), length=8, init="words", seed=2)["prompt"])
    found = [int(np.flatnonzero((table == row).all(1))[0]) for row in rows]
    assert len(set(found)) == 8


def test_a_text_prompt_is_the_text_repeated_to_its_length():
    table = np.asarray(worlds.backbone().frozen["embedding"]["embedding"])
    rows = np.asarray(soft_prompt(worlds.backbone(), length=5, init="text", text="abc")["prompt"])
    np.testing.assert_array_equal(rows, table[[3, 4, 5, 3, 4]])


def test_the_seed_decides_the_draw():
    draw = [np.asarray(soft_prompt(worlds.backbone(), seed=seed)["prompt"]) for seed in (0, 0, 1)]
    assert (draw[0] == draw[1]).all() and (draw[0] != draw[2]).any()


@pytest.mark.parametrize(
    "settings", [{"length": 0}, {"init": "zeros"}, {"init": "words", "length": 33}, {"init": "text", "text": ""}]
)
def test_prompts_that_cannot_be_are_refused(settings):
    with pytest.raises(InputError):
        soft_prompt(worlds.backbone(), **settings)


def test_a_new_lora_changes_nothing():
    backbone = worlds.backbone()
    adapters = trees.broadcast(lora(backbone, rank=2, targets=("q", "v", "down")), 2)
    data = worlds.encoded(worlds.clients())
    cohort = worlds.plan([0, 1], worlds.batches(data, [0, 1], 1, 3)).cohort
    rows = jax.tree.map(lambda leaf: jnp.asarray(leaf[0, 0, 0]), cohort.batches)
    with_lora = backbone.loss(backbone.frozen, adapters, rows)
    np.testing.assert_array_equal(with_lora, backbone.loss(backbone.frozen, nothing(2, worlds.CONFIG), rows))


def test_lora_counts_its_parameters():
    """r (in + out) for each target and layer: q 16 x 16, k 16 x 8, two layers."""
    assert trees.count(lora(worlds.backbone(), rank=3, targets=("q", "k"))) == 2 * 3 * ((16 + 16) + (16 + 8))


@pytest.mark.parametrize("init", ["gaussian", "uniform"])
def test_symmetric_initializations_have_variance_one_over_the_width(init):
    """16 wide, 25,600 draws of each factor: the mean square lies within 5 of its own standard deviations of 1 / 16."""
    factors = lora(worlds.backbone(), rank=800, targets=("q",), init=init)["lora"]["q"]
    kurtosis = {"gaussian": 3.0, "uniform": 1.8}[init]
    for leaf in (np.asarray(factors["a"]), np.asarray(factors["b"])):
        deviation = np.sqrt((kurtosis - 1) / leaf.size)
        assert abs(np.square(leaf).mean() * 16 - 1) < 5 * deviation
        assert abs(leaf.mean()) < 5 * (1 / 16 / leaf.size) ** 0.5
        assert (np.abs(leaf).max() <= (3 / 16) ** 0.5) == (init == "uniform")
    assert (np.asarray(factors["a"]).ravel() != np.asarray(factors["b"]).ravel()).any()


def test_a_deviation_of_its_own_scales_the_same_draws():
    """16 wide, the default is 1 / 4; an eighth of it is a power of two, so the scaling is exact."""
    default = lora(worlds.backbone(), rank=3, init="gaussian")["lora"]
    small = lora(worlds.backbone(), rank=3, init="gaussian", deviation=1 / 32)["lora"]
    chex.assert_trees_all_equal(jax.tree.map(lambda leaf: 8 * leaf, small), default)


@pytest.mark.parametrize(
    "settings", [{"deviation": 0.0}, {"rank": 0}, {"targets": ()}, {"targets": ("query",)}, {"init": "zeros"}]
)
def test_loras_that_cannot_be_are_refused(settings):
    with pytest.raises(InputError):
        lora(worlds.backbone(), **settings)
