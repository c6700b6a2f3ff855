"""The embedded corpus: a generated small world, tasks and instructions about it, and what a model is pretrained on.

It stands in for Super-NaturalInstructions and for Dolly where there is no download. All text is made from word lists
by seeded rules; none is copied. `Backbone.load("tiny")` is the model that was pretrained on `documents`.
"""

from profit_jax.data.tiny.corpus import TYPES, write
from profit_jax.data.tiny.pretraining import documents
from profit_jax.data.tiny.responses import CATEGORIES, instructions, write_instructions

__all__ = ["CATEGORIES", "TYPES", "documents", "instructions", "write", "write_instructions"]
