"""Profit: the figures of Section 4 and Appendix C, and Table 1; Tables 2 and 3 are searches.

A figure's experiment has a panel for each of the figure's. What the paper words as an observation, on one partition,
stands alone too (`within`).
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from configs.experiments.types import Effect, Experiment, Figure, Run, against

PARTITIONS = {"hhf": "HHF-SNI", "mhf": "MHF-SNI", "lhf": "LHF-SNI"}
TITLES = {
    "fed_avg_adam": "FedAvg(Adam)",
    "fed_avg_sgd": "FedAvg(SGD)",
    "fed_sgd": "FedSGD",
    "fed_sgd_lb": "FedSGD-LB",
    "centralized": "Centralized",
}
RATE = "rate {personalize.optimizer.learning_rate:.2g}"
BETTER = {"global_at_local": "higher", "global_on_way": "higher"}  # a better trade-off


class Panel(NamedTuple):
    """A panel of a figure, and what is compared in it."""

    runs: Mapping[str, Run]  # legend -> run
    effects: tuple[Effect, ...] = ()


def train(names: str) -> Run:
    """Stage 1."""
    return Run("profit_train", names)


def personalize(names: str, how: str) -> Run:
    """Stage 2 from the prompt of `train(names)`."""
    return Run("profit_personalize", f"{names},{how}", start=train(names))


def baseline(name: str) -> Run:
    """Stage 2 without a trained prompt."""
    return Run("profit_personalize", f"hhf,{name},high")


def figure(title: str, claim: str, panels: Mapping[str, Panel], kind: str = "tradeoff", **more: Any) -> Experiment:
    """Panels side by side; where there are several, an effect tells its panel."""
    effects = (
        replace(effect, label=f"{name}: {effect.label}") if len(panels) > 1 else effect
        for name, panel in panels.items()
        for effect in panel.effects
    )
    drawn = Figure((kind,), {name: panel.runs for name, panel in panels.items()})
    return Experiment(title, claim, tuple(effects), figure=drawn, **more)


def over_partitions(
    title: str, claim: str, panel: Callable[[str], Panel], kind: str = "tradeoff", **more: Any
) -> Experiment:
    """A panel for each partition."""
    return figure(title, claim, {name: panel(part) for part, name in PARTITIONS.items()}, kind, **more)


def on(partition: str, panel: Panel) -> Mapping[str, Panel]:
    """One partition alone."""
    return {PARTITIONS[partition]: panel}


def small_and_large(algorithm: str) -> Panel:
    """A small against a large rate of stage 2."""
    small, large = (personalize(f"hhf,{algorithm}", f"high,rate_{size}") for size in ("small", "large"))
    says = {**BETTER, "epochs_to_local": "higher", "global_kept": "higher", "local": "alike"}
    effects = against("small rate, large rate", small, large, **says)
    return Panel({f"small: {RATE}": small, f"large: {RATE}": large}, effects)


def rates(algorithm: str) -> Panel:
    """Rates of stage 2 from small to large, among them the one tuned for many epochs."""
    names = {"small": ",rate_small", "tuned": "", "medium": ",rate_medium", "large": ",rate_large"}
    runs = {size: personalize(f"hhf,{algorithm}", f"high{name}") for size, name in names.items()}
    effects = (
        *small_and_large(algorithm).effects,
        *against("tuned rate, large rate", runs["tuned"], runs["large"], **BETTER, epochs_to_local="higher"),
    )
    return Panel({f"{size}: {RATE}": run for size, run in runs.items()}, effects)


def starts() -> Panel:
    """FedAvg(Adam) against every other start."""
    adam = personalize("hhf,fed_avg_adam", "high")
    others = {
        "Centralized": personalize("hhf,centralized", "high"),
        "Random Gaussian": baseline("random_gaussian"),
        "Random Word": baseline("random_word"),
        "No Prompt": baseline("no_prompt"),
        "Few-shot": baseline("few_shot"),
    }
    effects = (
        effect
        for name, run in others.items()
        for effect in against(f"FedAvg(Adam), {name}", adam, run, **BETTER, local="", start_global="")
    )
    return Panel({"FedAvg(Adam)": adam, **others}, tuple(effects))


def norms() -> Panel:
    """Prompt, gradient and change in training."""
    adam, sgd = train("hhf,fed_avg_adam"), train("hhf,fed_avg_sgd")
    says = {"change_norm": "higher", "prompt_norm": "", "gradient_norm": "", "gradient_by_prompt": ""}
    return Panel({"FedAvg(Adam)": adam, "FedAvg(SGD)": sgd}, against("FedAvg(Adam), FedAvg(SGD)", adam, sgd, **says))


def algorithms(partition: str, how: str = "high") -> Panel:
    """FedAvg(Adam) against FedAvg(SGD) and FedSGD."""
    names = ("fed_avg_adam", "fed_avg_sgd", "fed_sgd")
    adam, sgd, fed_sgd = runs = [personalize(f"{partition},{name}", how) for name in names]
    says = {**BETTER, "global_kept": "higher", "local": ""}
    effects = (
        *against("FedAvg(Adam), FedAvg(SGD)", adam, sgd, **says),
        *against("FedAvg(Adam), FedSGD", adam, fed_sgd, **says),
    )
    return Panel({TITLES[name]: run for name, run in zip(names, runs, strict=True)}, effects)


def few_instances(partition: str) -> Panel:
    """The algorithms with few instances and epochs; on HHF the paper sees FedSGD slightly ahead."""
    runs, effects = algorithms(partition, "few,low")
    tied = {"FedAvg(Adam), FedSGD"} if partition == "hhf" else set()
    return Panel(runs, tuple(replace(each, paper="") if each.label in tied else each for each in effects))


def instances(partition: str) -> Panel:
    """All of a client's training examples against few."""
    every, few = (personalize(f"{partition},fed_avg_adam", how) for how in ("high", "few,high"))
    says = {"local": "higher", "global_kept": "", "global_on_way": "alike"}
    count = "{personalize.train_examples} instances"
    return Panel({f"all: {count}": every, f"few: {count}": few}, against("all instances, few", every, few, **says))


