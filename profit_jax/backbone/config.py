"""What defines a decoder: its numbers, read from a Hugging Face `config.json`.

No number that defines the model has a default.
"""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from profit_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Rope:
    """Rotary position embedding: base theta and, for long contexts, how its frequencies are rescaled.

    `kind` is `default`, `linear` (all frequencies divided by `factor`) or `llama3` (low frequencies divided by
    `factor`, high ones kept, a ramp between; Llama 3.1).
    """

    theta: float
    kind: str = "default"
    factor: float = 1.0
    low_frequency_factor: float = 1.0
    high_frequency_factor: float = 1.0
    original_positions: int = 0

    def frequencies(self, head_width: int) -> np.ndarray:
        """Radians a position turns each pair of features, `[E / 2]` float32."""
        frequency = self.theta ** (-np.arange(0, head_width, 2, dtype=np.float64) / head_width)
        if self.kind == "linear":
            frequency = frequency / self.factor
        elif self.kind == "llama3":
            turns = self.original_positions * frequency / (2 * math.pi)  # full turns within the original context
            ramp = (turns - self.low_frequency_factor) / (self.high_frequency_factor - self.low_frequency_factor)
            ramp = np.clip(ramp, 0, 1)
            frequency = (1 - ramp) * frequency / self.factor + ramp * frequency
        return frequency.astype(np.float32)


@dataclasses.dataclass(frozen=True)
class BackboneConfig:
    """A Llama-family decoder."""

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

    def __post_init__(self):
        if self.heads % self.key_value_heads:
            raise InputError(f"{self.heads} query heads do not share {self.key_value_heads} key-value heads evenly")
        if self.head_width % 2:
            raise InputError(f"rotary embeddings need an even head width, not {self.head_width}")

    @property
    def block_parameters(self) -> int:
        """Weights of all blocks' matrices: what a position is multiplied with."""
        attention = 2 * self.width * self.head_width * (self.heads + self.key_value_heads)
        return self.layers * (attention + 3 * self.width * self.mlp_width)


# Fields of config.json that change what a Llama computes, and the one value that this decoder implements.
_FIXED = {"hidden_act": "silu", "attention_bias": False, "mlp_bias": False, "pretraining_tp": 1}


def read_config(folder: Path) -> BackboneConfig:
    """Reads `config.json` (and `generation_config.json`, if there, for the tokens that end a text)."""
    file = Path(folder) / "config.json"
    fields = read_json(file)
    if fields.get("model_type") != "llama":
        raise InputError(f"{file}: model_type {fields.get('model_type')!r} is not supported; supported: 'llama'")
    for name, value in _FIXED.items():
        if fields.get(name, value) != value:
            raise InputError(f"{file}: {name} = {fields[name]!r} is not supported; only {value!r} is")
    if fields.get("quantization_config"):
        raise InputError(f"{file}: quantization_config is not supported; give the unquantized weights")
    number = _Numbers(file, fields)
    heads, width = number("num_attention_heads"), number("hidden_size")
    if fields.get("head_dim") is None and width % heads:
        raise InputError(f"{file}: hidden_size {width} is not a multiple of num_attention_heads {heads}; give head_dim")
    return BackboneConfig(
        vocabulary=number("vocab_size"),
        width=width,
        layers=number("num_hidden_layers"),
        heads=heads,
        # Llama's own definition of an absent field: as many key-value heads as query heads, width shared evenly.
        key_value_heads=heads if fields.get("num_key_value_heads") is None else number("num_key_value_heads"),
        head_width=width // heads if fields.get("head_dim") is None else number("head_dim"),
        mlp_width=number("intermediate_size"),
        norm_epsilon=number("rms_norm_eps", float),
        rope=_rope(file, fields),
        tied_embeddings=bool(fields.get("tie_word_embeddings", False)),
        end_tokens=_end_tokens(Path(folder), fields),
    )


class _Numbers:
    def __init__(self, file: Path, fields: dict):
        self.file, self.fields = file, fields

    def __call__(self, name: str, kind: type = int) -> Any:
        value = self.fields.get(name)
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not (whole or (kind is float and isinstance(value, float))) or not math.isfinite(value) or value <= 0:
            raise InputError(f"{self.file}: {name} must be a positive {kind.__name__}, not {value!r}")
        return kind(value)


def _rope(file: Path, fields: dict) -> Rope:
    # transformers 5 writes `rope_parameters`; 4 wrote `rope_theta` beside `rope_scaling`.
    scaling = fields.get("rope_parameters") or fields.get("rope_scaling") or {}
    if not isinstance(scaling, dict):
        raise InputError(f"{file}: rope_scaling must be an object, not {scaling!r}")
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    theta = scaling.get("rope_theta", fields.get("rope_theta"))
    number = _Numbers(file, {**scaling, "rope_theta": theta})
    if theta is None:
        raise InputError(f"{file}: rope_theta is missing")
    if kind == "default":
        return Rope(number("rope_theta", float))
    if kind == "linear":
        return Rope(number("rope_theta", float), kind, number("factor", float))
    if kind == "llama3":
        return Rope(
            number("rope_theta", float),
            kind,
            factor=number("factor", float),
            low_frequency_factor=number("low_freq_factor", float),
            high_frequency_factor=number("high_freq_factor", float),
            original_positions=number("original_max_position_embeddings"),
        )
    raise InputError(f"{file}: rope type {kind!r} is not supported; supported: default, linear, llama3")


def _end_tokens(folder: Path, fields: dict) -> tuple[int, ...]:
    generation = folder / "generation_config.json"
    end = (read_json(generation) if generation.exists() else {}).get("eos_token_id", fields.get("eos_token_id"))
    end = [] if end is None else end if isinstance(end, list) else [end]
    if not all(isinstance(token, int) for token in end):
        raise InputError(f"{folder}: eos_token_id must be a token id or a list of them, not {end!r}")
    return tuple(end)


def read_json(file: Path) -> dict:
    """The JSON object that a file holds; an InputError names the file when it holds none."""
    try:
        fields = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{file}: no such file; a model is a Hugging Face folder with a config.json") from None
    except (UnicodeDecodeError, json.JSONDecodeError, OSError, RecursionError) as error:
        raise InputError(f"{file}: not readable as JSON ({error})") from None
    if not isinstance(fields, dict):
        raise InputError(f"{file}: must hold a JSON object")
    return fields
