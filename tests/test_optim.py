"""Optimizers by name, and the two pieces personalization adds."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from profit_jax import optim
from profit_jax.errors import InputError


def test_a_name_is_the_optax_optimizer():
    params, grads = {"prompt": jnp.ones((2, 2))}, {"prompt": jnp.full((2, 2), 0.3)}
    ours, theirs = optim.optimizer("adam", learning_rate=0.1, b1=0.99), optax.adam(0.1, b1=0.99)
    expected, _ = theirs.update(grads, theirs.init(params), params)
    got, _ = ours.update(grads, ours.init(params), params)
    np.testing.assert_array_equal(got["prompt"], expected["prompt"])


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(InputError, match="did you mean 'adam'"):
        optim.optimizer("adm", learning_rate=0.1)


def test_a_setting_that_is_not_the_optimizers_is_refused():
    with pytest.raises(InputError, match="'sgd' has no setting 'b1'"):
        optim.optimizer("sgd", learning_rate=0.1, b1=0.9)


def test_proximal_is_the_gradient_of_the_l2_penalty():
    """d/dP lambda/2 (P - P_0)^2 = lambda (P - P_0): from 1 to 4 with lambda 0.5, 1.5 beside the loss's own 0.25."""
    chain = optim.proximal(0.5)
    state = chain.init({"prompt": jnp.array(1.0)})
    updates, _ = chain.update({"prompt": jnp.array(0.25)}, state, {"prompt": jnp.array(4.0)})
    assert float(updates["prompt"]) == 0.25 + 1.5


def test_proximal_alone_leads_back_to_the_start():
    chain = optax.chain(optim.proximal(1.0), optax.sgd(0.5))
    params = {"prompt": jnp.array(1.0)}
    state = chain.init(params)
    params = {"prompt": jnp.array(5.0)}
    for _ in range(30):
        updates, state = chain.update({"prompt": jnp.array(0.0)}, state, params)
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(params["prompt"], 1.0, atol=1e-6)


def test_frozen_rows_stay_through_any_number_of_adam_steps():
    chain = optax.chain(optax.adam(0.1), optim.frozen_rows([0, 2]))
    start = {"prompt": jnp.arange(12.0).reshape(4, 3)}
    params, state = start, chain.init(start)
    for _ in range(5):
        updates, state = chain.update({"prompt": jnp.ones((4, 3))}, state, params)
        params = optax.apply_updates(params, updates)
    moved = np.asarray(params["prompt"] != start["prompt"])
    assert moved[[1, 3]].all() and not moved[[0, 2]].any()


def test_learning_rates_are_data_of_a_fresh_optimizer():
    """Two clients whose rate was 0.1 when the optimizer was made step with the 0.5 and 2 that they are given."""
    chain = optax.chain(optim.proximal(0.0), optim.optimizer("sgd", learning_rate=0.1), optim.frozen_rows([0]))
    start = {"prompt": jnp.ones((2, 3, 2))}
    assert optim.hyperparameters(chain.init(start)) == [{"learning_rate": jnp.float32(0.1)}]
    for rate in (0.5, 2.0):
        state = optim.fresh(chain, start, [{"learning_rate": jnp.float32(rate)}])
        updates, _ = jax.vmap(chain.update)({"prompt": jnp.full((2, 3, 2), 0.25)}, state, start)
        np.testing.assert_allclose(updates["prompt"][:, 1:], -rate * 0.25, rtol=1e-6)
    assert optim.hyperparameters(optax.adam(0.1).init(start)) == []


def test_a_fresh_optimizer_starts_from_the_clients_own_adapter():
    """FedProx's anchor is the prompt of the round, not the first one."""
    start = {"prompt": jnp.arange(6.0).reshape(2, 3)}
    state = optim.fresh(optax.chain(optim.proximal(1.0), optax.sgd(1.0)), start, [])
    np.testing.assert_array_equal(state[0]["prompt"], start["prompt"])
