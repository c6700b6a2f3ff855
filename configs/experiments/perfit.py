"""PerFIT: the tables and figures of Section 5.2, with the names of configs/perfit/small.py."""

import itertools
from collections.abc import Iterable, Mapping

from configs.experiments.types import Choice, Effect, Experiment, Run, against

DOMAINS = ("medalpaca", "codealpaca", "mathinstruct")
SPLITS = ("pathological", "dirichlet")
EQUAL = {"FIT": "fit", "PerFIT R = 12": "perfit,r12", "PerFIT R = 16": "perfit,r16"}
RATES = (1e-3, 10**-2.5, 1e-2, 10**-1.5, 1e-1)
UNEQUAL = {"FIT": "fit,unequal", "PerFIT 1 - 0.75 - 0.5": "perfit,unequal"}


def compared(
    title: str, claim: str, settings: Iterable[str], methods: Mapping[str, str], says: str = "lower"
) -> Experiment:
    """Perplexity of each method against the first, on each data set and split."""
    runs = {
        setting: {label: Run("perfit_train", f"{setting},{names}") for label, names in methods.items()}
        for setting in settings
    }
    return Experiment(
        title,
        claim,
        tuple(effect for setting, labelled in runs.items() for effect in to_first(setting, labelled, says)),
        figures={setting.replace(",", "-"): labelled for setting, labelled in runs.items()},
    )


def to_first(setting: str, runs: Mapping[str, Run], says: str) -> Iterable[Effect]:
    """The effects of all runs against the first."""
    (first, baseline), *others = runs.items()
    for label, run in others:
        yield from against(f"{setting.replace(',', ', ')}: {label}, {first}", run, baseline, perplexity=says)


def dispatch() -> Experiment:
    """To everyone against to the selected."""
    methods = {"R = 12": "perfit,r12", "R = 16": "perfit,r16", "1 - 0.75 - 0.5": "perfit,unequal"}
    runs = {
        (split, label, how): Run("perfit_train", f"dolly,{split},{names},{how}")
        for split, (label, names), how in itertools.product(SPLITS, methods.items(), ("selected", "global"))
    }
    return Experiment(
        "Dispatch",
        "Not in the paper, whose Section 4.1 dispatches from the global module to every client, Algorithm 2 to the "
        "selected ones.",
        tuple(
            effect
            for split, label in itertools.product(SPLITS, methods)
            for effect in against(
                f"{split}: {label}, dispatch global, selected",
                runs[split, label, "global"],
                runs[split, label, "selected"],
                perplexity="",
            )
        ),
        figures={
            split: {f"{label}, {how}": run for (part, label, how), run in runs.items() if part == split}
            for split in SPLITS
        },
    )


def initialization() -> Experiment:
    """Of A and B."""
    names = {
        ("FIT", "uniform"): "fit,uniform",
        ("FIT", "gaussian"): "fit,gaussian",
        ("PerFIT", "uniform"): "perfit,r12,uniform",
        ("PerFIT", "gaussian"): "perfit,r12",  # PerFIT's default
    }
    runs = {key: Run("perfit_train", f"dolly,pathological,{value}") for key, value in names.items()}
    return Experiment(
        "Initialization",
        "PerFIT, Section 5.2, Impact of Initialization: uniform is better than normal, and PerFIT better than FIT with "
        "either.",
        (
            *(
                effect
                for label in ("FIT", "PerFIT")
                for effect in against(
                    f"{label}: uniform, gaussian", runs[label, "uniform"], runs[label, "gaussian"], perplexity="lower"
                )
            ),
            *(
                effect
                for init in ("uniform", "gaussian")
                for effect in against(
                    f"{init}: PerFIT, FIT", runs["PerFIT", init], runs["FIT", init], perplexity="lower"
                )
            ),
        ),
        figures={"initialization": {f"{label}, {init}": run for (label, init), run in runs.items()}},
    )


def tuning(label: str, names: str) -> Experiment:
    """The clients' learning rate."""
    grid = [
        Run("perfit_train", f"dolly,pathological,{names}", fields=(("client_optimizer.learning_rate", rate),))
        for rate in RATES
    ]
    return Experiment(
        f"Learning rate of {label}",
        "PerFIT, Appendix C has 5e-5 for all methods. Here each has its own, the best of one grid, on clients, rows "
        "and masks of a seed that no effect is measured with.",
        choice=Choice(tuple(grid), ("likelihood",)),
    )


EXPERIMENTS = {
    "table1": compared(
        "Domain-specific data, equal resources",
        "PerFIT, Table 1 and Figure 2: PerFIT's perplexity is lower than FIT's on CodeAlpaca and MathInstruct, and the "
        "same on MedAlpaca.",
        [f"{data},equal" for data in DOMAINS],
        EQUAL,
    ),
    "figure3": compared(
        "Domain-specific data, unequal resources",
        "PerFIT, Figure 3: PerFIT's perplexity is lower than FIT's.",
        [f"{data},equal" for data in DOMAINS[1:]],
        UNEQUAL,
    ),
    **{
        f"table2_{split}": compared(
            "Dolly, equal resources",
            "PerFIT, Table 2: PerFIT's perplexity is lower than FIT's on both splits, by 1 to 23 %.",
            [f"dolly,{split}"],
            EQUAL,
        )
        for split in SPLITS
    },
    "table2_r16": compared(
        "Dolly, equal resources, the larger gain",
        "PerFIT, Table 2, one line: PerFIT's perplexity with R = 16 is lower than FIT's on the pathological split.",
        ["dolly,pathological"],
        {label: EQUAL[label] for label in ("FIT", "PerFIT R = 16")},
    ),
    **{
        f"figure4_{split}": compared(
            "Higher sparsity",
            "PerFIT, Figure 4: PerFIT's perplexity is lower than FIT's from rank 24 too.",
            [f"dolly,{split}"],
            {**EQUAL, "PerFIT R = 24": "perfit,r24"},
        )
        for split in SPLITS
    },
    **{
        f"table3_{split}": compared(
            "Dolly, unequal resources",
            "PerFIT, Table 3 and Figure 5: PerFIT's perplexity is lower than FIT's on both splits, by 2 to 12 %.",
            [f"dolly,{split}"],
            UNEQUAL,
        )
        for split in SPLITS
    },
    **{
        f"figure6_{share}": compared(
            f"{share[1:]} % of the clients in a round",
            "PerFIT, Figure 6: PerFIT's perplexity is not above FIT's with 5 % and with 20 % of the clients a round.",
            ["dolly,dirichlet"],
            {label: f"{names},{share}" for label, names in EQUAL.items()},
            "not higher",
        )
        for share in ("k5", "k20")
    },
    "figure7": Experiment(
        "Similarity of masks",
        "PerFIT, Figure 7: masks differ between clients, about as much for all pairs.",
        figures={split: {"PerFIT R = 16": Run("perfit_train", f"dolly,{split},perfit,r16")} for split in SPLITS},
    ),
    "metrics": compared(
        "Importance metric",
        "PerFIT, Figure 8: first, second and mixed importance train alike.",
        ["dolly,pathological"],
        {"first": "perfit,r16", "second": "perfit,r16,second", "mixed": "perfit,r16,mixed"},
        "alike",
    ),
    "dispatch": dispatch(),
    "initialization": initialization(),
    **{
        f"tuning_{names.replace(',', '_')}": tuning(label, names)
        for label, names in (*EQUAL.items(), *[*UNEQUAL.items()][1:])
    },
}
