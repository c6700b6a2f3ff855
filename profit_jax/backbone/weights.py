"""Frozen weights from Hugging Face safetensors files, tensor by tensor, into the stacked tree of the decoder."""

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from profit_jax import hosts
from profit_jax.backbone.config import BackboneConfig
from profit_jax.backbone.families import FAMILIES, Third
from profit_jax.backbone.quantize import quantized
from profit_jax.errors import InputError
from profit_jax.files import FLOATING, open_tensors, read_object
from profit_jax.typing import Array, Frozen

_NAMED = 20  # errors named in one message
_SHARD = re.compile(r"[\w. -]{1,240}\.safetensors", re.ASCII)  # no folder before it, nor too long for a system
# What published files hold beside weights: rotary frequencies, which config.json defines, and causal masks.
_NO_WEIGHTS = ("rotary_emb.inv_freq", "attention.bias", "attention.masked_bias")


def load_weights(folder: Path, config: BackboneConfig, abstract: Frozen) -> Frozen:
    """Reads a model's weights into the tree, shapes and dtypes of `abstract`.

    One tensor at a time is read, placed on the devices and there cast, or quantized, into its stacked array: the host
    holds one tensor, and a device the part of it that is its own, beside the result.

    Args:
      folder: a Hugging Face folder with `model.safetensors`, or `model.safetensors.index.json` and the files it
        names, or any `.safetensors` files.
      config: the decoder's numbers.
      abstract: nested dict of `jax.ShapeDtypeStruct`; leaves of `blocks` are `[L, ...]`. A `NamedSharding` is
        respected. Beside an int8 `kernel` stands its `scale`.

    Returns:
      The nested dict of arrays.

    Raises:
      InputError: no safetensors files, a file that is not one, or tensors that do not map. All tensors that are
        missing, left over, of a wrong shape or not floating are named in the one error. Or the first tensor that has a
        number which is not finite in the dtype it is kept in.
    """
    folder = Path(folder)
    leaves: dict[str, Any] = traverse_util.flatten_dict(abstract, sep="/")
    with ExitStack() as stack:
        errors: list[str] = []
        tensors = _open(_files(folder, errors), stack, errors)
        places = _places(leaves)
        sources = {path: source(path, config) for path in places}
        expected = {name: at.shape(leaves[path]) for path, at in sources.items() for name in at.names}
        errors += _mismatches(tensors, expected, config)
        if errors:
            more = f"; and {len(errors) - _NAMED} more" if len(errors) > _NAMED else ""
            raise InputError(f"{folder}: weights do not fit config.json: {'; '.join(errors[:_NAMED])}{more}")
        loaded: dict[str, Array] = {}
        for path, at in sources.items():
            loaded |= zip(places[path], _load([leaves[own] for own in places[path]], at, tensors, config))
    return traverse_util.unflatten_dict(loaded, sep="/")


class Source(NamedTuple):
    """Where a leaf of the decoder stands in a checkpoint."""

    names: list[str]  # of its tensors: one, or one for each layer
    stacked: bool  # one for each layer
    third: int | None  # of each tensor, see `Third`
    transposed: bool  # a matrix: [out, in] there, [in, out] here

    def shape(self, leaf: jax.ShapeDtypeStruct) -> list[int]:
        """The shape of each of its tensors."""
        shape = list(leaf.shape[1:] if self.stacked else leaf.shape)
        first, *rest = reversed(shape) if self.transposed else shape
        return [first if self.third is None else 3 * first, *rest]


def source(path: str, config: BackboneConfig) -> Source:
    """Where the leaf at `path` stands in a folder of the config's family."""
    entry = FAMILIES[config.family].names[path]
    name, third = entry if isinstance(entry, Third) else (entry, None)
    stacked = path.startswith("blocks/")
    names = [name.format(layer) for layer in range(config.layers)] if stacked else [name]
    return Source(names, stacked, third, path.endswith("kernel"))


def _files(folder: Path, errors: list[str]) -> list[Path]:
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.exists():
        return [single]
    if index.exists():
        shards = read_object(index).get("weight_map")
        if not isinstance(shards, dict) or not all(isinstance(shard, str) for shard in shards.values()):
            raise InputError(f"{index}: weight_map must be an object from tensor names to file names")
        names = sorted(set(shards.values()))
        if outside := [name for name in names if not _SHARD.fullmatch(name)]:
            raise InputError(f"{index}: {outside[0]!r} is not the name of a .safetensors file in this folder")
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


class Opened(NamedTuple):
    """An open file."""

    file: Path
    tensors: Any  # `safetensors.safe_open`


