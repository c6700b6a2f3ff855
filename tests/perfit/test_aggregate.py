"""Personalized aggregation against Algorithm 3 by a plain loop over coordinates and clients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import perfit_jax as pf
from tests.perfit import plain

CLIENTS, SIZE = 4, 13
# A mean of at most four values of size 10 at most, in float32: four products, three additions and one division for
# each of numerator and denominator, so ten roundings of 6e-8 bound the error, relative to the largest value.
CLOSE = {"rtol": 0, "atol": 10 * 10 * np.finfo(np.float32).eps / 2}


def packed(values: np.ndarray, masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Dense values and masks `[C, size]` -> packed values and ascending indices `[C, K]`, filled up from `size` on.

    K is the size, so that all masks share one program.
    """
    most = masks.shape[1]
    own, indices = np.zeros((len(masks), most), np.float32), np.zeros((len(masks), most), np.int32)
    for client, mask in enumerate(masks):
        owned = np.flatnonzero(mask)
        indices[client] = [*owned, *range(masks.shape[1], masks.shape[1] + most - len(owned))]
        own[client, : len(owned)] = values[client, owned]
    return own, indices


def aggregated(values: np.ndarray, masks: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """What the library makes of dense values, dense again; nothing may stand in the filled up places."""
    own, indices = packed(values, masks)
    got = np.asarray(pf.aggregate(jnp.asarray(own), jnp.asarray(indices), jnp.asarray(weights), masks.shape[1]))
    assert not got[indices >= masks.shape[1]].any()
    spread = np.zeros_like(values)
    for client, mask in enumerate(masks):
        spread[client, mask] = got[client, : mask.sum()]
    return spread


def by_loops(values: np.ndarray, masks: np.ndarray, weights: np.ndarray) -> np.ndarray:
    after = plain.aggregated(dict(enumerate(values * masks)), dict(enumerate(masks)), dict(enumerate(weights)))
    return np.stack([after[client] for client in range(len(values))])


# Numbers below 1e-38 are left out: whether they count as zero is the machine's to say.
number = st.floats(-10, 10, width=32, allow_subnormal=False)
worlds = st.tuples(
    hnp.arrays(np.float32, (CLIENTS, SIZE), elements=number),
    hnp.arrays(bool, (CLIENTS, SIZE)).filter(np.any),
    hnp.arrays(np.float32, CLIENTS, elements=st.integers(0, 500)),  # numbers of examples; some have none
)


@settings(max_examples=150)
@given(worlds)
def test_aggregation_equals_a_loop_over_coordinates_and_clients(world):
    values, masks, weights = world
    np.testing.assert_allclose(aggregated(values, masks, weights), by_loops(values, masks, weights), **CLOSE)


@settings(max_examples=50)
@given(worlds)
def test_owners_of_a_coordinate_agree_and_an_only_owner_keeps_its_value(world):
    values, masks, weights = world
    got, some = aggregated(values, masks, weights), weights[:, None] > 0
    for j in range(SIZE):
        owners = np.flatnonzero(masks[:, j])
        if (masks & some)[:, j].any():
            assert len(set(got[owners, j].tolist())) == 1
        else:
            np.testing.assert_array_equal(got[owners, j], values[owners, j])
        if len(owners) == 1:  # w v / w is v, up to the two roundings
            np.testing.assert_allclose(got[owners[0], j], values[owners[0], j], rtol=2 * np.finfo(np.float32).eps)


@settings(max_examples=50)
@given(worlds)
def test_a_client_without_examples_takes_the_mean_of_the_others_and_adds_nothing(world):
    values, masks, weights = world
    weights[0] = 0
    other = values.copy()
    other[0] += 100
    got, moved = aggregated(values, masks, weights), aggregated(other, masks, weights)
    np.testing.assert_array_equal(got[1:], moved[1:])
    shared = masks[0] & (masks[1:] & (weights[1:, None] > 0)).any(0)
    np.testing.assert_array_equal(got[0, shared], moved[0, shared])


@settings(max_examples=50)
@given(st.lists(st.sampled_from([1, 2, 4]), min_size=CLIENTS, max_size=CLIENTS).filter(lambda ranks: max(ranks) == 4))
def test_loras_of_unequal_rank_share_the_columns_that_both_have(ranks):
    """Column by column of A and row by row of B: a mean over the clients whose rank reaches that far."""
    draw = np.random.default_rng(sum(ranks))
    a, b = draw.normal(0, 1, (CLIENTS, 2, 3, 4)), draw.normal(0, 1, (CLIENTS, 2, 4, 5))  # [C, L, in, R], [C, L, R, out]
    like = {"lora": {"q": {"a": jnp.zeros((2, 3, 4)), "b": jnp.zeros((2, 4, 5))}}}
    weights = np.array([1, 3, 2, 7], np.float32)
    wanted_a, wanted_b = np.zeros_like(a), np.zeros_like(b)
    for column in range(4):
        owners = [client for client, rank in enumerate(ranks) if column < rank]
        whole = sum(weights[client] for client in owners)
        for z in owners:
            wanted_a[z, :, :, column] = sum(a[k, :, :, column] * weights[k] / whole for k in owners)
            wanted_b[z, :, column] = sum(b[k, :, column] * weights[k] / whole for k in owners)

    masks = pf.Masks.of_ranks(like, ranks)
    space, indices = masks.space, masks.indices()
    flat = np.asarray(
        space.flatten(jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), {"lora": {"q": {"a": a, "b": b}}}))
    )
    own = np.where(indices < space.size, np.take_along_axis(flat, np.minimum(indices, space.size - 1), 1), 0)
    got = pf.aggregate(jnp.asarray(own), jnp.asarray(indices), jnp.asarray(weights), space.size)
    got = space.expand(got, jnp.asarray(indices))["lora"]["q"]
    np.testing.assert_allclose(got["a"], wanted_a, **CLOSE)
    np.testing.assert_allclose(got["b"], wanted_b, **CLOSE)


