"""Pieces of a Hugging Face `config.json`: what each says about a decoder, and how it is written again.

A piece is a pair of inverse functions between fields of the file and fields of `BackboneConfig`; a family is a tuple of
pieces (`families`). A field that the file leaves out means what the family's configuration class in `transformers` says
it means, where published folders do leave it out; otherwise it is missing.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from profit_jax.backbone.config import BackboneConfig, Rope
from profit_jax.errors import InputError

_REQUIRED = object()
_MOST = {int: 2**31 - 1, float: 2**63}  # of whole numbers: what indices and shapes can hold
_MOST_LAYERS = 10_000
_LOCAL, _GLOBAL = "sliding_attention", "full_attention"


class Fields:
    """The fields of one file, or of an object in it, asked for by name. Every answer is checked."""

    def __init__(self, file: Path, values: Mapping[str, Any]):
        self.file, self.values = file, values

    def number(self, name: str, kind: type = int, absent: Any = _REQUIRED) -> Any:
        """A positive number, a whole one of less than 32 bits; `absent` where there is none, or null."""
        value = self.values.get(name)
        if value is None and absent is not _REQUIRED:
            return absent
        whole = isinstance(value, int) and not isinstance(value, bool) and value <= _MOST[kind]
        if not (whole or (kind is float and isinstance(value, float))) or not math.isfinite(value) or value <= 0:
            raise InputError(f"{self.file}: {name} must be a positive {kind.__name__}, not {value!r}")
        return kind(value)

    def layers(self) -> int:
        """The number of layers, of which other fields have one entry each."""
        layers = self.number("num_hidden_layers")
        if layers > _MOST_LAYERS:
            raise InputError(f"{self.file}: num_hidden_layers must be at most {_MOST_LAYERS}, not {layers}")
        return layers

    def count(self, name: str) -> int:
        """A whole number, which may be 0."""
        return 0 if self.values.get(name) == 0 else self.number(name)

    def nullable(self, name: str, kind: type = int) -> Any:
        """A positive number, or null, which must be said."""
        if name not in self.values:
            raise InputError(f"{self.file}: {name} is missing; give a number, or null for none")
        return self.number(name, kind, absent=None)

    def one_of(self, name: str, known: Sequence[Any], absent: Any = _REQUIRED) -> Any:
        """One of the known values; `absent` where there is none or null."""
        value = self.values.get(name)
        if value is None and absent is not _REQUIRED:
            return absent
        if not any(type(value) is type(right) and value == right for right in known):
            raise InputError(
                f"{self.file}: {name} = {value!r} is not supported; supported: {', '.join(map(repr, known)) or 'null'}"
            )
        return value

    def flag(self, name: str, absent: bool) -> bool:
        """True or false."""
        return self.one_of(name, (False, True), absent)


class Piece(NamedTuple):
    """Some fields of config.json, read and written."""

    read: Callable[[Fields], dict[str, Any]]  # -> fields of BackboneConfig
    write: Callable[[BackboneConfig], dict[str, Any]]  # -> fields of config.json


def number(name: str, ours: str, kind: type = int) -> Piece:
    """A number that every folder gives."""
    return Piece(lambda f: {ours: f.number(name, kind)}, lambda c: {name: getattr(c, ours)})


def nullable(name: str, ours: str, kind: type) -> Piece:
    """A number, or null for none."""
    return Piece(lambda f: {ours: f.nullable(name, kind)}, lambda c: {name: getattr(c, ours)})


def flag(name: str, ours: str, absent: bool) -> Piece:
    """Whether the model has something."""
    return Piece(lambda f: {ours: f.flag(name, absent)}, lambda c: {name: getattr(c, ours)})


def only(name: str, *values: Any) -> Piece:
    """A field that changes what a model computes and must have the values that this decoder implements, or be null."""

    def read(f: Fields) -> dict[str, Any]:
        f.one_of(name, values, absent=None)
        return {}

    return Piece(read, lambda c: {})


def always(**mechanisms: Any) -> Piece:
    """What config.json does not say, because all of the family's models have it."""
    return Piece(lambda f: mechanisms, lambda c: {})


def biases(*every: str, **flags: tuple[bool, tuple[str, ...]]) -> Piece:
    """What has a bias: `every`, and what each flag stands for; a flag is given with its absent value."""

    def read(f: Fields) -> dict[str, Any]:
        named = [what for flag, (absent, what) in flags.items() if f.flag(flag, absent)]
        return {"biases": tuple(sorted({*every, *(target for what in named for target in what)}))}

    return Piece(read, lambda c: {flag: set(what) <= set(c.biases) for flag, (_, what) in flags.items()})


