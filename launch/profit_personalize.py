"""Profit, stage 2: unseen clients personalize a prompt; local against global score at every point.

    python -m launch.profit_personalize --config=configs/profit/small.py --config.model=MODEL --config.data_dir=DATA \
        --config.partition=hhf --config.personalize.start=runs/hhf-fed_avg --workdir=runs/hhf-fed_avg-p13n

`personalize.start` is the workdir of a training run, a prompt's Hugging Face PEFT folder, or a baseline:
random_gaussian, random_word (both are personalized), no_prompt, few_shot (both are only scored).
`personalize.split=validation` takes validation clients, to tune on. Writes config.json, clients.jsonl and checkpoints/.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import optax
from absl import flags
from ml_collections import ConfigDict

import profit_jax as pj
from launch import _adapters, _parts
from launch._done import Done
from launch._hosts import joined
from launch._main import command, define_config, define_log, define_mesh, run, watching, writers
from profit_jax import optim
from profit_jax.benchmark import Curve, TestClients, choose_test_clients, few_shot, no_prompt, personalize
from profit_jax.data.store import FederatedSNI
from profit_jax.errors import InputError
from profit_jax.experiment import Writer
from profit_jax.typing import Adapter

CONFIG = define_config()
DEBUG = flags.DEFINE_bool("debug", False, "Check every client by itself, without jit; names what fails. Slow.")
LOG = define_log()
MESH = define_mesh()
WORKDIR = flags.DEFINE_string("workdir", None, "Where records and checkpoints go.", required=True)
RANDOM: Mapping[str, Literal["gaussian", "words"]] = {"random_gaussian": "gaussian", "random_word": "words"}


def main(argv: Sequence[str]) -> Done:
    """Personalizes, or scores a baseline."""
    del argv
    config, stage = CONFIG.value, CONFIG.value.personalize
    if not stage.start:
        raise InputError(
            "no start: give --config.personalize.start=WORKDIR of a training run, or random_gaussian, random_word, "
            "no_prompt, few_shot"
        )
    if stage.split not in ("test", "validation"):
        raise InputError(f"unknown personalize.split {stage.split!r}; known: test, validation")
    client_optimizer = optimizer(stage, config.prompt.length)
    log = writers(LOG.value)
    mesh = _parts.mesh(MESH.value)
    model, data = _parts.backbone(config, mesh), _parts.data(config)
    encoder = _parts.encoder(config, model)
    clients = choose_test_clients(
        data.test if stage.split == "test" else data.validation,
        count=stage.clients,
        train_examples=stage.train_examples,
        test_examples=stage.test_examples,
        global_examples=stage.global_examples,
        seed=stage.seed,
    )
    if stage.start in ("no_prompt", "few_shot"):
        curve = baseline(config, log, model, data, clients, encoder)
    else:
        prompt, records = start(config, model), workdir(config, log)
        curve = personalize(
            model,
            prompt,
            clients,
            optimizer=client_optimizer,
            epochs=stage.epochs,
            batch_size=stage.batch_size,
            evaluate_every=stage.evaluate_every,
            average=tuple(stage.average),
            new_tokens=config.new_tokens,
            seed=stage.seed,
            encoder=encoder,
            layout=_parts.tried_layout(config, model, prompt, len(clients.numbers), records),
            mesh=mesh,
            workdir=records,
            debug=DEBUG.value,
        )
    _parts.report_truncation(encoder)
    print(f"{'epoch':>6} {'alpha':>6} {'local':>7} {'global':>7}   means over {len(clients.numbers)} test clients")
    for row in curve.mean() + curve.mean("average"):
        print(f"{row['epoch']:>6} {row['alpha']:>6.2f} {row['local']:>7.4f} {row['global']:>7.4f}")
    following = [command("plot", workdir=WORKDIR.value), *watching(LOG.value, WORKDIR.value)]
    return Done(f"{len(clients.numbers)} clients done, from {stage.start}", Path(WORKDIR.value), following)


def workdir(config: ConfigDict, log: Sequence[Writer]) -> pj.Workdir:
    """Opened only after everything that can be wrong with the inputs has been found."""
    return pj.Workdir(WORKDIR.value, {"stage": "personalize", **config.to_dict()}, log)


def start(config: ConfigDict, model: pj.Backbone) -> Adapter:
    """The prompt that every client starts from."""
    name = config.personalize.start
    if name in RANDOM:
        return pj.soft_prompt(model, length=config.prompt.length, init=RANDOM[name], seed=config.seed)
    adapter = _adapters.named(name, model).adapter
    if "prompt" not in adapter:
        raise InputError(f"personalize.start = {name} holds no prompt; give the workdir of a profit_train run")
    return adapter


def optimizer(stage: ConfigDict, length: int) -> optax.GradientTransformation:
    """The clients' optimizer with the heuristics asked for: l2 before it, frozen rows after it."""
    first, last = stage.freeze_first, stage.freeze_last
    if not 0 <= first + last < length or min(first, last) < 0:
        raise InputError(f"freeze_first = {first} and freeze_last = {last} leave none of the prompt's {length} rows")
    if stage.l2 < 0:
        raise InputError(f"personalize.l2 must not be negative, got {stage.l2}")
    chain = [optim.proximal(stage.l2)] if stage.l2 else []
    chain.append(_parts.optimizer(stage.optimizer))
    if first or last:
        chain.append(optim.frozen_rows([*range(first), *range(length - last, length)]))
    return optax.chain(*chain)


def baseline(
    config: ConfigDict,
    log: Sequence[Writer],
    model: pj.Backbone,
    data: FederatedSNI,
    clients: TestClients,
    encoder: pj.Encoder,
) -> Curve:
    """Scores without a trained prompt: one point."""
    common = {"encoder": encoder, "new_tokens": config.new_tokens}
    records = workdir(config, log)
    records.keep("clients", lambda row: False)
    if config.personalize.start == "few_shot":
        curve = few_shot(model, clients, data.tasks, **common)
    else:
        curve = no_prompt(model, clients, **common)
    records.append("clients", *curve.rows)
    return curve


if __name__ == "__main__":
    run(joined(main))
