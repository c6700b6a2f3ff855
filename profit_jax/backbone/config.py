"""What defines a decoder: its numbers and its mechanisms.

No number that defines the model has a default.
"""

import dataclasses
import math
from typing import Literal, NamedTuple

import numpy as np

from profit_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Rope:
    """Rotary position embedding: base theta and, for long contexts, how its frequencies are rescaled.

    `kind` is `default`, `linear` (all frequencies divided by `factor`) or `llama3` (low frequencies divided by
    `factor`, high ones kept, a ramp between; Llama 3.1). `share` is the part of a head's features that turns.
    """

    theta: float
    kind: str = "default"
    factor: float = 1.0
    low_frequency_factor: float = 1.0
    high_frequency_factor: float = 1.0
    original_positions: int = 0
    share: float = 1.0

    def width(self, head_width: int) -> int:
        """How many of a head's features turn."""
        return int(head_width * self.share)

    def frequencies(self, head_width: int) -> np.ndarray:
        """Radians a position turns each pair of features, `[n]` float32; two features a pair, n = E / 2 at most."""
        width = self.width(head_width)
        frequency = self.theta ** (-np.arange(0, width, 2, dtype=np.float64) / width)
        if self.kind == "linear":
            frequency = frequency / self.factor
        elif self.kind == "llama3":
            turns = self.original_positions * frequency / (2 * math.pi)  # full turns within the original context
            ramp = (turns - self.low_frequency_factor) / (self.high_frequency_factor - self.low_frequency_factor)
            ramp = np.clip(ramp, 0, 1)
            frequency = (1 - ramp) * frequency / self.factor + ramp * frequency
        return frequency.astype(np.float32)


class Reach(NamedTuple):
    """How far a layer's attention reaches, and how positions turn its queries and keys."""

    window: int | None  # a position sees itself and the window - 1 before it; None: all before it
    rope: Rope


@dataclasses.dataclass(frozen=True)
class BackboneConfig:
    """A decoder: its numbers, then the mechanisms by which families differ, each as Llama has it unless given."""

    vocabulary: int  # V
    width: int  # D
    layers: int  # L
    heads: int  # H
    key_value_heads: int  # G
    head_width: int  # E
    mlp_width: int  # F
    norm_epsilon: float
    rope: Rope
    tied_embeddings: bool
    end_tokens: tuple[int, ...]  # any of these ends a generated text

    family: str = "llama"  # whose Hugging Face folder it has, a key of `families.FAMILIES`
    biases: tuple[str, ...] = ()  # what has one, sorted: "norm" and LoRA's targets q, k, v, o, gate, up, down
    norm: Literal["rms", "layer"] = "rms"
    norm_offset: float = 0.0  # a norm multiplies by its stored scale plus this
    query_key_norms: bool = False  # each head's queries and keys have a norm before they turn
    out_norms: bool = False  # attention and MLP have a norm behind them too
    parallel: bool = False  # the MLP reads the x that attention reads (Wang and Komatsuzaki 2021)
    shared_norm: bool = False  # through the same norm (PaLM); only where they are parallel
    activation: Literal["silu", "gelu", "gelu_tanh"] = "silu"
    gated: bool = True  # the MLP has a gate
    embedding_scale: float = 1.0  # token embeddings are multiplied by it; the output projection is not
    query_scalar: int | None = None  # scores are divided by its square root; None: by that of the head width
    score_cap: float | None = None  # attention scores are c tanh(s / c)
    logit_cap: float | None = None  # and so are logits
    windows: tuple[int | None, ...] = ()  # of each layer, None where it sees all; (): all layers see all
    local_rope: Rope | None = None  # of the layers that have a window; None: they have `rope` too

    def __post_init__(self) -> None:
        if self.heads % self.key_value_heads:
            raise InputError(f"{self.heads} query heads do not share {self.key_value_heads} key-value heads evenly")
        if odd := [width for kind in self.reach if (width := kind.rope.width(self.head_width)) % 2 or not width]:
            raise InputError(f"rotary embeddings need an even head width, not {odd[0]}")
        if len(self.windows) not in (0, self.layers):
            raise InputError(f"{len(self.windows)} windows are given for {self.layers} layers")
        if self.shared_norm and not self.parallel:
            raise InputError("attention and MLP can share a norm only where they are parallel")

    @property
    def reach(self) -> tuple[Reach, ...]:
        """What each layer sees, `[L]`."""
        local = self.local_rope or self.rope
        windows = self.windows or (None,) * self.layers
        return tuple(Reach(window, self.rope if window is None else local) for window in windows)

    @property
    def score_scale(self) -> float:
        """What products of queries and keys are multiplied by."""
        return (self.query_scalar or self.head_width) ** -0.5

    @property
    def block_parameters(self) -> int:
        """Weights of all blocks' matrices: what a position is multiplied with."""
        attention = 2 * self.width * self.head_width * (self.heads + self.key_value_heads)
        return self.layers * (attention + (3 if self.gated else 2) * self.width * self.mlp_width)
