"""Profit, stage 1: trains a soft prompt on the training clients (FedAvg, FedSGD or centralized).

    python launch/profit_train.py --config=configs/profit/small.py --config.model=MODEL --config.data_dir=DATA \
        --config.partition=hhf --config.algorithm=fed_avg --workdir=runs/hhf-fed_avg

Writes config.json, metrics.jsonl and checkpoints/ to the workdir. The same command again resumes a stopped run.
"""

from collections.abc import Callable, Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict

import profit_jax as pj
from launch import _parts
from launch._main import define_config, run
from profit_jax import rng
from profit_jax.benchmark.evaluate import Evaluator, sample_questions
from profit_jax.errors import InputError
from profit_jax.experiment import Evaluation
from profit_jax.federated import Algorithm

CONFIG = define_config()
WORKDIR = flags.DEFINE_string("workdir", None, "Where records and checkpoints go.", required=True)


def main(argv: Sequence[str]) -> None:
    """Trains."""
    del argv
    config = CONFIG.value
    algorithm_of = algorithm(config)
    mesh = _parts.mesh(config)
    model, data = _parts.backbone(config, mesh), _parts.data(config)
    workdir = pj.Workdir(WORKDIR.value, {"stage": "train", **config.to_dict()})
    prompt = pj.soft_prompt(
        model,
        length=config.prompt.length,
        init=config.prompt.init,
        text=config.prompt.text,
        seed=config.seed,
    )
    encoder = _parts.encoder(config, model)
    evaluator = Evaluator(model, encoder, new_tokens=config.new_tokens)
    evaluate = None
    if config.validate_every:
        questions = sample_questions(
            evaluator,
            data.validation,
            count=config.validation_examples,
            generator=rng.generator(config.seed, "validation set"),
        )

        def evaluate(state: Any) -> Evaluation:
            score = evaluator.score(state.adapter, questions)
            row = {"validation_score": float(score.value), "validation_weight": int(score.weight)}
            return Evaluation(row, score=float(score.value))

    result = pj.train(
        algorithm_of(model.loss),
        prompt,
        data.train,
        local_steps=config.local_steps,
        encoder=encoder,
        layout=_parts.layout(config, _parts.lanes(mesh)),
        mesh=mesh,
        evaluate=evaluate,
        evaluate_every=config.validate_every,
        workdir=workdir,
        **_parts.rounds(config),
    )
    _parts.report_truncation(encoder)
    scores = [row["validation_score"] for row in result.history if "validation_score" in row]
    best = f", best validation score {max(scores):.3f}" if scores else ""
    loss = f": loss {result.history[-1]['loss']:.3f}{best}" if result.history else ", as it was before"
    print(f"{config.rounds} rounds done{loss}; records and checkpoints in {WORKDIR.value}")
    print(
        f"next: python launch/profit_personalize.py --config=… --config.personalize.start={WORKDIR.value} --workdir=…"
    )


def algorithm(config: ConfigDict) -> Callable[[object], Algorithm]:
    """Loss -> algorithm, of the config's name and optimizers."""
    server = _parts.optimizer(config.server_optimizer)
    if config.algorithm == "fed_avg":
        client = _parts.optimizer(config.client_optimizer)
        return lambda loss: pj.fed_avg(loss, client_optimizer=client, server_optimizer=server)
    if config.algorithm == "fed_sgd":
        return lambda loss: pj.fed_sgd(loss, server_optimizer=server)
    if config.algorithm == "centralized":
        return lambda loss: pj.centralized(loss, optimizer=server)
    raise InputError(f"unknown algorithm {config.algorithm!r}; known: fed_avg, fed_sgd, centralized")


if __name__ == "__main__":
    run(main)