def client_optimizers() -> Panel:
    """FedAvg(Adam) against FedAvg(SGD), both personalized by SGD."""
    adam, sgd = (personalize(f"hhf,{name}", "low,sgd") for name in ("fed_avg_adam", "fed_avg_sgd"))
    effects = against("FedAvg(Adam), FedAvg(SGD)", adam, sgd, **BETTER, local="")
    return Panel({"FedAvg(Adam)": adam, "FedAvg(SGD)": sgd}, effects)


def many_rounds(partition: str) -> Panel:
    """FedSGD with many rounds against large batches."""
    many, large = (personalize(f"{partition},{name}", "high") for name in ("fed_sgd", "fed_sgd_lb"))
    effects = against("FedSGD-MR, FedSGD-LB", many, large, **BETTER, local="")
    return Panel({"FedSGD-MR": many, "FedSGD-LB": large}, effects)


def lengths(algorithm: str, partition: str) -> Panel:
    """Prompts of 10 rows against 5 and 20."""
    names = {
        length: f"{partition},{algorithm}{more}" for length, more in ((5, ",length5"), (10, ""), (20, ",length20"))
    }
    runs = {length: personalize(name, "high") for length, name in names.items()}
    exception = algorithm == "fed_sgd_lb"
    says = {
        5: "" if exception and partition == "hhf" else "higher",
        20: "lower" if exception and partition == "lhf" else "not lower",
    }
    effects = (
        effect
        for other, said in says.items()
        for effect in (
            *against(f"length 10, length {other}", train(names[10]), train(names[other]), validation=said),
            *against(f"length 10, length {other}", runs[10], runs[other], global_at_local=said, local=""),
        )
    )
    return Panel({f"length {length}": run for length, run in runs.items()}, tuple(effects))


def heuristics(partition: str) -> Panel:
    """l2 regularization and model averaging, with few epochs at a large rate."""
    plain, l2 = (personalize(f"{partition},fed_avg_adam", f"low,{how}") for how in ("average", "l2,average"))
    averaged = ("average", "epoch")
    effects = (
        *against("l2, plain", l2, plain, **BETTER, global_kept="higher", local=""),
        *against("averaging, plain", plain, plain, averaged, **BETTER),
        *against("l2 and averaging, plain", l2, plain, averaged, **BETTER),
        *against("l2 and averaging, l2", l2, l2, averaged, global_at_local=""),
    )
    return Panel({"plain": plain, "l2 (λ = {personalize.l2:g})": l2}, effects)


