"""Layout never changes a number, and costs what it should: programs, traces."""

import jax
import numpy as np
import optax
import pytest

from profit_jax.federated import centralized, fed_avg, fed_sgd
from tests import worlds

DATA = worlds.encoded(worlds.clients((7, 5, 9, 6, 4, 8, 5, 6)))
CHOSEN = [5, 0, 3, 6, 1, 7, 2, 4]
DRAWN = worlds.batches(DATA, CHOSEN, steps=2, batch=3)
LOSS = worlds.backbone().loss
ALGORITHMS = {
    "fed_avg": lambda: fed_avg(LOSS, client_optimizer=optax.sgd(0.3), server_optimizer=optax.sgd(1.0)),
    "fed_sgd": lambda: fed_sgd(LOSS, server_optimizer=optax.sgd(1.0)),
    "centralized": lambda: centralized(LOSS, optimizer=optax.sgd(1.0)),
}


def run(name: str, cohort) -> np.ndarray:
    algorithm = ALGORITHMS[name]()
    state = algorithm.init(worlds.prompt())
    for _ in range(2):
        state, _ = algorithm.round(state, cohort)
    return np.asarray(state.adapter["prompt"])


@pytest.fixture(scope="module", params=ALGORITHMS)
def reference(request) -> tuple[str, np.ndarray]:
    """One example a row, one lane, one flight."""
    cohort = worlds.plan(CHOSEN, DRAWN, row_width=24, positions_per_flight=10**6).cohort
    return request.param, run(request.param, cohort)


LAYOUTS = {
    "rows longer than texts": {"row_width": 64},
    "texts over rows": {"row_width": 7},
    "texts over rows, in flights": {"row_width": 8, "positions_per_flight": 40},
    "texts over rows, three lanes in flights": {"row_width": 5, "lanes": 3, "positions_per_flight": 60},
    "a position a row": {"row_width": 1, "positions_per_flight": 200},
    "a text a flight": {"row_width": 24, "positions_per_flight": 1},
    "three lanes": {"row_width": 64, "lanes": 3},
    "eight lanes in flights": {"row_width": 24, "lanes": 8, "positions_per_flight": 100},
    "room for rows, windows and flights without a text": {"row_width": 7, "positions_per_flight": 100, "slack": 2.0},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout_changes_nothing(reference, layout):
    name, expected = reference
    got = run(name, worlds.plan(CHOSEN, DRAWN, **LAYOUTS[layout]).cohort)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_order_of_clients_and_examples_changes_nothing(reference):
    name, expected = reference
    order = [3, 7, 0, 4, 1, 6, 2, 5]
    drawn = [[step[::-1] for step in DRAWN[i]] for i in order]
    got = run(name, worlds.plan([CHOSEN[i] for i in order], drawn).cohort)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_an_empty_place_changes_nothing(reference):
    """Eight clients on three lanes leave a ninth place empty; its weight is 0 and it gives no NaN."""
    name, expected = reference
    cohort = worlds.plan(CHOSEN, DRAWN, lanes=3).cohort
    assert (cohort.client == -1).sum() == 1
    np.testing.assert_allclose(run(name, cohort), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_round_of_the_same_shape_compiles_nothing(name):
    algorithm = ALGORITHMS[name]()
    state = algorithm.init(worlds.prompt())
    shapes = set()
    for seed in (0, 1, 2, 0):
        planned = worlds.plan(CHOSEN, worlds.batches(DATA, CHOSEN, steps=2, batch=3, seed=seed))
        state, _ = algorithm.round(state, planned.cohort)
        shapes.add(str(jax.tree.map(np.shape, planned.cohort)))
    assert algorithm.compiled._cache_size() == len(shapes)
