"""How alike clients' masks are: PerFIT, Figure 7."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from profit_jax.errors import InputError
from profit_jax.plots import style
from profit_jax.plots.records import Similarity

DRAWN = 10  # clients; the paper draws as many, chosen at random
COLUMNS = {"first": "first LoRA module", "all": "all LoRA modules"}
SIZE = (5.2, 4.4)  # inches, of a map


def similarity(masks: Mapping[str, Similarity]) -> Figure:
    """PerFIT, Figure 7: pairwise Hamming distance between clients' masks, a fraction of the coordinates (0 to 1).

    Two heat maps a line: over the first LoRA module, which the paper draws, and over all coordinates; axes carry the
    clients' indices. Of more than ten clients ten are drawn, the same random ones in every figure of as many clients.
    Each map has its own colour scale, from its lowest to its highest distance between two clients: a client's distance
    to itself, zero, is left blank and does not count.

    Args:
      masks: title -> distances, a line of maps each.

    Raises:
      InputError: fewer than two clients.
    """
    with style.look():
        figure = Figure(figsize=(SIZE[0] * len(COLUMNS), SIZE[1] * len(masks)))
        lines = figure.subplots(len(masks), len(COLUMNS), squeeze=False)
        for line, (title, distances) in zip(lines, masks.items(), strict=True):
            for axes, (name, heading) in zip(line, COLUMNS.items(), strict=True):
                image = _map(axes, getattr(distances, name))
                axes.set_title(f"{title}: {heading}" if title else heading)
                figure.colorbar(image, ax=axes, label="Hamming distance (fraction)", shrink=0.85)
    return figure


def _map(axes: Axes, distances: np.ndarray) -> AxesImage:
    count = len(distances)
    if count < 2:
        raise InputError(f"masks of two clients at least are compared, not of {count}")
    drawn = np.sort(np.random.default_rng(0).choice(count, min(count, DRAWN), replace=False))
    own = np.eye(len(drawn), dtype=bool)
    shown = np.ma.masked_array(distances[np.ix_(drawn, drawn)], own)
    image = axes.imshow(shown, cmap="viridis")
    axes.set_facecolor("0.9")
    for row, column in zip(*np.nonzero(~own), strict=True):
        dark = np.asarray(image.norm(shown[row, column])) < 0.5
        look = {"color": "white" if dark else "black", "size": 7, "ha": "center", "va": "center"}
        axes.text(column, row, f"{shown[row, column]:.2f}", **look)
    axes.set_xticks(range(len(drawn)), drawn)
    axes.set_yticks(range(len(drawn)), drawn)
    axes.grid(False)
    axes.set(xlabel="client", ylabel="client")
    return image