def more_heuristics(partition: str) -> Panel:
    """Those of Figure 5, frozen rows, and the genie, which is recorded of every run."""
    first, last = (personalize(f"{partition},fed_avg_adam", f"low,freeze_{end}") for end in ("first", "last"))
    runs = heuristics(partition).runs
    plain = runs["plain"]
    effects = (
        *against("freeze first, plain", first, plain, global_at_local="not higher", global_on_way="not higher"),
        *against("freeze last, plain", last, plain, global_at_local="not higher", global_on_way="not higher"),
        *against("genie, plain", plain, plain, ("genie", "epoch"), local="higher", global_kept="higher"),
    )
    return Panel({**runs, "freeze first": first, "freeze last": last}, effects)


def percentiles(partition: str) -> Panel:
    """The algorithms' worst and best clients."""
    runs = algorithms(partition).runs
    adam, *others = runs.items()
    effects = (
        effect
        for name, run in others
        for effect in against(f"{adam[0]}, {name}", adam[1], run, local_p10="alike", global_p10="", global_p90="")
    )
    return Panel(runs, tuple(effects))


RATE_CLAIM = "a smaller learning rate keeps a higher global score, and takes more epochs to the same local score"
ALGORITHM_CLAIM = (
    "FedAvg(Adam) has a better trade-off than FedAvg(SGD), and than FedSGD, mostly by higher global scores, on all "
    "three partitions"
)
HEURISTIC_CLAIM = (
    "with few epochs at a large rate, l2 regularization, model averaging and both together improve the trade-off"
)
LENGTH_CLAIM = "length 10 outperforms length 5, and length 20 improves on nothing"

