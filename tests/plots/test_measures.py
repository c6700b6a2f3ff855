from pathlib import Path

import numpy as np
import pytest

from profit_jax.errors import InputError
from profit_jax.plots import measures, records, seeds
from profit_jax.plots.records import Run
from tests.plots.fakes import client_line, round_line, two_epochs, write_perfit, write_run


def curve(folder: Path, points: list[tuple[int, float, float]], averaged: list[tuple[float, float, float]] = ()) -> Run:
    """Two clients around each point (epoch, mean local, mean global), and of averaging (alpha, local, global)."""
    lines = [
        client_line(client, epoch, local + off, robust - off)
        for epoch, local, robust in points
        for client, off in enumerate((-0.05, 0.05))
    ]
    lines += [
        client_line(client, points[-1][0], local, robust, point="average", alpha=alpha)
        for alpha, local, robust in averaged
        for client in range(2)
    ]
    return records.open_run(write_run(folder, clients=lines))


@pytest.fixture
def slow(tmp_path: Path) -> Run:
    averaged = [(0.0, 0.2, 0.3), (0.5, 0.38, 0.3), (1.0, 0.35, 0.27)]
    return curve(tmp_path / "slow", [(0, 0.2, 0.3), (2, 0.3, 0.29), (4, 0.4, 0.28), (6, 0.35, 0.27)], averaged)


@pytest.fixture
def fast(tmp_path: Path) -> Run:
    return curve(tmp_path / "fast", [(0, 0.2, 0.3), (2, 0.6, 0.1)])


def test_measures_of_one_curve(slow: Run) -> None:
    names = ("local", "global_kept", "start_local", "start_global")
    assert [measures.measure(name, slow) for name in names] == pytest.approx([0.4, 0.27, 0.2, 0.3])
    assert measures.measure("local", slow, "average") == pytest.approx(0.38)


def test_percentiles_are_of_the_clients_at_the_last_point(tmp_path: Path) -> None:
    """Eleven clients with local scores 0, 0.1, … 1 and global scores the other way round."""
    lines = [client_line(number, 4, number / 10, 1 - number / 20) for number in range(11)]
    run = records.open_run(write_run(tmp_path / "run", clients=[line | {"epoch": 0} for line in lines] + lines))
    names = ("local_p10", "local_p90", "global_p10", "global_p90")
    assert [measures.measure(name, run) for name in names] == pytest.approx([0.1, 0.9, 0.55, 0.95])


def test_scores_at_a_local_score_that_both_reach(slow: Run, fast: Run) -> None:
    """The level is 0.95 * 0.4 = 0.38: between epochs 2 and 4 of the slow run, 0.45 of the way in the fast one."""
    assert measures.both("global_at_local", slow, fast) == pytest.approx((0.29 - 0.8 * 0.01, 0.3 - 0.45 * 0.2))
    assert measures.both("epochs_to_local", slow, fast) == pytest.approx((2 + 0.8 * 2, 0.45 * 2))
    assert measures.both("global_at_local", fast, slow) == measures.both("global_at_local", slow, fast)[::-1]


def test_the_score_on_the_way_is_the_mean_height_of_the_curve_up_to_that_level(slow: Run, fast: Run) -> None:
    """From 0.2 to 0.38 the slow curve falls by 0.1 a unit of the local score, the fast one by 0.5: half way is 0.09."""
    assert measures.both("global_on_way", slow, fast) == pytest.approx((0.3 - 0.1 * 0.09, 0.3 - 0.5 * 0.09))
    assert measures.measure("global_on_way", fast) == pytest.approx(0.3 - 0.5 * (0.57 - 0.2) / 2)


def test_a_level_that_holds_at_the_start_is_reached_there(slow: Run, tmp_path: Path) -> None:
    point = curve(tmp_path / "no_prompt", [(0, 0.1, 0.2)])
    assert measures.both("global_at_local", slow, point) == pytest.approx((0.3, 0.2))
    assert measures.both("epochs_to_local", slow, point) == (0, 0)
    assert measures.both("global_on_way", slow, point) == pytest.approx((0.3, 0.2))


def test_the_curve_of_averaging_stands_beside_that_of_epochs(slow: Run) -> None:
    """The level is 0.95 * 0.38 = 0.361: alpha 0.447 of averaging, and 0.61 of the way from epoch 2 to 4."""
    found = measures.both("global_at_local", slow, slow, ("average", "epoch"))
    assert found == pytest.approx((0.3, 0.29 - 0.61 * 0.01))
    assert measures.both("epochs_to_local", slow, slow, ("average", "epoch"))[0] == pytest.approx(0.161 / 0.18 * 0.5)


def test_measures_of_training(tmp_path: Path) -> None:
    rounds = [
        round_line(1, adapter_norm=4.0, client_gradient_norm=2.0, adapter_change_norm=0.5, validation_score=0.3),
        round_line(2, adapter_norm=8.0, client_gradient_norm=1.0, adapter_change_norm=1.5),
        round_line(3, adapter_norm=10.0, client_gradient_norm=3.0, adapter_change_norm=1.0, validation_score=0.2),
    ]
    run = records.open_run(write_run(tmp_path / "run", rounds=rounds))
    names = ("validation", "likelihood_trained", "prompt_norm", "gradient_norm", "change_norm", "gradient_by_prompt")
    expected = [0.3, np.exp(-(4 / 3 + 1) / 2), 10.0, 2.0, 1.0, (0.5 + 0.125 + 0.3) / 3]
    assert [measures.measure(name, run) for name in names] == pytest.approx(expected)


def test_perplexity_is_the_mean_over_clients_after_the_last_whole_round(tmp_path: Path) -> None:
    run = records.open_run(write_perfit(tmp_path / "run", [[9, 9], [4, 6], [3, 5]]))
    assert measures.measure("perplexity", run) == pytest.approx(4)
    assert measures.measure("likelihood", run) == pytest.approx(1 / 4)


def test_what_was_not_recorded_is_named(tmp_path: Path) -> None:
    run = records.open_run(write_run(tmp_path / "run", rounds=[round_line(1)], clients=two_epochs()))
    with pytest.raises(InputError, match=r"run: metrics\.jsonl holds no validation_score"):
        measures.measure("validation", run)
    with pytest.raises(InputError, match="run: no point 'average' is recorded of every client"):
        measures.measure("local", run, "average")
    with pytest.raises(InputError, match="unknown measure 'speed'; known: local, "):
        measures.measure("speed", run)


def test_pooled_seeds_have_the_mean_curve_and_the_mean_rounds(tmp_path: Path) -> None:
    both = []
    for seed, (robust, loss) in enumerate(((0.1, 2.0), (0.3, 4.0))):
        lines = [round_line(1, loss=loss), *([round_line(2)] if seed else [])]
        folder = write_run(tmp_path / str(seed), rounds=lines, clients=[client_line(c, 0, 0.2, robust) for c in (0, 1)])
        both.append(records.open_run(folder, "FedSGD"))
    pooled = seeds.pool(both)
    assert measures.measure("start_global", pooled) == pytest.approx(0.2)
    assert [line["client"] for line in pooled.clients] == [0, 1, 2, 3]
    assert [(line["round"], line["loss"]) for line in pooled.rounds] == [(1, 3.0)]
