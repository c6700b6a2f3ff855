"""Profit's Tables 2 and 3: learning rates chosen on validation clients. Each entry stands alone too.

A scale may try other rates than those here: SEARCHED in its config file says which.
"""

from configs.experiments.profit import PARTITIONS, TITLES, train
from configs.experiments.types import TUNING_SEED, Choice, Experiment, Run

# Appendix C tunes stage 1 in 10^-2 to 10^1, for server and client, and stage 2 in 10^-3 to 10^-1. Added are 10^-1.5 of
# the server, for runs of few rounds, and larger rates of stage 2, for small models.
SERVER_RATES = (0.01, 10**-1.5, 0.1, 1.0, 10.0)
CLIENT_RATES = (0.01, 0.1, 1.0, 10.0)
PERSONALIZATION_RATES = (1e-3, 1e-2, 10**-1.5, 1e-1, 10**-0.5, 1.0)

BASELINES = {"random_gaussian": "Random-Gaussian", "random_word": "Random-Word"}
ONCE = ("centralized", *BASELINES)  # they see no partition
LOW = ("fed_avg_adam", "fed_avg_sgd", "fed_sgd")  # searched with few epochs too


def partitions(name: str) -> tuple[str, ...]:
    """Those that a start is trained on."""
    return ("hhf",) if name in ONCE else tuple(PARTITIONS)


def training(algorithm: str, partition: str) -> Choice:
    """Stage 1's learning rates."""
    rates = {"server_optimizer.learning_rate": SERVER_RATES}
    if algorithm.startswith("fed_avg"):
        rates |= {"client_optimizer.learning_rate": CLIENT_RATES}
    line = TITLES[algorithm] if algorithm in ONCE else f"{TITLES[algorithm]} - prompt length 10"
    measures = ("validation", "likelihood_trained")
    return Choice(line, PARTITIONS[partition], train(f"{partition},{algorithm}"), rates, measures)


def personalization(name: str, partition: str, regime: str) -> Choice:
    """Stage 2's learning rate."""
    names = f"{partition},{name}"
    start = None if name in BASELINES else train(names)
    run = Run("profit_personalize", f"{names},{regime},validation", start)
    rates = {"personalize.optimizer.learning_rate": PERSONALIZATION_RATES}
    line = f"{(TITLES | BASELINES)[name]} - {'High' if regime == 'high' else 'Low'} Computation"
    return Choice(line, PARTITIONS[partition], run, rates, ("local", "global_kept"))


def search(title: str, claim: str, *choices: Choice, within: str = "") -> Experiment:
    """Choices, with a seed of their own."""
    return Experiment(title, claim, choices=choices, own_seeds=(TUNING_SEED,), within=within)


STAGE1 = {f"tuning_{name}_{partition}": training(name, partition) for name in TITLES for partition in partitions(name)}
STAGE2 = {
    f"tuning_{regime}_{name}_{partition}": personalization(name, partition, regime)
    for name in (*TITLES, *BASELINES)
    for partition in partitions(name)
    for regime in (("high", "low") if name in LOW else ("high",))
}
TABLES = {
    "table2": (
        STAGE1,
        "Learning rates of training",
        "Profit, Appendix C and Table 2: chosen by the score of a global set of the validation clients. Of rates that "
        "this score hardly tells apart, the one that trains best is chosen here. Server's rate, client's rate; "
        "centralized training has one rate, and no partition.",
    ),
    "table3": (
        STAGE2,
        "Learning rates of personalization",
        "Profit, Section 4, Appendix C and Table 3: the best local score with the least loss of global score, on the "
        "validation clients. Centralized training and random starts are searched on clients of HHF-SNI alone.",
    ),
}
EXPERIMENTS = {
    **{name: search(title, claim, *choices.values()) for name, (choices, title, claim) in TABLES.items()},
    **{
        part: search(f"{title}: {choice.line}, {choice.column}", claim, choice, within=f"profit/{name}")
        for name, (choices, title, claim) in TABLES.items()
        for part, choice in choices.items()
    },
}
