"""The algorithms against plain loops over clients, steps and examples, written from the papers. SGD, float32."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from profit_jax.data.cohort import Layout, Planner
from profit_jax.federated import centralized, fed_avg, fed_sgd, local
from profit_jax.optim import optimizer
from tests import worlds

DATA = worlds.encoded(worlds.clients())
CHOSEN = [2, 0, 3]
CLIENT_RATE, SERVER_RATE = 0.3, 0.7
CLOSE = {"rtol": 1e-5, "atol": 1e-6}  # float32 rounding of sums in another order


def prompt() -> np.ndarray:
    return np.asarray(worlds.prompt()["prompt"])


def rounds(algorithm, cohort, count=1):
    state = algorithm.init({"prompt": jnp.asarray(prompt())})
    for _ in range(count):
        state, stats = algorithm.round(state, cohort)
    return np.asarray(state.adapter["prompt"]), jax.device_get(stats)


def locally(start: np.ndarray, steps) -> tuple[np.ndarray, list[float], list[float]]:
    """S steps of SGD of one client, in NumPy."""
    own, losses, norms = start.copy(), [], []
    for batch in steps:
        loss, gradient = worlds.mean_loss_and_gradient(own, batch)
        own = own - CLIENT_RATE * gradient
        losses.append(loss)
        norms.append(float(np.linalg.norm(gradient)))
    return own, losses, norms


@pytest.mark.parametrize("weights", [None, [1.0, 5.0, 2.0]])
def test_fed_avg_round_equals_a_loop_over_clients(weights):
    drawn = worlds.batches(DATA, CHOSEN, steps=3, batch=4)
    algorithm = fed_avg(
        worlds.backbone().loss, client_optimizer=optax.sgd(CLIENT_RATE), server_optimizer=optax.sgd(SERVER_RATE)
    )
    got, stats = rounds(algorithm, worlds.plan(CHOSEN, drawn, weights=weights).cohort)
    trained = [locally(prompt(), steps) for steps in drawn]
    weight = np.array(weights or [1.0, 1.0, 1.0])
    pseudo = sum(w * (prompt() - own) for w, (own, _, _) in zip(weight, trained)) / weight.sum()
    np.testing.assert_allclose(got, prompt() - SERVER_RATE * pseudo, **CLOSE)
    np.testing.assert_allclose(stats.loss.value, np.mean([t[1] for t in trained]), rtol=1e-5)
    np.testing.assert_allclose(stats.client_gradient_norm.value, np.mean([t[2] for t in trained]), rtol=1e-5)
    np.testing.assert_allclose(stats.adapter_norm, np.linalg.norm(got), rtol=1e-5)
    np.testing.assert_allclose(stats.change_norm, np.linalg.norm(SERVER_RATE * pseudo), rtol=1e-4)


def test_fed_avg_clients_start_a_fresh_optimizer_in_every_round():
    """With momentum at the clients, the second round of an unchanged prompt repeats the first."""
    algorithm = fed_avg(
        worlds.backbone().loss, client_optimizer=optax.sgd(0.1, momentum=0.9), server_optimizer=optax.sgd(1.0)
    )
    cohort = worlds.cohort(DATA, CHOSEN)
    state, _ = algorithm.round(algorithm.init(worlds.prompt()), cohort)
    first = np.asarray(state.adapter["prompt"])
    again, _ = algorithm.round(algorithm.init(worlds.prompt()), cohort)
    np.testing.assert_array_equal(first, again.adapter["prompt"])


def test_fed_sgd_round_equals_a_loop_over_clients():
    drawn = worlds.batches(DATA, CHOSEN, steps=1, batch=4)
    got, stats = rounds(
        fed_sgd(worlds.backbone().loss, server_optimizer=optax.sgd(SERVER_RATE)), worlds.plan(CHOSEN, drawn).cohort
    )
    own = [worlds.mean_loss_and_gradient(prompt(), steps[0]) for steps in drawn]
    gradient = np.mean([g for _, g in own], axis=0)
    np.testing.assert_allclose(got, prompt() - SERVER_RATE * gradient, **CLOSE)
    np.testing.assert_allclose(stats.loss.value, np.mean([loss for loss, _ in own]), rtol=1e-5)
    np.testing.assert_allclose(
        stats.client_gradient_norm.value, np.mean([np.linalg.norm(g) for _, g in own]), rtol=1e-5
    )


def test_fed_sgd_gradient_is_the_gradient_of_the_mean_loss():
    """Equal batches: the mean of clients' gradients is the gradient of the mean over all their examples."""
    drawn = worlds.batches(DATA, CHOSEN, steps=1, batch=5)
    got, _ = rounds(fed_sgd(worlds.backbone().loss, server_optimizer=optax.sgd(1.0)), worlds.plan(CHOSEN, drawn).cohort)
    _, gradient = worlds.mean_loss_and_gradient(prompt(), [example for steps in drawn for example in steps[0]])
    np.testing.assert_allclose(prompt() - got, gradient, **CLOSE)


