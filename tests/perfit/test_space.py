"""The coordinate space: which element stands where, and how ranks and sparsities divide it."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import perfit_jax as pf
from perfit_jax.space import resource_group
from profit_jax import trees
from profit_jax.adapters import lora, soft_prompt
from profit_jax.errors import InputError
from tests import worlds
from tests.perfit import plain

LORA = plain.adapter(rank=4)
SPACE = pf.Space.of(LORA)
UNIT = plain.UNIT


def test_the_flat_axis_holds_target_by_target_a_before_b():
    flat = SPACE.flatten(trees.broadcast(LORA, 2))
    assert flat.shape == (2, SPACE.size) and SPACE.size == 4 * UNIT and SPACE.rank == 4
    np.testing.assert_array_equal(flat, np.stack([plain.flat(LORA)] * 2))


def test_unflatten_and_flatten_undo_each_other():
    flat = jnp.asarray(np.random.default_rng(0).normal(0, 1, (3, SPACE.size)), jnp.float32)
    found = SPACE.unflatten(flat)
    np.testing.assert_array_equal(SPACE.flatten(found), flat)
    assert jax.tree.map(np.shape, found) == jax.tree.map(lambda leaf: (3, *leaf.shape), LORA)
    for c, target, factor in itertools.product(range(3), ("k", "q"), ("a", "b")):
        by_hand = plain.factors(np.asarray(flat[c]), LORA)["lora"][target][factor]
        np.testing.assert_array_equal(found["lora"][target][factor][c], by_hand)


def test_expand_is_the_masked_adapter():
    """Three clients that own unequal numbers of coordinates, the last of them none."""
    draw = np.random.default_rng(1)
    masks = draw.random((3, SPACE.size)) < np.array([[0.6], [0.2], [0.0]])
    values, indices = np.zeros((2, 3, masks.sum(1).max()))
    for client, mask in enumerate(masks):
        owned = np.flatnonzero(mask)
        indices[client] = [*owned, *range(SPACE.size, SPACE.size + values.shape[1] - len(owned))]
        values[client] = draw.normal(0, 1, values.shape[1])  # what stands in the filled up places is not read
    dense = np.zeros(masks.shape, np.float32)
    for client, mask in enumerate(masks):
        dense[client, mask] = values[client, : mask.sum()]
    got = SPACE.expand(jnp.asarray(values, jnp.float32), jnp.asarray(indices, jnp.int32))
    for client in range(3):
        wanted = plain.factors(dense[client], LORA)
        jax.tree.map(lambda a, b, c=client: np.testing.assert_array_equal(a[c], b), got, wanted)


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_a_lora_of_smaller_rank_is_the_first_columns_of_a_and_rows_of_b(rank):
    inside = plain.factors(SPACE.columns(rank), LORA)["lora"]
    for factors in inside.values():
        assert factors["a"][:, :, :rank].all() and not factors["a"][:, :, rank:].any()
        assert factors["b"][:, :rank].all() and not factors["b"][:, rank:].any()
    assert SPACE.columns(rank).sum() == rank * UNIT


@pytest.mark.parametrize("rank", [0, 5])
def test_a_rank_that_does_not_fit_is_refused(rank):
    with pytest.raises(InputError, match=f"rank {rank} does not fit a space of rank 4"):
        SPACE.columns(rank)


def test_the_first_module_is_a_and_b_of_the_first_layers_first_target():
    inside = plain.factors(SPACE.first_module(), LORA)["lora"]
    for target, factors in inside.items():
        for leaf in factors.values():
            assert leaf[0].all() == (target == "k") and not leaf[1].any()
    assert SPACE.first_module().sum() == 4 * (5 + 3)


def test_what_is_ranked_together():
    (whole,) = SPACE.groups("client")
    assert (whole.start, whole.stop, whole.count, whole.piece) == (0, SPACE.size, 1, SPACE.size)
    parts = SPACE.groups("module")
    assert [part.piece for part in parts] == [5 * 4, 4 * 3, 5 * 4, 4 * 4]
    assert all(part.count == 2 for part in parts) and parts[0].start == 0 and parts[-1].stop == SPACE.size
    assert all(a.stop == b.start for a, b in itertools.pairwise(parts))
    with pytest.raises(InputError, match="'client' or 'module', not 'layer'"):
        SPACE.groups("layer")


def test_only_a_lora_has_a_space():
    with pytest.raises(InputError, match="PerFIT prunes a LoRA; this adapter has prompt"):
        pf.Space.of(soft_prompt(worlds.backbone(), length=2))


@pytest.mark.parametrize(
    ("sparsity", "expanded"),
    [
        (0.0, 8),
        (0.5, 16),
        (0.75, 32),
        (1 / 3, 12),
        (0.3333, 12),  # four decimals are enough
        (0.6667, 24),
        ((0.0, 0.25, 0.5), 16),
        ((1 / 3, 0.0), 12),
    ],
)
def test_the_rank_to_prune_from(sparsity, expanded):
    assert pf.expanded_rank(8, sparsity) == expanded


@pytest.mark.parametrize(
    ("sparsity", "problem"),
    [
        (0.33, r"R = 8 / \(1 - 0.33\) = 11.94 is not whole; the nearest sparsity that fits is 0.3333"),
        (0.51, r"R = 8 / \(1 - 0.51\) = 16.33 is not whole; the nearest sparsity that fits is 0.5000"),
        ((0.3, 0.5), r"sparsity 0.3: 11.20 of R = 16 ranks is not whole; the nearest sparsity that fits is 0.3125"),
        (1.0, "sparsity from 0 to below 1"),
        (-0.5, "sparsity from 0 to below 1"),
        ((), "sparsity from 0 to below 1"),
    ],
)
def test_a_rank_that_is_not_whole_is_refused_with_the_nearest_sparsity(sparsity, problem):
    with pytest.raises(InputError, match=problem):
        pf.expanded_rank(8, sparsity)


@settings(max_examples=200)
@example(31, 1)  # 0.03125, a tie between 0.0312 and 0.0313
@given(st.integers(1, 64), st.integers(0, 64))
def test_a_sparsity_may_be_rounded_to_four_decimals(rank, more):
    """Every whole R is found again from s = 1 - r / R, exact or as one would write it in a config."""
    expanded = rank + more
    assert pf.expanded_rank(rank, 1 - rank / expanded) == expanded
    assert pf.expanded_rank(rank, round(1 - rank / expanded, 4)) == expanded


@settings(max_examples=300)
@given(st.integers(1, 16), st.floats(0, 0.9))
def test_the_sparsity_that_the_refusal_names_fits_and_none_is_nearer(rank, sparsity):
    try:
        pf.expanded_rank(rank, sparsity)
    except InputError as error:
        named = float(str(error).split()[-1])
        assert pf.expanded_rank(rank, named) >= rank
        nearest = min(abs(1 - rank / expanded - sparsity) for expanded in range(rank, 11 * rank + 2))
        assert abs(named - sparsity) <= nearest + 5e-5  # the message rounds to four decimals


def test_resource_groups_are_equally_large_and_stand_in_order():
    assert resource_group(3, 7).tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert resource_group(1, 4).tolist() == [0] * 4
    assert pf.budget(8, (0.5, 0.0, 0.25), clients=5).tolist() == [8, 8, 16, 16, 12]
    assert pf.budget(8, 0.5, clients=2).tolist() == [8, 8]
    with pytest.raises(InputError, match="3 sparsities need as many clients; there are 2"):
        pf.budget(8, (0.0, 0.25, 0.5), clients=2)


@pytest.mark.parametrize("rank", [1, 3])
def test_a_budget_is_the_parameters_of_a_lora_of_that_rank(rank):
    """What PerFIT trains of an expanded LoRA is as much as the LoRA it is compared with: r x L x sum of (in + out)."""
    backbone, targets = plain.bigrams(), plain.Bigrams.targets
    assert trees.count(lora(backbone, rank=rank, targets=targets)) == rank * UNIT
    for sparsity in (0.0, 0.5, (0.0, 0.5)):
        expanded = lora(backbone, rank=pf.expanded_rank(rank, sparsity), targets=targets)
        ranks = pf.budget(rank, sparsity, clients=4)
        owned = pf.Masks.of_ranks(expanded, ranks.tolist()).owned
        assert owned.tolist() == [trees.count(lora(backbone, rank=int(r), targets=targets)) for r in ranks]
