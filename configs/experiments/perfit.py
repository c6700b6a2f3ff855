"""PerFIT: the tables and figures of Section 5.2, with the names of configs/perfit/small.py.

A table and the figure of its curves are one experiment. A part of it on one split stands alone too (`within`).
"""

import itertools
from collections.abc import Iterable, Mapping

from configs.experiments.types import TUNING_SEED, Choice, Effect, Experiment, Figure, Run, against

SPLITS = ("pathological", "dirichlet")
DOLLY = {f"dolly,{split}": "lower" for split in SPLITS}
DOMAINS = {"codealpaca,equal": "lower", "mathinstruct,equal": "lower"}
EQUAL = {"FIT": "fit", "PerFIT R = 12": "perfit,r12", "PerFIT R = 16": "perfit,r16"}
RATES = (1e-3, 10**-2.5, 1e-2, 10**-1.5, 1e-1)
UNEQUAL = {"FIT": "fit,unequal", "PerFIT 1 - 0.75 - 0.5": "perfit,unequal"}
KINDS = ("perplexity", "perplexity_clients")
TITLE = "{data}, {split}"  # of a panel: the data are the scale's own


def compared(
    title: str,
    claim: str,
    panels: Mapping[str, str],
    methods: Mapping[str, str],
    titles: str = TITLE,
    within: str = "",
) -> Experiment:
    """Perplexity of each method against the first.

    A panel is the names of data, split and others; with it stands what the paper says of the other methods.
    """
    runs = {
        panel: {
            label: Run("perfit_train", ",".join((*panel.split(",")[:2], names, *panel.split(",")[2:])))
            for label, names in methods.items()
        }
        for panel in panels
    }
    effects = (effect for panel, says in panels.items() for effect in to_first(titles, runs[panel], says))
    return Experiment(title, claim, tuple(effects), figure=Figure(KINDS, runs, titles), within=within)


def to_first(panel: str, runs: Mapping[str, Run], says: str) -> Iterable[Effect]:
    """The effects of all runs against the first."""
    (first, baseline), *others = runs.items()
    for label, run in others:
        yield from against(f"{panel}: {label}, {first}", run, baseline, perplexity=says)


def on_splits(name: str, title: str, claim: str, methods: Mapping[str, str]) -> dict[str, Experiment]:
    """On Dolly with both splits, and a part with each."""
    whole = compared(title, claim, DOLLY, methods)
    parts = {
        f"{name}_{split}": compared(
            f"{title}, {split}", claim, {f"dolly,{split}": "lower"}, methods, within=f"perfit/{name}"
        )
        for split in SPLITS
    }
    return {name: whole, **parts}


