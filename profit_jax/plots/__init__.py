"""Every figure and table of the papers, from recorded files alone: no training code is imported, no model is loaded."""

from profit_jax.plots import (
    effects,
    heterogeneity,
    labels,
    masks,
    measures,
    perplexity,
    records,
    seeds,
    style,
    tradeoff,
    training,
)

__all__ = [
    "effects",
    "heterogeneity",
    "labels",
    "masks",
    "measures",
    "perplexity",
    "records",
    "seeds",
    "style",
    "tradeoff",
    "training",
]
