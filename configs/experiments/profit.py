"""Profit: the observations of Section 4, the prompt's length, and the search for learning rates."""

import itertools

from configs.experiments.types import Choice, Experiment, Run, against

PARTITIONS = ("hhf", "mhf", "lhf")
TITLES = {
    "fed_avg_adam": "FedAvg(Adam)",
    "fed_avg_sgd": "FedAvg(SGD)",
    "fed_sgd": "FedSGD",
    "centralized": "Centralized",
}
# Appendix C tunes stage 1 in 10^-2 to 10^1, for server and client, and stage 2 in 10^-3 to 10^-1. Added are 10^-1.5 of
# the server, for runs of few rounds, and larger rates of stage 2, for small models.
SERVER_RATES = (0.01, 10**-1.5, 0.1, 1.0, 10.0)
CLIENT_RATES = (0.01, 0.1, 1.0, 10.0)
PERSONALIZATION_RATES = (1e-3, 1e-2, 10**-1.5, 1e-1, 10**-0.5, 1.0)


def train(names: str, **rates: float) -> Run:
    """Stage 1; rates by optimizer."""
    fields = tuple((f"{optimizer}_optimizer.learning_rate", rate) for optimizer, rate in rates.items())
    return Run("profit_train", names, fields=fields)


def personalize(names: str, how: str) -> Run:
    """Stage 2 from the prompt of `train(names)`."""
    return Run("profit_personalize", f"{names},{how}", start=train(names))


def baseline(name: str) -> Run:
    """Stage 2 without a trained prompt."""
    return Run("profit_personalize", f"hhf,{name},high")


def observation1() -> Experiment:
    """Small against large rate."""
    small, large = (personalize("hhf,fed_avg_adam", how) for how in ("high,rate_small", "high,rate_large"))
    return Experiment(
        "Learning rate of personalization",
        "Profit, Observation 1 and Figure 3 (left): a smaller learning rate keeps a higher global score, and takes "
        "more epochs to the same local score.",
        against(
            "small rate, large rate",
            small,
            large,
            global_at_local="higher",
            global_on_way="higher",
            epochs_to_local="higher",
            global_kept="higher",
            local="alike",
        ),
        figures={"tradeoff": {"small rate": small, "large rate": large}},
    )


def observation2() -> Experiment:
    """FedAvg(Adam) against every other start."""
    adam = personalize("hhf,fed_avg_adam", "high")
    others = {
        "Centralized": personalize("hhf,centralized", "high"),
        "Random Gaussian": baseline("random_gaussian"),
        "Random Word": baseline("random_word"),
        "No Prompt": baseline("no_prompt"),
        "Few-shot": baseline("few_shot"),
    }
    return Experiment(
        "Benefit of federated training",
        "Profit, Observation 2 and Figure 3 (center): FedAvg(Adam) has the best trade-off, also beside centralized "
        "training, random starts, no prompt and few-shot prompts.",
        tuple(
            effect
            for name, run in others.items()
            for effect in against(
                f"FedAvg(Adam), {name}",
                adam,
                run,
                global_at_local="higher",
                global_on_way="higher",
                local="",
                start_global="",
            )
        ),
        figures={"tradeoff": {"FedAvg(Adam)": adam, **others}},
    )


def observation3(partition: str) -> Experiment:
    """FedAvg(Adam) against FedAvg(SGD) and FedSGD."""
    adam, sgd, fed_sgd = (
        personalize(f"{partition},{name}", "high") for name in ("fed_avg_adam", "fed_avg_sgd", "fed_sgd")
    )
    says = {"global_at_local": "higher", "global_on_way": "higher", "global_kept": "higher", "local": ""}
    return Experiment(
        f"Adaptive client optimizer and local updates, {partition.upper()}",
        "Profit, Observations 3a and 3b and Figure 4: FedAvg(Adam) has a better trade-off than FedAvg(SGD), and than "
        "FedSGD, mostly by higher global scores, on all three partitions.",
        (
            *against("FedAvg(Adam), FedAvg(SGD)", adam, sgd, **says),
            *against("FedAvg(Adam), FedSGD", adam, fed_sgd, **says),
        ),
        figures={"tradeoff": {"FedAvg(Adam)": adam, "FedAvg(SGD)": sgd, "FedSGD": fed_sgd}},
    )


