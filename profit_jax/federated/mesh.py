"""The device mesh: clients live along `clients`, a lane each place; the backbone of a lane along `model`."""

import math
from collections.abc import Sequence

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from profit_jax import hosts
from profit_jax.errors import InputError
from profit_jax.typing import Array, Cohort, Tree

AXES = ("clients", "model")


def mesh(text: str = "clients:-1", devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh with the axes `clients` and `model`. A mesh changes no result.

    Args:
      text: a size for each axis, as in `"clients:8,model:4"`. An axis that is left out has size 1; one of size -1
        takes the devices that are left.
      devices: of which the first are taken; by default all that the process sees.

    Raises:
      InputError: another axis, one given twice, a size that is not a number, or sizes that the devices do not fit.

    >>> dict(mesh("clients:-1", jax.devices()[:1]).shape)
    {'clients': 1, 'model': 1}
    """
    devices = jax.devices() if devices is None else devices
    sizes = axis_sizes(text, len(devices))
    chosen = devices[: math.prod(sizes.values())]
    # The last axis gets the fastest links: a layer sums over `model`, a round once over `clients`.
    placed = mesh_utils.create_device_mesh([*sizes.values()], chosen, allow_split_physical_axes=True)
    return Mesh(placed, AXES)


def axis_sizes(text: str, devices: int | None = None) -> dict[str, int]:
    """The size of each axis of a mesh of at most so many devices; `text` and errors are those of `mesh`.

    Without a number of devices there are as many as the mesh asks for, and of size -1 is one.

    >>> axis_sizes("model:4,clients:-1", devices=32)
    {'clients': 8, 'model': 4}
    """
    sizes = dict.fromkeys(AXES, 1)
    given = [part.strip().split(":") for part in text.split(",")]
    for axis, *size in given:
        if axis not in AXES or sum(other[0] == axis for other in given) > 1:
            raise InputError(f"mesh {text!r}: {axis!r} is not one of the axes {', '.join(AXES)}, each given once")
        try:
            [sizes[axis]] = map(int, size)
        except ValueError:
            raise InputError(f"mesh {text!r}: give {axis} a size, as in {axis}:4") from None
        if sizes[axis] < 1 and sizes[axis] != -1:
            raise InputError(f"mesh {text!r}: the size of {axis} must be positive, or -1 for the devices that are left")
    rest = [axis for axis, size in sizes.items() if size == -1]
    if len(rest) > 1:
        raise InputError(f"mesh {text!r}: only one axis can take the devices that are left")
    taken = math.prod(size for size in sizes.values() if size != -1)
    devices = taken if devices is None else devices
    if taken > devices or (rest and devices % taken):
        raise InputError(f"mesh {text!r} asks for {'a multiple of ' * len(rest)}{taken} devices; there are {devices}")
    return sizes | dict.fromkeys(rest, devices // taken)


def over_clients(cohort: Cohort, mesh: Mesh) -> Cohort:
    """Places a cohort, whose `batches` are those of this process's lanes; where, `cohort_places` says."""
    places = cohort_places(cohort, mesh)

    def of_own_lanes(leaf: np.ndarray, place: NamedSharding) -> Array:
        return jax.make_array_from_process_local_data(place, leaf, (mesh.shape["clients"], *leaf.shape[1:]))

    batches = jax.tree.map(of_own_lanes, cohort.batches, places.batches)
    rest = [jax.tree.map(hosts.placed, leaf, place) for leaf, place in zip(cohort[1:], places[1:])]
    return Cohort(batches, *rest)


def cohort_places(cohort: Cohort, mesh: Mesh) -> Cohort:
    """Where a cohort lies: lanes over `clients`, what of flights is in use on every device."""
    lane, whole = NamedSharding(mesh, PartitionSpec("clients")), NamedSharding(mesh, PartitionSpec())
    places = jax.tree.map(lambda _: lane, cohort)
    return places._replace(used=jax.tree.map(lambda _: whole, cohort.used))


def place_state(state: Tree, mesh: Mesh, *, over_clients: bool = False) -> Tree:
    """Places a state; where, `state_places` says."""
    return jax.tree.map(hosts.placed, state, state_places(state, mesh, over_clients=over_clients))


def state_places(state: Tree, mesh: Mesh | AbstractMesh, *, over_clients: bool = False) -> Tree:
    """Where a state lies: whole on every device, or its first axis over `clients` where their number divides it."""

    def place(leaf: Array) -> NamedSharding:
        divided = over_clients and leaf.ndim and leaf.shape[0] % mesh.shape["clients"] == 0
        return NamedSharding(mesh, PartitionSpec("clients") if divided else PartitionSpec())

    return jax.tree.map(place, state)


def abstract(tree: Tree, places: Tree) -> Tree:
    """The shapes of a tree in their places on a mesh, and no values: what a program is compiled for."""
    return jax.tree.map(lambda leaf, at: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=at), tree, places)
