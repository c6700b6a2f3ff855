import numpy as np
import pytest
from scipy import stats

from profit_jax.plots import effects
from profit_jax.plots.effects import Estimate


def test_the_interval_is_students() -> None:
    """By hand: mean 4, standard error 2 / sqrt(3); t of two degrees of freedom at 97.5 % is 4.3027."""
    low, high = effects.interval([2, 4, 6])
    assert (low, high) == pytest.approx((4 - 4.3027 * 2 / 3**0.5, 4 + 4.3027 * 2 / 3**0.5), abs=1e-3)
    values = np.random.default_rng(0).normal(3, 2, 7)
    expected = stats.t.interval(0.95, 6, loc=values.mean(), scale=stats.sem(values))
    assert effects.interval(values) == pytest.approx(expected)


def test_a_difference_is_paired_by_seed() -> None:
    """Differences 1, 1.1, 0.9: told apart, though the values of A and B are far from each other between seeds."""
    found = effects.difference({0: (2.0, 1.0), 1: (12.1, 11.0), 4: (21.9, 21.0)})
    assert found.seeds == (0, 1, 4)
    assert (found.a.mean, found.b.mean, found.difference.mean) == pytest.approx((12.0, 11.0, 1.0))
    assert (found.difference.low, found.difference.high) == pytest.approx((1 - 0.2484, 1 + 0.2484), abs=1e-3)
    assert found.found == "higher"
    assert effects.difference({0: (1.0, 2.0), 1: (11.0, 12.1)}).found == "lower"
    assert effects.difference({0: (1.0, 2.0), 1: (3.0, 2.0)}).found == "not told apart"


def test_what_takes_more_seeds_is_none() -> None:
    one = effects.difference({3: (2.0, 0.5)})
    assert one.difference == Estimate(1.5, None, None) and one.found == "no interval"
    assert effects.difference({}).a == Estimate(None, None, None)
    assert [estimate.text("+") for estimate in (one.difference, Estimate(None, None, None))] == ["+1.5", "-"]
    assert Estimate(0.25, 0.125, 0.375).text() == "0.25 (0.125 to 0.375)"


def test_the_best_is_the_highest_and_a_second_value_decides_within_5_percent() -> None:
    assert effects.best({"a": [0.30], "b": [0.31], "c": [0.29]}) == "b"
    assert effects.best({"a": [0.30, 0.1], "b": [0.31, 0.05], "c": [0.2, 0.2]}) == "a"


@pytest.mark.parametrize(
    ("paper", "found", "stands"),
    [
        ("higher", "higher", "as the paper says"),
        ("lower", "higher", "otherwise"),
        ("lower", "not told apart", "not told apart"),
        ("alike", "not told apart", "as the paper says"),
        ("alike", "lower", "otherwise"),
        ("not lower", "higher", "as the paper says"),
        ("not lower", "lower", "otherwise"),
        ("higher", "no interval", "no interval"),
        ("", "higher", ""),
        ("", "no interval", ""),
    ],
)
def test_what_was_found_stands_to_what_the_paper_says(paper: str, found: str, stands: str) -> None:
    assert effects.agreement(paper, found) == stands
