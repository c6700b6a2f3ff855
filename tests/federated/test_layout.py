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
    cohort = worlds.plan(CHOSEN, DRAWN, row_kinds=((24, 1),), positions_per_flight=10**6).cohort
    return request.param, run(request.param, cohort)


LAYOUTS = {
    "packed": {"row_kinds": ((64, 1),)},
    "two widths": {"row_kinds": ((24, 1), (24, 3))},
    "in flights": {"row_kinds": ((24, 1), (24, 2)), "positions_per_flight": 96},
    "in single rows": {"row_kinds": ((32, 1),), "positions_per_flight": 1},
    "texts over rows": {"row_kinds": ((5, 2), (5, 5))},
    "texts over rows, in flights": {"row_kinds": ((8, 3),), "positions_per_flight": 40},
    "texts over rows, three lanes": {"row_kinds": ((7, 2), (7, 4)), "lanes": 3, "positions_per_flight": 60},
    "three lanes": {"row_kinds": ((64, 1),), "lanes": 3},
    "eight lanes in flights": {"row_kinds": ((24, 1), (24, 3)), "lanes": 8, "positions_per_flight": 100},
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
    for seed in range(3):
        drawn = worlds.batches(DATA, CHOSEN, steps=2, batch=3, seed=seed)
        planner_shape = worlds.plan(CHOSEN, drawn, row_kinds=((24, 1),))
        state, _ = algorithm.round(state, planner_shape.cohort)
    shapes = {
        str(
            jax.tree.map(
                np.shape,
                worlds.plan(CHOSEN, worlds.batches(DATA, CHOSEN, 2, 3, seed=s), row_kinds=((24, 1),)).cohort,
            )
        )
        for s in range(3)
    }
    assert algorithm.compiled._cache_size() == len(shapes)
