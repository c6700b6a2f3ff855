"""Importance scores against Equations 2 to 4 in closed form, on a model whose gradient anyone can write down."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from perfit_jax.importance import check_metric, importance, keep_largest
from profit_jax.errors import InputError
from profit_jax.federated.client import moments
from profit_jax.typing import Used, Windows
from tests.perfit import plain

METRICS = ("first", "second", "mixed")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Points:
    """What the least squares read: rows `[R, ...]`, all of which are asked."""

    x: jax.Array
    y: jax.Array
    weight: jax.Array
    client: jax.Array
    windows: Windows
    chunks: jax.Array | None = None


class LeastSquares:
    """L_c = sum of weight x (x . theta_c - y)^2 over the client's rows; with weight 1 / rows, their mean."""

    frozen: dict = {}  # noqa: RUF012

    def read(self, frozen, adapters):
        return adapters

    def __call__(self, frozen, adapters, rows):
        residual = jnp.einsum("rd,rd->r", rows.x, adapters["theta"][rows.client]) - rows.y
        clients = adapters["theta"].shape[0]
        return jax.ops.segment_sum(rows.weight * residual**2, rows.client, num_segments=clients)


def rows(clients: list[list[tuple[np.ndarray, np.ndarray]]], room: int) -> tuple[Points, np.ndarray]:
    """Clients' batches (x [B, D], y [B]) -> rows `[S, 1, room, ...]`, and the counts `[S, C]`."""
    steps, width = max(map(len, clients)), clients[0][0][0].shape[1]
    leaves = {
        "x": np.zeros((steps, 1, room, width), np.float32),
        "y": np.zeros((steps, 1, room), np.float32),
        "weight": np.zeros((steps, 1, room), np.float32),
        "client": np.zeros((steps, 1, room), np.int32),
    }
    counts, used = np.zeros((steps, len(clients)), np.float32), [0] * steps
    for client, batches in enumerate(clients):
        for step, (x, y) in enumerate(batches):
            place = slice(used[step], used[step] + len(y))
            leaves["x"][step, 0, place], leaves["y"][step, 0, place] = x, y
            leaves["weight"][step, 0, place], leaves["client"][step, 0, place] = 1 / len(y), client
            counts[step, client], used[step] = len(y), used[step] + len(y)
    return Points(**jax.tree.map(jnp.asarray, leaves), windows=Windows((), (), (), (), ())), counts


@functools.cache
def program():
    def run(theta, batches, counts):
        used = Used(jnp.ones((len(counts), 1), jnp.int32), jnp.zeros((len(counts), 1, 0), jnp.int32))
        return moments(LeastSquares(), {}, {"theta": theta}, batches, counts, used, square=True)

    return jax.jit(run)


def scores(metric: str, theta, clients, room: int = 8) -> np.ndarray:
    batches, counts = rows(clients, room)
    taken = program()(jnp.asarray(theta, jnp.float32), batches, jnp.asarray(counts))
    return np.asarray(importance(metric, jnp.asarray(theta), taken.gradient["theta"], taken.square["theta"]))


def test_scores_by_hand():
    """One weight, theta = 2, on (x, y) = (1, 1), (2, 2) in one batch and (1, 3) in another.

    Residuals 1, 2, -1; gradients 2 r x = 2, 8, -2. Batch means 5 and -2, over all data (2 + 8 - 2) / 3 = 8 / 3.
    H = (25 + 4) / 2 = 14.5, a mean over batches. first = 16 / 3, second = 58, mixed = |16 / 3 - 29| = 71 / 3.
    """
    batches = [(np.array([[1.0], [2.0]]), np.array([1.0, 2.0])), (np.array([[1.0]]), np.array([3.0]))]
    theta = np.array([[2.0]], np.float32)
    for metric, wanted in zip(METRICS, (16 / 3, 58, 71 / 3)):
        np.testing.assert_allclose(scores(metric, theta, [batches]), [[wanted]], rtol=1e-6)


