"""Personal sparse masks: which coordinates of the expanded LoRA each client trains. Kept as bitmaps."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from perfit_jax.space import Space
from profit_jax.errors import InputError
from profit_jax.files import read_arrays, write_arrays
from profit_jax.typing import Adapter


class Similarity(NamedTuple):
    """Pairwise Hamming distances between clients' masks, as shares of the coordinates compared, `[n, n]`."""

    first: np.ndarray  # over the first LoRA module (Figure 7)
    all: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Masks:
    """The masks of all clients over one expanded LoRA."""

    adapter: Adapter  # the LoRA as initialized, in which every client owns a part
    bitmaps: np.ndarray  # [n, ceil(size / 8)] uint8: bit j, most significant first, says whether coordinate j is owned

    @classmethod
    def of_ranks(cls, adapter: Adapter, ranks: Sequence[int]) -> "Masks":
        """Masks without a search: client i owns the LoRA of rank `ranks[i]`, the first columns of the largest.

        With all ranks that of the adapter the masks are all ones, and PerFIT is FIT.

        >>> expanded = {"lora": {"q": {"a": jnp.ones((2, 3, 4)), "b": jnp.ones((2, 4, 3))}}}
        >>> Masks.of_ranks(expanded, [4, 2, 1]).owned.tolist()
        [48, 24, 12]
        """
        space = Space.of(adapter)
        bitmap = {rank: np.packbits(space.columns(rank)) for rank in set(ranks)}
        return cls(adapter, np.stack([bitmap[rank] for rank in ranks]))

    @functools.cached_property
    def space(self) -> Space:
        """The coordinates that the masks are about."""
        return Space.of(self.adapter)

    def __len__(self) -> int:
        return len(self.bitmaps)

    @functools.cached_property
    def owned(self) -> np.ndarray:
        """How many coordinates each client owns, `[n]`: its trainable parameters."""
        return np.bitwise_count(self.bitmaps).sum(1, dtype=np.int64)

    def dense(self, client: int) -> np.ndarray:
        """One client's mask, `[size]` bool."""
        return np.unpackbits(self.bitmaps[client], count=self.space.size).astype(bool)

    def indices(self) -> np.ndarray:
        """Each client's coordinates in ascending order, `[n, K]` int32, filled up from `size` on."""
        size, most = self.space.size, int(self.owned.max())
        filled = np.empty((len(self), most), np.int32)
        for client, count in enumerate(self.owned):
            filled[client, :count] = np.flatnonzero(self.dense(client))
            filled[client, count:] = size + np.arange(most - count)
        return filled

    def values(self) -> np.ndarray:
        """Each client's part of the LoRA, `[n, K]` float32, packed as `indices` says; filled up with 0."""
        flat = np.asarray(self.space.flatten(jax.tree.map(lambda leaf: leaf[None], self.adapter))[0])
        filled = np.zeros((len(self), int(self.owned.max())), np.float32)
        for client, count in enumerate(self.owned):
            filled[client, :count] = flat[self.dense(client)]
        return filled

    def similarity(self) -> Similarity:
        """Pairwise Hamming distances."""
        first = np.packbits(self.space.first_module())
        inside = int(np.bitwise_count(first).sum())
        return Similarity(_hamming(self.bitmaps & first[None]) / inside, _hamming(self.bitmaps) / self.space.size)

    def save(self, path: str | Path) -> None:
        """Writes the bitmaps; the LoRA they are about is a function of its seed."""
        write_arrays(Path(path), bitmaps=self.bitmaps, size=np.int64(self.space.size))

    @classmethod
    def load(cls, path: str | Path, adapter: Adapter) -> "Masks":
        """Reads bitmaps over this LoRA.

        Raises:
          InputError: a damaged file, bitmaps that are none, or masks over another LoRA.
        """
        bitmaps, size = read_arrays(path, ("bitmaps", "size")).values()
        if size.shape or size.dtype.kind not in "iu":
            raise InputError(f"{path}: 'size' is not a whole number")
        if size != Space.of(adapter).size:
            raise InputError(f"{path}: masks of {size} coordinates do not fit a LoRA of {Space.of(adapter).size}")
        if bitmaps.dtype != np.uint8 or bitmaps.ndim != 2 or bitmaps.shape[1] != -(-size // 8):
            found = f"{bitmaps.dtype} {[*bitmaps.shape]}"
            raise InputError(f"{path}: bitmaps are {found}, not uint8 [clients, {-(-size // 8)}]")
        if np.any(bitmaps[:, -1] & (2 ** (-size % 8) - 1)):  # else a client would own what is no coordinate
            raise InputError(f"{path}: bitmaps own coordinates beyond the last, {size - 1}")
        return cls(adapter, bitmaps)


@jax.jit
def to_bitmaps(masks: jax.Array) -> jax.Array:
    """`[..., size]` bool -> `[..., ceil(size / 8)]` uint8."""
    return jnp.packbits(masks, axis=-1)


def _hamming(bitmaps: np.ndarray) -> np.ndarray:
    """Numbers of coordinates that two clients do not agree on, `[n, n]`."""
    return np.stack([np.bitwise_count(bitmaps ^ one[None]).sum(1, dtype=np.int64) for one in bitmaps])
