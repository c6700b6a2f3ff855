"""Figure 7 shows distances between clients, on a scale of their own."""

import numpy as np
import pytest

from profit_jax.errors import InputError
from profit_jax.plots import masks
from profit_jax.plots.records import Similarity
from tests.plots.fakes import two_masks


def distances(clients: int) -> np.ndarray:
    values = np.random.default_rng(0).uniform(0.4, 0.5, (clients, clients))
    return np.triu(values, 1) + np.triu(values, 1).T


def test_a_clients_distance_to_itself_is_blank_and_off_the_scale() -> None:
    figure = masks.similarity({"PerFIT R = 16": Similarity(**two_masks())})
    first, whole = figure.axes[:2]
    assert [axes.get_title() for axes in (first, whole)] == [
        "PerFIT R = 16: first LoRA module",
        "PerFIT R = 16: all LoRA modules",
    ]
    assert [text.get_text() for axes in (first, whole) for text in axes.texts] == ["0.25"] * 2 + ["0.50"] * 2
    drawn = first.images[0].get_array()
    np.testing.assert_array_equal(drawn.mask, np.eye(2, dtype=bool))


def test_the_scale_reaches_from_the_lowest_to_the_highest_distance() -> None:
    values = distances(5)
    axes = masks.similarity({"": Similarity(values, values)}).axes[0]
    between = values[~np.eye(5, dtype=bool)]
    assert axes.images[0].get_clim() == (between.min(), between.max())


def test_of_many_clients_the_same_ten_are_drawn() -> None:
    values = distances(30)
    axes = masks.similarity({"": Similarity(values, values)}).axes[0]
    drawn = [int(tick.get_text()) for tick in axes.get_xticklabels()]
    assert drawn == sorted(set(drawn)) and len(drawn) == 10
    assert drawn == [int(tick.get_text()) for tick in axes.get_yticklabels()]
    off = ~np.eye(10, dtype=bool)
    np.testing.assert_array_equal(axes.images[0].get_array()[off], values[np.ix_(drawn, drawn)][off])
    again = masks.similarity({"": Similarity(values, values)}).axes[0]
    assert [int(tick.get_text()) for tick in again.get_xticklabels()] == drawn


def test_one_client_has_no_distance() -> None:
    with pytest.raises(InputError, match="masks of two clients at least are compared, not of 1"):
        masks.similarity({"": Similarity(np.zeros((1, 1)), np.zeros((1, 1)))})