@pytest.mark.parametrize("metric", METRICS)
def test_scores_equal_the_closed_form_for_every_client_beside_the_others(metric):
    """Three clients of 3, 2 and 1 batches, last ones short: g weighs batches by their examples, H all alike."""
    draw = np.random.default_rng(2)
    sizes = ((3, 3, 1), (3, 2), (2,))
    clients = [[(draw.normal(0, 1, (n, 4)), draw.normal(0, 1, n)) for n in batches] for batches in sizes]
    theta = draw.normal(0, 1, (3, 4)).astype(np.float32)
    got = scores(metric, theta, clients)
    for client, batches in enumerate(clients):
        own = theta[client].astype(np.float64)
        by_batch = [2 * x.T @ (x @ own - y) / len(y) for x, y in batches]
        x, y = np.concatenate([x for x, _ in batches]), np.concatenate([y for _, y in batches])
        g = 2 * x.T @ (x @ own - y) / len(y)
        fisher = np.mean([gradient**2 for gradient in by_batch], axis=0)
        wanted = {
            "first": np.abs(g * own),
            "second": np.abs(own * fisher * own),
            "mixed": np.abs(g * own - own * fisher * own / 2),
        }[metric]
        # The terms are of size 10 to 100, each product and sum rounded by 6e-8; the mixed score is their difference.
        np.testing.assert_allclose(got[client], wanted, rtol=1e-5, atol=1e-5)


def test_a_coordinate_that_is_zero_has_no_importance():
    batches = [(np.array([[1.0, 1.0]]), np.array([3.0]))]
    for metric in METRICS:
        got = scores(metric, np.array([[0.0, 2.0]], np.float32), [batches])
        assert got[0, 0] == 0 and got[0, 1] > 0


def test_an_unknown_metric_is_refused():
    with pytest.raises(InputError, match="unknown importance metric 'third'; known: first, second, mixed"):
        check_metric("third")


kept = jax.jit(keep_largest)  # a program for each length


@settings(max_examples=200)
@given(st.data(), st.sampled_from([1, 7, 16]))
def test_exactly_k_stay_as_a_stable_sort_would_choose(data, length):
    """Scores from few values, so that most are ties: of equal ones those that come first."""
    few = st.sampled_from([-1.0, 0.0, 0.25, 1.0, 1.0 + 2**-23])
    scores = data.draw(hnp.arrays(np.float32, length, elements=few))
    k = data.draw(st.integers(0, length))
    wanted = np.zeros(length, bool)
    wanted[np.argsort(-scores, kind="stable")[:k]] = True
    got = np.asarray(kept(jnp.asarray(scores), jnp.asarray(k)))
    assert got.sum() == k
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("k", [0, 1, 2048, 4094, 4095])
def test_scores_of_every_sign_and_magnitude_stay_as_a_stable_sort_would_choose(k):
    """Random bit patterns, infinities and zeros of both signs, each of which occurs often: -0 and 0 are equal."""
    draw = np.random.default_rng(7)
    scores = draw.integers(0, 2**32, 4095, np.uint32).view(np.float32)
    scores = np.where(np.isnan(scores) | (np.abs(scores) < 1e-37), 1.0, scores)  # what counts as zero is the machine's
    scores[draw.choice(4095, 2000, replace=False)] = draw.choice(np.float32([0, -0.0, np.inf, -np.inf]), 2000)
    wanted = np.zeros(4095, bool)
    wanted[np.argsort(-scores, kind="stable")[:k]] = True
    np.testing.assert_array_equal(kept(jnp.asarray(scores), jnp.asarray(k)), wanted)


def test_vanilla_initialization_leaves_a_without_any_importance():
    """Under B = 0 the gradient of A is zero, exactly; that of B is not (measurement vanishing, Section 4.2)."""
    own, model = plain.adapter(init="vanilla"), plain.bigrams()
    data = plain.worlds.encoded(plain.worlds.clients())
    cohort = plain.planner()([1, 3], plain.worlds.batches(data, [1, 3], steps=2, batch=3).__getitem__).cohort
    lane = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), (cohort.batches, cohort.counts))
    theta = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), own)
    of = jax.jit(functools.partial(moments, model, square=True))
    taken = of(model.frozen, theta, *lane, jax.tree.map(jnp.asarray, cohort.used))
    for metric in METRICS:
        found = jax.tree.map(functools.partial(importance, metric), theta, taken.gradient, taken.square)
        for factors in found["lora"].values():
            assert not np.any(factors["a"])
        # The paper says that B's scores are always above zero; B = 0 makes |g B| zero as well. Its gradient is not.
    assert all(np.all(np.any(factors["b"], axis=(1, 2, 3))) for factors in taken.gradient["lora"].values())
    assert not any(np.any(factors["a"]) for factors in taken.gradient["lora"].values())
