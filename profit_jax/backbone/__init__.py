"""The frozen language model: one decoder in Flax NNX for all families, its weights, tokenizer, loss and generation."""

from profit_jax.backbone.config import BackboneConfig, Rope
from profit_jax.backbone.families import read_config
from profit_jax.backbone.loss import Loss
from profit_jax.backbone.model import Backbone, folder_of
from profit_jax.backbone.tokenizer import Tokenizer, load_tokenizer

__all__ = ["Backbone", "BackboneConfig", "Loss", "Rope", "Tokenizer", "folder_of", "load_tokenizer", "read_config"]
