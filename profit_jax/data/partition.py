"""From instances to clients: the three heterogeneity levels of Profit, Section 3.

Pure functions of arrays that name each instance's task type and task. All three partitions hold the same instances in
the same number of clients; they differ in what is shuffled before the list is cut:

    HHF  high:    ordered by task within each type, nothing is shuffled; a client has one type, mostly one task
    MHF  medium:  shuffled within each type; a client has one type
    LHF  low:     everything is shuffled

How many clients a type of n instances gives is not said in the paper. Table 1 tells: chunks of 1201 ± 17.6 instances
for a nominal 1,200, and no task type but three is too small for a client, are what n / 1,200 rounded to the *nearest*
integer gives (on the release's own counts 1201 ± 18; rounded down it would be 1209 ± 25, and six more types too small).
"""

from typing import NamedTuple

import numpy as np

from profit_jax.errors import InputError
from profit_jax.rng import generator

PARTITIONS = ("hhf", "mhf", "lhf")


class Partition(NamedTuple):
    """Client c holds the instances `order[offsets[c] : offsets[c + 1]]`."""

    order: np.ndarray  # [n] int64: instances, client after client
    offsets: np.ndarray  # [clients + 1] int64

    @property
    def clients(self) -> int:
        """The number of clients."""
        return len(self.offsets) - 1

    @property
    def sizes(self) -> np.ndarray:
        """Instances of each client, `[clients]`."""
        return np.diff(self.offsets)


def check_chunk_size(chunk_size: int) -> None:
    """Raises InputError unless a client of this size can be."""
    if chunk_size < 1:
        raise InputError(f"chunk_size is {chunk_size}: a client needs at least 1 instance")


def clients_of(instances: int, chunk_size: int) -> int:
    """Clients that a type of so many instances gives: instances / chunk_size, rounded to nearest, a half up.

    >>> [clients_of(n, 1200) for n in (599, 600, 1799, 1800)]
    [0, 1, 1, 2]
    """
    check_chunk_size(chunk_size)
    return (2 * instances + chunk_size) // (2 * chunk_size)


def even_offsets(instances: int, chunks: int) -> np.ndarray:
    """Borders of adjacent chunks whose sizes differ by at most one, the larger ones first.

    >>> even_offsets(11, 3).tolist()
    [0, 4, 8, 11]
    """
    small, larger = divmod(instances, chunks)
    chunk = np.arange(chunks + 1, dtype=np.int64)
    return chunk * small + np.minimum(chunk, larger)


def cut(name: str, types: np.ndarray, tasks: np.ndarray, chunk_size: int, seed: int) -> Partition:
    """The partition of this name, `hhf`, `mhf` or `lhf`; instances of types too small for one client are left out.

    Args:
      name: the partition.
      types: `[n]` integers, the task type of each instance.
      tasks: `[n]` integers, the task of each instance.
      chunk_size: instances of a client, about.
      seed: of the shuffle; HHF has none.

    >>> types, tasks = np.array([1, 0, 0, 1, 0, 0]), np.array([5, 3, 2, 5, 3, 2])
    >>> cut("hhf", types, tasks, chunk_size=2, seed=0)
    Partition(order=array([2, 5, 1, 4, 0, 3]), offsets=array([0, 2, 4, 6]))
    """
    if name not in PARTITIONS:
        raise InputError(f"unknown partition {name!r}: give one of {', '.join(PARTITIONS)}")
    high = hhf(types, tasks, chunk_size)
    if name == "hhf":
        return high
    return mhf(high, types, seed) if name == "mhf" else lhf(high, seed)


def hhf(types: np.ndarray, tasks: np.ndarray, chunk_size: int) -> Partition:
    """High heterogeneity: each type's instances ordered by task, cut into even chunks of adjacent instances."""
    order = np.lexsort((tasks, types)).astype(np.int64)  # stable: by type, then by task, then as given
    names, counts = np.unique(types, return_counts=True)
    chunks = {name: clients_of(count, chunk_size) for name, count in zip(names.tolist(), counts.tolist())}
    kept = order[np.isin(types[order], [name for name, number in chunks.items() if number])]
    sizes = [
        np.diff(even_offsets(count, chunks[name]))
        for name, count in zip(names.tolist(), counts.tolist())
        if chunks[name]
    ]
    return Partition(kept, np.cumsum(np.concatenate([[0], *sizes]), dtype=np.int64))


def mhf(high: Partition, types: np.ndarray, seed: int) -> Partition:
    """Medium heterogeneity: HHF's chunks after each type's instances were shuffled among themselves."""
    names, starts = np.unique(types[high.order], return_index=True)
    blocks = np.split(high.order, starts[1:])
    shuffled = [generator(seed, "MHF", name).permutation(block) for name, block in zip(names.tolist(), blocks)]
    return high._replace(order=np.concatenate([high.order[:0], *shuffled]))


def lhf(high: Partition, seed: int) -> Partition:
    """Low heterogeneity: HHF's instances shuffled over all types, cut into as many even chunks as HHF has."""
    order = generator(seed, "LHF").permutation(high.order)
    return Partition(order, even_offsets(len(order), high.clients) if high.clients else high.offsets)
