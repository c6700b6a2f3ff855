"""Means, bands, differences and intervals of perplexity are what a reader works out by hand from the records."""

import json
from pathlib import Path

import numpy as np
import pytest

from profit_jax.errors import InputError
from profit_jax.plots import perplexity, records, style
from profit_jax.plots.perplexity import Setting, by_setting
from profit_jax.plots.records import Run
from tests.plots.fakes import perplexity_line, write_perfit
from tests.plots.test_figures import legend_texts, line_named


def run(folder: Path, label: str, perplexities: list[list[float]], seed: int = 0, **config: object) -> Run:
    place = folder / f"{label} {seed}"
    return records.open_run(write_perfit(place, perplexities, seed=seed, **config), label)


@pytest.fixture
def settings(tmp_path: Path) -> list[Setting]:
    """FIT ends at 5, 6, 9 and PerFIT at 4, 6, 5 by seed; by hand, differences -1, 0, -4."""
    runs = [
        run(tmp_path, "FIT", [[8, 12], [4, 6]], 0),
        run(tmp_path, "FIT", [[8, 12], [5, 7]], 1),
        run(tmp_path, "FIT", [[9, 13], [8, 10]], 2),
        run(tmp_path, "PerFIT", [[7, 9], [3, 5]], 0),
        run(tmp_path, "PerFIT", [[5, 5], [5, 7]], 1),
        run(tmp_path, "PerFIT", [[8, 8], [4, 6]], 2),
    ]
    return by_setting(runs)


def test_a_line_is_the_mean_over_clients_then_over_seeds(settings) -> None:
    figure = perplexity.curves({"pathological": settings})
    (axes,) = figure.axes
    np.testing.assert_allclose(line_named(axes, "FIT (3 seeds)").get_xydata(), [(0, 31 / 3), (1, 20 / 3)])
    np.testing.assert_allclose(line_named(axes, "PerFIT (3 seeds)").get_xydata(), [(0, 7), (1, 5)])
    assert axes.get_title() == "pathological"
    assert legend_texts(figure) == ["FIT (3 seeds)", "PerFIT (3 seeds)", "lowest to highest seed"]


def test_the_band_reaches_from_the_lowest_to_the_highest_seed(settings) -> None:
    (axes,) = perplexity.curves({"": settings}).axes
    corners = {tuple(point) for point in axes.collections[0].get_paths()[0].vertices}
    assert corners == {(0, 10), (1, 5), (1, 9), (0, 11)}


def test_panels_share_one_legend_and_a_setting_its_colour(settings) -> None:
    figure = perplexity.curves({"pathological": settings, "dirichlet": settings[1:]})
    left, right = figure.axes
    lines = [line_named(axes, "PerFIT (3 seeds)") for axes in (left, right)]
    assert [line.get_color() for line in lines] == [style.colour(1)] * 2
    assert legend_texts(figure) == ["FIT (3 seeds)", "PerFIT (3 seeds)", "lowest to highest seed"]


def test_one_seed_has_no_band(tmp_path: Path) -> None:
    figure = perplexity.curves({"": by_setting([run(tmp_path, "FIT", [[8, 12], [4, 6]])])})
    assert not figure.axes[0].collections
    assert legend_texts(figure) == ["FIT"]


def test_a_round_that_lacks_a_client_is_left_out(tmp_path: Path) -> None:
    stopped = run(tmp_path, "FIT", [[8, 12], [4, 6], [3]])
    with pytest.warns(UserWarning, match="FIT, seed 0: 1 rounds lack clients, left out"):
        (setting,) = by_setting([stopped])
    np.testing.assert_array_equal(setting.rounds, [0, 1])
    np.testing.assert_allclose(setting.values, [[10, 5]])
    assert len(setting.runs[0].perplexities) == 4


def test_a_round_that_lacks_a_seed_is_left_out(tmp_path: Path) -> None:
    seeds = [run(tmp_path, "FIT", [[8, 12], [4, 6], [3, 3]], 0), run(tmp_path, "FIT", [[8, 12], [6, 6]], 1)]
    with pytest.warns(UserWarning, match="FIT: 1 rounds lack seeds, left out"):
        (setting,) = by_setting(seeds)
    np.testing.assert_allclose(setting.values, [[10, 5], [10, 6]])


def test_the_axis_leaves_a_high_start_out_and_tells_it(tmp_path: Path) -> None:
    # Of 5, 4.6, 4, 4 the quartiles are 4 and 4.7: Tukey's limit is 4.7 + 1.5 * 0.7 = 5.75.
    start_high = run(tmp_path, "FIT", [[50, 50], [5, 5], [4.6, 4.6], [4, 4], [4, 4]])
    (axes,) = perplexity.curves({"": by_setting([start_high])}).axes
    np.testing.assert_allclose(axes.get_ylim(), (4 - 0.0875, 5.75 + 0.0875))
    assert axes.get_xlabel() == "round\n(until round 0 values up to 50 lie above)"


def test_the_axis_spans_a_tenth_so_that_noise_does_not_fill_it(tmp_path: Path) -> None:
    flat = run(tmp_path, "FIT", [[50, 50], [4.01, 4.01], [4, 4], [4.01, 4.01]])
    (axes,) = perplexity.curves({"": by_setting([flat])}).axes
    np.testing.assert_allclose(axes.get_ylim(), (4 - 0.02, 4.4 + 0.02))


