"""Mergeable means and scores."""

from profit_jax.metrics.mean import Mean
from profit_jax.metrics.rouge import rouge_l

__all__ = ["Mean", "rouge_l"]
