"""Frozen weights from Hugging Face safetensors files, tensor by tensor, into the stacked tree of the decoder."""

import functools
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import traverse_util
from safetensors import SafetensorError, safe_open

from profit_jax.backbone.config import BackboneConfig, read_json
from profit_jax.errors import InputError
from profit_jax.typing import Array, Frozen

# Path in the decoder's tree -> name in a Llama checkpoint. `{}` is the layer; leaves of `blocks` stack all layers.
# Matrices are stored [out, in] there and used [in, out] here, so every `kernel` is transposed.
LLAMA = {
    "embedding/embedding": "model.embed_tokens.weight",
    "blocks/attention_norm/scale": "model.layers.{}.input_layernorm.weight",
    "blocks/attention/q/kernel": "model.layers.{}.self_attn.q_proj.weight",
    "blocks/attention/k/kernel": "model.layers.{}.self_attn.k_proj.weight",
    "blocks/attention/v/kernel": "model.layers.{}.self_attn.v_proj.weight",
    "blocks/attention/o/kernel": "model.layers.{}.self_attn.o_proj.weight",
    "blocks/mlp_norm/scale": "model.layers.{}.post_attention_layernorm.weight",
    "blocks/mlp/gate/kernel": "model.layers.{}.mlp.gate_proj.weight",
    "blocks/mlp/up/kernel": "model.layers.{}.mlp.up_proj.weight",
    "blocks/mlp/down/kernel": "model.layers.{}.mlp.down_proj.weight",
    "norm/scale": "model.norm.weight",
    "head/kernel": "lm_head.weight",
}

_FLOATING = ("F64", "F32", "F16", "BF16")
_NAMED = 20  # errors named in one message


def load_weights(folder: Path, config: BackboneConfig, abstract: dict) -> Frozen:
    """Reads a Llama's weights into the tree, shapes and dtypes of `abstract`.

    One tensor at a time is read, cast and placed into its stacked array, so the host holds one tensor beside the
    result.

    Args:
      folder: a Hugging Face folder with `model.safetensors`, or `model.safetensors.index.json` and the files it
        names, or any `.safetensors` files.
      config: the decoder's numbers.
      abstract: nested dict of `jax.ShapeDtypeStruct`; leaves of `blocks` are `[L, ...]`. A sharding is respected.

    Returns:
      The nested dict of arrays.

    Raises:
      InputError: no safetensors files, a file that is not one, or tensors that do not map. All tensors that are
        missing, left over, of a wrong shape or not floating are named in the one error.
    """
    folder = Path(folder)
    leaves = traverse_util.flatten_dict(abstract, sep="/")
    with ExitStack() as stack:
        errors: list[str] = []
        tensors = _open(_files(folder, errors), stack, errors)
        expected = {name: _shape(path, leaf) for path, leaf in leaves.items() for name in _names(path, config)}
        errors += _mismatches(tensors, expected, config)
        if errors:
            more = f"; and {len(errors) - _NAMED} more" if len(errors) > _NAMED else ""
            raise InputError(f"{folder}: weights do not fit config.json: {'; '.join(errors[:_NAMED])}{more}")
        loaded = {path: _leaf(path, leaf, tensors, config) for path, leaf in leaves.items()}
    return traverse_util.unflatten_dict(loaded, sep="/")


def _names(path: str, config: BackboneConfig) -> list[str]:
    """The checkpoint's names of a leaf: one, or one for each layer."""
    name = LLAMA[path]
    return [name.format(layer) for layer in range(config.layers)] if "{}" in name else [name]


def _shape(path: str, leaf: jax.ShapeDtypeStruct) -> list[int]:
    """The shape that each of the leaf's tensors has in the checkpoint."""
    shape = leaf.shape[1:] if "{}" in LLAMA[path] else leaf.shape
    return list(reversed(shape) if path.endswith("kernel") else shape)


def _files(folder: Path, errors: list[str]) -> list[Path]:
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.exists():
        return [single]
    if index.exists():
        shards = read_json(index).get("weight_map")
        if not isinstance(shards, dict) or not all(isinstance(shard, str) for shard in shards.values()):
            raise InputError(f"{index}: weight_map must be an object from tensor names to file names")
        names = sorted(set(shards.values()))
        if outside := [name for name in names if Path(name).name != name]:
            raise InputError(f"{index}: {outside[0]!r} is not a file name in this folder")
        errors += [f"file {name} is missing" for name in names if not (folder / name).exists()]
        return [folder / name for name in names if (folder / name).exists()]
    if files := sorted(folder.glob("*.safetensors")):
        return files
    if pickles := sorted(file.name for end in ("bin", "pt", "pth") for file in folder.glob(f"*.{end}")):
        raise InputError(
            f"{folder}: {pickles[0]} holds pickled weights, which can run code when read, and is refused; "
            "convert it with transformers: model.save_pretrained(folder, safe_serialization=True)"
        )
    raise InputError(f"{folder}: no .safetensors file")


def _open(files: list[Path], stack: ExitStack, errors: list[str]) -> dict[str, Any]:
    """Tensor name -> the open file that holds it."""
    tensors: dict[str, Any] = {}
    for file in files:
        try:
            opened = stack.enter_context(safe_open(file, framework="flax"))
        except (SafetensorError, OSError) as error:
            raise InputError(f"{file}: not a readable safetensors file ({error})") from None
        for name in opened.keys():  # noqa: SIM118 (not a dict)
            if name in tensors:
                errors.append(f"tensor {name} stands in two files")
            tensors[name] = opened
    return tensors


def _mismatches(tensors: dict[str, Any], expected: dict[str, list[int]], config: BackboneConfig) -> Iterator[str]:
    for name, shape in expected.items():
        if name not in tensors:
            yield f"tensor {name} {shape} is missing"
            continue
        found = tensors[name].get_slice(name)
        if found.get_shape() != shape:
            yield f"tensor {name} has shape {found.get_shape()}, not {shape}"
        if found.get_dtype() not in _FLOATING:
            yield f"tensor {name} has dtype {found.get_dtype()}, not one of {', '.join(_FLOATING)}"
    for name in sorted(tensors.keys() - expected.keys()):
        # Old checkpoints store the rotary frequencies, which config.json defines; tied ones may store the head twice.
        tied = config.tied_embeddings and name == LLAMA["head/kernel"]
        if not tied and not name.endswith("rotary_emb.inv_freq"):
            yield f"tensor {name} is not part of this model"


def _leaf(path: str, leaf: jax.ShapeDtypeStruct, tensors: dict[str, Any], config: BackboneConfig) -> Array:
    transpose = path.endswith("kernel")
    names = _names(path, config)
    if "{}" not in LLAMA[path]:
        tensor = tensors[names[0]].get_tensor(names[0])
        tensor = (tensor.T if transpose else tensor).astype(leaf.dtype)
        return tensor if leaf.sharding is None else jax.device_put(tensor, leaf.sharding)
    stacked = jnp.zeros(leaf.shape, leaf.dtype, device=leaf.sharding)
    for layer, name in enumerate(names):
        stacked = _place(stacked, tensors[name].get_tensor(name), layer, transpose)
    return stacked


@functools.partial(jax.jit, static_argnames="transpose", donate_argnums=0)
def _place(stacked: Array, tensor: Array, layer: int, transpose: bool) -> Array:
    return stacked.at[layer].set((tensor.T if transpose else tensor).astype(stacked.dtype))