def test_the_axis_holds_a_start_that_is_not_high_and_any_last_round(tmp_path: Path) -> None:
    slow = run(tmp_path, "slow", [[8, 8], [7, 7], [6, 6], [5, 5], [4, 4]])
    rising = run(tmp_path, "rising", [[8, 8], [4, 4], [4, 4], [4, 4], [90, 90]])
    for one in (slow, rising):
        (axes,) = perplexity.curves({"": by_setting([one])}).axes
        low, high = axes.get_ylim()
        assert low < 4 and high > max(8, one.perplexities[-1]["perplexity"])
        assert axes.get_xlabel() == "round"


def test_the_summary_is_worked_out_by_hand(settings) -> None:
    fit, perfit = perplexity.summary(settings)
    # FIT's last means are 5, 6, 9: mean 20/3, squared deviations 25/9 + 4/9 + 49/9 = 26/3, over 2 degrees.
    assert fit == perplexity.Row(
        "FIT", 3, 1, pytest.approx(20 / 3), pytest.approx((13 / 3) ** 0.5), *([20 / 3] + 4 * [None])
    )
    # PerFIT's are 4, 6, 5; seed 1 was best at its start, 5.
    assert (perfit.last, perfit.std, perfit.best) == (5, 1, pytest.approx(14 / 3))
    # Differences -1, 0, -4: mean -5/3, variance (4/9 + 25/9 + 49/9) / 2 = 13/3; t of 2 degrees at 97.5 % is 4.302653.
    half = 4.302653 * (13 / 3 / 3) ** 0.5
    assert perfit.difference == pytest.approx(-5 / 3)
    assert (perfit.low, perfit.high) == (pytest.approx(-5 / 3 - half), pytest.approx(-5 / 3 + half))
    assert perfit.pairs == 3


def test_differences_pair_the_seeds_that_both_have(tmp_path: Path, settings) -> None:
    fit = list(settings[0].runs.values())
    others = [run(tmp_path, "one", [[8, 8], [4, 6]], 2), run(tmp_path, "none", [[3, 3]], 7)]
    _, one, none = perplexity.summary(by_setting([*fit, *others]))
    assert (one.seeds, one.std, one.pairs, one.difference) == (1, None, 1, -4)
    assert (one.low, one.high) == (None, None)
    assert (none.pairs, none.difference, none.low) == (0, None, None)


def test_each_client_stands_against_itself_in_the_baseline(settings) -> None:
    fit, perfit = (setting.runs[0] for setting in settings)
    figure = perplexity.clients({"Dolly": [fit, perfit]})
    (axes,) = figure.axes
    np.testing.assert_allclose(axes.collections[0].get_offsets(), [(4, 3), (6, 5)])
    (diagonal,) = axes.get_lines()
    np.testing.assert_array_equal(diagonal.get_xdata(), diagonal.get_ydata())
    assert axes.get_xlim() == axes.get_ylim() == tuple(diagonal.get_xdata())
    assert (
        "FIT" in axes.get_xlabel() and "under the diagonal: better" in axes.get_ylabel() and axes.get_title() == "Dolly"
    )
    assert legend_texts(figure) == ["PerFIT"]


@pytest.mark.parametrize("change", [{"seed": 1}, {"split": "dirichlet"}, {"extra client": True}, {"other rows": True}])
def test_other_clients_are_not_compared(tmp_path: Path, change) -> None:
    baseline = run(tmp_path, "FIT", [[4, 6]])
    lines = [[4, 6, 8]] if "extra client" in change else [[4, 6]]
    other = run(tmp_path, "PerFIT", lines, **{name: value for name, value in change.items() if " " not in name})
    if "other rows" in change:
        with (tmp_path / "PerFIT 0" / "perplexity.jsonl").open("a") as file:
            file.write(json.dumps(perplexity_line(0, 1, 6.0, tokens=7)) + "\n")
        other = records.open_run(tmp_path / "PerFIT 0", "PerFIT")
    with pytest.raises(InputError, match="PerFIT: other clients or test rows than FIT"):
        perplexity.clients({"": [baseline, other]})


def test_what_cannot_be_drawn_is_named(tmp_path: Path) -> None:
    begun = run(tmp_path, "begun", [])
    with pytest.raises(InputError, match="begun: no perplexities are recorded"):
        by_setting([begun])
    for draw, nothing in (
        (perplexity.curves, {"": []}),
        (perplexity.summary, []),
        (perplexity.clients, {"": [begun]}),
    ):
        with pytest.raises(InputError, match="no run to draw"):
            draw(nothing)


def test_rounds_that_nobody_has_in_common_are_named(tmp_path: Path) -> None:
    folder = write_perfit(tmp_path / "torn", seed=1)
    (folder / "perplexity.jsonl").write_text(json.dumps(perplexity_line(3, 0, 4.0)))
    seeds = [run(tmp_path, "FIT", [[4, 6]], 0), records.open_run(folder, "FIT")]
    with (
        pytest.warns(UserWarning, match="FIT: 2 rounds lack seeds"),
        pytest.raises(InputError, match="FIT: no round that every seed has reached"),
    ):
        by_setting(seeds)
    lines = [perplexity_line(0, 0, 4.0), perplexity_line(1, 1, 4.0)]
    (folder / "perplexity.jsonl").write_text("\n".join(map(json.dumps, lines)))
    with (
        pytest.warns(UserWarning, match="torn, seed 1: 2 rounds lack clients"),
        pytest.raises(InputError, match="torn: no round has every client"),
    ):
        by_setting([records.open_run(folder)])


def test_a_label_has_each_seed_once(tmp_path: Path) -> None:
    twice = [run(tmp_path / name, "FIT", [[4, 6]], seed=3) for name in ("one", "two")]
    with pytest.raises(InputError, match="two runs are called 'FIT' and have seed 3"):
        by_setting(twice)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"old: config\.json has no field 'seed'"):
        by_setting([records.open_run(tmp_path, "old")])
