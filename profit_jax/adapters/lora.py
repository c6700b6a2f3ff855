"""Low-rank adapters (Hu et al. 2021): every target matrix W acts as W + A B, with A `[L, in, r]` and B `[L, r, out]`.

The scale alpha / r is 1 (PerFIT Section 5.1 sets alpha = r). With a standard deviation sigma, 1 / sqrt(d) for a matrix
that reads width d unless another is given, A and B are drawn by one of:

    vanilla    A ~ N(0, sigma^2), B = 0: the backbone is unchanged at first, and the gradient of A is zero
    gaussian   A, B ~ N(0, sigma^2), PerFIT's symmetric initialization (Section 4.2)
    uniform    A, B ~ U(-sqrt(3) sigma, sqrt(3) sigma), of the same variance

Elements of A B then have deviation sqrt(r) sigma^2: with sigma = 1 / sqrt(d) a tenth of a percent at width 4,096, far
below the weights themselves, but as large as they are at width 100. `deviation` gives a narrow model the 1 / 64 of a
wide one.
"""

from collections.abc import Sequence
from typing import Literal, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

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


Init = Literal["vanilla", "gaussian", "uniform"]


class Stacked(Protocol):
    """What a LoRA needs of a backbone: the shapes of its matrices."""

    @property
    def frozen(self) -> Frozen:
        """Its weights."""
        ...


def lora(
    backbone: Stacked,
    *,
    rank: int = 8,
    targets: Sequence[str] = ("q", "k", "v"),
    init: Init = "vanilla",
    deviation: float | None = None,
    seed: int = 0,
) -> Adapter:
    """A LoRA on these matrices of every layer: `{"lora": {target: {"a": [L, in, r], "b": [L, r, out]}}}` float32.

    >>> import profit_jax as pj
    >>> factors = lora(pj.Backbone.load("tiny"), rank=8, targets=("q", "v"))["lora"]
    >>> {target: (own["a"].shape, own["b"].shape) for target, own in factors.items()}
    {'q': ((4, 192, 8), (4, 8, 192)), 'v': ((4, 192, 8), (4, 8, 192))}
    """
    if deviation is not None and deviation <= 0:
        raise InputError(f"a LoRA's initial standard deviation must be positive, got {deviation}")
    if rank < 1:
        raise InputError(f"a LoRA needs rank 1 at least, not {rank}")
    if not targets:
        raise InputError(f"a LoRA needs targets; known: {', '.join(TARGETS)}")
    if init not in ("vanilla", "gaussian", "uniform"):
        raise InputError(f"unknown LoRA init {init!r}; known: vanilla, gaussian, uniform")
    factors = {}
    for target in targets:
        layers, inputs, outputs = shape(backbone, target)
        generator, sigma = rng.generator(seed, f"lora/{target}"), deviation or inputs**-0.5

        def draw(*shape: int, generator: np.random.Generator = generator, sigma: float = sigma) -> jax.Array:
            if init == "uniform":
                bound = 3**0.5 * sigma
                return jnp.asarray(generator.uniform(-bound, bound, shape), jnp.float32)
            return jnp.asarray(generator.normal(0, sigma, shape), jnp.float32)

        a, b = (layers, inputs, rank), (layers, rank, outputs)
        factors[target] = {"a": draw(*a), "b": jnp.zeros(b, jnp.float32) if init == "vanilla" else draw(*b)}
    return {"lora": factors}


def shape(backbone: Stacked, target: str) -> tuple[int, int, int]:
    """Layers, inputs and outputs of a target's matrices: L, in, out.

    Raises:
      InputError: no such target, here or in this model.
    """
    if target not in TARGETS:
        raise InputError(f"unknown LoRA target {target!r}; known: {', '.join(TARGETS)}")
    part, name = TARGETS[target]
    if name not in backbone.frozen["blocks"][part]:
        raise InputError(f"this model has no {target!r} for a LoRA; leave it out of the targets")
    return backbone.frozen["blocks"][part][name]["kernel"].shape


def merge(frozen: Frozen, adapter: Adapter) -> Frozen:
    """The weights of a model that computes alone what the backbone computes with the LoRA: `W + A B`, in W's dtype.

    Raises:
      InputError: the adapter is a soft prompt, which is no change of the weights, or the weights are int8.
    """
    if "lora" not in adapter:
        raise InputError("a soft prompt is not a change of the weights and cannot be merged; keep it beside the model")
    blocks = {part: dict(matrices) for part, matrices in frozen["blocks"].items()}
    for target, factors in adapter["lora"].items():
        part, name = TARGETS[target]
        change = jnp.einsum("ldr,lro->ldo", factors["a"], factors["b"], precision=lax.Precision.HIGHEST)
        kernel = blocks[part][name]["kernel"]
        if kernel.dtype == jnp.int8:
            raise InputError("a LoRA is not merged into int8 weights; load the model without quantize")
        blocks[part][name] = {**blocks[part][name], "kernel": (kernel + change).astype(kernel.dtype)}
    return {**frozen, "blocks": blocks}
