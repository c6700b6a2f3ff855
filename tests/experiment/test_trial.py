"""The size of a flight is chosen by measuring, and a run keeps its choice."""

import jax
import pytest

from profit_jax import trees
from profit_jax.data.cohort import Layout, Planner
from profit_jax.errors import InputError
from profit_jax.experiment import Workdir, trial, with_flights
from tests import worlds

OPEN = Layout(row_width=16, positions_per_flight=0)


def prompts(clients: int) -> dict:
    return trees.broadcast(worlds.prompt(), clients)


def test_a_trial_times_sizes_until_two_bring_nothing(monkeypatch):
    taken = iter([4.0] * 3 + [5.0, 6.0, 5.0] + [10.5] * 3 + [21.0] * 3 + [0.0] * 99)
    monkeypatch.setattr(trial, "_seconds", lambda work: jax.block_until_ready(work()) and next(taken))
    found = trial.trial(worlds.backbone().loss, prompts(2), 16, sizes=(32, 64, 128, 256, 512))
    assert found == {32: 4 / 32, 64: 5 / 64, 128: 10.5 / 128, 256: 21 / 256}
    assert trial.best(found) == 64


def test_a_flight_of_the_trial_is_full_and_every_clients():
    """Of 26 rows of 16 those of three texts of 128 positions."""
    rows = trial.full(rows=26, width=16, clients=3)
    losses = worlds.backbone().loss(worlds.backbone().frozen, prompts(3), rows)
    assert [leaf.tolist() for leaf in jax.tree.leaves(rows.windows)] == [[0, 8, 16], [8, 8, 8], [0, 1, 2]]
    assert rows.windows.widths == (8,) and rows.tokens.shape == (24, 16)
    assert rows.start.tolist() == [16 * row for row in range(8)] * 3
    assert rows.client.tolist() == [0] * 8 + [1] * 8 + [2] * 8
    assert rows.label_at.max() < rows.tokens.size and (losses > 0).all()


def test_a_run_keeps_its_choice(tmp_path, monkeypatch):
    monkeypatch.setattr(trial, "trial", lambda *_: {1024: 2.0, 2048: 1.0, 4096: 1.01})
    workdir = Workdir(tmp_path, {})
    chosen = with_flights(OPEN, worlds.backbone().loss, prompts(2), workdir)
    assert chosen == Layout(row_width=16, positions_per_flight=2048)
    monkeypatch.setattr(trial, "trial", lambda *_: {1024: 1.0})
    assert with_flights(OPEN, worlds.backbone().loss, prompts(2), workdir) == chosen
    assert with_flights(Layout(positions_per_flight=64), worlds.backbone().loss, prompts(2), workdir) == Layout(
        positions_per_flight=64
    )


def test_no_cohort_is_planned_on_an_open_size():
    with pytest.raises(InputError, match="positions_per_flight = 0 is for a trial to choose"):
        Planner(OPEN)
