"""The adapter that a person names: by a training run's workdir, or by a Hugging Face PEFT folder."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import perfit_jax as pf
import profit_jax as pj
from profit_jax.adapters import check_fits, load_peft, lora
from profit_jax.adapters.peft import CONFIG
from profit_jax.errors import InputError
from profit_jax.experiment import read_checkpoint
from profit_jax.plots.records import read_config
from profit_jax.typing import Adapter


class Named(NamedTuple):
    """An adapter without client axis, and which it is, in words."""

    adapter: Adapter
    words: str


def named(source: str, model: pj.Backbone, client: int | None = None) -> Named:
    """Reads the adapter.

    Args:
      source: a PEFT folder, or the workdir of profit_train, profit_personalize or perfit_train.
      model: the backbone that it is for.
      client: whose; where each client has one, and only there.

    Raises:
      InputError: no such adapter, one of another model, or it is not clear whose is meant.
    """
    if os.path.exists(Path(source) / CONFIG):
        shared = Named(load_peft(source, model), "the adapter of a PEFT folder")
        return _shared(source, client, shared)
    config = run_config(source)
    kind = (config["stage"], config.get("method"))
    if kind in (("train", None), ("perfit", "fit")):
        words = "the prompt with the best validation score" if config.get("validate_every") else "the last adapter"
        found = _shared(source, client, Named(pj.read_adapter(source), words))
    elif kind == ("perfit", "perfit"):
        found = _own(source, client, range(config["clients"]), lambda own: _sparse(source, config, model, own))
    else:
        clients = _personalized(source, config) if kind[0] == "personalize" else range(config["clients"])
        adapters = pj.read_adapter(source)
        found = _own(source, client, clients, lambda own: jax.tree.map(lambda leaf: leaf[clients.index(own)], adapters))
    check_fits(found.adapter, model, source)
    return found


def run_config(workdir: str) -> Mapping[str, Any]:
    """The config of a training run."""
    file = Path(workdir) / "config.json"
    config = read_config(file) if os.path.exists(file) else {}
    if config.get("stage") not in ("train", "personalize", "perfit"):
        raise InputError(f"{workdir} is neither the workdir of a training run nor a PEFT folder")
    return config


def _shared(source: str, client: int | None, found: Named) -> Named:
    if client is not None:
        raise InputError(f"{source} holds one adapter for all clients; leave --client out")
    return found


def _own(source: str, client: int | None, clients: Sequence[int], read: Callable[[int], Adapter]) -> Named:
    if client is None or client not in clients:
        known = f"{clients[0]} to {clients[-1]}" if isinstance(clients, range) else ", ".join(map(str, clients))
        raise InputError(
            f"{source} holds an adapter for each client ({known}); choose one with --client=NUMBER, for a run to start "
            "from by launch/export_adapter.py"
        )
    return Named(read(client), f"client {client}'s own adapter")


def _personalized(workdir: str, config: Mapping[str, Any]) -> list[int]:
    """The numbers of the test clients, in the order in which the run keeps them."""
    return sorted({row["client"] for row in pj.Workdir(workdir, config).rows("clients")})


def _sparse(workdir: str, config: Mapping[str, Any], model: pj.Backbone, client: int) -> Adapter:
    """A PerFIT client's LoRA, zero where it owns nothing."""
    rank = pf.expanded_rank(config["rank"], config["sparsity"])
    masks = pf.Masks.load(Path(workdir) / "masks.npz", lora(model, rank=rank, targets=config["targets"]))
    state, owned = read_checkpoint(workdir)["state"], masks.owned[client]
    if not np.array_equal(state["indices"][client][:owned], np.flatnonzero(masks.dense(client))):
        raise InputError(f"{workdir}: masks.npz is not of the run that left the checkpoint")
    expanded = masks.space.expand(state["adapter"][client][None], state["indices"][client][None])
    return jax.tree.map(lambda leaf: np.asarray(leaf)[0], expanded)