def test_rank_two_and_rank_four_share_the_first_two_columns():
    """One example against three: the shared columns lie at three quarters of the way to the larger's."""
    masks = pf.Masks.of_ranks({"lora": {"q": {"a": np.zeros((2, 3, 4)), "b": np.zeros((2, 4, 5))}}}, [2, 4])
    space, indices = masks.space, jnp.asarray(masks.indices())
    # The packed order is row by row of A: of each row the small client has two elements, the large one four.
    own = np.zeros(indices.shape, np.float32)
    own[0, : 2 * 3 * 2], own[1, : 2 * 3 * 4] = 1, 5
    got = space.expand(pf.aggregate(jnp.asarray(own), indices, jnp.array([1.0, 3.0]), space.size), indices)
    got = np.asarray(got["lora"]["q"]["a"])
    assert (got[:, :, :, :2] == 4).all()
    assert (got[0, :, :, 2:] == 0).all() and (got[1, :, :, 2:] == 5).all()


def test_aggregation_compiles_once_for_a_shape():
    draw = np.random.default_rng(0)
    before = pf.aggregate._cache_size()
    for seed in range(3):
        masks = np.zeros((CLIENTS, 29), bool)
        for mask in masks:
            mask[draw.choice(29, 17, replace=False)] = True
        aggregated(draw.normal(0, 1, masks.shape).astype(np.float32), masks, np.ones(CLIENTS, np.float32) + seed)
    assert pf.aggregate._cache_size() == before + 1


def test_aggregation_takes_the_owners_mean_by_hand():
    """Three clients of 1, 2 and 1 examples; coordinate 0 all own, 1 the last two, 2 the first alone, 3 nobody."""
    values = np.array([[4, 0, 9, 0], [1, 3, 0, 0], [2, 6, 0, 0]], np.float32)
    masks = np.array([[1, 0, 1, 0], [1, 1, 0, 0], [1, 1, 0, 0]], bool)
    got = aggregated(values, masks, np.array([1, 2, 1], np.float32))
    np.testing.assert_array_equal(got, [[2, 0, 9, 0], [2, 4, 0, 0], [2, 4, 0, 0]])


@pytest.mark.parametrize("weights", [[1, 1, 1, 1], [3, 1, 4, 2]])
def test_with_masks_of_ones_aggregation_is_a_weighted_mean(weights):
    values = np.random.default_rng(1).normal(0, 1, (CLIENTS, SIZE)).astype(np.float32)
    got = aggregated(values, np.ones((CLIENTS, SIZE), bool), np.array(weights, np.float32))
    mean = np.average(values.astype(np.float64), axis=0, weights=weights)
    np.testing.assert_allclose(got, np.tile(mean, (CLIENTS, 1)), **CLOSE)
