"""A client whose loss or update is not finite: left out of its round, named, and nobody else's numbers touched."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import profit_jax as pj
from profit_jax.data.examples import Example, MemoryClients
from profit_jax.errors import InputError
from profit_jax.experiment import Workdir, read_adapter, train
from profit_jax.federated import centralized, debugged, fed_avg, fed_sgd, local
from tests import worlds
from tests.experiment.test_loop import SETTINGS

DATA = worlds.encoded(worlds.clients())
CHOSEN, BAD = [2, 0, 3], 0
POISON = 28  # the token of "z", which no client of this world has
STEPS = 3


def poisoned() -> pj.Backbone:
    """Who reads a "z" computes nan from there on. The head is a matrix of its own, so nobody else does."""
    model = pj.Backbone.random(
        dataclasses.replace(worlds.CONFIG, tied_embeddings=False), seed=0, tokenizer=worlds.Letters()
    )
    table = model.frozen["embedding"]["embedding"]
    model.frozen["embedding"]["embedding"] = table.at[POISON].set(jnp.nan)
    return model


MODEL = poisoned()
LOSS = MODEL.loss
ADAPTERS = {"prompt": worlds.prompt(), "lora": pj.lora(MODEL, rank=2, init="gaussian", seed=3)}
ALGORITHMS = {
    "fed_avg": lambda: fed_avg(LOSS, client_optimizer=optax.adam(0.1), server_optimizer=optax.sgd(0.7)),
    "fed_sgd": lambda: fed_sgd(LOSS, server_optimizer=optax.sgd(0.7)),
}


def batches(poisoned: bool, step: int = 1):
    """Batches of the chosen clients; the bad one reads the poison at one of its steps."""
    drawn = worlds.batches(DATA, CHOSEN, steps=STEPS, batch=3)
    if poisoned:
        batch = drawn[CHOSEN.index(BAD)][step]
        batch[0] = batch[0]._replace(query=np.append(batch[0].query[:-1], np.int32(POISON)))
    return drawn


def a_round(algorithm, adapter, cohort):
    state, stats = algorithm.round(algorithm.start(adapter), cohort)
    return jax.device_get(state), jax.device_get(stats)


@pytest.mark.parametrize("kind", ADAPTERS)
@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_round_with_a_bad_client_is_the_round_of_the_others(name, kind):
    state, stats = a_round(ALGORITHMS[name](), ADAPTERS[kind], worlds.plan(CHOSEN, batches(True)).cohort)
    others = [place for place, client in enumerate(CHOSEN) if client != BAD]
    drawn = batches(False)
    alone = worlds.plan([CHOSEN[i] for i in others], [drawn[i] for i in others]).cohort
    expected, good = a_round(ALGORITHMS[name](), ADAPTERS[kind], alone)
    jax.tree.map(
        lambda got, want: np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6), state.adapter, expected.adapter
    )
    assert stats.lost.tolist() == [[0 if client != BAD else 2 for client in CHOSEN]]
    np.testing.assert_allclose(stats.loss.value, good.loss.value, rtol=1e-5)
    np.testing.assert_allclose(stats.client_gradient_norm.value, good.client_gradient_norm.value, rtol=1e-5)


def test_a_bad_shard_is_left_out_of_its_step_of_centralized_training():
    algorithm = centralized(LOSS, optimizer=optax.sgd(0.5))
    state, stats = a_round(algorithm, worlds.prompt(), worlds.plan(CHOSEN, batches(True)).cohort)
    drawn = batches(False)
    drawn[CHOSEN.index(BAD)][1] = []
    expected, _ = a_round(algorithm, worlds.prompt(), worlds.plan(CHOSEN, drawn).cohort)
    np.testing.assert_allclose(state.adapter["prompt"], expected.adapter["prompt"], rtol=1e-5, atol=1e-6)
    assert stats.lost.tolist() == [[0, 2, 0]]


def test_a_bad_client_that_trains_alone_keeps_what_it_had():
    algorithm = local(LOSS, optimizer=optax.adam(0.1), clients=4)
    state, stats = a_round(algorithm, worlds.prompt(), worlds.plan(CHOSEN, batches(True, step=0)).cohort)
    start, got = np.asarray(worlds.prompt()["prompt"]), state.adapter["prompt"]
    np.testing.assert_array_equal(got[BAD], start)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
    assert all((got[client] != start).any() for client in CHOSEN if client != BAD)
    assert stats.lost.tolist() == [[0, 1, 0]]


def test_an_update_that_is_infinite_is_left_out_too():
    """The gradient is finite, the rate is not: only the adapter after it tells."""
    algorithm = fed_avg(LOSS, client_optimizer=optax.sgd(jnp.inf), server_optimizer=optax.sgd(1.0))
    state, stats = a_round(algorithm, worlds.prompt(), worlds.plan(CHOSEN, batches(False)).cohort)
    assert (stats.lost > 0).all() and np.isnan(stats.loss.value)
    np.testing.assert_array_equal(state.adapter["prompt"], worlds.prompt()["prompt"])


def of_texts(*texts: str) -> MemoryClients:
    return MemoryClients([[Example(f"{t}{i}", t, ("a",), "task", "type") for i in range(4)] for t in texts])


def test_the_records_name_who_was_left_out_and_at_which_step(tmp_path):
    workdir = Workdir(tmp_path / "run", {})
    algorithm = ALGORITHMS["fed_avg"]()
    with pytest.warns(UserWarning, match=r"2 times a client was left out of its round.*cohorts.jsonl"):
        train(
            algorithm,
            worlds.prompt(),
            of_texts("ab", "zz", "cd"),
            rounds=2,
            workdir=workdir,
            **SETTINGS | {"clients_per_round": 3},
        )
    for row in workdir.rows("cohorts"):
        assert row["left_out"] == [{"client": 1, "step": 1}]
        assert [loss is None for loss in row["losses"]] == [client == 1 for client in row["clients"]]
    assert [row["left_out"] for row in workdir.rows("metrics")] == [1, 1]
    assert np.isfinite(read_adapter(workdir.path)["prompt"]).all()


def test_a_round_in_which_all_clients_fail_stops_the_run(tmp_path):
    workdir = Workdir(tmp_path / "run", {})
    with pytest.raises(
        InputError, match=r"round 1: no client's .* \(clients [01], [01]\); there is no checkpoint; lower"
    ):
        train(ALGORITHMS["fed_avg"](), worlds.prompt(), of_texts("z", "zz"), rounds=2, workdir=workdir, **SETTINGS)


def test_debugging_names_the_client_and_the_line():
    algorithm = debugged(ALGORITHMS["fed_sgd"]())
    cohort = worlds.plan(CHOSEN, [steps[:1] for steps in batches(True, step=0)]).cohort
    with pytest.raises(InputError, match=rf"round 1, client {BAD}: not a number in .*profit_jax/backbone/\w+.py"):
        algorithm.round(algorithm.start(worlds.prompt()), cohort)


def test_debugging_changes_no_result():
    cohort = worlds.plan([2, 0], worlds.batches(DATA, [2, 0], steps=1, batch=2)).cohort
    plain, _ = a_round(ALGORITHMS["fed_avg"](), worlds.prompt(), cohort)
    checked, _ = a_round(debugged(ALGORITHMS["fed_avg"]()), worlds.prompt(), cohort)
    np.testing.assert_allclose(checked.adapter["prompt"], plain.adapter["prompt"], rtol=1e-4, atol=1e-5)
