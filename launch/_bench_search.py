"""Pruning's choice of coordinates at full size: exactly k of a client's scores, beside a sort of all of them.

seconds           of `keep_largest` on one client's scores, the median over `rounds`
sort_seconds      of `jnp.sort` alone on the same scores, in turn with it
times_faster      the median of sort_seconds / seconds of each turn
bound             how fast the scores are read, once for each bit of a score
"""

import statistics
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from launch._bench_aggregation import expanded_lora
from perfit_jax import Space, budget, expanded_rank
from perfit_jax.importance import keep_largest
from profit_jax import rng

PASSES = 32  # counts, one for each bit of the least score that is kept


def measure(config: ConfigDict, seconds: Callable[[Callable[[], object]], float]) -> dict[str, Any]:
    """Times `rounds` choices among random scores, of which the pruned half ranks below all, as in a later epoch."""
    size, rank = Space.of(expanded_lora(config)).size, expanded_rank(config.lora_rank, config.sparsity)
    kept = int(budget(config.lora_rank, config.sparsity, config.clients)[-1]) * (size // rank)
    draw = rng.generator(config.seed, "scores")
    scores = np.abs(draw.standard_normal(size, np.float32) * draw.standard_normal(size, np.float32))
    scores[draw.random(size, np.float32) < (1 - kept / size) / 2] = -1
    given = jnp.asarray(scores)
    choose, sort = jax.jit(keep_largest), jax.jit(jnp.sort)
    chosen = np.asarray(choose(given, kept))
    least = np.partition(scores, size - kept)[size - kept]
    assert chosen.sum() == kept and scores[chosen].min() == least, "not the largest scores"
    sort(given).block_until_ready()
    turns = [
        (
            seconds(lambda: choose(given, kept).block_until_ready()),
            seconds(lambda: sort(given).block_until_ready()),
        )
        for _ in range(config.rounds)
    ]
    taken, sorting = (statistics.median(times) for times in zip(*turns))
    return {
        "coordinates": size,
        "kept": kept,
        "seconds": round(taken, 4),
        "sort_seconds": round(sorting, 4),
        "times_faster": {"sort": round(statistics.median(other / own for own, other in turns), 1)},
        "bound": f"{PASSES} passes over the scores, {PASSES * 4 * size / taken / 1e9:.1f} GB/s",
    }
