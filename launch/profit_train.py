"""Profit, stage 1: trains a soft prompt on the training clients (FedAvg, FedSGD or centralized).

    python -m launch.profit_train --config=configs/profit/small.py --config.model=MODEL --config.data_dir=DATA \
        --config.partition=hhf --config.algorithm=fed_avg --workdir=runs/hhf-fed_avg

Writes config.json, metrics.jsonl and checkpoints/ to the workdir. The same command again resumes a stopped run.

With `--rates=0.1,0.01 --rates=0.1,0.1`, learning rates of server and clients, as many settings are trained side by side
in one compiled round; each becomes a run of its own in `<workdir>/server=0.1-client=0.01`. launch/sweep.py does that
for a grid.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from absl import flags
from ml_collections import ConfigDict

import profit_jax as pj
from launch import _parts
from launch._done import Done
from launch._hosts import joined
from launch._main import command, config_settings, define_config, define_log, define_mesh, run, watching, writers
from profit_jax import rng
from profit_jax.benchmark.evaluate import Evaluator, sample_questions
from profit_jax.errors import InputError
from profit_jax.experiment import Evaluation
from profit_jax.experiment.settings import tell_apart
from profit_jax.federated import debugged

CONFIG = define_config()
DEBUG = flags.DEFINE_bool("debug", False, "Check every client by itself, without jit; names what fails. Slow.")
LOG = define_log()
MESH = define_mesh()
WORKDIR = flags.DEFINE_string("workdir", None, "Where records and checkpoints go.", required=True)
RATES = flags.DEFINE_multi_string("rates", [], "SERVER,CLIENT: learning rates of one of several settings.")


def main(argv: Sequence[str]) -> Done:
    """Trains."""
    del argv
    config, folder, log = CONFIG.value, Path(WORKDIR.value), writers(LOG.value)
    settings = {_parts.setting(*rates): with_rates(config, *rates) for rates in pairs(RATES.value)}
    algorithms = [_parts.algorithm(each) for each in settings.values() or [config]]
    mesh = _parts.mesh(MESH.value)
    model, data = _parts.backbone(config, mesh), _parts.data(config)
    if settings:
        workdir = pj.Workdir(folder / "together", record(config) | {"rates": RATES.value}, log)
        method = pj.side_by_side([each(model.loss) for each in algorithms])
    else:
        workdir, method = pj.Workdir(folder, record(config), log), algorithms[0](model.loss)
    method = debugged(method) if DEBUG.value else method
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
            prompts = state.adapter if settings else jax.tree.map(lambda leaf: leaf[None], state.adapter)
            scores = [float(own.mean()) for own in evaluator.scores(prompts, [questions] * len(algorithms))]
            score = scores if settings else scores[0]
            return Evaluation({"validation_score": score, "validation_weight": len(questions.queries)}, score)

    result = pj.train(
        method,
        prompt,
        data.train,
        local_steps=config.local_steps,
        encoder=encoder,
        layout=_parts.tried_layout(config, model, prompt, config.clients_per_round, workdir),
        mesh=mesh,
        evaluate=evaluate,
        evaluate_every=config.validate_every,
        workdir=workdir,
        **_parts.rounds(config),
    )
    _parts.report_truncation(encoder)
    shown = watching(LOG.value, WORKDIR.value)
    if settings:
        runs = [(folder / name, record(each)) for name, each in settings.items()]
        tell_apart(workdir, result, runs, score="validation_score")
        drawn = command("plot", workdir=",".join(str(own) for own, _ in runs), out=folder / "figures")
        return Done(
            f"{config.rounds} rounds done of {len(runs)} settings, each a run of its own", folder, [drawn, *shown]
        )
    scores = [row["validation_score"] for row in result.history if "validation_score" in row]
    best = f", best validation score {max(scores):.3f}" if scores else ""
    loss = f": loss {result.history[-1]['loss']:.3f}{best}" if result.history else ", as it was before"
    return Done(f"{config.rounds} rounds done{loss}", folder, [personalized(WORKDIR.value), *shown])


def personalized(workdir: str) -> str:
    """The command that personalizes what has been trained here."""
    stage = {"config.personalize.start": workdir, "workdir": f"{workdir.rstrip('/')}-personalized"}
    return command("profit_personalize", **config_settings() | stage)


def record(config: ConfigDict) -> dict[str, Any]:
    """What a workdir keeps of a run's config."""
    return {"stage": "train", **config.to_dict()}


def pairs(rates: Sequence[str]) -> list[tuple[float, float]]:
    """Learning rates of server and clients, from SERVER,CLIENT."""
    try:
        found: list[tuple[float, ...]] = [tuple(map(float, each.split(","))) for each in rates]
    except ValueError:
        found = [()]
    if any(len(each) != 2 for each in found) or len({_parts.setting(*each) for each in found}) < len(found):
        raise InputError(f"--rates={rates}: give SERVER,CLIENT, two numbers, and no setting twice")
    return [(server, client) for server, client in found]


def with_rates(config: ConfigDict, server: float, client: float) -> ConfigDict:
    """The config with these learning rates."""
    changed = ConfigDict(config.to_dict())
    changed.server_optimizer.learning_rate, changed.client_optimizer.learning_rate = server, client
    return changed


if __name__ == "__main__":
    run(joined(main))
