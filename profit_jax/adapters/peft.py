"""Adapters as folders of Hugging Face PEFT: `adapter_config.json` and `adapter_model.safetensors`.

A soft prompt is PEFT's PROMPT_TUNING: rows in front of the whole input, its start token included, that take the first
positions, as here. A LoRA is PEFT's LORA with lora_alpha = r, whose scale is 1; for each layer and target it holds
`lora_A` `[r, in]` and `lora_B` `[out, r]`, the transposes of A and B. What is written is read again bit for bit.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file

from profit_jax.adapters.lora import TARGETS, shape
from profit_jax.errors import InputError
from profit_jax.files import FLOATING, make_folder, open_tensors, read_object, write_whole
from profit_jax.typing import Adapter, Array, Frozen

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PROMPT = "prompt_embeddings"  # its one tensor, [K, D]

# Fields of adapter_config.json that may say anything: they describe training, or what the tensors show themselves.
_FREE = {
    "auto_mapping",
    "base_model_name_or_path",
    "ensure_weight_tying",
    "exclude_modules",
    "inference_mode",
    "layers_pattern",
    "layers_to_transform",
    "lora_alpha",
    "lora_dropout",
    "megatron_core",
    "num_attention_heads",
    "num_layers",
    "num_virtual_tokens",
    "peft_type",
    "peft_version",
    "prompt_tuning_init",
    "prompt_tuning_init_text",
    "qalora_group_size",
    "r",
    "revision",
    "target_modules",
    "token_dim",
    "tokenizer_kwargs",
    "tokenizer_name_or_path",
}
# Fields that may say this; any other field must be absent or say no, by false, null or an empty object.
_ONLY = {
    "bias": ("none",),
    "init_lora_weights": (True, "gaussian", "orthogonal"),  # of others some change the model beneath
    "num_transformer_submodules": (1,),
    "task_type": ("CAUSAL_LM",),
}


class Base(Protocol):
    """What an adapter's folder needs of the backbone: its numbers, its matrices' shapes and their names elsewhere."""

    @property
    def config(self) -> Any:
        """Its numbers."""
        ...

    @property
    def frozen(self) -> Frozen:
        """Its weights."""
        ...

    def modules(self, path: str) -> list[str]:
        """The modules of the Hugging Face model that hold the kernel at `path`, one a layer, or none."""
        ...


def save_peft(folder: str | Path, adapter: Adapter, backbone: Base, *, base_model: str) -> Path:
    """Writes an adapter as `peft` reads it.

    Args:
      folder: new or empty.
      adapter: `{"prompt": [K, D]}` or `{"lora": ...}`, without client axis.
      backbone: which the adapter is for.
      base_model: its Hugging Face folder, or its name on the hub, which the folder will name.

    Raises:
      InputError: the folder holds something already, the adapter is another model's, or PEFT has no place for it.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is not empty; an adapter is written to a new folder")
    check_fits(adapter, backbone, "the adapter")
    fields, tensors = _prompt_out(adapter, backbone) if "prompt" in adapter else _lora_out(adapter, backbone)
    common = {"base_model_name_or_path": base_model, "inference_mode": True, "task_type": "CAUSAL_LM"}
    make_folder(folder)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    write_whole(folder / CONFIG, json.dumps(common | fields, indent=2) + "\n")  # last: without it there is no adapter
    return folder


def load_peft(folder: str | Path, backbone: Base) -> Adapter:
    """Reads a soft prompt or a LoRA that `save_peft` or `peft` has written, float32, without client axis.

    The scale lora_alpha / r of a LoRA that `peft` has trained becomes part of B.

    Raises:
      InputError: names the file and the field or tensor that is missing, damaged, does not fit the backbone, or asks
        for what an adapter here cannot be.
    """
    folder = Path(folder)
    config, tensors = read_object(folder / CONFIG), _read_tensors(folder / WEIGHTS)
    kind, file = config.get("peft_type"), folder / CONFIG
    if kind not in ("PROMPT_TUNING", "LORA"):
        raise InputError(f"{file}: peft_type {kind!r} is not supported; supported: PROMPT_TUNING, LORA")
    for name, value in config.items():
        if name not in _FREE and value and value not in [*_ONLY.get(name, ())]:
            raise InputError(f"{file}: {name} = {json.dumps(value)} is not supported")
    adapter = _prompt_in(folder, tensors) if kind == "PROMPT_TUNING" else _lora_in(folder, config, tensors, backbone)
    check_fits(adapter, backbone, str(folder))
    return adapter


def check_fits(adapter: Adapter, backbone: Base, name: str) -> None:
    """Raises InputError, about the adapter of this name, unless it has the shapes that the backbone asks for."""
    if "prompt" in adapter and (adapter["prompt"].ndim, adapter["prompt"].shape[-1]) != (2, backbone.config.width):
        found = list(adapter["prompt"].shape)
        raise InputError(f"{name}: the prompt has shape {found}, but the model's width is {backbone.config.width}")
    for target, factors in adapter.get("lora", {}).items():
        layers, inputs, outputs = shape(backbone, target)
        rank = factors["a"].shape[-1]
        for factor, expected in (("a", (layers, inputs, rank)), ("b", (layers, rank, outputs))):
            if factors[factor].shape != expected:
                found = list(factors[factor].shape)
                raise InputError(f"{name}: {factor.upper()} of {target} has shape {found}, the model's {[*expected]}")


