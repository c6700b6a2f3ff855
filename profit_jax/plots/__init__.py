"""Every figure of the papers, drawn from recorded files alone: no training code is imported, no model is loaded."""

from profit_jax.plots import heterogeneity, records, style, tradeoff, training

__all__ = ["heterogeneity", "records", "style", "tradeoff", "training"]
