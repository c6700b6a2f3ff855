"""Every figure of the papers, drawn from recorded files alone: no training code is imported, no model is loaded."""

from profit_jax.plots import heterogeneity, labels, masks, perplexity, records, style, tradeoff, training

__all__ = ["heterogeneity", "labels", "masks", "perplexity", "records", "style", "tradeoff", "training"]
