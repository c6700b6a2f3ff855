"""The device mesh: clients live along the axis `clients`, one lane a device."""

from typing import TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from profit_jax.errors import InputError
from profit_jax.typing import Tree

Arrays = TypeVar("Arrays")


def client_mesh(lanes: int | None = None) -> Mesh:
    """A mesh of `lanes` devices along `clients`; of all devices by default."""
    devices = jax.devices()
    lanes = len(devices) if lanes is None else lanes
    if not 1 <= lanes <= len(devices):
        raise InputError(f"a mesh of {lanes} lanes asks for as many devices; there are {len(devices)}")
    return Mesh(np.array(devices[:lanes]), ("clients",))


def over_clients(arrays: Arrays, mesh: Mesh) -> Arrays:
    """Places arrays whose first axis is the lane `[M, ...]`: each device holds its own lane."""
    return jax.device_put(arrays, NamedSharding(mesh, PartitionSpec("clients")))


def everywhere(tree: Tree, mesh: Mesh) -> Tree:
    """Places a whole copy of the tree on every device."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))