def activation(name: str, spellings: Mapping[str, str], absent: str) -> Piece:
    """The MLP's activation; `spellings` goes from the names in the file to ours, and the first of each is written."""

    def read(f: Fields) -> dict[str, Any]:
        return {"activation": spellings[f.one_of(name, tuple(spellings), absent)]}

    return Piece(read, lambda c: {name: next((key for key, ours in spellings.items() if ours == c.activation), None)})


def _read_heads(f: Fields) -> dict[str, Any]:
    heads, width = f.number("num_attention_heads"), f.number("hidden_size")
    head_width = f.number("head_dim", absent=None)
    if head_width is None and width % heads:
        raise InputError(
            f"{f.file}: hidden_size {width} is not a multiple of num_attention_heads {heads}; give head_dim"
        )
    return {
        "heads": heads,
        # Llama's own definition of an absent field: as many key-value heads as query heads, width shared evenly.
        "key_value_heads": f.number("num_key_value_heads", absent=heads),
        "head_width": head_width or width // heads,
    }


LAYERS = Piece(lambda f: {"layers": f.layers()}, lambda c: {"num_hidden_layers": c.layers})
"""How many blocks there are."""

HEADS = Piece(
    _read_heads,
    lambda c: {
        "num_attention_heads": c.heads,
        "num_key_value_heads": c.key_value_heads,
        "head_dim": c.head_width,
    },
)
"""Query heads, which may share key-value heads, of a width of their own."""


