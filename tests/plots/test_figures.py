"""What is drawn is what a reader would work out by hand from the records."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from profit_jax.errors import InputError
from profit_jax.plots import heterogeneity, records, seeds, style, tradeoff, training
from profit_jax.plots.records import Run
from tests.plots.fakes import client_line, round_line, two_epochs, write_run


def line_named(axes: Axes, label: str) -> Line2D:
    (found,) = [line for line in axes.get_lines() if line.get_label() == label]
    return found


def legend_texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    averaged = [
        client_line(client, 4, local, 0.4 - 0.2 * alpha, point="average", alpha=alpha)
        for client, local in ((0, 0.1), (1, 0.3))
        for alpha in (1.0, 0.0, 0.5)
    ]
    genie = [client_line(client, 4, 0.7, 0.5, point="genie") for client in (0, 1)]
    rounds = [round_line(0, validation_score=0.1, validation_weight=8), round_line(1), round_line(2)]
    return records.open_run(write_run(tmp_path / "adam", rounds, two_epochs() + averaged + genie))


def test_the_curve_is_the_plain_mean_over_clients_by_epoch(run: Run) -> None:
    figure = tradeoff.means({"HHF-SNI": [run]}, genie=True)
    (axes,) = figure.axes
    drawn = line_named(axes, "adam")
    np.testing.assert_allclose(drawn.get_xdata(), [0.2, 0.5])
    np.testing.assert_allclose(drawn.get_ydata(), [0.4, 0.2])
    averaged = line_named(axes, "adam, model averaging")
    np.testing.assert_allclose(averaged.get_xdata(), [0.2, 0.2, 0.2])
    np.testing.assert_allclose(averaged.get_ydata(), [0.4, 0.3, 0.2])  # alpha 0, 0.5, 1
    genie = line_named(axes, "adam, genie")
    np.testing.assert_allclose([genie.get_xdata(), genie.get_ydata()], [[0.7], [0.5]])
    assert axes.get_title() == "HHF-SNI"
    assert legend_texts(figure)[:3] == ["adam", "adam, model averaging", "adam, genie"]
    assert "adam, genie" not in legend_texts(tradeoff.means({"": [run]}))


def test_a_run_without_a_workdir_is_drawn_from_the_rows_it_returned(tmp_path: Path) -> None:
    rounds, clients = [round_line(1), round_line(2)], two_epochs()
    read = records.open_run(write_run(tmp_path / "adam", rounds, clients))
    for draw, returned in (
        (lambda run: tradeoff.means({"": [run]}), Run("adam", clients=clients)),
        (lambda run: training.loss([run]), Run("adam", rounds=rounds)),
    ):
        ours, theirs = (line_named(draw(run).axes[0], "adam") for run in (returned, read))
        np.testing.assert_array_equal(ours.get_xydata(), theirs.get_xydata())


def test_start_and_end_are_marked(run: Run) -> None:
    (axes,) = tradeoff.means({"": [run]}).axes
    marks = [(line.get_xdata()[0], line.get_marker()) for line in axes.get_lines() if len(line.get_xdata()) == 1]
    assert (pytest.approx(0.2), tradeoff.RING["marker"]) in marks
    assert (pytest.approx(0.5), style.marker(0)) in marks


def test_an_epoch_that_a_client_has_not_reached_is_left_out(tmp_path: Path) -> None:
    run = records.open_run(write_run(tmp_path / "run", clients=[*two_epochs(), client_line(0, 8, 1.0, 1.0)]))
    with pytest.warns(UserWarning, match="run: 1 evaluation points lack clients, left out"):
        curve = tradeoff.curve(run)
    np.testing.assert_array_equal(curve.steps, [0, 4])


def test_percentiles_are_taken_over_clients(tmp_path: Path) -> None:
    # Scores 0, 0.1, … 1.0 of eleven clients: the 10th percentile is 0.1, the 90th is 0.9.
    clients = [client_line(number, 0, number / 10, 1 - number / 10) for number in range(11)]
    run = records.open_run(write_run(tmp_path / "run", clients=clients))
    (axes,) = tradeoff.percentiles({"": [run]}).axes
    points = [(*line.get_xdata(), *line.get_ydata()) for line in axes.get_lines() if len(line.get_xdata()) == 1]
    np.testing.assert_allclose(points, [(0.9, 0.9), (0.1, 0.1)])


def test_each_client_stands_before_and_after(run: Run) -> None:
    figure = tradeoff.clients(run)
    (axes,) = figure.axes
    before, after = (collection.get_offsets() for collection in axes.collections)
    np.testing.assert_allclose(before, [(0.1, 0.4), (0.3, 0.4)])
    np.testing.assert_allclose(after, [(0.4, 0.1), (0.6, 0.3)])
    joined = [line.get_xydata() for line in axes.get_lines()]
    np.testing.assert_allclose(joined, [[(0.1, 0.4), (0.4, 0.1)], [(0.3, 0.4), (0.6, 0.3)]])
    assert legend_texts(figure) == ["before (epoch 0)", "after (epoch 4)"]


def test_a_baseline_is_one_star_and_has_no_after(tmp_path: Path) -> None:
    run = records.open_run(write_run(tmp_path / "few_shot", clients=two_epochs()[:2]))
    (axes,) = tradeoff.means({"": [run]}).axes
    star = line_named(axes, "few_shot")
    assert star.get_marker() == "*"
    np.testing.assert_allclose(star.get_xydata(), [(0.2, 0.4)])
    assert legend_texts(tradeoff.clients(run)) == ["before (epoch 0)"]


def test_loss_and_validation_score_by_round(run: Run) -> None:
    losses, scores = training.loss([run]).axes
    np.testing.assert_allclose(line_named(losses, "adam").get_xydata(), [(0, 4), (1, 2), (2, 4 / 3)])
    np.testing.assert_allclose(line_named(scores, "adam").get_xydata(), [(0, 0.1)])


def test_without_a_validation_score_there_is_one_panel(tmp_path: Path) -> None:
    run = records.open_run(write_run(tmp_path / "run", [round_line(0)]))
    assert len(training.loss([run]).axes) == 1


def test_norms_share_a_log_scale_that_leaves_out_zero(tmp_path: Path) -> None:
    rounds = [round_line(0, adapter_change_norm=0.0), round_line(1)]
    runs = [records.open_run(write_run(tmp_path / name, rounds)) for name in ("adam", "sgd")]
    figure = training.norms(runs)
    assert [axes.get_yscale() for axes in figure.axes] == ["log"] * 3
    drawn: list[Any] = [line_named(axes, "sgd").get_xydata().tolist() for axes in figure.axes]
    assert drawn == [[[0, 10], [1, 10]], [[0, 0.25], [1, 0.25]], [[1, 0.5]]]
    assert legend_texts(figure) == ["adam", "sgd"]


def test_bars_have_the_recorded_heights_and_zero_is_written() -> None:
    figure = heterogeneity.divergences({"hhf": {"Task": 2.0, "Domain": 0.5}, "lhf": {"Task": 0.1, "Domain": 0.0}})
    (axes,) = figure.axes
    assert [bar.get_height() for bar in axes.patches] == [2.0, 0.5, 0.1]
    assert [text.get_text() for text in axes.texts] == ["0"]
    assert axes.get_yscale() == "log"
    assert legend_texts(figure) == ["HHF-SNI", "LHF-SNI"]


def test_a_partition_without_any_divergence_has_no_bars() -> None:
    figure = heterogeneity.divergences({"hhf": {"Task": 2.0}, "lhf": {"Task": 0.0}})
    (axes,) = figure.axes
    assert [bar.get_height() for bar in axes.patches] == [2.0]
    assert [text.get_text() for text in axes.texts] == ["0"]


def test_panels_share_one_legend_and_a_label_its_colour(tmp_path: Path, run: Run) -> None:
    sgd = records.open_run(write_run(tmp_path / "sgd", clients=two_epochs()))
    for draw in (tradeoff.means, tradeoff.percentiles):
        figure = draw({"HHF-SNI": [run, sgd], "LHF-SNI": [sgd]})
        left, right = figure.axes
        assert [axes.get_title() for axes in (left, right)] == ["HHF-SNI", "LHF-SNI"]
        assert line_named(left, "sgd").get_color() == line_named(right, "sgd").get_color() == style.colour(1)
        assert len(figure.legends) == 1 and legend_texts(figure).count("sgd") == 1
        assert left.get_ylim() == right.get_ylim()


def test_of_several_seeds_the_mean_is_drawn_and_each_seed_thin(tmp_path: Path) -> None:
    """By hand, means over clients are (0.2, 0.4) and (0.5, 0.2) of seed 0, (0.4, 0.4) and (0.7, 0.2) of seed 1."""
    higher = [line | {"local": line["local"] + 0.2} for line in two_epochs()]
    rounds = ([round_line(0, loss=2.0), round_line(1, loss=1.0)], [round_line(0, loss=4.0), round_line(1, loss=3.0)])
    lines = zip(rounds, (two_epochs(), higher), strict=True)
    each = [records.open_run(write_run(tmp_path / str(seed), *made), "adam") for seed, made in enumerate(lines)]
    pooled = seeds.pool(each)
    figure = tradeoff.means({"": [pooled]})
    (axes,) = figure.axes
    np.testing.assert_allclose(line_named(axes, "adam").get_xydata(), [(0.3, 0.4), (0.6, 0.2)])
    thin = [line.get_xydata() for line in axes.get_lines() if line.get_linewidth() == tradeoff.THIN["lw"]]
    np.testing.assert_allclose(thin[:2], [[(0.2, 0.4), (0.5, 0.2)], [(0.4, 0.4), (0.7, 0.2)]])
    assert "thin: each seed" in legend_texts(figure)
    (losses,) = training.loss([pooled]).axes
    np.testing.assert_allclose(line_named(losses, "adam").get_xydata(), [(0, 3), (1, 2)])
    assert {(0, 2), (0, 4), (1, 1), (1, 3)} <= {tuple(point) for point in losses.collections[0].get_paths()[0].vertices}


def test_the_genie_is_of_runs_without_heuristics(run: Run) -> None:
    l2 = replace(run, label="l2", config={**run.config, "personalize": {"l2": 0.1}})
    texts = legend_texts(tradeoff.means({"": [run, l2]}, genie=True))
    assert "adam, genie" in texts and "l2, genie" not in texts


def test_what_cannot_be_drawn_is_named(tmp_path: Path) -> None:
    run = records.open_run(write_run(tmp_path / "empty"))
    with pytest.raises(InputError, match="empty: no rounds are recorded"):
        training.loss([run])
    with pytest.raises(InputError, match="empty: no clients are recorded"):
        tradeoff.means({"": [run]})
    with pytest.raises(InputError, match="hhf, lhf have different metadata categories"):
        heterogeneity.divergences({"hhf": {"Task": 1.0}, "lhf": {"Domain": 1.0}})


def test_a_figure_is_written_as_png_and_pdf(tmp_path: Path, run: Run) -> None:
    paths = style.save(tradeoff.means({"": [run]}), tmp_path / "figures" / "lr=1e-0.5")
    assert [path.name for path in paths] == ["lr=1e-0.5.png", "lr=1e-0.5.pdf"]
    assert paths[0].read_bytes().startswith(b"\x89PNG") and paths[1].read_bytes().startswith(b"%PDF")
