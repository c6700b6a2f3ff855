"""What experiments cost, worked out from the configs: runs, examples trained on, answers; and lists of them."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from ml_collections import ConfigDict

from configs.experiments import ALIASES, EXPERIMENTS, Experiment, Run
from launch._runs import at, config_of

SCALES = ("tiny", "small", "paper")
DOLLY = 15_011  # rows, where a config deals all of them to its clients
# Wall time at scale tiny with --jobs=2 on two CPU cores: of a run, and of each thousand examples that it trains on.
# Least squares over 95 runs of Profit, compiling included.
SECONDS_A_RUN, SECONDS_A_THOUSAND = 6.0, 5.3

NOTES = """\
runs        of one seed at scale tiny; experiments share runs, and `all` does each once
min         expected minutes at scale tiny, with --jobs=2 on two CPU cores
tiny, …     examples trained on, searches of masks included / answers generated (Profit) or scored (PerFIT)
data        no run: Profit's prepared data are all it takes

Scale tiny needs nothing else, and its searches try fewer rates. The others need --model, Profit --data_dir (as
prepare_sni.py has written it), PerFIT the hub or --data. --list --experiment=NAME tells claim and runs, --scale whose.
"""


def overview() -> str:
    """A line an experiment, and one for all; then the names that stand for others or for a part."""
    whole = {name: each for name, each in EXPERIMENTS.items() if each.in_all}
    by_name = {name: each for name, each in EXPERIMENTS.items() if each.by_name}
    parts = {name: each for name, each in EXPERIMENTS.items() if each.within}
    tables = [(name, each) for name, each in whole.items() if each.choices]
    lines = [
        ("experiment", "runs", "min", *SCALES, ""),
        *((name, *cost([each]), each.title) for name, each in whole.items()),
        ("all", *cost(whole.values()), "the experiments above"),
        *((name, *cost([each]), f"{each.title}; not in all") for name, each in by_name.items()),
    ]
    others = [
        *(f"{name}: {', '.join(meant)}" for name, meant in ALIASES.items()),
        *(f"{name}: a part of {each.within}" for name, each in parts.items() if not each.choices),
        *(
            f"{name}: {len(each.choices)} searches, --experiment='{name.split('/')[0]}/tuning_*'"
            for name, each in tables
        ),
    ]
    return "\n".join((NOTES, *aligned(lines), "", "Other names", *(f"  {each}" for each in others)))


def in_full(experiments: Mapping[str, Experiment], scale: str) -> str:
    """Experiments with claim, cost and the runs of a scale."""
    return "\n\n".join(
        "\n".join(
            (
                f"{name}: {each.title}",
                each.claim,
                *aligned([("runs", "min", *SCALES, ""), (*cost([each]), "")]),
                *(f"    {run.name}" for run in at(each, scale).runs),
            )
        )
        for name, each in experiments.items()
    )


def cost(experiments: Collection[Experiment]) -> tuple[str, ...]:
    """Runs and minutes at scale tiny, examples and answers at each scale."""
    runs = runs_of(experiments, "tiny")
    if not runs:
        return ("data", "", *("" for _ in SCALES))
    work = [[COSTS[run.launcher](config_of(run, scale)) for run in runs_of(experiments, scale)] for scale in SCALES]
    totals = (map(sum, zip(*each, strict=True)) for each in work)
    minutes = math.ceil(seconds(runs) / 60)
    return (str(len(runs)), str(minutes), *(" / ".join(map(short, total)) for total in totals))


def runs_of(experiments: Collection[Experiment], scale: str) -> list[Run]:
    """The runs of one seed at a scale; one of several experiments counts once."""
    seeded = ((run, seed) for each in experiments for seed in each.seeds(1) for run in at(each, scale).runs)
    return [run for run, _ in dict.fromkeys(seeded)]


def seconds(runs: Iterable[Run]) -> float:
    """Expected at scale tiny, with --jobs=2 on two CPU cores."""
    examples = [COSTS[run.launcher](config_of(run, "tiny"))[0] for run in runs]
    return SECONDS_A_RUN * len(examples) + SECONDS_A_THOUSAND * sum(examples) / 1000


def of_training(config: ConfigDict) -> tuple[int, int]:
    """Stage 1 of Profit."""
    examples = config.rounds * config.clients_per_round * config.local_steps * config.batch_size
    return examples, config.rounds // config.validate_every * config.validation_examples


def of_personalization(config: ConfigDict) -> tuple[int, int]:
    """Stage 2 of Profit; without a trained prompt nothing is trained."""
    stage = config.personalize
    untrained = stage.start in ("no_prompt", "few_shot")
    epochs = 0 if untrained else stage.epochs
    points = 1 + math.ceil(epochs / stage.evaluate_every) + len(stage.average)
    answers = stage.clients * (stage.test_examples + stage.global_examples)
    return stage.clients * epochs * stage.train_examples, points * answers


def of_perfit(config: ConfigDict) -> tuple[int, int]:
    """PerFIT or FIT: the search and the rounds."""
    train, test = of_client(config)
    searched = config.pruning_epochs * config.clients if config.method == "perfit" else 0
    trained = config.rounds * config.clients_per_round * config.local_epochs
    evaluations = 1 + math.ceil(config.rounds / config.evaluate_every)
    return (searched + trained) * train, evaluations * config.clients * test


def of_client(config: ConfigDict) -> tuple[int, int]:
    """A PerFIT client's training and test examples, on average."""
    held = config.size or DOLLY // config.clients
    test = round(config.test_fraction * held)
    return held - test, test


COSTS: dict[str, Callable[[ConfigDict], tuple[int, int]]] = {
    "profit_train": of_training,
    "profit_personalize": of_personalization,
    "perfit_train": of_perfit,
}


def short(number: int) -> str:
    """Two digits and a unit."""
    for unit, size in (("M", 10**6), ("k", 10**3)):
        if number >= size:
            return f"{number / size:.2g}{unit}" if number < 10 * size else f"{number / size:,.0f}{unit}"
    return str(number)


def aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """Columns of text: all but the first and the last to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            (
                f"{first:<{widths[0]}}",
                *(f"{cell:>{width}}" for cell, width in zip(cells, widths[1:-1], strict=True)),
                last,
            )
        ).rstrip()
        for first, *cells, last in lines
    ]
