"""Settings side by side: each is what it would be alone, in one compiled program."""

import json

import jax
import numpy as np
import pytest

import profit_jax as pj
from profit_jax import trees
from profit_jax.experiment import Evaluation, Workdir, read_adapter, train
from profit_jax.experiment.settings import tell_apart
from profit_jax.optim import optimizer
from tests import worlds

RATES = ((0.5, 0.1), (1.0, 0.3), (0.1, 3.0))
SETTINGS = {
    "clients_per_round": 2,
    "local_steps": 2,
    "batch_size": 3,
    "encoder": pj.Encoder(worlds.Letters(), max_query=16, max_target=6),
    "layout": pj.Layout(row_width=32, slack=3.0),
    "progress": False,
    "rounds": 3,
    "evaluate_every": 1,
}


def fed_avg(server: float, client: float):
    return pj.fed_avg(
        worlds.backbone().loss,
        client_optimizer=optimizer("adam", learning_rate=client),
        server_optimizer=optimizer("adam", learning_rate=server),
    )


def score(prompt: np.ndarray, round: int) -> float:
    """Rises for one setting and falls for another, so that their best rounds differ."""
    return float(np.tanh(prompt.mean()) * (-1) ** round)


def together(workdir: Workdir | None = None):
    def evaluate(states):
        scores = [score(prompt, int(round)) for prompt, round in zip(states.adapter["prompt"], states.round)]
        return Evaluation({"validation_score": scores, "validation_weight": 4}, scores)

    method = pj.side_by_side([fed_avg(*rates) for rates in RATES])
    result = train(method, worlds.prompt(), worlds.clients(), evaluate=evaluate, workdir=workdir, **SETTINGS)
    return method, result


def alone(number: int, workdir: Workdir | None = None):
    def evaluate(state):
        value = score(state.adapter["prompt"], int(state.round))
        return Evaluation({"validation_score": value, "validation_weight": 4}, value)

    method = fed_avg(*RATES[number])
    return train(method, worlds.prompt(), worlds.clients(), evaluate=evaluate, workdir=workdir, **SETTINGS)


def test_each_of_several_settings_is_what_it_is_alone_and_one_program_trains_all(tmp_path):
    """To the rounding of sums in another order, through three rounds of Adam; records and checkpoints as well."""
    shared = Workdir(tmp_path / "together", {"rates": "all"})
    method, result = together(shared)
    assert method.compiled._cache_size() == result.shapes == 1
    runs = [(tmp_path / f"apart{number}", {"number": number}) for number in range(len(RATES))]
    apart = tell_apart(shared, result, runs, score="validation_score")
    again = tell_apart(shared, result, runs, score="validation_score")
    for number, own in enumerate(apart):
        workdir = Workdir(tmp_path / f"alone{number}", {})
        single = alone(number, workdir)
        np.testing.assert_allclose(result.last["prompt"][number], single.last["prompt"], atol=1e-4)
        np.testing.assert_allclose(result.adapter["prompt"][number], single.adapter["prompt"], atol=1e-4)
        for which in ("best", "last"):
            np.testing.assert_allclose(
                read_adapter(own.path, which)["prompt"], read_adapter(workdir.path, which)["prompt"], atol=1e-4
            )
        for name in ("metrics", "cohorts"):
            rows, wanted = own.rows(name), workdir.rows(name)
            assert rows == again[number].rows(name)
            for row, other in zip(rows, wanted, strict=True):
                for taken in ("seconds", "waited"):
                    row.pop(taken, None), other.pop(taken, None)
                assert jax.tree.structure(row) == jax.tree.structure(other)
                assert jax.tree.leaves(row) == pytest.approx(jax.tree.leaves(other), rel=1e-3, abs=1e-5)
    assert (result.last["prompt"][0] != result.last["prompt"][1]).any()


def test_a_setting_that_diverges_leaves_the_others_whole():
    method = pj.side_by_side([fed_avg(0.5, 0.1), fed_avg(0.5, np.nan)])
    settings = {name: value for name, value in SETTINGS.items() if name != "evaluate_every"}
    with pytest.warns(UserWarning, match="a client was left out of its round"):
        result = train(method, worlds.prompt(), worlds.clients(), **settings)
    single = train(fed_avg(0.5, 0.1), worlds.prompt(), worlds.clients(), **settings)
    np.testing.assert_allclose(result.last["prompt"][0], single.last["prompt"], atol=1e-4)
    np.testing.assert_array_equal(result.last["prompt"][1], worlds.prompt()["prompt"])
    assert np.isnan([row["loss"][1] for row in result.history]).all()
    assert json.loads(json.dumps(result.history))[-1]["loss"][0] == pytest.approx(single.history[-1]["loss"], rel=1e-4)


def test_personal_states_stand_side_by_side_too():
    """Local training of every client at two rates: adapters are those of each rate alone."""
    cohort = worlds.cohort(worlds.encoded(worlds.clients()), [2, 0, 1])

    def local(rate: float):
        return pj.local(worlds.backbone().loss, optimizer=optimizer("sgd", learning_rate=rate), clients=3)

    method = pj.side_by_side([local(0.1), local(0.4)])
    state, stats = method.round(method.start(worlds.prompt()), cohort)
    assert stats.loss.value.shape == (2,)
    found = method.adapters(state, np.array([1, 2]))
    assert method.exchanged(state, np.arange(3)).tolist() == [0, 0, 0]
    for number, rate in enumerate((0.1, 0.4)):
        single, _ = local(rate).round(local(rate).start(worlds.prompt()), cohort)
        expected = local(rate).adapters(single, np.array([1, 2]))
        np.testing.assert_allclose(found["prompt"][number], expected["prompt"], atol=1e-5)
    assert trees.count(state.adapter) == 2 * trees.count(single.adapter)
