"""The backbone over the mesh axis `model`: tensor parallelism (Shoeybi et al. 2019), by rules on the tree's names.

Heads, the MLP's features and the vocabulary are divided among the devices: matrices that make them (q, k, v, gate, up,
the head) by their output axis, matrices that read them (o, down) by their input axis, the embedding table by its rows.
A layer then costs an all-reduce of the residual stream behind o and one behind down, and no device ever needs another's
weights. Along the mesh axis `clients` all weights are whole.
"""

from typing import Any

import jax
from flax import traverse_util
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from profit_jax.backbone.config import BackboneConfig

_INPUT, _OUTPUT = -2, -1


def over_model(abstract: dict, config: BackboneConfig, mesh: Mesh) -> dict:
    """The abstract weights with their places on the mesh.

    A matrix whose units (heads, features, tokens) the devices do not divide goes by the larger of its axes that they
    do divide, and is whole where there is none. Key-value heads that fewer devices could share than the query heads are
    whole too: every device needs them, and divided by another axis they would divide the residual stream with them
    (Pope et al. 2022 on multi-query attention). Biases and int8 scales go with their matrix's output axis, norms are
    whole, layers are never divided.

    Args:
      abstract: nested dict of `jax.ShapeDtypeStruct`; leaves of `blocks` are `[L, ...]`.
      config: the decoder's numbers.
      mesh: with an axis `model`.
    """
    size = mesh.shape["model"]
    units = {
        "q": (config.heads, _OUTPUT),
        "k": (config.key_value_heads, _OUTPUT),
        "v": (config.key_value_heads, _OUTPUT),
        "o": (config.heads, _INPUT),
        "gate": (config.mlp_width, _OUTPUT),
        "up": (config.mlp_width, _OUTPUT),
        "down": (config.mlp_width, _INPUT),
        "head": (config.vocabulary, _OUTPUT),
        "embedding": (config.vocabulary, _INPUT),
    }

    leaves: dict[tuple[str, ...], Any] = traverse_util.flatten_dict(abstract)

    def divided(path: tuple[str, ...]) -> int | None:
        """The axis by which a leaf is divided."""
        *_, module, kind = path
        if module not in units:
            return None
        matrix = leaves[*path[:-1], "embedding" if module == "embedding" else "kernel"]
        count, axis = units[module]
        if module in ("k", "v") and count % size and config.heads % size == 0:
            return None
        if count % size:
            fitting = [axis for axis in (_INPUT, _OUTPUT) if matrix.shape[axis] % size == 0]
            axis = max(fitting, key=lambda axis: matrix.shape[axis], default=None)
        return None if kind in ("bias", "scale") and axis == _INPUT else axis

    def placed(leaf: jax.ShapeDtypeStruct, axis: int | None) -> jax.ShapeDtypeStruct:
        names: list[str | None] = [None] * leaf.ndim
        if axis is not None:
            names[axis] = "model"
        return leaf.update(sharding=NamedSharding(mesh, PartitionSpec(*names)))

    return traverse_util.unflatten_dict({path: placed(leaf, divided(path)) for path, leaf in leaves.items()})
