"""How alike clients' masks are: PerFIT, Figure 7."""

import numpy as np
from matplotlib.figure import Figure

from profit_jax.errors import InputError
from profit_jax.plots import style
from profit_jax.plots.records import Similarity

DRAWN = 10  # clients; the paper draws as many, chosen at random
PANELS = {"first": "first LoRA module", "all": "all LoRA modules"}


def similarity(distances: Similarity, title: str = "") -> Figure:
    """PerFIT, Figure 7: pairwise Hamming distance between clients' masks, a fraction of the coordinates (0 to 1).

    Two heat maps: over the first LoRA module, which the paper draws, and over all coordinates; axes carry the
    clients' indices. Of more than ten clients ten are drawn, the same random ones in every figure of as many clients.
    Each map has its own colour scale, from its lowest to its highest distance between two clients: a client's distance
    to itself, zero, is left blank and does not count.

    Raises:
      InputError: fewer than two clients.
    """
    count = len(distances.first)
    if count < 2:
        raise InputError(f"masks of two clients at least are compared, not of {count}")
    drawn = np.sort(np.random.default_rng(0).choice(count, min(count, DRAWN), replace=False))
    own = np.eye(len(drawn), dtype=bool)
    with style.look():
        figure, axes = style.panels(len(PANELS), size=(5.2, 4.4))
        for panel, (name, heading) in zip(axes, PANELS.items(), strict=True):
            shown = np.ma.masked_array(getattr(distances, name)[np.ix_(drawn, drawn)], own)
            image = panel.imshow(shown, cmap="viridis")
            panel.set_facecolor("0.9")
            for row, column in zip(*np.nonzero(~own), strict=True):
                dark = image.norm(shown[row, column]) < 0.5
                look = {"color": "white" if dark else "black", "size": 7, "ha": "center", "va": "center"}
                panel.text(column, row, f"{shown[row, column]:.2f}", **look)
            panel.set_xticks(range(len(drawn)), drawn)
            panel.set_yticks(range(len(drawn)), drawn)
            panel.grid(False)
            panel.set(xlabel="client", ylabel="client", title=heading)
            figure.colorbar(image, ax=panel, label="Hamming distance (fraction)", shrink=0.85)
        figure.suptitle(title)
    return figure