def test_fed_sgd_large_batch_is_one_batch_however_many_steps_hold_it():
    drawn = worlds.batches(DATA, CHOSEN, steps=3, batch=2)
    merged = [[[example for step in steps for example in step]] for steps in drawn]
    algorithm = fed_sgd(worlds.backbone().loss, server_optimizer=optax.sgd(1.0))
    in_steps, _ = rounds(algorithm, worlds.plan(CHOSEN, drawn).cohort)
    at_once, _ = rounds(algorithm, worlds.plan(CHOSEN, merged).cohort)
    np.testing.assert_allclose(in_steps, at_once, **CLOSE)


def test_fed_sgd_uneven_steps_weigh_by_their_examples():
    (steps,) = worlds.batches(DATA, [2], steps=2, batch=4)
    uneven = [[steps[0], steps[1][:1]]]
    got, _ = rounds(fed_sgd(worlds.backbone().loss, server_optimizer=optax.sgd(1.0)), worlds.plan([2], uneven).cohort)
    _, gradient = worlds.mean_loss_and_gradient(prompt(), uneven[0][0] + uneven[0][1])
    np.testing.assert_allclose(prompt() - got, gradient, **CLOSE)


def test_one_client_with_one_step_of_sgd_is_centralized():
    cohort = worlds.plan([2], worlds.batches(DATA, [2], steps=1, batch=6)).cohort
    loss = worlds.backbone().loss
    federated, _ = rounds(fed_avg(loss, client_optimizer=optax.sgd(0.5), server_optimizer=optax.sgd(1.0)), cohort)
    central, _ = rounds(centralized(loss, optimizer=optax.sgd(0.5)), cohort)
    np.testing.assert_allclose(federated, central, **CLOSE)


def test_centralized_round_equals_a_loop_over_pooled_batches():
    """Shards of unequal size: the pooled batch is one batch, whoever holds which part of it."""
    drawn = worlds.batches(DATA, CHOSEN, steps=3, batch=4)
    drawn[1] = [step[:2] for step in drawn[1]]
    got, stats = rounds(
        centralized(worlds.backbone().loss, optimizer=optax.sgd(0.5)), worlds.plan(CHOSEN, drawn).cohort
    )
    own, losses = prompt(), []
    for step in range(3):
        loss, gradient = worlds.mean_loss_and_gradient(own, [example for shard in drawn for example in shard[step]])
        own = own - 0.5 * gradient
        losses.append(loss)
    np.testing.assert_allclose(got, own, **CLOSE)
    np.testing.assert_allclose(stats.loss.value, np.mean(losses), rtol=1e-5)
    np.testing.assert_allclose(stats.change_norm, np.linalg.norm(own - prompt()), rtol=1e-4)


def test_centralized_keeps_its_optimizer_between_rounds():
    cohort = worlds.cohort(DATA, CHOSEN)
    algorithm = centralized(worlds.backbone().loss, optimizer=optax.sgd(0.1, momentum=0.9))
    state, _ = algorithm.round(algorithm.init(worlds.prompt()), cohort)
    momentum = np.linalg.norm(state.optimizer[0].trace["prompt"])
    assert momentum > 0
    before = np.asarray(state.adapter["prompt"])
    _, stats = algorithm.round(state, cohort)
    fresh = algorithm.init({"prompt": jnp.asarray(before)})
    _, without = algorithm.round(fresh, cohort)
    assert float(stats.change_norm) > float(without.change_norm)


