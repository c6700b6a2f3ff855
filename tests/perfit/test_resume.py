"""A stopped PerFIT run goes on as if it had not been stopped, from its bitmaps and its checkpoint."""

import numpy as np
import optax
import pytest

import perfit_jax as pf
import profit_jax as pj
from profit_jax.experiment import Evaluation
from tests import worlds
from tests.perfit import plain


def test_a_stopped_run_goes_on_as_if_it_had_not_been(tmp_path):
    adapter = plain.adapter(rank=4)
    masks = pf.Masks.of_ranks(adapter, [4, 2, 3, 1])
    masks.save(tmp_path / "masks.npz")
    settings = {
        "clients_per_round": 2,
        "local_epochs": 1,
        "batch_size": 3,
        "reduction": "token",
        "encoder": plain.encoder(),
        "layout": plain.layout(),
        "progress": False,
    }

    def run(masks: pf.Masks, **changes) -> pj.experiment.Result:
        method = pf.perfit(plain.bigrams(), masks, client_optimizer=optax.adam(0.1), dispatch="global")
        return pj.train(method, adapter, worlds.clients(), rounds=4, **settings, **changes)

    class Stop(Exception):
        pass

    def stop(state) -> Evaluation:
        raise Stop

    whole = run(masks)
    workdir = pj.Workdir(tmp_path / "run", {})
    with pytest.raises(Stop):  # in round 3, after the checkpoint of round 2
        run(masks, workdir=workdir, checkpoint_every=2, evaluate=stop, evaluate_every=3)
    again = run(pf.Masks.load(tmp_path / "masks.npz", adapter), workdir=workdir)
    np.testing.assert_array_equal(again.last, whole.last)
    assert [row["loss"] for row in workdir.rows("metrics")] == [row["loss"] for row in whole.history]
    assert [row["round"] for row in workdir.rows("cohorts")] == [1, 2, 3, 4]