def _read_equal_heads(f: Fields) -> dict[str, Any]:
    heads, width = f.number("num_attention_heads"), f.number("hidden_size")
    if width % heads:
        raise InputError(f"{f.file}: hidden_size {width} is not a multiple of num_attention_heads {heads}")
    return {"heads": heads, "key_value_heads": heads, "head_width": width // heads}


EQUAL_HEADS = Piece(_read_equal_heads, lambda c: {"num_attention_heads": c.heads})
"""As many key-value heads as query heads, which share the width evenly."""

ROOT_OF_WIDTH = Piece(lambda f: {"embedding_scale": f.number("hidden_size") ** 0.5}, lambda c: {})
"""Embeddings times the square root of the width (Vaswani et al. 2017)."""


def _read_end_tokens(f: Fields) -> dict[str, Any]:
    end = f.values.get("eos_token_id")
    end = [] if end is None else end if isinstance(end, list) else [end]
    if not all(isinstance(token, int) and not isinstance(token, bool) and 0 <= token <= _MOST[int] for token in end):
        raise InputError(f"{f.file.parent}: eos_token_id must be a token id or a list of them, not {end!r}")
    return {"end_tokens": tuple(end)}


END_TOKENS = Piece(_read_end_tokens, lambda c: {"eos_token_id": list(c.end_tokens)})
"""The tokens that end a text."""


def _one_window(f: Fields) -> dict[str, Any]:
    window = f.nullable("sliding_window")
    return {"windows": () if window is None else (window,) * f.layers()}


WINDOW = Piece(_one_window, lambda c: {"sliding_window": next(iter(c.windows), None)})
"""One window for all layers, or none."""


def windows(local: Callable[[Fields, int], bool], switch: str | None = None) -> Piece:
    """One window for some of the layers: `layer_types` says which, or where it is absent `local(fields, layer)`.

    Where there is a `switch`, a field that is absent when off, layers have windows only if it is on.
    """

    def read(f: Fields) -> dict[str, Any]:
        layers, types = f.layers(), f.values.get("layer_types")
        off = switch is not None and not f.flag(switch, absent=False)
        if types is None:
            types = [_GLOBAL if off or not local(f, layer) else _LOCAL for layer in range(layers)]
        if not isinstance(types, list) or len(types) != layers or not {*map(str, types)} <= {_LOCAL, _GLOBAL}:
            raise InputError(
                f"{f.file}: layer_types must name {_GLOBAL!r} or {_LOCAL!r} for each of {layers} layers, not {types!r}"
            )
        if _LOCAL not in types:
            return {"windows": ()}
        if off:
            raise InputError(f"{f.file}: layer_types names {_LOCAL!r}, but {switch} is off; change one of them")
        window = f.number("sliding_window")
        return {"windows": tuple(window if kind == _LOCAL else None for kind in types)}

    def write(c: BackboneConfig) -> dict[str, Any]:
        types = [_GLOBAL if reach.window is None else _LOCAL for reach in c.reach]
        window = next((window for window in c.windows if window is not None), None)
        return {"layer_types": types, "sliding_window": window} | ({switch: window is not None} if switch else {})

    return Piece(read, write)


def rope(
    theta: str = "rope_theta",
    absent: float = 10_000.0,
    share: tuple[str, float] | None = None,
    local: tuple[str, float] | None = None,
) -> Piece:
    """The rotary embedding; transformers 4 wrote `rope_theta` and `rope_scaling`, 5 writes `rope_parameters`.

    Args:
      theta: version 4's name of theta.
      absent: theta where the file gives none.
      share: version 4's name of the share of features that turn, and its absent value; None: all turn.
      local: version 4's name of the theta of layers with a window, and its absent value; version 5 has an object for
        each type of layer then. None: all layers share one.
    """

    older_share, all_turn = share or ("partial_rotary_factor", 1.0)

    def one(f: Fields, name: str, values: Any, older_theta: str, absent_theta: float) -> Rope:
        if not isinstance(values, dict):
            raise InputError(f"{f.file}: {name} must be an object, not {values!r}")
        kind, known = values.get("rope_type", values.get("type", "default")), sorted({*_PARAMETERS, *_SCALING.values()})
        if kind not in [*_KINDS]:
            raise InputError(f"{f.file}: rope type {kind!r} is not supported; supported: {', '.join(_KINDS)}")
        if unknown := sorted(values.keys() - known):
            raise InputError(f"{f.file}: {name}.{unknown[0]} is not supported; supported: {', '.join(known)}")
        own = Fields(f.file, values)

        def either(newer: str, older: str, absent: float) -> float:
            return f.number(older, float, absent) if values.get(newer) is None else own.number(newer, float)

        turning = either("partial_rotary_factor", older_share, all_turn)
        if turning > 1 or (turning < 1 and share is None):
            most = "at most 1" if share else "1 for this model_type"
            raise InputError(f"{f.file}: {older_share} (or partial_rotary_factor) must be {most}, not {turning!r}")
        scaling = {ours: own.number(_SCALING[ours], _TYPES[ours]) for ours in _KINDS[kind]}
        return Rope(either("rope_theta", older_theta, absent_theta), kind, share=turning, **scaling)

    def read(f: Fields) -> dict[str, Any]:
        named = [name for name in ("rope_parameters", "rope_scaling") if f.values.get(name)]
        if len(named) > 1:
            raise InputError(f"{f.file}: rope_parameters and rope_scaling are both given; keep the first alone")
        [name] = named or ["rope_scaling"]
        values = f.values.get(name) or {}
        if local is None or name == "rope_scaling":
            far, near = values, {}
        elif isinstance(values, dict) and values.keys() <= {_GLOBAL, _LOCAL}:
            far, near = (values.get(kind) or {} for kind in (_GLOBAL, _LOCAL))
        else:
            raise InputError(f"{f.file}: {name} must be an object of {_GLOBAL!r} and {_LOCAL!r}, not {values!r}")
        ropes = {"rope": one(f, name, far, theta, absent)}
        return ropes | ({"local_rope": one(f, name, near, *local)} if local else {})

    def write(c: BackboneConfig) -> dict[str, Any]:
        kind = c.rope.kind
        scaling = {"rope_type": kind, **{_SCALING[ours]: getattr(c.rope, ours) for ours in _KINDS[kind]}}
        fields = {theta: c.rope.theta, "rope_scaling": None if kind == "default" else scaling}
        fields |= {share[0]: c.rope.share} if share else {}
        return fields | ({local[0]: (c.local_rope or c.rope).theta} if local else {})

    return Piece(read, write)


_PARAMETERS = ("rope_theta", "rope_type", "type", "partial_rotary_factor")
# Names of a scaling's numbers here and in the file, and which of them each kind has.
_SCALING = {
    "factor": "factor",
    "low_frequency_factor": "low_freq_factor",
    "high_frequency_factor": "high_freq_factor",
    "original_positions": "original_max_position_embeddings",
}
_TYPES = {"factor": float, "low_frequency_factor": float, "high_frequency_factor": float, "original_positions": int}
_KINDS = {"default": (), "linear": ("factor",), "llama3": tuple(_SCALING)}
