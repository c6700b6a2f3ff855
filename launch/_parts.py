"""What launchers build from a config: backbone, data, encoder, optimizers, layout."""

from collections.abc import Callable
from typing import Any

from jax.sharding import Mesh
from ml_collections import ConfigDict

import profit_jax as pj
from profit_jax import optim, trees
from profit_jax.backbone import Rope
from profit_jax.data.store import FederatedSNI
from profit_jax.errors import InputError
from profit_jax.experiment import with_flights
from profit_jax.federated import Algorithm
from profit_jax.federated.algorithm import LossFunction
from profit_jax.typing import Adapter


def backbone(config: ConfigDict, mesh: Mesh | None = None) -> pj.Backbone:
    """The frozen model that `config.model` names, on the mesh."""
    if not config.model:
        raise InputError("no model: give --config.model=FOLDER, a Hugging Face folder, or tiny")
    return pj.Backbone.load(config.model, dtype=config.dtype, quantize=config.quantize, remat=config.remat, mesh=mesh)


def data(config: ConfigDict) -> FederatedSNI:
    """The partition that `config.data_dir` and `config.partition` name."""
    if not config.data_dir:
        raise InputError("no data: give --config.data_dir=FOLDER, as prepare_sni.py has written it")
    return pj.data.sni.open(f"{config.data_dir}/federated_sni/{config.partition}")


def encoder(config: ConfigDict, model: pj.Backbone) -> pj.Encoder:
    """Text to tokens within the config's limits."""
    return pj.Encoder(model.tokenizer, max_query=config.max_query, max_target=config.max_target)


def optimizer(fields: ConfigDict) -> Any:
    """The optax optimizer of a config's `name` and `learning_rate`, with the settings that stand under its name."""
    return optim.optimizer(fields.name, learning_rate=fields.learning_rate, **(fields.get(fields.name) or {}))


def algorithm(config: ConfigDict) -> Callable[[LossFunction], Algorithm]:
    """Loss -> algorithm, of the config's name and optimizers."""
    client, server = optimizer(config.client_optimizer), optimizer(config.server_optimizer)
    known: dict[str, Callable[[LossFunction], Algorithm]] = {
        "fed_avg": lambda loss: pj.fed_avg(loss, client_optimizer=client, server_optimizer=server),
        "fed_sgd": lambda loss: pj.fed_sgd(loss, server_optimizer=server),
        "centralized": lambda loss: pj.centralized(loss, optimizer=server),
    }
    if config.algorithm not in known:
        raise InputError(f"unknown algorithm {config.algorithm!r}; known: {', '.join(known)}")
    return known[config.algorithm]


def setting(server: float, client: float) -> str:
    """The folder of one of several settings that differ in learning rates."""
    return f"server={server:g}-client={client:g}"


def shape(fields: ConfigDict | dict[str, Any]) -> pj.BackboneConfig:
    """The decoder of a shape of configs/shapes.py, with Llama's other numbers."""
    return pj.BackboneConfig(**dict(fields), norm_epsilon=1e-5, rope=Rope(10_000.0), end_tokens=(2,))


def layout(config: ConfigDict, lanes: int) -> pj.Layout:
    """The layout of cohorts, on so many lanes."""
    return pj.Layout(
        row_width=config.row_width,
        positions_per_flight=config.positions_per_flight,
        lanes=lanes,
        slack=config.slack,
    )


def tried_layout(
    config: ConfigDict, model: pj.Backbone, adapter: Adapter, clients: int, workdir: pj.Workdir
) -> pj.Layout:
    """The layout on the model's mesh; with `positions_per_flight` = 0 a trial on `clients` at once chooses their size.

    Args:
      config: the run's.
      model: the backbone.
      adapter: what a client trains, without client axis.
      clients: of a round, in all lanes.
      workdir: where the choice is kept.
    """
    own = layout(config, lanes(model.mesh))
    if own.positions_per_flight:
        return own
    return with_flights(own, model.loss, trees.broadcast(adapter, -(-clients // own.lanes)), workdir)


def rounds(config: ConfigDict) -> dict[str, Any]:
    """How many rounds, of whom, and what is kept: arguments of `profit_jax.train`."""
    return {
        "rounds": config.rounds,
        "clients_per_round": config.clients_per_round,
        "batch_size": config.batch_size,
        "seed": config.seed,
        "weighting": config.weighting,
        "reduction": config.reduction,
        "checkpoint_every": config.checkpoint_every,
    }


def mesh(text: str) -> Mesh | None:
    """The mesh that `--mesh` names; None where it has one device."""
    made = pj.mesh(text)
    return made if made.size > 1 else None


def lanes(mesh: Mesh | None) -> int:
    """How many lanes a mesh has."""
    return mesh.shape["clients"] if mesh else 1


def report_truncation(encoder: pj.Encoder) -> None:
    """Says how many of the texts that were read had to be cut."""
    counts = encoder.counts
    if counts["truncated_queries"] or counts["truncated_targets"]:
        print(
            f"truncated, of {counts['queries']:,} texts read: {counts['truncated_queries']:,} queries (on the left, to "
            f"{encoder.max_query} tokens), {counts['truncated_targets']:,} targets (to {encoder.max_target})"
        )
