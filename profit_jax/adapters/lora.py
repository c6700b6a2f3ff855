"""Low-rank adapters (Hu et al. 2021): every target matrix W acts as W + A B, with A `[L, in, r]` and B `[L, r, out]`.

The scale alpha / r is 1 (PerFIT Section 5.1 sets alpha = r).
"""

from collections.abc import Sequence
from typing import Protocol

import jax.numpy as jnp
import numpy as np

from profit_jax import rng
from profit_jax.errors import InputError
from profit_jax.typing import Adapter, Frozen

# Target name -> where its stacked kernel [L, in, out] stands in a block.
TARGETS = {
    "q": ("attention", "q"),
    "k": ("attention", "k"),
    "v": ("attention", "v"),
    "o": ("attention", "o"),
    "gate": ("mlp", "gate"),
    "up": ("mlp", "up"),
    "down": ("mlp", "down"),
}


class Stacked(Protocol):
    """What a LoRA needs of a backbone: the shapes of its matrices."""

    frozen: Frozen


def lora(backbone: Stacked, *, rank: int = 8, targets: Sequence[str] = ("q", "k", "v"), seed: int = 0) -> Adapter:
    """A LoRA that changes nothing yet: A from N(0, 1 / in), B zero; `{"lora": {target: {"a", "b"}}}` float32."""
    if rank < 1:
        raise InputError(f"a LoRA needs rank 1 at least, not {rank}")
    if not targets:
        raise InputError(f"a LoRA needs targets; known: {', '.join(TARGETS)}")
    factors = {}
    for target in targets:
        if target not in TARGETS:
            raise InputError(f"unknown LoRA target {target!r}; known: {', '.join(TARGETS)}")
        part, name = TARGETS[target]
        layers, inputs, outputs = backbone.frozen["blocks"][part][name]["kernel"].shape
        a = rng.generator(seed, f"lora/{target}").normal(0, inputs**-0.5, (layers, inputs, rank))
        factors[target] = {
            "a": jnp.asarray(a, jnp.float32),
            "b": jnp.asarray(np.zeros((layers, rank, outputs), np.float32)),
        }
    return {"lora": factors}