def _prompt_out(adapter: Adapter, backbone: Base) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    rows, width = adapter["prompt"].shape
    fields = {
        "peft_type": "PROMPT_TUNING",
        "num_virtual_tokens": rows,
        "token_dim": width,
        "num_attention_heads": backbone.config.heads,
        "num_layers": backbone.config.layers,
        "num_transformer_submodules": 1,
        "prompt_tuning_init": "RANDOM",
    }
    return fields, {_PROMPT: _contiguous(adapter["prompt"])}


def _lora_out(adapter: Adapter, backbone: Base) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    tensors: dict[str, np.ndarray] = {}
    named: list[str] = []
    ranks = {target: factors["a"].shape[-1] for target, factors in adapter["lora"].items()}
    if len({*ranks.values()}) > 1:
        raise InputError(f"a LoRA of different ranks ({ranks}) is not written; give all targets one rank")
    for target, factors in adapter["lora"].items():
        modules = _modules(backbone, target)
        if not modules:
            raise InputError(
                f"a LoRA on {target!r} has no place in PEFT: models of the family {backbone.config.family!r} hold "
                "query, key and value in one matrix; merge it into the model, or train other targets"
            )
        named.append(modules[0].rpartition(".")[2])
        for module, a, b in zip(modules, np.asarray(factors["a"]), np.asarray(factors["b"])):
            tensors[_tensor(module, "A")], tensors[_tensor(module, "B")] = _contiguous(a.T), _contiguous(b.T)
    [rank] = {*ranks.values()}
    fields = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": named, "bias": "none"}
    return fields | {"lora_dropout": 0.0, "use_rslora": False, "use_dora": False}, tensors


def _prompt_in(folder: Path, tensors: dict[str, Array]) -> Adapter:
    if {*tensors} != {_PROMPT}:
        raise InputError(f"{folder / WEIGHTS} holds {', '.join(sorted(tensors)) or 'nothing'}, not {_PROMPT} alone")
    return {"prompt": tensors[_PROMPT]}


def _lora_in(folder: Path, config: Mapping[str, Any], tensors: dict[str, Array], backbone: Base) -> Adapter:
    file, scale = folder / WEIGHTS, _number(folder, config, "lora_alpha") / _number(folder, config, "r")
    factors: dict[str, dict[str, Array]] = {}
    left = dict(tensors)
    for target, (part, name) in TARGETS.items():
        modules = _modules(backbone, target) if name in backbone.frozen["blocks"][part] else []
        wanted = [_tensor(module, factor) for factor in "AB" for module in modules]
        if left.keys().isdisjoint(wanted):
            continue
        if missing := [name for name in wanted if name not in left]:
            raise InputError(f"{file}: {missing[0]} is missing; a LoRA here has all layers of a target")
        _same_shapes(file, wanted[: len(modules)], left)
        _same_shapes(file, wanted[len(modules) :], left)
        a, b = (jnp.stack([left.pop(_tensor(module, factor)).T for module in modules]) for factor in "AB")
        factors[target] = {"a": a, "b": b if scale == 1 else scale * b}
    if left or not factors:
        raise InputError(f"{file}: {min(left, default='no tensor')} is not part of a LoRA on this model")
    for target, each in factors.items():
        if each["a"].shape[-1] != config["r"]:
            raise InputError(f"{file}: the LoRA on {target} has rank {each['a'].shape[-1]}, not r = {config['r']}")
    return {"lora": factors}


def _same_shapes(file: Path, names: list[str], tensors: Mapping[str, Array]) -> None:
    for name in names:
        if tensors[name].shape != tensors[names[0]].shape or tensors[name].ndim != 2:
            shapes = f"{list(tensors[name].shape)}, that of the first layer {list(tensors[names[0]].shape)}"
            raise InputError(f"{file}: {name} has shape {shapes}")


def _modules(backbone: Base, target: str) -> list[str]:
    part, name = TARGETS[target]
    return backbone.modules(f"blocks/{part}/{name}/kernel")


def _tensor(module: str, factor: str) -> str:
    return f"base_model.model.{module}.lora_{factor}.weight"


def _contiguous(values: Array) -> np.ndarray:
    return np.ascontiguousarray(values, np.float32)


def _number(folder: Path, config: Mapping[str, Any], name: str) -> float:
    value = config.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < 2**31:
        raise InputError(f"{folder / CONFIG}: {name} must be a positive number below 2**31, not {value!r}")
    return value


def _read_tensors(file: Path) -> dict[str, Array]:
    read: dict[str, Array] = {}
    with open_tensors(file) as tensors:
        for name in tensors.keys():  # noqa: SIM118 (not a dict)
            if (dtype := tensors.get_slice(name).get_dtype()) not in FLOATING:
                raise InputError(f"{file}: {name} has dtype {dtype}, not one of {', '.join(FLOATING)}")
            read[name] = jnp.asarray(tensors.get_tensor(name).astype(np.float32))
            if not jnp.isfinite(read[name]).all():
                raise InputError(f"{file}: {name} holds numbers that are not finite")
    return read
