"""The device mesh: clients live along the axis `clients`, one lane a device."""

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from profit_jax import hosts
from profit_jax.errors import InputError
from profit_jax.typing import Array, Cohort, Tree


def client_mesh(lanes: int | None = None) -> Mesh:
    """A mesh of `lanes` devices along `clients`; of all devices by default."""
    devices = jax.devices()
    lanes = len(devices) if lanes is None else lanes
    if not 1 <= lanes <= len(devices):
        raise InputError(f"a mesh of {lanes} lanes asks for as many devices; there are {len(devices)}")
    return Mesh(np.array(devices[:lanes]), ("clients",))


def over_clients(cohort: Cohort, mesh: Mesh) -> Cohort:
    """Places a cohort: each device holds its own lane, and all of them hold the counts of flights."""
    lane, whole = NamedSharding(mesh, PartitionSpec("clients")), NamedSharding(mesh, PartitionSpec())

    def of_own_lanes(leaf: np.ndarray) -> Array:
        return jax.make_array_from_process_local_data(lane, leaf, (mesh.shape["clients"], *leaf.shape[1:]))

    return Cohort(
        batches=jax.tree.map(of_own_lanes, cohort.batches),
        counts=hosts.placed(cohort.counts, lane),
        flights=hosts.placed(cohort.flights, whole),
        weight=hosts.placed(cohort.weight, lane),
        client=hosts.placed(cohort.client, lane),
    )


def place_state(state: Tree, mesh: Mesh, *, over_clients: bool = False) -> Tree:
    """Places a state: whole on every device, or with the first axis over the devices where their number divides it."""

    def spec(leaf: Array) -> PartitionSpec:
        divided = over_clients and leaf.ndim and leaf.shape[0] % mesh.shape["clients"] == 0
        return PartitionSpec("clients") if divided else PartitionSpec()

    return jax.tree.map(lambda leaf: hosts.placed(leaf, NamedSharding(mesh, spec(leaf))), state)
