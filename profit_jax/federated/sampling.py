"""Who takes part in a round and with which examples: functions of (seed, round, client), of nothing else."""

import numpy as np

from profit_jax import rng
from profit_jax.errors import InputError


def cohort(seed: int, round: int, clients: int, sampled: int) -> np.ndarray:
    """Client numbers of a round, uniformly without replacement, `[sampled]` (Profit Section 3)."""
    if sampled > clients:
        raise InputError(f"a round asks for {sampled} clients, but the data set has {clients}")
    return rng.generator(seed, "cohort", round).choice(clients, sampled, replace=False)


def batches(seed: int, round: int, client: int, size: int, *, steps: int, batch: int) -> list[np.ndarray]:
    """Example numbers of a client's local steps, `steps` arrays of `[batch]`.

    The client's `size` examples are shuffled anew for each pass; steps cut the passes into batches, so over a round
    every example is used equally often, up to one. A client with fewer examples than `batch` repeats them.
    """
    generator = rng.generator(seed, "batches", round, client)
    passes = -(-steps * batch // size)
    order = np.concatenate([generator.permutation(size) for _ in range(passes)])
    return list(order[: steps * batch].reshape(steps, batch))


def epochs(seed: int, first: int, count: int, client: int, size: int, *, batch: int) -> list[np.ndarray]:
    """Example numbers of `count` whole epochs of a client from epoch `first` on; an epoch's last batch may be short."""
    steps = []
    for epoch in range(first, first + count):
        order = rng.generator(seed, "epoch", epoch, client).permutation(size)
        steps += [order[start : start + batch] for start in range(0, size, batch)]
    return steps


def pooled(seed: int, round: int, examples: int, *, shards: int, steps: int, batch: int) -> np.ndarray:
    """Example numbers of a centralized round, `[shards, steps, batch]`: uniform draws from all clients' examples.

    Drawn without replacement within a round where the pool is large enough.
    """
    needed = shards * steps * batch
    generator = rng.generator(seed, "pooled", round)
    return generator.choice(examples, needed, replace=needed > examples).reshape(shards, steps, batch)