def _open(files: list[Path], stack: ExitStack, errors: list[str]) -> dict[str, Opened]:
    """Tensor name -> the open file that holds it."""
    tensors: dict[str, Opened] = {}
    for file in files:
        opened = stack.enter_context(open_tensors(file))
        for name in opened.keys():  # noqa: SIM118 (not a dict)
            if name in tensors:
                errors.append(f"tensor {name} stands in two files")
            tensors[name] = Opened(file, opened)
    return tensors


def _mismatches(tensors: dict[str, Opened], expected: dict[str, list[int]], config: BackboneConfig) -> Iterator[str]:
    for name, shape in expected.items():
        if name not in tensors:
            yield f"tensor {name} {shape} is missing"
            continue
        found = tensors[name].tensors.get_slice(name)
        if found.get_shape() != shape:
            yield f"tensor {name} has shape {found.get_shape()}, not {shape}"
        if found.get_dtype() not in FLOATING:
            yield f"tensor {name} has dtype {found.get_dtype()}, not one of {', '.join(FLOATING)}"
    head = source("head/kernel", config).names[0]
    for name in sorted(tensors.keys() - expected.keys()):
        tied = config.tied_embeddings and name == head  # some store the table twice
        if not tied and not name.endswith(_NO_WEIGHTS):
            yield f"tensor {name} is not part of this model"


def _places(leaves: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, tuple[str, ...]]:
    """Path of each leaf that has tensors -> the leaves that they fill: itself, and the scale of an int8 kernel."""
    scales = {path: _beside(path) for path, leaf in leaves.items() if leaf.dtype == jnp.int8}
    own = [path for path in leaves if path not in scales.values()]
    return {path: (path, scales[path]) if path in scales else (path,) for path in own}


def _beside(kernel: str) -> str:
    return f"{kernel.removesuffix('kernel')}scale"


def _load(
    leaves: Sequence[jax.ShapeDtypeStruct], source: Source, tensors: dict[str, Opened], config: BackboneConfig
) -> tuple[Array, ...]:
    """A leaf, or an int8 kernel and its scale."""
    place, dtype = leaves[0].sharding, leaves[0].dtype

    def read(name: str, place: NamedSharding | None) -> Array:
        tensor = tensors[name].tensors.get_tensor(name)
        if source.third is not None:
            thirds = tensor.reshape(config.heads, 3, config.head_width, *tensor.shape[1:])
            tensor = thirds[:, source.third].reshape(-1, *tensor.shape[1:])
        kept = leaves[-1].dtype  # of int8 that of the scales, which are finite if their channels are
        if not _finite(tensor, kept):
            raise InputError(f"{tensors[name].file}: tensor {name} holds numbers that are not finite in {kept}")
        tensor = tensor.T if source.transposed else tensor
        return jnp.asarray(tensor) if place is None else hosts.placed(tensor, place)

    if not source.stacked:
        return _placed(_kept(read(source.names[0], place), dtype), leaves)
    layer_place = place and NamedSharding(place.mesh, PartitionSpec(*place.spec[1:]))
    stacked = tuple(jnp.zeros(leaf.shape, leaf.dtype, device=leaf.sharding) for leaf in leaves)
    for layer, name in enumerate(source.names):
        stacked = _fill(stacked, read(name, layer_place), layer)
        jax.block_until_ready(stacked)  # otherwise tensors that are read wait in memory for their placing
    return _placed(stacked, leaves)


def _finite(tensor: np.ndarray, dtype: jnp.dtype) -> bool:
    """Whether all numbers are finite, and none is too large for `dtype`. No comparison holds of nan."""
    if tensor.dtype == jnp.bfloat16:  # slow in NumPy; as integers, numbers of a sign have their order, inf and nan last
        return bool(tensor.view(np.int16).max() < 0x7F80 and tensor.view(np.uint16).max() < 0xFF80)
    largest = float(jnp.finfo(dtype).max)
    return -largest <= float(tensor.min()) and float(tensor.max()) <= largest


def _placed(values: tuple[Array, ...], leaves: Sequence[jax.ShapeDtypeStruct]) -> tuple[Array, ...]:
    return tuple(jax.device_put(value, leaf.sharding) for value, leaf in zip(values, leaves))


@functools.partial(jax.jit, static_argnums=1)
def _kept(tensor: Array, dtype: jnp.dtype) -> tuple[Array, ...]:
    """A tensor as it is kept: in this dtype, or as int8 values and scales."""
    return quantized(tensor) if dtype == jnp.int8 else (tensor.astype(dtype),)


@functools.partial(jax.jit, donate_argnums=0)
def _fill(stacked: tuple[Array, ...], tensor: Array, layer: int) -> tuple[Array, ...]:
    # In place: `.at[layer].set` would check the index, for which XLA copies a bfloat16 stack to float32 on CPUs.
    kept = _kept(tensor, stacked[0].dtype)
    return tuple(lax.dynamic_update_index_in_dim(leaf, part, layer, 0) for leaf, part in zip(stacked, kept))