def observation4() -> Experiment:
    """l2 regularization and model averaging."""
    plain, l2 = (personalize("hhf,fed_avg_adam", f"low,{how}") for how in ("average", "l2,average"))
    averaged = ("average", "epoch")
    return Experiment(
        "Heuristics of personalization",
        "Profit, Observation 4 and Figure 5: with few epochs at a large rate, l2 regularization, model averaging and "
        "both together improve the trade-off.",
        (
            *against(
                "l2, plain", l2, plain, global_at_local="higher", global_on_way="higher", global_kept="higher", local=""
            ),
            *against("averaging, plain", plain, plain, averaged, global_at_local="higher", global_on_way="higher"),
            *against("l2 and averaging, plain", l2, plain, averaged, global_at_local="higher", global_on_way="higher"),
            *against("l2 and averaging, l2", l2, l2, averaged, global_at_local=""),
        ),
        figures={"tradeoff": {"plain": plain, "l2": l2}},
    )


def norms() -> Experiment:
    """Prompt, gradient and change."""
    adam, sgd = train("hhf,fed_avg_adam"), train("hhf,fed_avg_sgd")
    return Experiment(
        "Norms in training",
        "Profit, Observation 3a and Figure 3 (right): gradient norms are three orders of magnitude below prompt norms "
        "with both client optimizers; FedAvg(SGD) changes the prompt less than FedAvg(Adam).",
        against(
            "FedAvg(Adam), FedAvg(SGD)",
            adam,
            sgd,
            change_norm="higher",
            prompt_norm="",
            gradient_norm="",
            gradient_by_prompt="",
        ),
        figures={"training": {"FedAvg(Adam)": adam, "FedAvg(SGD)": sgd}},
    )


def prompt_length() -> Experiment:
    """10 rows against 5 and 20."""
    names = {5: "hhf,fed_avg_adam,length5", 10: "hhf,fed_avg_adam", 20: "hhf,fed_avg_adam,length20"}
    runs = {length: personalize(name, "high") for length, name in names.items()}
    effects = (
        effect
        for other, says in ((5, "higher"), (20, "not lower"))
        for effect in (
            *against(f"length 10, length {other}", train(names[10]), train(names[other]), validation=says),
            *against(f"length 10, length {other}", runs[10], runs[other], global_at_local=says, local=""),
        )
    )
    return Experiment(
        "Length of the prompt",
        "Profit, Appendix C and Figure 14: length 10 generally outperforms length 5; length 20 improves on nothing.",
        tuple(effects),
        figures={"tradeoff": {f"length {length}": run for length, run in runs.items()}},
    )


def tuning(algorithm: str, partition: str) -> Experiment:
    """Stage 1's learning rates."""
    of_clients = CLIENT_RATES if algorithm.startswith("fed_avg") else (None,)
    grid = [
        train(f"{partition},{algorithm}", server=server, **({} if client is None else {"client": client}))
        for server, client in itertools.product(SERVER_RATES, of_clients)
    ]
    return Experiment(
        f"Learning rates of {TITLES[algorithm]}, {partition.upper()}",
        "Profit, Appendix C and Table 2: chosen by the score of a global set of the validation clients. Of rates that "
        "this score hardly tells apart, the one that trains best is chosen here.",
        choice=Choice(tuple(grid), ("validation", "likelihood_trained")),
    )


def personal_tuning(algorithm: str, partition: str, regime: str) -> Experiment:
    """Stage 2's learning rate."""
    names = f"{partition},{algorithm}"
    grid = [
        Run(
            "profit_personalize",
            f"{names},{regime},validation",
            start=train(names),
            fields=(("personalize.optimizer.learning_rate", rate),),
        )
        for rate in PERSONALIZATION_RATES
    ]
    return Experiment(
        f"Learning rate of personalization from {TITLES[algorithm]}, {partition.upper()}, {regime} computation",
        "Profit, Section 4, Appendix C and Table 3: the best local score with the least loss of global score, on the "
        "validation clients.",
        choice=Choice(tuple(grid), ("local", "global_kept")),
    )


# Centralized training sees no partition.
TUNED = [(name, part) for name in TITLES for part in (PARTITIONS if name != "centralized" else ("hhf",))]

EXPERIMENTS = {
    "observation1": observation1(),
    "observation2": observation2(),
    **{f"observation3_{partition}": observation3(partition) for partition in PARTITIONS},
    "observation4": observation4(),
    "norms": norms(),
    "prompt_length": prompt_length(),
    **{f"tuning_{name}_{part}": tuning(name, part) for name, part in TUNED},
    **{
        f"tuning_{regime}_{name}_{part}": personal_tuning(name, part, regime)
        for (name, part), regime in itertools.product(TUNED, ("high", "low"))
    },
}
