"""Personalized perplexity against a plain loop over clients, examples and tokens."""

import functools

import numpy as np
import optax
import pytest

import perfit_jax as pf
from profit_jax.federated import fed_avg
from profit_jax.federated.mesh import mesh, place_state
from tests import worlds
from tests.perfit import plain

SIZES = (3, 8, 1, 5)
TEST = worlds.clients(SIZES)


@functools.cache
def method(backbone=plain.bigrams):
    """Every client holds an adapter of its own, a masked part of one LoRA."""
    masks = plain.random_masks(plain.adapter(backbone))
    return pf.perfit(backbone().loss, masks, client_optimizer=optax.sgd(0.3)), masks


def by_loop(gradient, like, masks: pf.Masks) -> np.ndarray:
    """The mean negative log-likelihood of a client's target tokens, by unpacked examples; `[n]`."""
    data, flat = worlds.encoded(TEST), plain.flat(like)
    return np.array([gradient(flat * masks.dense(c), like, data.client(c))[0] for c in range(len(SIZES))])


def measured(algorithm, masks, on=None, clients_at_once=16, **layout):
    state = algorithm.init(masks.adapter)
    perplexity = pf.Perplexity(
        algorithm,
        TEST,
        encoder=plain.encoder(),
        layout=plain.layout(**layout),
        mesh=on,
        clients_at_once=clients_at_once,
        group=np.array([0, 0, 1, 1]),
    )
    return perplexity(place_state(state, on) if on else state)


@pytest.mark.parametrize(
    ("backbone", "gradient"), [(plain.bigrams, plain.bigram_gradient), (worlds.backbone, plain.decoder_gradient)]
)
def test_perplexity_is_exp_of_the_mean_nll_of_a_clients_tokens(backbone, gradient):
    algorithm, masks = method(backbone)
    found, nll = measured(algorithm, masks), by_loop(gradient, plain.adapter(backbone), masks)
    tokens = [sum(len(y) for _, y in worlds.encoded(TEST).client(c)) for c in range(4)]
    assert [row["client"] for row in found.clients] == [0, 1, 2, 3]
    assert [row["group"] for row in found.clients] == [0, 0, 1, 1]
    assert [row["tokens"] for row in found.clients] == tokens and len(set(tokens)) == 4
    np.testing.assert_allclose([row["nll"] for row in found.clients], nll, rtol=1e-5)
    np.testing.assert_allclose([row["perplexity"] for row in found.clients], np.exp(nll), rtol=5e-5)


def test_the_mean_counts_every_client_once_whatever_it_holds():
    """Neither the mean over tokens nor exp of the mean: clients hold 3, 8, 1 and 5 examples."""
    algorithm, masks = method()
    found, nll = measured(algorithm, masks), by_loop(plain.bigram_gradient, plain.adapter(), masks)
    np.testing.assert_allclose(found.row["perplexity"], np.mean(np.exp(nll)), rtol=5e-5)
    np.testing.assert_allclose(found.row["nll"], np.mean(nll), rtol=1e-5)
    weighted = np.exp(np.average(nll, weights=[row["tokens"] for row in found.clients]))
    for other in (weighted, np.exp(nll.mean())):
        assert abs(found.row["perplexity"] - other) > 1e-3 * other
    assert found.score is None, "perplexity picks no best adapter"


LAYOUTS = {
    "one client at once": {"clients_at_once": 1},
    "three at once, a place left empty": {"clients_at_once": 3},
    "rows longer than texts": {"row_width": 96},
    "texts over rows, in flights": {"row_width": 5, "positions_per_flight": 48},
    "two lanes, one client at once": {"lanes": 2, "clients_at_once": 1},
    "four devices": {"lanes": 4, "on": "clients:4"},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout_changes_nothing(layout):
    algorithm, masks = method()
    changes = dict(LAYOUTS[layout])
    if "on" in changes:
        changes["on"] = mesh(changes["on"])
    found = measured(algorithm, masks, **changes)
    nll = by_loop(plain.bigram_gradient, plain.adapter(), masks)
    np.testing.assert_allclose([row["nll"] for row in found.clients], nll, rtol=1e-5)


def test_a_global_adapter_is_measured_on_every_client():
    """FedAvg holds one adapter for all: as PerFIT with masks of ones."""
    algorithm = fed_avg(plain.bigrams(), client_optimizer=optax.sgd(0.3), server_optimizer=optax.sgd(1.0))
    ones = pf.Masks.of_ranks(plain.adapter(), [4] * 4)
    found, nll = measured(algorithm, ones), by_loop(plain.bigram_gradient, plain.adapter(), ones)
    np.testing.assert_allclose([row["nll"] for row in found.clients], nll, rtol=1e-5)
