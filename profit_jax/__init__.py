"""Federated tuning of language models in JAX: the Profit benchmark and the machinery under it.

    import profit_jax as pj

    backbone = pj.Backbone.load("a Hugging Face folder")
    prompt = pj.soft_prompt(backbone, length=10)
    algorithm = pj.fed_avg(backbone.loss, client_optimizer=..., server_optimizer=...)
    result = pj.train(algorithm, prompt, clients, rounds=300)

Names are imported when first used, so that `import profit_jax` is quick.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the same names for type checkers, which do not run `__getattr__`
    from profit_jax import adapters, backbone, benchmark, data, experiment, federated, metrics, optim, plots
    from profit_jax.adapters import lora, soft_prompt
    from profit_jax.backbone import Backbone, BackboneConfig
    from profit_jax.data.cohort import Layout
    from profit_jax.data.encode import Encoder
    from profit_jax.data.examples import Example, MemoryClients
    from profit_jax.errors import InputError
    from profit_jax.experiment import Workdir, read_adapter, train
    from profit_jax.federated import centralized, fed_avg, fed_sgd, local, side_by_side
    from profit_jax.federated.mesh import mesh

_PUBLIC = {
    "Backbone": "profit_jax.backbone",
    "BackboneConfig": "profit_jax.backbone",
    "Encoder": "profit_jax.data.encode",
    "Example": "profit_jax.data.examples",
    "InputError": "profit_jax.errors",
    "Layout": "profit_jax.data.cohort",
    "MemoryClients": "profit_jax.data.examples",
    "Workdir": "profit_jax.experiment",
    "centralized": "profit_jax.federated",
    "fed_avg": "profit_jax.federated",
    "fed_sgd": "profit_jax.federated",
    "local": "profit_jax.federated",
    "lora": "profit_jax.adapters",
    "mesh": "profit_jax.federated.mesh",
    "read_adapter": "profit_jax.experiment",
    "side_by_side": "profit_jax.federated",
    "soft_prompt": "profit_jax.adapters",
    "train": "profit_jax.experiment",
}
_MODULES = ("adapters", "backbone", "benchmark", "data", "experiment", "federated", "metrics", "optim", "plots")

__all__ = sorted([*_PUBLIC, *_MODULES])


def __getattr__(name: str) -> object:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"profit_jax.{name}")
    raise AttributeError(f"module 'profit_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
