"""The server's part of a PerFIT round at full size, on random masks and values, beside the rate of a plain copy.

What the algorithm moves for each coordinate of each client of the cohort, 40 bytes: it reads the value and its index
and adds to the coordinate's two sums (4 + 4 + 16), then reads the index and both sums again and writes the new value
(4 + 8 + 4).
"""

import functools
import statistics
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from perfit_jax import Masks, Space, budget, expanded_rank
from perfit_jax.algorithm import Modules, exchange
from profit_jax import rng
from profit_jax.federated.local import take
from profit_jax.typing import Adapter

BYTES = 40
COPIED = 2**30  # bytes of the array that is read and written


def measure(config: ConfigDict, seconds: Callable[[Callable[[], object]], float]) -> dict[str, Any]:
    """Times `rounds` aggregations of a cohort's modules among `clients` clients that hold one each."""
    clients = config.clients
    adapter = expanded_lora(config)
    rank = expanded_rank(config.lora_rank, config.sparsity)
    space = Space.of(adapter)
    owned = budget(config.lora_rank, config.sparsity, clients) * (space.size // rank)
    masks = Masks(adapter, np.stack([random_bitmap(space.size, count, client) for client, count in enumerate(owned)]))
    state = Modules(
        jnp.asarray(rng.generator(0, "values").standard_normal((clients, int(owned.max())), np.float32)),
        jnp.asarray(masks.indices()),
        [],
        jnp.zeros((), jnp.int32),
    )
    chosen = rng.generator(0, "cohort").choice(clients, config.clients_per_round, replace=False)[None]
    weight = jnp.asarray(rng.generator(0, "weights").integers(50, 500, chosen.shape), jnp.float32)

    @functools.partial(jax.jit, donate_argnums=0)
    def server(state: Modules) -> Modules:
        trained = take(state.adapter, chosen)
        return state._replace(adapter=exchange(state, chosen, trained, weight, space.size, config.dispatch)[0])

    # In place, so that the machine's rate is not that of fetching fresh pages.
    copy, array = jax.jit(lambda x: x + 1, donate_argnums=0), jnp.ones(COPIED // 4)

    def aggregate_once() -> None:
        nonlocal state
        state = jax.block_until_ready(server(state))

    def copy_once() -> None:
        nonlocal array
        array = jax.block_until_ready(copy(array))

    aggregate_once()
    copy_once()
    pairs = [(seconds(aggregate_once), seconds(copy_once)) for _ in range(config.rounds)]
    moved = BYTES * int(owned[chosen].sum())
    taken, copied = (statistics.median(times) for times in zip(*pairs))
    share = statistics.median(moved / t / (2 * COPIED / c) for t, c in pairs)
    return {
        "clients": clients,
        "clients_per_round": config.clients_per_round,
        "coordinates": space.size,
        "owned": sorted(set(owned.tolist())),
        "mask_mib": round(masks.bitmaps.nbytes / 2**20, 1),
        "state_gib": round((state.adapter.nbytes + state.indices.nbytes) / 2**30, 2),
        "seconds": round(taken, 4),
        "aggregation_gb_per_second": round(moved / taken / 1e9, 2),
        "copy_gb_per_second": round(2 * COPIED / copied / 1e9, 2),
        "share_of_copy_rate": round(share, 3),
        "times_faster": {"copy": round(share, 3)},
        "bound": f"scatter and gather, {moved / taken / 1e9:.1f} of {2 * COPIED / copied / 1e9:.1f} GB/s",
    }


def expanded_lora(config: ConfigDict) -> Adapter:
    """The LoRA of the config's shape that is pruned, on Q, K and V; all zeros."""
    shape, rank = config.shape, expanded_rank(config.lora_rank, config.sparsity)
    heads = {"q": shape.heads, "k": shape.key_value_heads, "v": shape.key_value_heads}
    return {
        "lora": {
            target: {
                "a": jnp.zeros((shape.layers, shape.width, rank)),
                "b": jnp.zeros((shape.layers, rank, number * shape.head_width)),
            }
            for target, number in heads.items()
        }
    }


def random_bitmap(size: int, count: int, client: int) -> np.ndarray:
    """A mask with exactly `count` coordinates."""
    draw = rng.generator(0, "mask", client)
    mask = draw.random(size, np.float32) < count / size
    surplus = int(mask.sum()) - count
    wrong = np.flatnonzero(mask if surplus > 0 else ~mask)
    mask[draw.choice(wrong, abs(surplus), replace=False)] = surplus < 0
    return np.packbits(mask)
