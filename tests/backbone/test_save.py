"""Saving is the inverse of loading, for every family."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from profit_jax.backbone import Backbone, Rope
from profit_jax.backbone.save import save
from profit_jax.errors import InputError
from tests.backbone.families import FAMILIES, TINY, reference, tiny


@pytest.mark.parametrize("name", FAMILIES)
def test_a_saved_model_is_the_model_that_was_loaded(name, tmp_path):
    """The same tensors under the same names, and a config.json from which both sides read the same model."""
    model = reference(name)
    model.save_pretrained(tmp_path / "theirs")
    backbone = Backbone.load(tmp_path / "theirs")
    save(tmp_path / "ours", backbone.config, jax.device_get(backbone.frozen))
    theirs, ours = (load_file(tmp_path / folder / "model.safetensors") for folder in ("theirs", "ours"))
    assert theirs.keys() == ours.keys() and all(torch.equal(theirs[tensor], ours[tensor]) for tensor in theirs)
    assert Backbone.load(tmp_path / "ours").config == backbone.config
    assert json.loads((tmp_path / "ours" / "config.json").read_text())["architectures"] == [type(model).__name__]
    again, ids = AutoModelForCausalLM.from_pretrained(tmp_path / "ours").eval(), torch.arange(40)[None]
    with torch.no_grad():
        np.testing.assert_array_equal(again(ids).logits, model(ids).logits)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"windows": (8, None, 8)}, r"a llama folder cannot say windows = \(8, None, 8\)"),
        ({"gated": False}, "a llama folder cannot say gated = False"),
        ({"rope": Rope(10000.0, share=0.5)}, "a llama folder cannot say rope = "),
        ({"family": "gemma", "embedding_scale": 32**0.5}, "a gemma folder cannot say norm_offset = 0"),
        ({"family": "gemma3_text", "query_scalar": 8}, "a gemma3_text folder cannot say "),
        ({"family": "palm"}, "models of the family 'palm' have no Hugging Face folder"),
    ],
)
def test_what_a_folder_cannot_say_is_not_saved(fields, message, tmp_path):
    with pytest.raises(InputError, match=message):
        save(tmp_path / "new", dataclasses.replace(TINY, **fields), jax.device_get(tiny().frozen))
    assert not (tmp_path / "new").exists()
