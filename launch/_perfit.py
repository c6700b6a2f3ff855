"""What a PerFIT, FIT or local run is made of, by its config: clients, LoRA, algorithm."""

from collections.abc import Sequence

import numpy as np
import optax
from ml_collections import ConfigDict

import perfit_jax as pf
import profit_jax as pj
from launch import _parts
from profit_jax.adapters.lora import Init
from profit_jax.data import instructions, shares
from profit_jax.data.examples import Example
from profit_jax.errors import InputError
from profit_jax.federated import Algorithm
from profit_jax.typing import Adapter


def check(config: ConfigDict) -> None:
    """Raises InputError on fields that do not go together, before anything is loaded."""
    if config.method not in ("perfit", "fit", "local"):
        raise InputError(f"unknown method {config.method!r}; known: perfit, fit, local")
    if config.split not in ("pathological", "dirichlet", "equal"):
        raise InputError(f"unknown split {config.split!r}; known: pathological, dirichlet, equal")
    if config.start and config.method != "local":
        raise InputError(f"start is for method local, which goes on from a FIT run; the method is {config.method}")
    if config.method == "perfit" and config.init == "vanilla":
        raise InputError(
            "PerFIT cannot search from init vanilla: B is zero, so all importance scores of A would be too; choose "
            "gaussian or uniform"
        )
    if config.method == "perfit":
        pf.budget(config.rank, tuple(config.sparsity), config.clients)


def clients(config: ConfigDict) -> tuple[pj.MemoryClients, pj.MemoryClients]:
    """The clients' training and test examples."""
    data = instructions.load(config.data, rows=config.rows, seed=config.seed, category=config.category)
    return shares.clients(data.examples, split(config, data.examples), fraction=config.test_fraction, seed=config.seed)


def split(config: ConfigDict, examples: Sequence[Example]) -> list[np.ndarray]:
    """Which examples each client holds."""
    classes = [example.task_type for example in examples]
    common = {"clients": config.clients, "size": config.size, "seed": config.seed}
    if config.split == "pathological":
        return shares.pathological(classes, classes_per_client=config.classes_per_client, **common)
    if config.split == "dirichlet":
        return shares.dirichlet(classes, beta=config.beta, **common)
    return shares.equal(len(examples), **common)


def lora(config: ConfigDict, model: pj.Backbone, rank: int, init: Init) -> Adapter:
    """The LoRA that training starts from."""
    deviation = config.init_deviation or None
    return pj.lora(model, rank=rank, targets=config.targets, init=init, deviation=deviation, seed=config.seed)


def method(config: ConfigDict, model: pj.Backbone, masks: pf.Masks, start: Adapter | None) -> tuple[Algorithm, Adapter]:
    """The algorithm of the config's method, and where it starts."""
    optimizer = _parts.optimizer(config.client_optimizer)
    rate = config.client_optimizer.learning_rate
    schedule = optax.cosine_decay_schedule(1.0, config.rounds, alpha=config.last_learning_rate / rate)
    client = {"client_schedule": schedule}
    if config.method == "perfit":
        made = pf.perfit(model.loss, masks, client_optimizer=optimizer, dispatch=config.dispatch, **client)
        return made, masks.adapter
    if config.method == "local":
        return pj.local(model.loss, optimizer=optimizer, clients=len(masks), **client), start or masks.adapter
    made = pj.fed_avg(model.loss, client_optimizer=optimizer, server_optimizer=optax.sgd(1.0), **client)
    return made, masks.adapter
