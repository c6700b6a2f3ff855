"""Randomness as a function of names: seed, stream, and numbers such as round and client.

No generator is carried from step to step, so neither layout, nor device count, nor a restart can change a draw.
"""

import hashlib

import jax
import numpy as np


def _words(seed: int, stream: str, numbers: tuple[int, ...]) -> list[int]:
    name = int.from_bytes(hashlib.sha256(stream.encode()).digest()[:8], "little")
    return [seed, name, *numbers]


def generator(seed: int, stream: str, *numbers: int) -> np.random.Generator:
    """The host's generator for a named draw.

    >>> int(generator(0, "cohort", 3).integers(1000)) == int(generator(0, "cohort", 3).integers(1000))
    True
    """
    return np.random.default_rng(np.random.SeedSequence(_words(seed, stream, numbers)))


def key(seed: int, stream: str, *numbers: int) -> jax.Array:
    """The device's key for a named draw."""
    return jax.random.key(int(generator(seed, stream, *numbers).integers(2**32, dtype=np.uint64)))
