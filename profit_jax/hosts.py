"""The processes of one job, one a host as a rule: which is this one, and what they tell each other beside the program.

JAX runs one program over the devices of all processes. What hosts have to agree on before it runs (how long the texts
are that each has read, that a file is there) goes through JAX's coordination service, from any thread, while the
devices work. A job of one process is the same code with nobody to ask.
"""

import collections
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jax._src.distributed import global_state  # the key-value store has no public name yet
from jax.experimental import multihost_utils
from jax.sharding import Mesh, Sharding

from profit_jax.errors import InputError
from profit_jax.typing import Tree

PATIENCE_MS = 3_600_000  # a process that has died is found by its heartbeat; this is for one that is only slow

_calls: collections.Counter[str] = collections.Counter()


def first() -> bool:
    """Whether this process is the one that writes records and speaks to the user."""
    return jax.process_index() == 0


def exchange(name: str, own: bytes = b"") -> list[bytes]:
    """What every process gives under this name, in the order of processes; none goes on before all have come.

    All processes make the same calls of one name in the same order, each name from one thread.
    """
    if jax.process_count() == 1:
        return [own]
    client, number = global_state.client, _calls[name]
    _calls[name] += 1

    def key(call: int, process: int) -> str:
        return f"profit_jax/{name}/{call}/{process}"

    assert client is not None  # there are several processes
    client.key_value_set_bytes(key(number, jax.process_index()), own)
    everyone = range(jax.process_count())
    given = [client.blocking_key_value_get_bytes(key(number, process), PATIENCE_MS) for process in everyone]
    if number:  # whoever has come to this call has read all of the one before
        client.key_value_delete(key(number - 1, jax.process_index()))
    return given


def by_first(name: str, work: Callable[[], None]) -> None:
    """The first process does the work, while the others wait.

    Raises:
      InputError: in every process, what the first one raises.
    """
    failure = ""
    if first():
        try:
            work()
        except InputError as error:
            failure = str(error)
    if failure := exchange(name, failure.encode())[0].decode():
        raise InputError(failure)


def placed(tree: Tree, sharding: Sharding) -> Tree:
    """Puts values that every process holds onto the devices, each of which takes its own part."""
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)

    def place(leaf: jax.Array | np.ndarray) -> jax.Array:
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:  # on all processes' devices already
            return jax.device_put(leaf, sharding)
        values = np.asarray(leaf)
        return jax.make_array_from_callback(values.shape, sharding, lambda part: values[part])

    return jax.tree.map(place, tree)


def gathered(tree: Tree) -> Tree:
    """The values of a tree as NumPy arrays, in every process, wherever their parts lie."""

    def gather(leaf: jax.Array | np.ndarray) -> jax.Array | np.ndarray:
        apart = isinstance(leaf, jax.Array) and not (leaf.is_fully_addressable or leaf.is_fully_replicated)
        return multihost_utils.process_allgather(leaf, tiled=True) if apart else leaf

    return jax.device_get(jax.tree.map(gather, tree))  # all leaves at once


class Readers(NamedTuple):
    """Who reads whose data: the processes that hold the same lanes of a mesh read the same clients."""

    lanes: tuple[tuple[int, ...], ...]  # of each group of processes; no lane twice
    speaker: tuple[int, ...]  # of each group the process that says what it has read
    own: int = 0  # this process's group


def readers(mesh: Mesh | None, lanes: int = 1) -> Readers:
    """The readers of a mesh; of `lanes` without one.

    Raises:
      InputError: processes that share some of their lanes and not others, or one without any.
    """
    if mesh is None or jax.process_count() == 1:
        return Readers((tuple(range(lanes)),), (0,))
    held: dict[frozenset[int], list[int]] = {}
    axis = mesh.axis_names.index("clients")
    for lane, devices in enumerate(np.moveaxis(mesh.devices, axis, 0)):
        held.setdefault(frozenset(device.process_index for device in np.ravel(devices)), []).append(lane)
    groups = [*held]
    if sorted(process for group in groups for process in group) != [*range(jax.process_count())]:
        raise InputError(
            f"a mesh of {dict(mesh.shape)} does not fit {jax.process_count()} processes of "
            f"{jax.local_device_count()} devices: each must hold whole lanes, or share all of its lanes with others"
        )
    own = next(number for number, group in enumerate(groups) if jax.process_index() in group)
    return Readers(tuple(map(tuple, held.values())), tuple(map(min, groups)), own)
