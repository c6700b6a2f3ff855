"""A backbone as a Hugging Face folder: the inverse of loading."""

import json
from collections import defaultdict
from pathlib import Path

import jax
import numpy as np
from flax import traverse_util
from safetensors.numpy import save_file

from profit_jax.backbone.config import BackboneConfig
from profit_jax.backbone.families import FAMILIES, fields_of
from profit_jax.backbone.tokenizer import Tokenizer
from profit_jax.backbone.weights import source
from profit_jax.errors import InputError
from profit_jax.files import make_folder, write_whole
from profit_jax.typing import Frozen


def save(folder: str | Path, config: BackboneConfig, frozen: Frozen, tokenizer: Tokenizer | None = None) -> Path:
    """Writes `config.json`, `model.safetensors` and the tokenizer, for transformers and for `Backbone.load`.

    Raises:
      InputError: the weights are quantized, the folder holds something already, or folders of the model's family
        cannot say what the model is.
    """
    folder = Path(folder)
    if any(leaf.dtype == np.int8 for leaf in jax.tree.leaves(frozen)):
        raise InputError(
            "int8 weights are not saved: the folder they were loaded from says more; load without quantize"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is not empty; a model is written to a new folder")
    fields = fields_of(config) | {"torch_dtype": str(frozen["embedding"]["embedding"].dtype)}
    make_folder(folder)
    save_file(_tensors(config, frozen), folder / "model.safetensors", metadata={"format": "pt"})
    if tokenizer is not None:
        tokenizer.inner.save_pretrained(folder)
    write_whole(folder / "config.json", json.dumps(fields, indent=2) + "\n")  # last: without it there is no model
    return folder


def modules(config: BackboneConfig, path: str) -> list[str]:
    """Which modules of the Hugging Face model, one for each layer, hold the kernel at `path` of the decoder's tree.

    None do, `[]`, where the family has it in one matrix with others (GPT-NeoX: query, key and value).

    Raises:
      InputError: the family has no Hugging Face folders.
    """
    if config.family not in FAMILIES:
        raise InputError(f"models of the family {config.family!r} have no Hugging Face folder")
    at = source(path, config)
    return [name.removesuffix(".weight") for name in at.names] if at.third is None else []


def _tensors(config: BackboneConfig, frozen: Frozen) -> dict[str, np.ndarray]:
    tensors: dict[str, np.ndarray] = {}
    thirds: dict[str, dict[int, np.ndarray]] = defaultdict(dict)
    for path, leaf in traverse_util.flatten_dict(frozen, sep="/").items():
        at = source(path, config)
        for name, value in zip(at.names, np.asarray(leaf) if at.stacked else [np.asarray(leaf)]):
            value = np.ascontiguousarray(value.T if at.transposed else value)
            if at.third is None:
                tensors[name] = value
            else:
                thirds[name][at.third] = value.reshape(config.heads, config.head_width, *value.shape[1:])
    for name, parts in thirds.items():
        whole = np.stack([parts[0], parts[1], parts[2]], axis=1)  # [H, 3, E, ...]
        tensors[name] = whole.reshape(-1, *whole.shape[3:])
    return tensors
