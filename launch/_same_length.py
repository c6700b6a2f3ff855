"""Clients whose examples are all of one length: what a round is timed and planned on without data."""

from collections.abc import Sequence

import numpy as np

from profit_jax.data.encode import Encoded, EncodedClients
from profit_jax.data.examples import Example, MemoryClients


def same_length(
    *, clients: int, size: int, positions: int, labels: int, vocabulary: int, seed: int = 0
) -> EncodedClients:
    """So many clients of `size` examples each, of random tokens.

    Args:
      clients: how many.
      size: examples of each.
      positions: of an example.
      labels: those of them that are asked for the target.
      vocabulary: V.
      seed: of the tokens.
    """
    draw, query = np.random.default_rng(seed), positions - labels + 1

    def encode(examples: Sequence[Example]) -> list[Encoded]:
        tokens = draw.integers(3, vocabulary, (len(examples), query + labels), dtype=np.int32)
        return [Encoded(each[:query], each[query:]) for each in tokens]

    return EncodedClients(MemoryClients([[Example("", "", ("",), "", "")] * size] * clients), encode)