FIGURES = {
    "table1": Experiment(
        "Statistics of the partitions",
        "Profit, Table 1: a client has 1 task of 1 type in HHF-SNI, 118 tasks of 1 type in MHF-SNI and 640 tasks of 50 "
        "types in LHF-SNI; all have as many instances, about.",
        figure=Figure(("statistics",)),
    ),
    "figure3_left": figure(
        "Learning rate of personalization",
        f"Profit, Observation 1 and Figure 3 (left): {RATE_CLAIM}.",
        on("hhf", rates("fed_avg_adam")),
    ),
    "figure3_center": figure(
        "Benefit of federated training",
        "Profit, Observation 2 and Figure 3 (center): FedAvg(Adam) has the best trade-off, also beside centralized "
        "training, random starts, no prompt and few-shot prompts.",
        on("hhf", starts()),
    ),
    "figure3_right": figure(
        "Norms in training",
        "Profit, Observation 3a and Figure 3 (right): gradient norms are three orders of magnitude below prompt norms "
        "with both client optimizers; FedAvg(SGD) changes the prompt less than FedAvg(Adam).",
        on("hhf", norms()),
        "training_norms",
    ),
    "figure4": over_partitions(
        "Adaptive client optimizer and local updates",
        f"Profit, Observations 3a and 3b and Figure 4: {ALGORITHM_CLAIM}.",
        algorithms,
    ),
    "figure5": over_partitions(
        "Heuristics of personalization",
        f"Profit, Observation 4 and Figure 5: {HEURISTIC_CLAIM}, on all three partitions.",
        heuristics,
    ),
    "figure6": Experiment(
        "Heterogeneity by metadata",
        "Profit, Figure 6: clients are the farther from the whole the higher the heterogeneity, in every category of "
        "the metadata.",
        figure=Figure(("heterogeneity",)),
    ),
    "figure7": figure(
        "Learning rate of personalization, FedSGD",
        f"Profit, Appendix C and Figure 7: after FedSGD too, {RATE_CLAIM}.",
        on("hhf", rates("fed_sgd")),
    ),
    **{
        f"figure{8 + seed}": over_partitions(
            f"Adaptive client optimizer and local updates, seed {seed}",
            f"Profit, Appendix C and Figure {8 + seed}: with seed {seed} alone, FedAvg(Adam) outperforms FedAvg(SGD) "
            f"and generally FedSGD{', which is ahead on HHF-SNI' if seed == 0 else ''}.",
            algorithms,
            own_seeds=(seed,),
        )
        for seed in (0, 1)
    },
    "figure10": figure(
        "Personalization with SGD",
        "Profit, Appendix C and Figure 10: FedAvg(Adam) outperforms FedAvg(SGD) when SGD personalizes too.",
        on("hhf", client_optimizers()),
    ),
    "figure11": over_partitions(
        "Fewer instances to personalize on",
        "Profit, Appendix C and Figure 11: with 64 instances in place of 256 the best local score is 0.01 to 0.02 "
        "smaller; early on the trade-off is about the same.",
        instances,
    ),
    "figure12": over_partitions(
        "Few instances, few epochs",
        "Profit, Appendix C and Figure 12: with 64 instances the algorithms stand to each other as with 256, but that "
        "FedSGD may be slightly ahead of FedAvg(Adam) on HHF-SNI.",
        few_instances,
    ),
    "figure13": over_partitions(
        "FedSGD with many rounds or large batches",
        "Profit, Appendix C and Figure 13: FedSGD with many rounds far outperforms FedSGD with large batches.",
        many_rounds,
    ),
    **{
        f"figure{number}": over_partitions(
            f"Length of the prompt, {TITLES[name]}",
            f"Profit, Appendix C and Figure {number}: {LENGTH_CLAIM}{but}.",
            lambda partition, name=name: lengths(name, partition),
        )
        for number, name, but in (
            (14, "fed_avg_adam", ""),
            (15, "fed_sgd", ""),
            (16, "fed_sgd_lb", ", but that length 5 is no worse on HHF-SNI and length 20 is better on LHF-SNI"),
        )
    },
    "figure17": figure(
        "Clients before and after personalization",
        "Profit, Appendix C and Figure 17: local scores spread about as widely after personalization as before; global "
        "scores, alike before, spread widely after.",
        on("hhf", Panel({"FedAvg(Adam)": personalize("hhf,fed_avg_adam", "low,average")})),
        "clients",
    ),
    "figure18": over_partitions(
        "Worst and best clients",
        "Profit, Appendix C and Figure 18: the worst local scores are about the same for all algorithms and epochs; "
        "the worst global scores drop, the best ones do not, and the best local scores rise.",
        percentiles,
        "percentiles",
    ),
    "figure19": over_partitions(
        "More heuristics of personalization",
        "Profit, Appendix C.2 and Figure 19: to freeze the first or the last 8 rows improves nothing; a genie who "
        "knows which prompt to ask would be far ahead.",
        more_heuristics,
        "genie",
    ),
}

PARTS = {
    "observation1": figure(
        "Learning rate of personalization, small against large",
        f"Profit, Observation 1 and Figure 3 (left): {RATE_CLAIM}.",
        on("hhf", small_and_large("fed_avg_adam")),
        within="profit/figure3_left",
    ),
    **{
        f"observation3_{partition}": figure(
            f"Adaptive client optimizer and local updates, {partition.upper()}",
            f"Profit, Observations 3a and 3b and Figure 4: {ALGORITHM_CLAIM}.",
            on(partition, algorithms(partition)),
            within="profit/figure4",
        )
        for partition in PARTITIONS
    },
    "observation4": figure(
        "Heuristics of personalization, HHF",
        f"Profit, Observation 4 and Figure 5: {HEURISTIC_CLAIM}.",
        on("hhf", heuristics("hhf")),
        within="profit/figure5",
    ),
    "prompt_length": figure(
        "Length of the prompt, HHF",
        f"Profit, Appendix C and Figure 14: {LENGTH_CLAIM}.",
        on("hhf", lengths("fed_avg_adam", "hhf")),
        within="profit/figure14",
    ),
}

EXPERIMENTS = FIGURES | PARTS
ALIASES = {
    "figure3": ("figure3_left", "figure3_center", "figure3_right"),
    "observation2": ("figure3_center",),
    "observation3": ("figure4",),
    "norms": ("figure3_right",),
}
