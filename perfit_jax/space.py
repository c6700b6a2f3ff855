"""The coordinate space of an expanded LoRA: one flat axis for all its elements, the same for every client.

Clients with LoRAs of unequal rank share the space of the largest: a LoRA of rank r is its first r columns. Flat arrays
are `[C, size]`, packed ones `values [C, K]` at ascending `indices [C, K]`; a client with fewer than K coordinates is
filled up with indices from `size` on, which exist nowhere: they read 0 and write nothing.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from profit_jax.errors import InputError
from profit_jax.typing import Adapter, Array

Scope = Literal["client", "module"]


class Part(NamedTuple):
    """A stretch of the flat axis that holds `count` equally large pieces one after another."""

    start: int
    stop: int
    count: int

    @property
    def piece(self) -> int:
        """Coordinates of one piece."""
        return (self.stop - self.start) // self.count


@dataclasses.dataclass(frozen=True)
class Space:
    """The flat axis of a LoRA `{"lora": {target: {"a": [L, in, R], "b": [L, R, out]}}}`, leaf after leaf."""

    shapes: tuple[tuple[str, str, tuple[int, ...]], ...]  # (target, factor, shape), in the order of the flat axis

    @classmethod
    def of(cls, adapter: Adapter) -> "Space":
        """The space of an adapter without client axis."""
        if "lora" not in adapter:
            raise InputError(f"PerFIT prunes a LoRA; this adapter has {', '.join(adapter) or 'nothing'}")
        factors = adapter["lora"]
        return cls(tuple((t, f, tuple(factors[t][f].shape)) for t in sorted(factors) for f in ("a", "b")))

    @functools.cached_property
    def parts(self) -> tuple[Part, ...]:
        """Where each leaf stands, in pieces of one layer: the LoRA's matrices."""
        ends = np.cumsum([np.prod(shape) for *_, shape in self.shapes]).tolist()
        starts = [0, *ends[:-1]]
        return tuple(Part(start, stop, shape[0]) for start, stop, (*_, shape) in zip(starts, ends, self.shapes))

    @property
    def size(self) -> int:
        """The number of coordinates."""
        return self.parts[-1].stop

    @property
    def rank(self) -> int:
        """R, the rank of the expanded LoRA."""
        return self.shapes[0][2][2]

    def groups(self, scope: Scope) -> tuple[Part, ...]:
        """What is ranked together: all coordinates of a client, or each matrix of each layer by itself."""
        if scope not in ("client", "module"):
            raise InputError(f"scope must be 'client' or 'module', not {scope!r}")
        return (Part(0, self.size, 1),) if scope == "client" else self.parts

    def flatten(self, adapters: Adapter) -> Array:
        """Leaves `[C, ...]` -> `[C, size]`."""
        leaves = [adapters["lora"][target][factor] for target, factor, _ in self.shapes]
        return jnp.concatenate([leaf.reshape(leaf.shape[0], -1) for leaf in leaves], axis=1)

    def unflatten(self, flat: Array) -> Adapter:
        """`[C, size]` -> leaves `[C, ...]`."""
        factors: dict[str, dict[str, Array]] = {}
        for (target, factor, shape), part in zip(self.shapes, self.parts):
            factors.setdefault(target, {})[factor] = flat[:, part.start : part.stop].reshape(-1, *shape)
        return {"lora": factors}

    def expand(self, values: Array, indices: Array) -> Adapter:
        """Packed `[C, K]` -> the LoRA that the backbone reads, leaves `[C, ...]`, zero where a client owns nothing."""

        def scatter(values: Array, indices: Array) -> Array:
            empty = jnp.zeros(self.size, values.dtype)
            return empty.at[indices].set(values, mode="drop", unique_indices=True, indices_are_sorted=True)

        return self.unflatten(jax.vmap(scatter)(values, indices))

    def columns(self, rank: int) -> np.ndarray:
        """The coordinates of a LoRA of this rank, `[size]` bool: first columns of every A, first rows of every B."""
        if not 1 <= rank <= self.rank:
            raise InputError(f"a LoRA of rank {rank} does not fit a space of rank {self.rank}")
        inside = []
        for _, factor, shape in self.shapes:
            column = np.arange(self.rank) < rank
            inside.append(np.broadcast_to(column if factor == "a" else column[:, None], shape).ravel())
        return np.concatenate(inside)

    def first_module(self) -> np.ndarray:
        """The coordinates of the first LoRA module, `[size]` bool: A and B of the first layer's first target."""
        inside, first = np.zeros(self.size, bool), self.shapes[0][0]
        for (target, *_), part in zip(self.shapes, self.parts):
            if target == first:
                inside[part.start : part.start + part.piece] = True
        return inside


def expanded_rank(rank: int, sparsity: float | Sequence[float]) -> int:
    """R = r / (1 - s), the rank to prune from so that r is left (Section 4.2).

    With several sparsities, for clients of unequal resources, r is the budget of the smallest, so that s is their
    maximum: 0, 0.25 and 0.5 leave ranks 16, 12 and 8 of R = 16 for r = 8.

    >>> expanded_rank(8, 0.5), expanded_rank(8, 1 / 3), expanded_rank(8, (0.0, 0.25, 0.5))
    (16, 12, 16)

    Raises:
      InputError: R or a client's budget R (1 - s) is not whole; a sparsity may be rounded to four decimals.
    """
    sparsities = [sparsity] if isinstance(sparsity, int | float) else list(sparsity)
    if rank < 1 or not sparsities or not all(0 <= s < 1 for s in sparsities):
        raise InputError(f"rank must be positive and sparsity from 0 to below 1, not {rank} and {sparsity}")
    greatest = max(sparsities)
    below = int(rank / (1 - greatest))
    expanded = min((below, below + 1), key=lambda whole: abs(1 - rank / whole - greatest))
    _check(greatest, 1 - rank / expanded, f"R = {rank} / (1 - {greatest:g}) = {rank / (1 - greatest):.2f} is not whole")
    for s in sparsities:
        left = expanded * (1 - s)
        _check(s, 1 - max(1, round(left)) / expanded, f"{left:.2f} of R = {expanded} ranks is not whole")
    return expanded


def budget(rank: int, sparsity: float | Sequence[float], clients: int) -> np.ndarray:
    """The rank whose parameters each client trains, `[n]`: R (1 - s). Groups of a sparsity are equally large, in order.

    >>> budget(8, (0.0, 0.25, 0.5), clients=7).tolist()
    [16, 16, 16, 12, 12, 8, 8]
    """
    sparsities = [sparsity] if isinstance(sparsity, int | float) else list(sparsity)
    expanded = expanded_rank(rank, sparsity)
    left = np.array([round(expanded * (1 - s)) for s in sparsities])
    return left[resource_group(len(sparsities), clients)]


def resource_group(groups: int, clients: int) -> np.ndarray:
    """The resource group of each client, `[n]`: as many clients in each, in order, the first groups one more."""
    if groups > clients:
        raise InputError(f"{groups} sparsities need as many clients; there are {clients}")
    return np.concatenate([np.full(len(part), g) for g, part in enumerate(np.array_split(np.arange(clients), groups))])


def _check(sparsity: float, nearest: float, problem: str) -> None:
    if abs(sparsity - nearest) > 5.1e-5:  # half of the fourth decimal, and what rounding makes of it
        raise InputError(f"sparsity {sparsity:g}: {problem}; the nearest sparsity that fits is {nearest:.4f}")