def dispatch() -> Experiment:
    """To everyone against to the selected, which is the default."""
    methods = {"R = 12": "perfit,r12", "R = 16": "perfit,r16", "1 - 0.75 - 0.5": "perfit,unequal"}
    runs = {
        (split, label, to): Run("perfit_train", f"dolly,{split},{names}{',global' if to == 'global' else ''}")
        for split, (label, names), to in itertools.product(SPLITS, methods.items(), ("selected", "global"))
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
        figure=Figure(
            KINDS,
            {
                split: {f"{label}, {to}": run for (part, label, to), run in runs.items() if part == split}
                for split in SPLITS
            },
            TITLE,
        ),
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
    of_inits = (
        effect
        for label in ("FIT", "PerFIT")
        for effect in against(
            f"{label}: uniform, gaussian", runs[label, "uniform"], runs[label, "gaussian"], perplexity="lower"
        )
    )
    of_methods = (
        effect
        for init in ("uniform", "gaussian")
        for effect in against(f"{init}: PerFIT, FIT", runs["PerFIT", init], runs["FIT", init], perplexity="lower")
    )
    drawn = {"pathological": {f"{label}, {init}": run for (label, init), run in runs.items()}}
    return Experiment(
        "Initialization",
        "PerFIT, Section 5.2, Impact of Initialization: uniform is better than normal, and PerFIT better than FIT with "
        "either.",
        (*of_inits, *of_methods),
        figure=Figure(KINDS, drawn, TITLE),
    )


def tuning(label: str, names: str) -> Experiment:
    """The clients' learning rate."""
    run = Run("perfit_train", f"dolly,pathological,{names}")
    rates = {"client_optimizer.learning_rate": RATES}
    return Experiment(
        f"Learning rate of {label}",
        "PerFIT, Appendix C has 5e-5 for all methods. Here each has its own, the best of one grid, on clients, rows "
        "and masks of a seed that no effect is measured with.",
        choices=(Choice(label, "pathological", run, rates, ("likelihood",)),),
        own_seeds=(TUNING_SEED,),
        by_name=True,
    )


EXPERIMENTS = {
    "table1": compared(
        "Domain-specific data, equal resources",
        "PerFIT, Table 1 and Figure 2: PerFIT's perplexity is lower than FIT's on CodeAlpaca and MathInstruct, and the "
        "same on MedAlpaca.",
        {"medalpaca,equal": "alike", **DOMAINS},
        EQUAL,
    ),
    **on_splits(
        "table2",
        "Dolly, equal resources",
        "PerFIT, Table 2: PerFIT's perplexity is lower than FIT's on both splits, by 1 to 23 %.",
        EQUAL,
    ),
    "table2_r16": compared(
        "Dolly, equal resources, the larger gain",
        "PerFIT, Table 2, one line: PerFIT's perplexity with R = 16 is lower than FIT's on the pathological split.",
        {"dolly,pathological": "lower"},
        {label: EQUAL[label] for label in ("FIT", "PerFIT R = 16")},
        within="perfit/table2",
    ),
    "figure3": compared(
        "Domain-specific data, unequal resources",
        "PerFIT, Figure 3: PerFIT's perplexity is lower than FIT's on CodeAlpaca and MathInstruct.",
        DOMAINS,
        UNEQUAL,
    ),
    "figure4": compared(
        "Higher sparsity",
        "PerFIT, Figure 4: PerFIT's perplexity is lower than FIT's from rank 24 too.",
        DOLLY,
        {**EQUAL, "PerFIT R = 24": "perfit,r24"},
    ),
    **on_splits(
        "table3",
        "Dolly, unequal resources",
        "PerFIT, Table 3 and Figure 5: PerFIT's perplexity is lower than FIT's on both splits, by 2 to 12 %.",
        UNEQUAL,
    ),
    "figure6": compared(
        "Few and many clients in a round",
        "PerFIT, Figure 6: PerFIT's perplexity is not above FIT's with 5 % and with 20 % of the clients a round.",
        {"dolly,dirichlet,k5": "not higher", "dolly,dirichlet,k20": "not higher"},
        EQUAL,
        f"{TITLE}, {{clients_per_round}} of {{clients}} clients a round",
    ),
    "figure7": Experiment(
        "Similarity of masks",
        "PerFIT, Figure 7: masks differ between clients, about as much for all pairs.",
        figure=Figure(
            ("mask_similarity",),
            {split: {"PerFIT R = 16": Run("perfit_train", f"dolly,{split},perfit,r16")} for split in SPLITS},
            TITLE,
        ),
    ),
    "figure8": compared(
        "Importance metric",
        "PerFIT, Figure 8: first, second and mixed importance train alike.",
        {"dolly,pathological": "alike"},
        {"first": "perfit,r16", "second": "perfit,r16,second", "mixed": "perfit,r16,mixed"},
    ),
    "initialization": initialization(),
    "dispatch": dispatch(),
    **{
        f"tuning_{names.replace(',', '_')}": tuning(label, names)
        for label, names in (*EQUAL.items(), *[*UNEQUAL.items()][1:])
    },
}
ALIASES = {
    "figure2": ("table1",),
    "figure5": ("table3",),
    "metrics": ("figure8",),
}
