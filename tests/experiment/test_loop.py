"""The loop: what it records, keeps, resumes and compiles."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import profit_jax as pj
from profit_jax.errors import InputError
from profit_jax.experiment import Evaluation, Workdir, read_adapter, train
from tests import worlds

SETTINGS = {
    "clients_per_round": 2,
    "local_steps": 2,
    "batch_size": 3,
    "encoder": pj.Encoder(worlds.Letters(), max_query=16, max_target=6),
    "layout": pj.Layout(row_width=32, slack=3.0),
    "progress": False,
}


@functools.cache  # so that its program is compiled once
def algorithm():
    return pj.fed_avg(worlds.backbone().loss, client_optimizer=optax.sgd(0.3), server_optimizer=optax.adam(0.3))


def test_a_run_is_a_function_of_its_seed():
    runs = [train(algorithm(), worlds.prompt(), worlds.clients(), rounds=3, seed=s, **SETTINGS) for s in (0, 0, 1)]
    np.testing.assert_array_equal(runs[0].adapter["prompt"], runs[1].adapter["prompt"])
    assert (runs[0].adapter["prompt"] != runs[2].adapter["prompt"]).any()


def test_training_lowers_the_loss():
    result = train(algorithm(), worlds.prompt(), worlds.clients(), rounds=25, **SETTINGS)
    losses = [row["loss"] for row in result.history]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])


def test_a_run_compiles_no_more_programs_than_the_ladder_has_rungs():
    method = pj.fed_sgd(worlds.backbone().loss, server_optimizer=optax.sgd(1.0))
    settings = SETTINGS | {"layout": pj.Layout(row_width=32, slack=0.3)}
    result = train(method, worlds.prompt(), worlds.clients(), rounds=8, **settings)
    compiled = method.compiled._cache_size()
    assert compiled == result.shapes < 8
    train(method, worlds.prompt(), worlds.clients(), rounds=8, **settings)
    assert method.compiled._cache_size() == compiled, "the same rounds again compile nothing"


def test_the_best_prompt_by_validation_score_is_kept_beside_the_last(tmp_path):
    scores = iter([0.2, 0.9, 0.4])
    seen = []

    def evaluate(state):
        seen.append(jax.device_get(state.adapter["prompt"]))
        score = next(scores)
        return Evaluation({"validation_score": score}, score)

    workdir = Workdir(tmp_path / "run", {})
    result = train(
        algorithm(),
        worlds.prompt(),
        worlds.clients(),
        rounds=6,
        evaluate=evaluate,
        evaluate_every=2,
        workdir=workdir,
        **SETTINGS,
    )
    np.testing.assert_array_equal(result.adapter["prompt"], seen[1])
    np.testing.assert_array_equal(result.last["prompt"], seen[2])
    np.testing.assert_array_equal(read_adapter(tmp_path / "run")["prompt"], seen[1])
    np.testing.assert_array_equal(read_adapter(tmp_path / "run", "last")["prompt"], seen[2])
    validated = {row["round"]: row["validation_score"] for row in workdir.rows("metrics") if "validation_score" in row}
    assert validated == {2: pytest.approx(0.2), 4: pytest.approx(0.9), 6: pytest.approx(0.4)}


def test_what_is_measured_of_clients_is_returned_as_it_is_recorded(tmp_path):
    def evaluate(state):
        return Evaluation({}, clients=[{"client": client, "perplexity": 2.0 + client} for client in range(2)])

    settings = SETTINGS | {"evaluate": evaluate, "evaluate_every": 2, "workdir": Workdir(tmp_path / "run", {})}
    result = train(algorithm(), worlds.prompt(), worlds.clients(), rounds=4, **settings)
    assert result.clients == settings["workdir"].rows("perplexity")
    assert [(row["round"], row["client"]) for row in result.clients] == [(2, 0), (2, 1), (4, 0), (4, 1)]


def test_a_stopped_run_goes_on_as_if_it_had_not_been(tmp_path):
    whole = train(
        algorithm(), worlds.prompt(), worlds.clients(), rounds=6, workdir=Workdir(tmp_path / "a", {}), **SETTINGS
    )

    class Stop(Exception):
        pass

    def evaluate(state):
        raise Stop

    workdir = Workdir(tmp_path / "b", {})
    with pytest.raises(Stop):  # in round 5, after the checkpoint of round 4
        train(
            algorithm(),
            worlds.prompt(),
            worlds.clients(),
            rounds=6,
            workdir=workdir,
            checkpoint_every=4,
            evaluate=evaluate,
            evaluate_every=5,
            **SETTINGS,
        )
    result = train(algorithm(), worlds.prompt(), worlds.clients(), rounds=6, workdir=workdir, **SETTINGS)
    np.testing.assert_array_equal(result.last["prompt"], whole.last["prompt"])
    rows = workdir.rows("metrics")
    assert [row["round"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row["loss"] for row in rows] == [row["loss"] for row in whole.history]


def test_progress_counts_clients_and_leaves_out_those_of_an_earlier_process(tmp_path, capsys):
    workdir, told = Workdir(tmp_path / "run", {}), SETTINGS | {"progress": True}
    train(algorithm(), worlds.prompt(), worlds.clients(), rounds=3, workdir=workdir, **told)
    said = capsys.readouterr().err
    assert said.startswith("train: 6/6 [") and " clients/s, round=3/3, loss=" in said and said.count("\n") == 1
    train(algorithm(), worlds.prompt(), worlds.clients(), rounds=3, workdir=workdir, **told)
    assert capsys.readouterr().err == "", "there was nothing to do"


def test_centralized_training_draws_from_all_clients():
    method = pj.centralized(worlds.backbone().loss, optimizer=optax.adam(0.05))
    result = train(method, worlds.prompt(), worlds.clients(), rounds=20, **SETTINGS)
    losses = [row["loss"] for row in result.history]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])


def _changes_alone(data, start: np.ndarray) -> list[np.ndarray]:
    """Each client's own change in round 0, by a plain loop of SGD."""
    encoded, changes = worlds.encoded(data), []
    for steps in worlds.batches(encoded, [0, 1], steps=2, batch=3):
        own = start
        for batch in steps:
            own = own - 0.3 * worlds.mean_loss_and_gradient(own, batch)[1]
        changes.append(own - start)
    return changes


def test_weighting_by_examples_follows_the_clients_sizes():
    """Two clients of 2 and 6 examples: the aggregate lies three times as near to the larger one's change."""
    data = worlds.clients((2, 6))
    method = pj.fed_avg(worlds.backbone().loss, client_optimizer=optax.sgd(0.3), server_optimizer=optax.sgd(1.0))
    start = np.asarray(worlds.prompt()["prompt"])

    def change(weighting: str) -> np.ndarray:
        return train(method, worlds.prompt(), data, rounds=1, weighting=weighting, **SETTINGS).last["prompt"] - start

    small, large = _changes_alone(data, start)
    np.testing.assert_allclose(change("uniform"), (small + large) / 2, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(change("examples"), (small + 3 * large) / 4, rtol=1e-4, atol=1e-6)


def test_a_loss_that_is_not_finite_stops_the_run():
    nan = {"prompt": jnp.full((3, worlds.CONFIG.width), np.nan)}
    with pytest.raises(InputError, match="round 1: no client's loss and update are finite"):
        train(algorithm(), nan, worlds.clients(), rounds=2, **SETTINGS)


def test_a_client_without_examples_is_named():
    with pytest.raises(InputError, match="client 1 has no examples"):
        train(algorithm(), worlds.prompt(), pj.MemoryClients([worlds.examples(3, 0), []]), rounds=1, **SETTINGS)