def test_local_training_keeps_every_client_and_its_optimizer_apart():
    """Two rounds of a client with momentum equal its own loop; a client left out stays as it was."""
    drawn = worlds.batches(DATA, [0, 2], steps=2, batch=3)
    method = local(worlds.backbone().loss, optimizer=optax.sgd(0.2, momentum=0.9), clients=3)
    state = method.init(worlds.prompt())
    for _ in range(2):
        state, stats = method.round(state, worlds.plan([0, 2], drawn, lanes=2).cohort)
    np.testing.assert_array_equal(state.adapter["prompt"][1], prompt())
    np.testing.assert_array_equal(stats.losses.weight, [[6], [6]])
    for client, steps in zip((0, 2), drawn):
        own, velocity = prompt(), np.zeros_like(prompt())
        for batch in [*steps, *steps]:
            _, gradient = worlds.mean_loss_and_gradient(own, batch)
            velocity = 0.9 * velocity + gradient
            own = own - 0.2 * velocity
        np.testing.assert_allclose(state.adapter["prompt"][client], own, **CLOSE)


def test_a_client_without_examples_in_a_step_does_not_move_in_it():
    drawn = worlds.batches(DATA, [0, 2], steps=2, batch=3)
    short = [drawn[0], drawn[1][:1]]
    method = local(worlds.backbone().loss, optimizer=optax.adam(0.1), clients=3)
    state, _ = method.round(method.init(worlds.prompt()), worlds.plan([0, 2], short).cohort)
    once, _ = method.round(method.init(worlds.prompt()), worlds.plan([2], [drawn[1][:1]]).cohort)
    np.testing.assert_allclose(state.adapter["prompt"][2], once.adapter["prompt"][2], atol=1e-5)
    assert int(state.optimizer[0].count[2]) == 1 and int(state.optimizer[0].count[0]) == 2


def test_a_client_schedule_multiplies_the_clients_rate_by_round():
    """SGD at rate 0.3 with a schedule of 1, then 1/2, is SGD at 0.3, then at 0.15."""
    loss, cohort = worlds.backbone().loss, worlds.cohort(DATA, CHOSEN)

    def method(rate, schedule=lambda round: 1.0):
        return fed_avg(
            loss, client_optimizer=optax.sgd(rate), server_optimizer=optax.sgd(1.0), client_schedule=schedule
        )

    scheduled, _ = rounds(method(0.3, lambda round: 0.5**round), cohort, count=2)
    first, _ = rounds(method(0.3), cohort)
    algorithm = method(0.15)
    state, _ = algorithm.round(algorithm.init({"prompt": jnp.asarray(first)}), cohort)
    np.testing.assert_allclose(scheduled, state.adapter["prompt"], **CLOSE)


def test_steps_that_do_not_exist_move_nothing_in_any_algorithm():
    drawn = worlds.batches(DATA, CHOSEN, steps=2, batch=3)
    settings = Layout(row_width=32)
    loss, adam = worlds.backbone().loss, optax.adam(0.1)
    methods = (
        fed_avg(loss, client_optimizer=adam, server_optimizer=adam),
        fed_sgd(loss, server_optimizer=adam),
        centralized(loss, optimizer=adam),
    )
    for method in methods:
        exact, stats = rounds(method, Planner(settings)(CHOSEN, drawn.__getitem__).cohort)
        roomy, same = rounds(method, Planner(settings, steps=5)(CHOSEN, drawn.__getitem__).cohort)
        np.testing.assert_array_equal(exact, roomy)
        assert float(stats.loss.value) == float(same.loss.value)


def test_rounds_with_other_learning_rates_share_one_compiled_program():
    loss, cohort = worlds.backbone().loss, worlds.cohort(DATA, CHOSEN)

    def method(client: float, server: float):
        return fed_avg(
            loss,
            client_optimizer=optimizer("adam", learning_rate=client),
            server_optimizer=optimizer("sgd", learning_rate=server),
        )

    one, other = method(0.1, 0.5), method(0.3, 1.0)
    programs = {each.compiled.lower(loss.frozen, each.init(worlds.prompt()), cohort).as_text() for each in (one, other)}
    assert len(programs) == 1
    lent, _ = one.round(other.init(worlds.prompt()), cohort)
    own, _ = other.round(other.init(worlds.prompt()), cohort)
    np.testing.assert_array_equal(lent.adapter["prompt"], own.adapter["prompt"])
    slower, _ = one.round(one.init(worlds.prompt()), cohort)
    assert np.abs(own.adapter["prompt"] - slower.adapter["prompt"]).max() > 0.1
