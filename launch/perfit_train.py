"""PerFIT, FIT or local tuning of a LoRA on instruction data split among clients; personalized perplexity each round.

    python -m launch.perfit_train --config=configs/perfit/small.py:perfit,r16 --config.model=MODEL \
        --config.data=dolly:FILE --workdir=runs/perfit-r16

FIT with local tuning after is two runs: `--config.method=fit`, then `--config.method=local --config.start=ITS_WORKDIR`
(or a LoRA's Hugging Face PEFT folder).

Writes config.json, metrics.jsonl, perplexity.jsonl, cohorts.jsonl, parameters.json and checkpoints/ to the workdir, and
of PerFIT masks.npz and similarity.npz. The same command again resumes a stopped run.
"""

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import flags
from ml_collections import ConfigDict

import perfit_jax as pf
import profit_jax as pj
from launch import _adapters, _parts, _perfit
from launch._done import Done
from launch._hosts import joined
from launch._main import command, define_config, define_log, define_mesh, run, watching, writers
from perfit_jax.space import resource_group
from profit_jax import hosts
from profit_jax.errors import InputError
from profit_jax.federated import debugged
from profit_jax.typing import Adapter

CONFIG = define_config()
DEBUG = flags.DEFINE_bool("debug", False, "Check every client by itself, without jit; names what fails. Slow.")
LOG = define_log()
MESH = define_mesh()
WORKDIR = flags.DEFINE_string("workdir", None, "Where records and checkpoints go.", required=True)


def main(argv: Sequence[str]) -> Done:
    """Searches where the method does, and trains."""
    del argv
    config = CONFIG.value
    _perfit.check(config)
    log = writers(LOG.value)
    mesh = _parts.mesh(MESH.value)
    train, test = _perfit.clients(config)
    model = _parts.backbone(config, mesh)
    start = started(config, model) if config.start else None
    encoder = _parts.encoder(config, model)
    workdir = pj.Workdir(WORKDIR.value, {"stage": "perfit", **config.to_dict()}, log)
    searched = pf.expanded_rank(config.rank, tuple(config.sparsity)) if config.method == "perfit" else config.rank
    lora = _perfit.lora(config, model, searched, "vanilla")
    layout = _parts.tried_layout(config, model, lora, config.clients_per_round, workdir)
    shared = {"encoder": encoder, "layout": layout, "mesh": mesh}
    masks = modules(config, model, train, workdir, shared)
    algorithm, adapter = _perfit.method(config, model, masks, start)
    algorithm = debugged(algorithm) if DEBUG.value else algorithm
    evaluate = pf.Perplexity(
        algorithm, test, clients_at_once=config.clients_at_once, group=group(config, len(train)), **shared
    )
    if len(workdir.rows("perplexity")) < len(train):
        start = evaluate(algorithm.start(adapter, mesh))
        workdir.keep("perplexity", lambda row: False)  # of a process that was stopped while it wrote
        workdir.append("perplexity", *({"round": 0, **row} for row in start.clients))
    result = pj.train(
        algorithm,
        adapter,
        train,
        local_epochs=config.local_epochs,
        evaluate=evaluate,
        evaluate_every=config.evaluate_every,
        workdir=workdir,
        **_parts.rounds(config),
        **shared,
    )
    _parts.report_truncation(encoder)
    return report(config, masks, workdir, result.shapes)


def modules(
    config: ConfigDict, model: pj.Backbone, train: pj.MemoryClients, workdir: pj.Workdir, shared: dict[str, Any]
) -> pf.Masks:
    """Whose coordinates are whose: PerFIT's masks, searched or read again; else rank r for everyone."""
    rank, init = config.rank, config.init
    if config.method != "perfit":
        adapter = _perfit.lora(config, model, rank, "vanilla" if init == "auto" else init)
        masks = pf.Masks.of_ranks(adapter, [rank] * len(train))
        record_parameters(masks, workdir)
        return masks
    init = "gaussian" if init == "auto" else init
    file, sparsity = workdir.path / "masks.npz", tuple(config.sparsity)
    if file.exists():
        return pf.Masks.load(file, _perfit.lora(config, model, pf.expanded_rank(rank, sparsity), init))
    masks = pf.search(
        model,
        train,
        sparsity=sparsity,
        rank=rank,
        metric=config.metric,
        epochs=config.pruning_epochs,
        scope=config.scope,
        targets=config.targets,
        init=init,
        deviation=config.init_deviation or None,
        batch_size=config.mini_batch,
        reduction=config.reduction,
        clients_at_once=config.clients_at_once,
        seed=config.seed,
        debug=DEBUG.value,
        **shared,
    )
    record_parameters(masks, workdir)
    workdir.write_arrays("similarity.npz", **masks.similarity()._asdict())
    workdir.keep("cohorts", lambda row: False)  # of a process that was stopped before the masks were there
    sent = [masks.bitmaps.shape[1]] * len(masks)  # a mask goes to the server once, as a bitmap
    workdir.append(
        "cohorts", {"round": 0, "clients": [*range(len(masks))], "bytes_up": sent, "bytes_down": [0] * len(sent)}
    )
    if hosts.first():
        masks.save(file)
    return masks


def started(config: ConfigDict, model: pj.Backbone) -> Adapter:
    """The LoRA that a FIT run has left, or a PEFT folder holds."""
    adapter, space = (
        _adapters.named(config.start, model).adapter,
        pf.Space.of(_perfit.lora(config, model, config.rank, "vanilla")),
    )
    if "lora" not in adapter or pf.Space.of(adapter) != space:
        raise InputError(f"start = {config.start} holds no LoRA of rank {space.rank} on these targets; give a FIT run")
    return adapter


def group(config: ConfigDict, clients: int) -> np.ndarray:
    """The resource group of each client."""
    return resource_group(len(config.sparsity), clients)


def record_parameters(masks: pf.Masks, workdir: pj.Workdir) -> None:
    """Writes how many parameters each client trains, and of how many."""
    counts = {"trainable": masks.owned.tolist(), "grid": masks.space.size, "rank": masks.space.rank}
    workdir.write("parameters.json", json.dumps(counts) + "\n")


def report(config: ConfigDict, masks: pf.Masks, workdir: pj.Workdir, shapes: int) -> Done:
    """What the run has come to."""
    parameters = sorted(set(masks.owned.tolist()), reverse=True)
    trained = " / ".join(f"{count:,}" for count in parameters)
    print(f"each client trains {trained} of {masks.space.size:,} LoRA parameters (rank {masks.space.rank})")
    by_round: dict[int, list[float]] = {}
    for row in workdir.rows("perplexity"):
        by_round.setdefault(row["round"], []).append(row["perplexity"])
    first, last = min(by_round), max(by_round)
    mean = {number: math.fsum(values) / len(values) for number, values in by_round.items()}
    own = {} if config.method == "fit" else {"client": 0}
    exported = command("export_adapter", workdir=WORKDIR.value, **own, out=f"{WORKDIR.value.rstrip('/')}-adapter")
    return Done(
        f"{config.rounds} rounds done, {shapes} compiled: mean personalized perplexity of {len(masks)} clients "
        f"{mean[first]:.3f} before round 1, {mean[last]:.3f} after round {last}",
        workdir.path,
        [command("plot", workdir=WORKDIR.value), exported, *watching(LOG.value, WORKDIR.value)],
    )


if __name__ == "__main__":
    run(joined(main))
